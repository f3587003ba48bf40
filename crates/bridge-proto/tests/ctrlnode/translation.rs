//! A plain bridge's messages become the events that our own bridge would have sent.

use bridge_proto::{
    BlockId, RunKey, Timestamp,
    ctrlnode::{
        Profile, RunFacts, encode_event,
        plane::{self, FromBridge, Translator},
    },
    model::{
        Actor, AskEnd, Event, EventBody, Fault, Fix, Observed, Origin, Outcome, Rejection,
        ReplyToken, RunEvent, RunKind, Source, ToolStatus,
    },
};
use serde_json::{Value, json};

use crate::{TASK, agent, golden, provider, run, task};

/// Feeds frames, gives what happened.
fn feed(translator: &mut Translator, frames: &[String]) -> Vec<(RunKey, EventBody)> {
    let mut events = Vec::new();
    for frame in frames {
        let Ok(FromBridge::Run(message)) = plane::decode(frame.as_bytes()) else {
            panic!("not a run message: {frame}");
        };
        events.extend(translator.on(message));
    }
    events
}

fn open() -> Translator {
    let mut translator = Translator::default();
    translator.open(run(TASK, "e1"));
    translator
}

fn bodies(events: Vec<(RunKey, EventBody)>) -> Vec<EventBody> {
    events
        .into_iter()
        .map(|(key, body)| {
            assert_eq!(key, run(TASK, "e1"));
            body
        })
        .collect()
}

/// All answer text in order, blocks separated by a bar.
fn answer(events: &[EventBody]) -> String {
    let mut answer = String::new();
    let mut last: Option<&BlockId> = None;
    for event in events {
        if let EventBody::Seen(observed) = event
            && let RunEvent::Text { block, delta } = &observed.event
        {
            if last.is_some_and(|last| last != block) {
                answer.push('|');
            }
            last = Some(block);
            answer.push_str(delta);
        }
    }
    answer
}

fn frame(action: &str, fields: &Value) -> String {
    let mut frame = json!({"action": action, "agentId": "dev-1", "taskId": TASK});
    frame
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    frame.to_string()
}

fn progress(text: &str) -> String {
    frame(
        "task_progress",
        &json!({"kind": "text_chunk", "text": text}),
    )
}

fn stream(text: &str) -> String {
    frame(
        "agent_stream",
        &json!({"event": {"kind": "text_chunk", "text": text}}),
    )
}

fn activity(delta: &str) -> String {
    frame("agent_activity", &json!({"delta": delta}))
}

fn complete(status: &str, reason: Option<&str>) -> String {
    frame(
        "task_complete",
        &json!({"status": status, "reason": reason, "source": "provider"}),
    )
}

fn outcome(events: &[EventBody]) -> &Outcome {
    let terminal: Vec<_> = events.iter().filter(|event| event.is_terminal()).collect();
    match terminal.as_slice() {
        [EventBody::Ended { outcome }] => outcome,
        other => panic!("not one end: {other:?}"),
    }
}

#[test]
fn a_chunk_in_three_messages_is_shown_once() {
    let mut frames = Vec::new();
    for text in ["Re", "Re", "ading", " …"] {
        frames.extend([progress(text), stream(text), activity(text)]);
    }
    frames.extend([golden("out/task_complete"), golden("out/intent_result")]);
    let events = bodies(feed(&mut open(), &frames));
    assert_eq!(answer(&events), "ReReading …");
    assert!(matches!(events[0], EventBody::Started { .. }));
    assert_eq!(outcome(&events), &Outcome::Completed);
    assert!(events.last().unwrap().is_terminal());
}

#[test]
fn any_one_of_the_three_messages_is_enough() {
    for carrier in [progress, stream, activity] {
        let mut frames: Vec<String> = ["a", "b", "b", "c"].map(carrier).to_vec();
        frames.push(complete("completed", None));
        assert_eq!(answer(&bodies(feed(&mut open(), &frames))), "abbc");
    }
    let frames = [progress("only"), complete("done", None)];
    assert_eq!(answer(&bodies(feed(&mut open(), &frames))), "only");
    let frames = [
        progress("a"),
        stream("a"),
        progress("b"),
        stream("b"),
        complete("done", None),
    ];
    assert_eq!(answer(&bodies(feed(&mut open(), &frames))), "ab");
}

#[test]
fn repeated_thinking_and_tool_titles_are_not_answer_text() {
    let call = json!({"event": {"kind": "tool_call", "raw": {"toolCallId": "c", "title": "ls"}}});
    let events = bodies(feed(
        &mut open(),
        &[
            frame("task_progress", &json!({"kind": "thinking", "text": "Hm."})),
            activity("Hm."),
            activity("Look:"),
            frame("task_progress", &json!({"kind": "tool_call"})),
            frame("agent_stream", &call),
            activity("→ ls\n"),
            activity("Done."),
            complete("completed", None),
        ],
    ));
    assert_eq!(answer(&events), "Look:|Done.");
}

