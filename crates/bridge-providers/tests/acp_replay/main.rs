//! Recorded conversations of real agents, replayed against the dialogue with the quirks of each:
//! what it sends and what it makes of the agent's words is compared with snapshots that were
//! checked by eye (`UPDATE_SNAPSHOTS=1` writes them anew). The same recordings, damaged, must never
//! do harm.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that meets something else shall fail"
)]

mod recording;
mod replay;
mod story;

use std::time::Duration;

use bridge_proto::model::{Answer, Fix, Outcome, RunEvent, Tuning};
use bridge_providers::{
    dialogue::{Dialogue as _, Exit, Step},
    provider::Steer,
};

use self::{
    recording::{Recording, What},
    replay::{Replay, Told, quirks},
};

#[test]
fn recorded_agents_are_understood_as_the_snapshots_say() {
    let recordings = recording::all();
    let mut differences = Vec::new();
    for recording in &recordings {
        let mut replay = Replay::new(recording);
        replay.run(recording);
        assert!(replay.ends <= replay.prompts, "{}", recording.name);
        differences.extend(story::compare(recording, &replay));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!(story::stale(&recordings), Vec::<String>::new());
}

#[test]
fn a_recorded_login_prompt_on_standard_output_ends_the_start_before_anything_else_is_sent() {
    let recording = recording::one("gemini/noauth-oauth-selected-no-creds");
    let nothing = Recording {
        records: Vec::new(),
        ..recording::one("gemini/noauth-oauth-selected-no-creds")
    };
    let mut replay = Replay::new(&nothing);
    replay.steer(Steer::Prompt("work".into()));
    for record in &recording.records {
        if let What::Heard(line) = &record.what
            && record.heard().is_none()
        {
            replay.line(line.as_bytes());
        }
    }
    let steps: Vec<_> = replay
        .story
        .iter()
        .filter_map(|told| match told {
            Told::Step(step) => Some(step),
            Told::Note(_) => None,
        })
        .collect();
    let sent = |step: &&&Step| matches!(step, Step::Send(_));
    assert_eq!(steps.iter().filter(sent).count(), 1);
    let ends: Vec<_> = steps
        .iter()
        .filter_map(|step| match step {
            Step::TurnOver(end) => Some(&end.outcome),
            _ => None,
        })
        .collect();
    let [
        Outcome::Blocked {
            fix: Fix::Login,
            reason,
        },
    ] = ends[..]
    else {
        panic!("{ends:?}")
    };
    assert!(
        reason.contains("It said: Please visit the following URL"),
        "{reason}"
    );
}

#[test]
fn no_text_of_a_recorded_answer_is_lost_or_told_twice() {
    for recording in recording::all() {
        let mut replay = Replay::new(&recording);
        replay.run(&recording);
        let (mut told, mut answers) = (String::new(), String::new());
        for step in &replay.story {
            match step {
                Told::Step(Step::Emit(seen)) => match &seen.event {
                    RunEvent::Text { delta, .. } => told.push_str(delta),
                    RunEvent::TextReplaced { .. } => panic!("no recording needs that"),
                    _ => {}
                },
                Told::Step(Step::TurnOver(end)) => answers.push_str(&end.answer),
                Told::Step(_) | Told::Note(_) => {}
            }
        }
        let squeezed = |text: &str| text.replace('\n', "");
        if replay.ends == replay.prompts {
            assert_eq!(squeezed(&answers), squeezed(&told), "{}", recording.name);
        }
    }
}

#[test]
fn damaged_recordings_do_no_harm_and_every_prompt_still_gets_its_end() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for recording in recording::all() {
        // Whatever an agent does, another may do one day.
        for agent in ["copilot", "cursor", "gemini", "hermes", "opencode", "any"] {
            for _ in 0..2 {
                damage(&recording, agent, &mut dice);
            }
        }
    }
}

