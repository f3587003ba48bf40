//! Recordings cut, reordered, doubled and mutated, with an owner who says anything at any time:
//! nothing panics or hangs, and everybody gets an answer.

use std::time::Duration;

use bridge_proto::model::{Answer, Tuning};
use bridge_providers::{
    dialogue::{Dialogue as _, Exit},
    provider::Steer,
};
use proptest::{collection::vec, prelude::*, sample::Index};
use serde_json::{Value, json};

use crate::{
    recording::{Line, names, read},
    replay::{LONG, Replay},
};

/// One thing that goes wrong, or that the owner says, at a place in the recording.
#[derive(Debug, Clone)]
enum Harm {
    Drop,
    Double,
    SwapWithNext,
    Truncate(Index),
    Byte(Index, u8),
    Leaf(Index, usize),
    Late(u64),
    Say(u8),
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        Just(Harm::Drop),
        Just(Harm::Double),
        Just(Harm::SwapWithNext),
        any::<Index>().prop_map(Harm::Truncate),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Harm::Byte(at, byte)),
        (any::<Index>(), any::<usize>()).prop_map(|(at, with)| Harm::Leaf(at, with)),
        (0..90_000_u64).prop_map(Harm::Late),
        any::<u8>().prop_map(Harm::Say),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_recordings_do_no_harm_and_everybody_gets_an_answer(
        which in any::<Index>(),
        harms in vec((any::<Index>(), harm()), 0..12),
    ) {
        // The long one only takes long.
        let names: Vec<String> = names("appserver-").into_iter().filter(|n| !n.contains("long")).collect();
        let whole = read(&names[which.index(names.len())]);
        let mut lines = whole.clone();
        let mut sayings: Vec<(usize, u8)> = Vec::new();
        for (at, harm) in &harms {
            if lines.len() < 2 { break; }
            apply(&mut lines, *at, harm, &mut sayings);
        }
        let mut replay = Replay::new(&whole);
        for (number, line) in lines.iter().enumerate() {
            for (_, what) in sayings.iter().filter(|(at, _)| *at == number) {
                say(&mut replay, *what);
            }
            replay.play(line, &whole);
        }
        // An owner who waits hears of every turn, or the process has been asked to end.
        replay.pass_to(replay.now + LONG);
        replay.end(Exit { code: Some(1), signal: None, stderr_tail: String::new() });
        prop_assert_eq!(replay.told.ends().len(), replay.prompts);
        prop_assert_eq!(replay.told.injected().len(), replay.injects);
        prop_assert_eq!(replay.dialogue.deadline(), None);
        say(&mut replay, 0);
        prop_assert_eq!(replay.told.ends().len(), replay.prompts);
    }
}

fn apply(lines: &mut Vec<Line>, at: Index, harm: &Harm, sayings: &mut Vec<(usize, u8)>) {
    let at = at.index(lines.len());
    match harm {
        Harm::Say(what) => sayings.push((at, *what)),
        Harm::Late(millis) => {
            for line in &mut lines[at..] {
                line.at += Duration::from_millis(*millis);
            }
        }
        // What the host did stays as it was; its requests are looked up in what is sent.
        _ if lines[at].ours || lines[at].exit().is_some() => {}
        Harm::Drop => {
            lines.remove(at);
        }
        Harm::Double => lines.insert(at, lines[at].clone()),
        Harm::SwapWithNext => {
            if at + 1 < lines.len() && !lines[at + 1].ours {
                lines.swap(at, at + 1);
            }
        }
        Harm::Truncate(where_) => {
            let mut bytes = lines[at].message.to_string().into_bytes();
            bytes.truncate(where_.index(bytes.len() + 1));
            lines[at].bytes = Some(bytes);
        }
        Harm::Byte(where_, byte) => {
            let mut bytes = lines[at].message.to_string().into_bytes();
            if !bytes.is_empty() {
                let place = where_.index(bytes.len());
                bytes[place] = *byte;
            }
            lines[at].bytes = Some(bytes);
        }
        Harm::Leaf(where_, with) => {
            let message = &mut lines[at].message;
            let target = where_.index(count(message));
            let odd = [
                Value::Null,
                json!(-1),
                json!(1e300),
                json!("\u{0}\u{202e}x"),
                json!([[[]]]),
                json!({"type": "agentMessage"}),
                json!(u64::MAX),
                json!("é".repeat(400)),
                json!("item/completed"),
                json!("turn/completed"),
                json!("completed"),
            ];
            put(message, target, &mut 0, &odd[with % odd.len()]);
        }
    }
}

fn say(replay: &mut Replay, what: u8) {
    let ask = replay.told.asks().last().map(|ask| ask.id.clone());
    let steer = match (what % 8, ask) {
        (0 | 1, _) => Steer::Prompt("and then".into()),
        (2, _) => Steer::Inject("also".into()),
        (3, _) => Steer::Interrupt,
        (4, _) => Steer::Tune(Tuning {
            model: Some("x".into()),
            mode: Some("y".into()),
            effort: Some("z".into()),
        }),
        (5, Some(ask)) => Steer::Answer(ask, Answer::Text { text: "1".into() }),
        (6, Some(ask)) => Steer::Answer(
            ask,
            Answer::Deny {
                reason: "no".into(),
            },
        ),
        (5.., _) => Steer::Close,
    };
    replay.steer(steer);
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum::<usize>(),
        Value::Object(fields) => fields.values().map(count).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

fn put(value: &mut Value, target: usize, at: &mut usize, with: &Value) {
    if *at == target {
        *value = with.clone();
        *at += 1;
        return;
    }
    *at += 1;
    match value {
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| put(item, target, at, with)),
        Value::Object(fields) => fields
            .iter_mut()
            .for_each(|(_, item)| put(item, target, at, with)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