#[test]
fn tools_of_acp_agents_are_whole_each_time_and_closed_at_the_end() {
    let update = |raw: Value| {
        frame(
            "agent_stream",
            &json!({"event": {"kind": "tool_result", "raw": raw}}),
        )
    };
    let events = bodies(feed(
        &mut open(),
        &[
            golden("out/agent_stream_tool_call"),
            golden("out/agent_stream_tool_call"),
            update(json!({"toolCallId": "c1", "status": "in_progress", "kind": "edit"})),
            complete("completed", None),
        ],
    ));
    let states: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            EventBody::Seen(observed) => match &observed.event {
                RunEvent::Tool(tool) => Some((tool.title.as_str(), tool.status)),
                _ => None,
            },
            _ => None,
        })
        .collect();
    assert_eq!(
        states,
        [
            ("write intro.md", ToolStatus::Pending),
            ("write intro.md", ToolStatus::InProgress),
            ("write intro.md", ToolStatus::Unknown),
        ]
    );
}

#[test]
fn tools_in_claudes_messages_are_seen_and_its_text_comes_from_the_activity() {
    let events = bodies(feed(
        &mut open(),
        &[
            golden("out/agent_stream_claude"),
            activity("Reading "),
            complete("completed", None),
        ],
    ));
    assert_eq!(answer(&events), "Reading ");
    let EventBody::Seen(observed) = &events[1] else {
        panic!("{events:?}")
    };
    let RunEvent::Tool(tool) = &observed.event else {
        panic!("{events:?}")
    };
    assert_eq!(tool.title, "Bash ls");
    assert!(observed.raw.is_some());
}

#[test]
fn a_question_offers_its_numbered_lines_and_is_closed_by_the_answer() {
    let mut translator = open();
    let events = bodies(feed(
        &mut translator,
        &[golden("out/task_waiting_for_input")],
    ));
    let EventBody::Seen(observed) = &events[1] else {
        panic!("{events:?}")
    };
    let RunEvent::Ask(ask) = &observed.event else {
        panic!("{events:?}")
    };
    assert_eq!(ask.summary, "Run `cargo test`?");
    let options: Vec<_> = ask
        .options
        .iter()
        .map(|o| (o.id.as_str(), o.label.as_str()))
        .collect();
    assert_eq!(options, [("1", "Allow once"), ("2", "Reject")]);
    let closed = RunEvent::AskClosed {
        ask: ask.id.clone(),
        how: AskEnd::Answered {
            answer: "Allow once".into(),
        },
    };
    let closed = EventBody::Seen(Box::new(Observed::from(closed)));
    assert_eq!(
        bodies(translator.on_answer(&task(TASK), "Allow once")),
        [closed]
    );
    assert_eq!(translator.on_answer(&task(TASK), "again"), []);
}

#[test]
fn an_open_question_is_withdrawn_by_the_end() {
    let frames = [
        golden("out/task_waiting_for_input"),
        complete("failed", Some("x")),
    ];
    let events = bodies(feed(&mut open(), &frames));
    let EventBody::Seen(observed) = &events[2] else {
        panic!("{events:?}")
    };
    assert!(matches!(
        &observed.event,
        RunEvent::AskClosed {
            how: AskEnd::Withdrawn,
            ..
        }
    ));
}

#[test]
fn statuses_and_reasons_become_outcomes() {
    let failed = |fault, reason: &str| Outcome::Failed {
        fault,
        reason: reason.into(),
    };
    let blocked = |fix, reason: &str| Outcome::Blocked {
        fix,
        reason: reason.into(),
    };
    for (frame, expected) in [
        (
            golden("out/task_complete_cancelled"),
            Outcome::Cancelled { by: Actor::Person },
        ),
        (
            golden("out/task_complete_blocked"),
            blocked(Fix::Limit, "Task timed out"),
        ),
        (
            golden("out/task_complete_failed"),
            failed(Fault::Agent, "Agent reported failure"),
        ),
        (
            golden("out/task_complete_bridge"),
            failed(Fault::Bridge, "the bridge stopped during the run"),
        ),
        (
            complete("blocked", Some("Agent reported blocked")),
            blocked(Fix::Agent, "Agent reported blocked"),
        ),
        (
            complete("blocked", Some("HTTP 401")),
            blocked(Fix::Login, "HTTP 401"),
        ),
        (
            complete("blocked", Some("no credit left")),
            blocked(Fix::Credit, "no credit left"),
        ),
        (
            complete("odd", None),
            failed(Fault::Bridge, "unknown status: odd"),
        ),
    ] {
        let events = bodies(feed(&mut open(), &[frame]));
        assert_eq!(outcome(&events), &expected);
    }
}

