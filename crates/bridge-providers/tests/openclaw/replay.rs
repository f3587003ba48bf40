//! Recorded conversations with the gateway of OpenClaw, replayed against the dialogue: what a
//! person sees, what is sent, how turns end.

use std::{fmt::Write as _, fs, path::PathBuf};

use bridge_proto::model::{Actor, AskEnd, Fault, FileDiff, Fix, Outcome, RunEvent, ToolStatus};
use bridge_providers::{
    openclaw::{Act, HttpAnswer},
    provider::Heard,
};
use serde_json::{Value, json};

use crate::{
    play::Play,
    recordings::{Random, damage, read, recordings, replay, run},
};

/// Recordings in which the client did what this bridge never does.
const HANDSHAKES: [&str; 3] = [
    "ws-handshake-backend",
    "ws-handshake-device-pair",
    "ws-handshake-errors",
];

#[test]
fn every_recording_is_seen_as_it_was_when_somebody_last_read_it() {
    let update = std::env::var_os("UPDATE_SNAPSHOTS").is_some();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/openclaw");
    fs::create_dir_all(&folder).unwrap();
    let mut wrong = Vec::new();
    for name in recordings("") {
        let now = if name.starts_with("http-") {
            http_story(&name)
        } else {
            story(&replay(&name))
        };
        let file = folder.join(format!("{name}.txt"));
        if update {
            fs::write(&file, &now).unwrap();
        } else if fs::read_to_string(&file).unwrap_or_default() != now {
            wrong.push(format!("{name}:\n{now}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "changed; UPDATE_SNAPSHOTS=1 writes them again\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_prompt_ends_with_exactly_one_turn_over() {
    for name in recordings("ws-") {
        if HANDSHAKES.contains(&name.as_str()) {
            continue;
        }
        let seen = replay(&name);
        assert_eq!(seen.turns.len(), seen.prompts, "{name}: {:?}", seen.turns);
    }
}

#[test]
fn the_answer_is_what_the_gateway_keeps_in_its_history() {
    for name in [
        "ws-chat-text",
        "ws-disconnect-midrun",
        "ws-resume-new-connection",
    ] {
        let kept: Vec<String> = read(name)
            .iter()
            .filter(|line| line.message["payload"]["state"] == "final")
            .map(|line| line.message.pointer("/payload/message/content/0/text"))
            .map(|text| text.unwrap().as_str().unwrap().to_owned())
            .collect();
        let answers: Vec<String> = replay(name).turns.into_iter().map(|t| t.answer).collect();
        assert_eq!(answers, kept, "{name}");
    }
}

#[test]
fn tools_are_shown_with_their_diffs_and_exit_codes() {
    let seen = replay("ws-chat-tool-chain");
    let tools: Vec<_> = seen
        .seen
        .iter()
        .filter_map(|event| match event {
            RunEvent::Tool(tool) if tool.status != ToolStatus::InProgress => Some(tool),
            _ => None,
        })
        .collect();
    let ends: Vec<(&str, ToolStatus)> = tools
        .iter()
        .map(|tool| (tool.title.as_str(), tool.status))
        .collect();
    assert_eq!(
        ends,
        [
            ("write notes.md", ToolStatus::Completed),
            ("read notes.md", ToolStatus::Completed),
            ("edit notes.md", ToolStatus::Completed),
            ("cat notes.md; exit 3", ToolStatus::Failed),
        ]
    );
    assert_eq!(
        tools[2].diffs,
        [FileDiff {
            path: "notes.md".into(),
            old: Some("# notes\nhello\n".into()),
            new: "# notes\ngoodbye\n".into(),
        }]
    );
    assert!(
        tools[3]
            .output
            .as_deref()
            .unwrap()
            .contains("exited with code 3")
    );
    assert_eq!(
        seen.texts().concat().matches("Step 1.").count(),
        1,
        "preambles are not shown twice"
    );
}

#[test]
fn an_allowed_command_is_asked_answered_and_run() {
    let seen = replay("ws-approval-allow");
    let ask = &seen.asks[0];
    assert_eq!(ask.summary, "touch made-by-agent.txt && echo done");
    let options: Vec<&str> = ask.options.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(options, ["allow-once", "deny"]);
    assert!(ask.expires.is_some() && ask.tool.is_some());
    let applied = seen
        .acts
        .iter()
        .filter(|act| matches!(act, Act::Tell(Heard::Applied(_))))
        .count();
    assert_eq!(applied, 1);
    let resolved = seen.sent("exec.approval.resolve");
    assert_eq!(resolved[0]["decision"], "allow-once");
    assert_eq!(seen.outcomes(), [Outcome::Completed]);
}

#[test]
fn a_cancelled_run_keeps_what_it_said() {
    let seen = replay("ws-abort-run");
    assert_eq!(seen.outcomes(), [Outcome::Cancelled { by: Actor::Person }]);
    assert!(seen.turns[0].answer.starts_with("the quick brown fox"));
    assert_eq!(seen.sent("chat.abort").len(), 1);
}

#[test]
fn a_refused_key_asks_for_a_login_once() {
    match &replay("ws-error-401").outcomes()[..] {
        [
            Outcome::Blocked {
                fix: Fix::Login,
                reason,
            },
        ] => {
            assert!(reason.starts_with("Authentication failed"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn retries_are_shown_while_they_last_and_the_failure_is_the_models() {
    let seen = replay("ws-error-500");
    let retries = seen
        .seen
        .iter()
        .filter(|event| matches!(event, RunEvent::Retrying(_)))
        .count();
    assert_eq!(retries, 7);
    assert!(
        matches!(
            &seen.outcomes()[..],
            [Outcome::Failed {
                fault: Fault::Model,
                ..
            }]
        ),
        "{:?}",
        seen.outcomes()
    );
    assert_eq!(seen.texts(), Vec::<String>::new());
}

#[test]
fn nothing_is_lost_or_doubled_when_the_socket_is_lost_in_the_middle() {
    let seen = replay("ws-disconnect-midrun");
    assert_eq!(seen.outcomes(), [Outcome::Completed]);
    assert_eq!(seen.texts().len(), 1);
    assert_eq!(seen.sent("chat.send").len(), 1, "never sent twice");
    assert_eq!(seen.sent("chat.history").len(), 1);
}

#[test]
fn what_a_run_of_somebody_else_says_is_not_ours() {
    let seen = replay("ws-queue-second-send");
    assert_eq!(seen.outcomes(), [Outcome::Completed]);
    assert!(
        !seen.turns[0]
            .answer
            .contains("the quick brown fox jumps.\n")
    );
    assert_eq!(seen.texts().len(), 1, "{:?}", seen.texts());
}

#[test]
fn damaged_recordings_never_panic_and_never_end_a_turn_twice() {
    for (number, name) in recordings("ws-").iter().enumerate() {
        let whole = read(name);
        for round in 0..12 {
            let mut random = Random(0x9e37_79b9 ^ (number as u64) << 16 ^ round);
            let mut seen = run(&damage(&whole, &mut random));
            assert!(
                seen.turns.len() <= seen.prompts,
                "{name}, round {round}: {:?}",
                seen.turns
            );
            // Whatever was lost, the owner can always stop it.
            seen.steer(bridge_providers::provider::Steer::Interrupt);
            seen.wait(std::time::Duration::from_secs(3600));
            assert!(seen.turns.len() <= seen.prompts, "{name}, round {round}");
        }
    }
}

/// What a person sees of a conversation, and what is sent for it.
fn story(play: &Play) -> String {
    let mut text = String::new();
    for act in &play.acts {
        match act {
            Act::Dial => text.push_str("connect\n"),
            Act::Greet(line) => {
                let request: Value = serde_json::from_str(line.expose()).unwrap();
                let scopes = &request["params"]["scopes"];
                writeln!(text, "→ connect {scopes}").unwrap();
            }
            Act::Send(line) => {
                let request: Value = serde_json::from_str(line).unwrap();
                let method = request["method"].as_str().unwrap();
                writeln!(text, "→ {method} {}", request["params"]).unwrap();
            }
            Act::Tell(heard) => tell(&mut text, heard),
            Act::Keep(Some(_)) => text.push_str("keep what was given\n"),
            Act::Keep(None) => text.push_str("forget what was given\n"),
            Act::Guard(Some(work)) => writeln!(text, "guard {}", work.run).unwrap(),
            Act::Guard(None) => text.push_str("guard nothing\n"),
            Act::Fallback(prompts) => writeln!(text, "over HTTP: {prompts:?}").unwrap(),
            Act::HangUp => text.push_str("hang up\n"),
        }
    }
    text
}

fn tell(text: &mut String, heard: &Heard) {
    match heard {
        Heard::Seen(seen) => {
            write!(text, "  {}", shown(&seen.event)).unwrap();
            if seen.raw.is_some() {
                text.push_str(" (raw)");
            }
            text.push('\n');
        }
        // The line of the message stands there already.
        Heard::Prompted => {}
        Heard::Resumable(id) => writeln!(text, "  resumable {id}").unwrap(),
        Heard::Applied(_) => text.push_str("  applied\n"),
        Heard::Injected(what) => writeln!(text, "  injected {what:?}").unwrap(),
        Heard::TurnOver(end) => {
            writeln!(
                text,
                "turn over: {:?}\n  answer {:?}",
                end.outcome, end.answer
            )
            .unwrap();
        }
        Heard::Gone => text.push_str("gone\n"),
    }
}

fn shown(event: &RunEvent) -> String {
    match event {
        RunEvent::Text { delta, .. } => format!("text {delta:?}"),
        RunEvent::TextReplaced { text, .. } => format!("text replaced {text:?}"),
        RunEvent::Thinking { delta } => format!("thinking {delta:?}"),
        RunEvent::Tool(tool) => {
            let mut line = format!("tool {:?} {:?} {:?}", tool.title, tool.kind, tool.status);
            if let Some(output) = &tool.output {
                write!(line, " gave {output:?}").unwrap();
            }
            for diff in &tool.diffs {
                write!(
                    line,
                    " changes {:?}: {:?} → {:?}",
                    diff.path, diff.old, diff.new
                )
                .unwrap();
            }
            line
        }
        RunEvent::Ask(ask) => {
            let options: Vec<&str> = ask.options.iter().map(|one| one.id.as_str()).collect();
            format!("ask {:?} {:?} {options:?}", ask.kind, ask.summary)
        }
        RunEvent::AskClosed {
            how: AskEnd::Withdrawn,
            ..
        } => "ask withdrawn".into(),
        other => format!("{other:?}"),
    }
}

/// What a person sees of a conversation over HTTP.
fn http_story(name: &str) -> String {
    let mut text = String::new();
    let mut answer = HttpAnswer::new(0);
    let mut number = 0;
    let mut status = 0;
    for line in read(name) {
        let message = &line.message;
        if let Some(method) = message.pointer("/http/method") {
            number += 1;
            answer = HttpAnswer::new(number);
            let path = &message["http"]["path"];
            let body = message.get("body").cloned().unwrap_or(json!({}));
            writeln!(text, "→ {method} {path} {body}").unwrap();
        } else if let Some(code) = message.pointer("/http/status") {
            status = u16::try_from(code.as_u64().unwrap()).unwrap();
        } else if let Some(data) = message.pointer("/sse/data") {
            let data = data
                .as_str()
                .map_or_else(|| data.to_string(), str::to_owned);
            for event in answer.on_bytes(format!("data: {data}\n\n").as_bytes()) {
                writeln!(text, "  {}", shown(&event)).unwrap();
            }
        } else if let Some(body) = message.get("body") {
            if status == 200 {
                writeln!(text, "  {body}").unwrap();
                continue;
            }
            answer.on_refused(status, body.to_string().as_bytes());
        } else if message.pointer("/http/end").is_some() {
            answer.on_end();
        }
        if let Some(outcome) = answer.outcome().filter(|_| line.inward) {
            let done = format!("turn over: {outcome:?}\n  answer {:?}\n", answer.text());
            if !text.ends_with(&done) {
                text.push_str(&done);
            }
        }
    }
    text
}