/// Lines of the agent in another order, doubled, cut and changed, while the owner says whatever
/// comes to its mind.
fn damage(recording: &Recording, agent: &str, dice: &mut Dice) {
    let mut lines: Vec<Option<&str>> = recording
        .records
        .iter()
        .map(|record| match &record.what {
            What::Heard(line) => Some(line.as_str()),
            What::Told(_) | What::Exit { .. } | What::Note(_) => None,
        })
        .collect();
    for extra in EXTRAS {
        let at = dice.below(u64::try_from(lines.len()).unwrap());
        lines.insert(usize::try_from(at).unwrap(), Some(extra));
    }
    for _ in 0..dice.below(4) {
        let count = u64::try_from(lines.len()).unwrap();
        let at = |dice: &mut Dice| usize::try_from(dice.below(count)).unwrap();
        let (one, other) = (at(dice), at(dice));
        lines.swap(one, other);
    }
    if dice.below(3) == 0 {
        let count = u64::try_from(lines.len()).unwrap();
        lines.truncate(usize::try_from(dice.below(count)).unwrap());
    }
    let mut replay = Replay::with(recording, quirks(agent));
    let mut prompts = 0;
    for line in lines {
        let pause = Duration::from_millis(dice.below(3000));
        replay.pass_to(replay.now + pause);
        if line.is_none() || dice.below(20) == 0 {
            let steer = match dice.below(8) {
                0 => Steer::Interrupt,
                1 => Steer::Close,
                2 => Steer::Tune(Tuning {
                    model: Some("x".into()),
                    mode: Some("plan".into()),
                    ..Tuning::default()
                }),
                3 | 4 if replay.last_ask().is_some() => {
                    let ask = replay.last_ask().unwrap();
                    Steer::Answer(ask, Answer::Text { text: "1".into() })
                }
                _ => {
                    prompts += 1;
                    Steer::Prompt("/go".into())
                }
            };
            replay.steer(steer);
        }
        let Some(line) = line else { continue };
        let line = damaged(line.as_bytes(), dice);
        for _ in 0..dice.below(3) {
            replay.line(&line);
        }
    }
    replay.pass_to(replay.now + Duration::from_secs(dice.below(100)));
    let exit = Exit {
        code: Some(1),
        signal: None,
        stderr_tail: String::new(),
    };
    replay.dialogue.on_end(replay.now, exit);
    replay.drain();
    let name = &recording.name;
    assert_eq!(replay.ends, prompts, "{name} with the quirks of {agent}");
    assert_eq!(replay.dialogue.deadline(), None, "{name}");
}

/// What no recording has.
const EXTRAS: [&str; 4] = [
    r#"{"jsonrpc":"2.0","id":90,"method":"cursor/ask_question","params":{"questions":[{"id":"q","prompt":"?","options":[{"id":"a","label":"A"}]},{"id":"r","prompt":"?","options":[{"id":"b"}]}]}}"#,
    r##"{"jsonrpc":"2.0","id":91,"method":"cursor/create_plan","params":{"plan":"# x","todos":[{"content":"a"}]}}"##,
    r#"{"jsonrpc":"2.0","method":"cursor/update_todos","params":{"merge":true,"todos":[{"id":"1","content":"b"}]}}"#,
    r#"{"jsonrpc":"2.0","method":"$/cancel_request","params":{"requestId":90}}"#,
];

fn damaged(line: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut line = line.to_vec();
    let length = u64::try_from(line.len().max(1)).unwrap();
    match dice.below(6) {
        0 => line.truncate(usize::try_from(dice.below(length)).unwrap()),
        1 => {
            for _ in 0..4 {
                let at = usize::try_from(dice.below(length)).unwrap();
                if let Some(byte) = line.get_mut(at) {
                    *byte = u8::try_from(dice.below(256)).unwrap();
                }
            }
        }
        2 => {
            let text = String::from_utf8_lossy(&line).into_owned();
            let swaps = [
                ("\"", "7"),
                ("{", "["),
                (":null", ":{}"),
                ("text", "type"),
                ("id", "ID"),
            ];
            let (from, to) = swaps[usize::try_from(dice.below(5)).unwrap()];
            line = text.replacen(from, to, 3).into_bytes();
        }
        _ => {}
    }
    line
}

/// A small reproducible source of numbers.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }
}