#[test]
fn an_intent_result_alone_is_a_rejection() {
    for (name, rejection) in [
        ("intent_result_agent_not_found", Rejection::AgentNotFound),
        ("intent_result_no_prompt", Rejection::MissingIntentPayload),
        (
            "intent_result_not_active",
            Rejection::ProviderNotActive {
                provider: "gemini".into(),
            },
        ),
        (
            "intent_result_place_refused",
            Rejection::PlaceRefused {
                reason: "the folder leaves the workspace".into(),
            },
        ),
    ] {
        let events = bodies(feed(&mut open(), &[golden(&format!("out/{name}"))]));
        assert_eq!(events, [EventBody::Rejected(rejection)]);
    }
}

#[test]
fn an_intent_result_ends_a_run_whose_task_complete_was_lost() {
    let error = golden("out/intent_result_followup_bridge");
    let events = bodies(feed(&mut open(), &[activity("x"), error]));
    let reason = "BRIDGE_INTERNAL_ERROR: the bridge stopped during the run".into();
    assert_eq!(
        outcome(&events),
        &Outcome::Failed {
            fault: Fault::Bridge,
            reason
        }
    );
    let events = bodies(feed(&mut open(), &[golden("out/intent_result")]));
    assert_eq!(outcome(&events), &Outcome::Completed);
}

#[test]
fn nothing_follows_the_end_and_late_results_of_older_runs_end_nothing() {
    let mut translator = open();
    let end = golden("out/task_complete");
    feed(&mut translator, std::slice::from_ref(&end));
    assert!(!translator.is_open(&run(TASK, "e1")));
    assert_eq!(feed(&mut translator, &[activity("late"), end.clone()]), []);
    translator.open(run(TASK, "e2"));
    assert_eq!(feed(&mut translator, &[golden("out/intent_result")]), []);
    assert!(translator.is_open(&run(TASK, "e2")));
    let events = feed(&mut translator, &[end]);
    assert_eq!(
        events,
        [(
            run(TASK, "e2"),
            EventBody::Ended {
                outcome: Outcome::Completed
            }
        )]
    );
}

#[test]
fn a_second_run_of_a_task_waits_behind_the_first() {
    let mut translator = open();
    translator.open(run(TASK, "e2"));
    translator.open(run(TASK, "e2"));
    let end = golden("out/task_complete");
    let ends = feed(&mut translator, &[end.clone(), end.clone(), end]);
    let keys: Vec<_> = ends.into_iter().map(|(key, _)| key.attempt).collect();
    assert_eq!(keys, ["e1", "e2"]);
}

#[test]
fn tasks_that_were_not_opened_or_were_closed_say_nothing() {
    let mut translator = Translator::default();
    assert_eq!(
        feed(
            &mut translator,
            &[activity("x"), golden("out/intent_result")]
        ),
        []
    );
    translator.open(run(TASK, "e1"));
    translator.close(&run(TASK, "e1"));
    assert_eq!(
        feed(
            &mut translator,
            &[activity("x"), golden("out/task_complete")]
        ),
        []
    );
}

#[test]
fn what_our_bridge_says_plainly_comes_back_as_what_it_meant() {
    let facts = RunFacts {
        agent: agent("dev-1"),
        provider: provider("gemini"),
        kind: RunKind::Dispatch,
        origin: Origin {
            source: Source::Plane,
            reply: ReplyToken::default(),
        },
        log_thinking: true,
    };
    let block = BlockId::parse("answer-1").unwrap();
    let seen = |event: RunEvent| EventBody::Seen(Box::new(event.into()));
    let said = vec![
        EventBody::Started { conversation: None },
        seen(RunEvent::Model { model: "m".into() }),
        seen(RunEvent::Text {
            block: block.clone(),
            delta: "a".into(),
        }),
        seen(RunEvent::Text {
            block,
            delta: "b".into(),
        }),
        seen(RunEvent::Thinking { delta: "t".into() }),
        seen(RunEvent::FileWritten {
            path: "/x/y".into(),
        }),
        seen(RunEvent::Status { text: "s".into() }),
        EventBody::Ended {
            outcome: Outcome::Blocked {
                fix: Fix::Limit,
                reason: "Task timed out".into(),
            },
        },
    ];
    let frames: Vec<String> = said
        .iter()
        .enumerate()
        .flat_map(|(n, body)| {
            let at = Timestamp::from_millis(0);
            let event = Event {
                run: run(TASK, "e1"),
                n: n as u64,
                at,
                body: body.clone(),
            };
            encode_event(&event, &facts, Profile::Plain)
        })
        .collect();
    assert_eq!(bodies(feed(&mut open(), &frames)), said);
}
