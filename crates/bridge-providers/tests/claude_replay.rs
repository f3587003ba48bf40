//! Recorded conversations with Claude Code, replayed against the dialogue: what a person sees,
//! what is sent, how turns end. One test per trap of the recorded protocol.

use std::{
    collections::HashMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use bridge_proto::model::{
    Actor, Answer, Ask, AskEnd, Fault, FileDiff, Fix, Outcome, RunEvent, ToolState, ToolStatus,
};
use bridge_providers::{
    claude::ClaudeDialogue,
    dialogue::{Dialogue, Exit, Step},
    provider::{Steer, TurnEnd},
};
use serde_json::{Value, json};

#[test]
fn no_text_is_shown_twice_and_none_is_missing() {
    for name in recordings() {
        let seen = replay(&name);
        let results: Vec<String> = lines_of(&name, "in")
            .filter(|line| line["type"] == "result" && line["is_error"] == json!(false))
            .map(|line| line["result"].as_str().unwrap().to_owned())
            .collect();
        let shown = seen.texts().join("\n");
        for result in &results {
            assert_eq!(shown.matches(result.as_str()).count(), 1, "{name}: {result:?} in {shown:?}");
        }
        let finished: Vec<String> = lines_of(&name, "in")
            .filter(|line| line["type"] == "assistant" && line["message"]["model"] != "<synthetic>")
            .filter(|line| line["parent_tool_use_id"].is_null())
            .flat_map(|line| line["message"]["content"].as_array().unwrap().clone())
            .filter_map(|block| Some(block.get("text")?.as_str()?.to_owned()))
            .collect();
        let whole = !matches!(name.as_str(), "sigkill-mid-stream");
        assert!(!whole || seen.texts() == finished, "{name}: {:?} != {finished:?}", seen.texts());
    }
}

#[test]
fn every_prompt_ends_with_exactly_one_turn_over() {
    for name in recordings() {
        let seen = replay(&name);
        assert_eq!(seen.turns.len(), seen.prompts, "{name}: {:?}", seen.turns);
    }
}

#[test]
fn a_plain_answer_is_streamed_and_completes() {
    let seen = replay("oneshot-text");
    assert_eq!(seen.outcomes(), [Outcome::Completed]);
    assert!(seen.deltas > 3, "{} increments", seen.deltas);
    assert_eq!(seen.replaced, 0, "the finished block said what was streamed");
    assert_eq!(seen.turns[0].answer, seen.texts().join("\n"));
    assert_eq!(seen.resumable.len(), 1);
    let model = RunEvent::Model { model: "claude-opus-5-5".into() };
    assert!(seen.events.contains(&model));
    assert!(seen.events.contains(&RunEvent::Mode { mode: "default".into() }));
}

#[test]
fn assistant_messages_are_passed_on_unchanged() {
    for name in recordings() {
        let sent: Vec<Value> =
            lines_of(&name, "in").filter(|line| line["type"] == "assistant").collect();
        assert_eq!(replay(&name).raw, sent, "{name}");
    }
}

#[test]
fn an_allowed_write_is_asked_answered_and_reported() {
    let seen = replay("perm-allow-write");
    let ask = &seen.asks[0];
    assert_eq!(ask.summary, "Write hello.txt");
    let labels: Vec<&str> = ask.options.iter().map(|choice| choice.label.as_str()).collect();
    assert_eq!(labels, ["Allow once", "Allow in this session: all edits", "Deny"]);
    assert_eq!(seen.applied, 1);
    assert_eq!(seen.answers("allow"), recorded_answers("perm-allow-write"));
    let states: Vec<ToolStatus> = seen.tools().iter().map(|tool| tool.status).collect();
    use ToolStatus::{Completed, InProgress, Pending};
    assert_eq!(states, [Pending, InProgress, Pending, InProgress, Completed]);
    let last = seen.tools().pop().unwrap();
    let path = "/home/user/project/hello.txt".to_owned();
    assert_eq!(last.diffs, [FileDiff { path: path.clone(), old: None, new: "hello\n".into() }]);
    assert!(seen.events.contains(&RunEvent::FileWritten { path }));
    assert_eq!(seen.outcomes(), [Outcome::Completed]);
}

#[test]
fn what_is_answered_is_what_was_recorded() {
    for name in ["perm-allow-write", "perm-allow-shell", "perm-allow-for-session",
        "perm-deny-write", "ask-user-question", "shell-fails", "state-events"]
    {
        assert_eq!(replay(name).sent_responses(), recorded_answers(name), "{name}");
    }
}

#[test]
fn rules_for_the_session_are_never_written_to_the_repository() {
    let sent = replay("perm-addrules-localsettings").sent_responses();
    assert_eq!(
        sent[0].pointer("/updatedPermissions/0/destination"),
        Some(&json!("session")),
        "{sent:?}"
    );
}

#[test]
fn a_denial_reaches_the_agent_and_the_turn_goes_on() {
    let seen = replay("perm-deny-write");
    assert_eq!(seen.tools().pop().unwrap().status, ToolStatus::Failed);
    assert!(!seen.events.iter().any(|event| matches!(event, RunEvent::FileWritten { .. })));
    assert_eq!(seen.outcomes(), [Outcome::Completed]);
}

#[test]
fn a_change_of_mode_by_an_answer_is_reported() {
    let seen = replay("perm-allow-for-session");
    assert!(seen.events.contains(&RunEvent::Mode { mode: "acceptEdits".into() }));
    assert_eq!(seen.asks.len(), 1, "the second write was not asked");
}

#[test]
fn a_question_of_the_agent_is_answered_with_a_label() {
    let seen = replay("ask-user-question");
    assert_eq!(seen.asks[0].summary, "Which colour?\n- Red: warm\n- Blue: cool");
    assert_eq!(
        seen.sent_responses()[0].pointer("/updatedInput/answers"),
        Some(&json!({"Which colour?": "Blue"}))
    );
}

#[test]
fn an_edit_shows_its_hunks() {
    let tool = replay("edit-diff").tools().pop().unwrap();
    assert_eq!(
        tool.diffs,
        [FileDiff {
            path: "/home/user/project/hello.txt".into(),
            old: Some("hello\nworld\n".into()),
            new: "goodbye\nworld\n".into(),
        }]
    );
}

#[test]
fn a_failed_command_shows_its_output() {
    let tool = replay("shell-fails").tools().pop().unwrap();
    assert_eq!(tool.status, ToolStatus::Failed);
    assert_eq!(tool.output.as_deref(), Some("Exit code 3\nto-stdout\nto-stderr"));
}

#[test]
fn a_denial_without_a_question_is_told() {
    let seen = replay("oneshot-shell-denied");
    assert!(seen.statuses().iter().any(|text| text.starts_with("Bash was not allowed: ")));
}

#[test]
fn text_of_a_cut_connection_is_withdrawn() {
    let seen = replay("error-stream-cut");
    assert_eq!(seen.texts(), Vec::<String>::new());
    assert_eq!(seen.replaced, 2, "both tries");
    assert!(seen.events.iter().any(|event| matches!(event, RunEvent::Retrying(_))));
    match &seen.outcomes()[..] {
        [Outcome::Failed { fault: Fault::Model, reason }] => {
            assert!(reason.starts_with("API Error: Connection dropped"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refused_key_is_final_at_the_first_retry() {
    let seen = replay("error-401-default-retries");
    assert_eq!(seen.sent.iter().filter(|line| is_interrupt(line)).count(), 1);
    assert!(seen.terminated, "no result within five seconds");
    assert!(!seen.events.iter().any(|event| matches!(event, RunEvent::Retrying(_))));
    assert!(
        matches!(&seen.outcomes()[..], [Outcome::Blocked { fix: Fix::Login, .. }]),
        "{:?}",
        seen.turns
    );
}

#[test]
fn nobody_logged_in_asks_for_a_login() {
    match &replay("error-no-key").outcomes()[..] {
        [Outcome::Blocked { fix: Fix::Login, reason }] => {
            assert_eq!(reason, "Not logged in · Please run /login");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_unknown_model_fails() {
    let outcomes = replay("error-unknown-model").outcomes();
    assert!(matches!(&outcomes[..], [Outcome::Failed { fault: Fault::Model, .. }]), "{outcomes:?}");
}

#[test]
fn retries_that_succeed_are_told_and_the_turn_completes() {
    let seen = replay("error-429-retry-after");
    let retry = seen.events.iter().find_map(|event| match event {
        RunEvent::Retrying(retry) => Some(retry.clone()),
        _ => None,
    });
    let retry = retry.unwrap();
    assert_eq!((retry.attempt, retry.limit), (1, Some(10)));
    assert_eq!(retry.delay, Some(Duration::from_millis(1124)));
    assert_eq!(retry.reason, "rate_limit (429)");
    assert_eq!(seen.outcomes(), [Outcome::Completed]);
    assert_eq!(replay("error-500-once-then-ok").outcomes(), [Outcome::Completed]);
}

#[test]
fn too_many_turns_block_with_the_limit() {
    let outcomes = replay("max-turns").outcomes();
    let reason = "Reached maximum number of turns (1)".to_owned();
    assert_eq!(outcomes, [Outcome::Blocked { fix: Fix::Limit, reason }]);
}

#[test]
fn an_interrupt_ends_the_turn_and_the_next_prompt_works() {
    let seen = replay("interrupt-stream");
    let cancelled = Outcome::Cancelled { by: Actor::Person };
    assert_eq!(seen.outcomes(), [cancelled, Outcome::Completed]);
    assert_eq!(seen.turns[1].answer, "Still here.");
    assert!(!seen.terminated);
}

#[test]
fn an_interrupt_withdraws_the_open_question() {
    let seen = replay("interrupt-pending-permission");
    let closed: Vec<&RunEvent> =
        seen.events.iter().filter(|event| matches!(event, RunEvent::AskClosed { .. })).collect();
    let ask = seen.asks[0].id.clone();
    assert_eq!(closed, [&RunEvent::AskClosed { ask, how: AskEnd::Withdrawn }]);
    assert_eq!(seen.outcomes(), [Outcome::Cancelled { by: Actor::Person }]);
}

#[test]
fn a_turn_waits_for_its_background_command() {
    let seen = replay("oneshot-background");
    assert_eq!(seen.turns.len(), 1);
    assert_eq!(seen.turns[0].answer, "Started it.\nDone.");
    assert!(seen.statuses().contains(&"waiting for background work: Background loop".to_owned()));
    let states: Vec<ToolStatus> = seen.tools().iter().map(|tool| tool.status).collect();
    use ToolStatus::{Completed, InProgress, Pending};
    assert_eq!(states, [Pending, InProgress, InProgress, Completed]);
}

#[test]
fn a_subagent_that_ends_before_the_result_still_gets_its_own_turn() {
    let seen = replay("subagent");
    assert_eq!(seen.turns.len(), 1);
    assert_eq!(seen.turns[0].answer, "The subagent has finished.\nDone.");
    let said = Some("The small job is done.".to_owned());
    assert!(seen.tools().iter().any(|tool| tool.output == said));
    let usage = seen.usages().pop().unwrap();
    assert_eq!(usage, (Some(17431), Some(78), Some(71_284)), "both results of the turn");
}

#[test]
fn costs_are_counted_per_turn() {
    let seen = replay("duplex-two-turns");
    let costs: Vec<_> = seen.usages();
    assert_eq!(costs, [(Some(4396), Some(6), Some(17_704)), (Some(4435), Some(6), Some(17_860))]);
    let resumed = replay("session-resume");
    assert_eq!(resumed.usages(), [(Some(4437), Some(6), Some(17_868))], "only this turn");
}

#[test]
fn prompts_wait_until_the_turn_before_is_over() {
    let seen = replay("queue-while-busy");
    assert_eq!(seen.outcomes(), [Outcome::Completed, Outcome::Completed]);
    assert!(seen.turns[0].answer.ends_with("s0029 "), "{}", seen.turns[0].answer);
    assert_eq!(seen.turns[1].answer, "Answer to the follow-up.");
    let prompts: Vec<&Value> = seen.sent.iter().filter(|line| line["type"] == "user").collect();
    assert_ne!(prompts[0]["uuid"], prompts[1]["uuid"]);
}

#[test]
fn changes_of_mode_and_model_report_what_is_in_force() {
    let seen = replay("control-requests");
    assert!(seen.events.contains(&RunEvent::Mode { mode: "acceptEdits".into() }));
    assert!(seen.statuses().iter().any(|text| text.starts_with("the model was not changed: ")));
}

#[test]
fn a_process_that_dies_fails_the_turn_with_its_last_words() {
    let failed = |name: &str| match &replay(name).outcomes()[..] {
        [.., Outcome::Failed { fault: Fault::Agent, reason }] => reason.clone(),
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(
        failed("error-bad-flag"),
        "Claude Code ended with code 1: error: unknown option '--no-such-flag'"
    );
    assert!(failed("session-id-reused").contains("is already in use"));
    assert!(failed("session-resume-unknown").starts_with("No conversation found"));
    assert_eq!(
        failed("sigkill-mid-stream"),
        "Claude Code was ended by signal 9 before it was done"
    );
    assert!(failed("oneshot-bypass-root").contains("root"));
}

#[test]
fn damaged_recordings_never_panic() {
    for (number, name) in recordings().iter().enumerate() {
        let whole = read(name);
        for round in 0..6 {
            let mut random = Random(0x9e37_79b9 ^ (number as u64) << 16 ^ round);
            let damaged: Vec<Recorded> = whole
                .iter()
                .flat_map(|line| damage(line, &mut random))
                .collect();
            let seen = run(&damaged);
            assert!(seen.turns.len() <= seen.prompts, "{name}, round {round}");
        }
    }
}

// ---- replay -------------------------------------------------------------------------------

#[derive(Clone)]
struct Recorded {
    at: Duration,
    inward: bool,
    message: Value,
    /// Instead of the message, for damaged lines.
    bytes: Option<Vec<u8>>,
}

/// Everything the dialogue did.
#[derive(Default)]
struct Seen {
    prompts: usize,
    sent: Vec<Value>,
    events: Vec<RunEvent>,
    raw: Vec<Value>,
    asks: Vec<Ask>,
    applied: usize,
    deltas: usize,
    replaced: usize,
    blocks: Vec<(String, String)>,
    resumable: Vec<String>,
    turns: Vec<TurnEnd>,
    terminated: bool,
}

impl Seen {
    fn outcomes(&self) -> Vec<Outcome> {
        self.turns.iter().map(|turn| turn.outcome.clone()).collect()
    }

    /// The texts on the screen, in order.
    fn texts(&self) -> Vec<String> {
        let texts = self.blocks.iter().map(|(_, text)| text.clone());
        texts.filter(|text| !text.is_empty()).collect()
    }

    fn tools(&self) -> Vec<ToolState> {
        self.events
            .iter()
            .filter_map(|event| match event {
                RunEvent::Tool(state) => Some(state.clone()),
                _ => None,
            })
            .collect()
    }

    fn statuses(&self) -> Vec<String> {
        self.events
            .iter()
            .filter_map(|event| match event {
                RunEvent::Status { text } => Some(text.clone()),
                _ => None,
            })
            .collect()
    }

    /// Tokens in, tokens out, millionths of a dollar.
    fn usages(&self) -> Vec<(Option<u64>, Option<u64>, Option<u64>)> {
        self.events
            .iter()
            .filter_map(|event| match event {
                RunEvent::Usage(usage) => Some((
                    usage.input_tokens,
                    usage.output_tokens,
                    usage.cost_usd.map(|cost| (cost * 1e6).round() as u64),
                )),
                _ => None,
            })
            .collect()
    }

    fn sent_responses(&self) -> Vec<Value> {
        let responses = self.sent.iter().filter(|line| line["type"] == "control_response");
        responses.map(|line| line["response"]["response"].clone()).collect()
    }

    fn answers(&self, behavior: &str) -> Vec<Value> {
        let responses = self.sent_responses().into_iter();
        responses.filter(|response| response["behavior"] == behavior).collect()
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Send(line) => self.sent.push(serde_json::from_str(&line).unwrap()),
            Step::Emit(observed) => {
                match &observed.event {
                    RunEvent::Text { block, delta } => {
                        self.deltas += 1;
                        self.block(block.as_str()).push_str(delta);
                    }
                    RunEvent::TextReplaced { block, text } => {
                        self.replaced += 1;
                        text.clone_into(self.block(block.as_str()));
                    }
                    RunEvent::Ask(ask) => self.asks.push(ask.clone()),
                    _ => {}
                }
                self.raw.extend(observed.raw);
                self.events.push(observed.event);
            }
            Step::Resumable(id) => self.resumable.push(id.as_str().to_owned()),
            Step::Applied(_) => self.applied += 1,
            Step::TurnOver(end) => self.turns.push(end),
            Step::CloseInput(_) => {}
            Step::Terminate(_) => self.terminated = true,
        }
    }

    fn block(&mut self, name: &str) -> &mut String {
        let at = self.blocks.iter().position(|(id, _)| id == name).unwrap_or_else(|| {
            self.blocks.push((name.to_owned(), String::new()));
            self.blocks.len() - 1
        });
        &mut self.blocks[at].1
    }
}

fn replay(name: &str) -> Seen {
    run(&read(name))
}

fn run(recording: &[Recorded]) -> Seen {
    let begin = Instant::now();
    let spawn = &recording[0].message["_spawn"]["args"];
    let resumed = spawn.as_array().is_some_and(|args| args.contains(&json!("--resume")));
    let duplex = spawn.as_array().is_some_and(|args| args.contains(&json!("--input-format")));
    let mut dialogue = ClaudeDialogue::new("replay", resumed, begin);
    let mut seen = Seen::default();
    let mut ids = HashMap::new();
    let mut stderr = String::new();
    dialogue.on_start(begin);
    if !duplex {
        let prompt = spawn.as_array().and_then(|args| args.last()).and_then(Value::as_str);
        seen.prompts += 1;
        dialogue.on_steer(begin, Steer::Prompt(prompt.unwrap_or("Hi").to_owned()));
    }
    drain(&mut dialogue, &mut seen);
    for line in recording.iter().skip(1) {
        let now = begin + line.at;
        run_clock(&mut dialogue, &mut seen, now);
        if let Some(bytes) = &line.bytes {
            dialogue.on_line(now, bytes);
        } else if let Some(words) = line.message.get("_stderr").and_then(Value::as_str) {
            stderr.push_str(words);
        } else if let Some(exit) = line.message.get("_exit") {
            let killed = exit["signal"] == "SIGKILL";
            dialogue.on_end(now, Exit {
                code: exit["code"].as_i64().and_then(|code| i32::try_from(code).ok()),
                signal: killed.then_some(9),
                stderr_tail: stderr.clone(),
            });
        } else if line.inward {
            let mut message = line.message.clone();
            let id = message.pointer_mut("/response/request_id");
            if let Some(id) = id
                && let Some(ours) = id.as_str().and_then(|id| ids.get(id))
            {
                *id = Value::String(String::clone(ours));
            }
            dialogue.on_line(now, message.to_string().as_bytes());
        } else {
            let steer = steer(&line.message, &seen);
            seen.prompts += usize::from(matches!(steer, Some(Steer::Prompt(_))));
            if let Some(steer) = steer {
                dialogue.on_steer(now, steer);
                drain(&mut dialogue, &mut seen);
            }
            let ours = seen.sent.iter().rev().find(|sent| {
                sent["request"]["subtype"] == line.message["request"]["subtype"]
            });
            if let (Some(theirs), Some(ours)) = (line.message["request_id"].as_str(), ours) {
                ids.insert(theirs.to_owned(), ours["request_id"].as_str().unwrap_or("").to_owned());
            }
        }
        drain(&mut dialogue, &mut seen);
    }
    seen
}

/// What the host of the recording did, in our words.
fn steer(message: &Value, seen: &Seen) -> Option<Steer> {
    let request = &message["request"];
    match message["type"].as_str()? {
        "user" => {
            let text = message["message"]["content"][0]["text"].as_str()?;
            Some(Steer::Prompt(text.to_owned()))
        }
        "control_request" => match request["subtype"].as_str()? {
            "interrupt" if seen.prompts > 0 => Some(Steer::Interrupt),
            "set_model" => {
                let model = request["model"].as_str().map(str::to_owned);
                Some(Steer::Tune { model, mode: None })
            }
            "set_permission_mode" => {
                let mode = request["mode"].as_str().map(str::to_owned);
                Some(Steer::Tune { model: None, mode })
            }
            _ => None,
        },
        "control_response" => {
            let ask = seen.asks.last()?.id.clone();
            let response = &message["response"]["response"];
            let choose = |option: &str| Answer::Choose { option: option.to_owned() };
            let answer = match response["behavior"].as_str() {
                Some("allow") if response["updatedPermissions"].is_array() => {
                    choose("allow_session")
                }
                Some("allow") => match response["updatedInput"]["answers"].as_object() {
                    Some(answers) => {
                        let text = answers.values().next()?.as_str()?.to_owned();
                        Answer::Text { text }
                    }
                    None => choose("allow"),
                },
                _ => {
                    let reason = response["message"].as_str().unwrap_or("no").to_owned();
                    Answer::Deny { reason }
                }
            };
            Some(Steer::Answer(ask, answer))
        }
        _ => None,
    }
}

fn run_clock(dialogue: &mut ClaudeDialogue, seen: &mut Seen, until: Instant) {
    while let Some(at) = dialogue.deadline().filter(|at| *at < until) {
        dialogue.on_timeout(at);
        drain(dialogue, seen);
    }
}

fn drain(dialogue: &mut ClaudeDialogue, seen: &mut Seen) {
    while let Some(step) = dialogue.next_step() {
        seen.take(step);
    }
}

fn is_interrupt(line: &Value) -> bool {
    line["request"]["subtype"] == "interrupt"
}

// ---- recordings ---------------------------------------------------------------------------

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/claude")
}

fn recordings() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert!(names.len() > 40, "{} recordings", names.len());
    names
}

fn read(name: &str) -> Vec<Recorded> {
    let text = fs::read_to_string(folder().join(format!("{name}.jsonl"))).unwrap();
    text.lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            Recorded {
                at: Duration::from_millis(line["t"].as_u64().unwrap()),
                inward: line["dir"] == "in",
                message: line.get("msg").cloned().unwrap_or_default(),
                bytes: None,
            }
        })
        .collect()
}

fn lines_of(name: &str, direction: &str) -> impl Iterator<Item = Value> {
    let inward = direction == "in";
    read(name).into_iter().filter(move |line| line.inward == inward).map(|line| line.message)
}

fn recorded_answers(name: &str) -> Vec<Value> {
    lines_of(name, "out")
        .filter(|line| line["type"] == "control_response")
        .map(|line| line["response"]["response"].clone())
        .collect()
}

// ---- damage -------------------------------------------------------------------------------

/// xorshift: the same seed gives the same damage.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

fn damage(line: &Recorded, random: &mut Random) -> Vec<Recorded> {
    if !line.inward || line.message.get("_exit").is_some() {
        return vec![line.clone()];
    }
    let mut line = line.clone();
    let mut bytes = line.message.to_string().into_bytes();
    match random.below(12) {
        0 => return Vec::new(),
        1 => return vec![line.clone(), line],
        2 => {
            let at = random.below(bytes.len());
            bytes.truncate(at);
        }
        3 => {
            let at = random.below(bytes.len());
            bytes[at] = u8::try_from(random.below(256)).unwrap();
        }
        4..=8 => {
            let leaves = count(&line.message);
            let target = random.below(leaves);
            let with = [
                Value::Null,
                json!(-1),
                json!(1e300),
                json!("\u{0}\u{202e}x"),
                json!([[[]]]),
                json!({"type": "text"}),
                json!(u64::MAX),
                json!("é".repeat(400)),
            ];
            let mut at = 0;
            put(&mut line.message, target, &mut at, &with[random.below(with.len())]);
            bytes = line.message.to_string().into_bytes();
        }
        _ => return vec![line],
    }
    line.bytes = Some(bytes);
    vec![line]
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
    }
    *at += 1;
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| put(item, target, at, with)),
        Value::Object(fields) => {
            fields.iter_mut().for_each(|(_, item)| put(item, target, at, with));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
