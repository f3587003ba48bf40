//! Plans of pipelines: the request, its progress and its result.

use bridge_proto::{
    ctrlnode::{
        decode, encode_refusal, encode_reply,
        plane::{self, FromBridge},
    },
    model::{CommandBody, GraphPhase, PlanGraph, PlanReply, Reply, Source},
};

use crate::{agent, golden, origin, task};

const TASK: &str = "9f8e7d6c-1111-4222-8333-444455556666";

pub(crate) fn expected() -> Vec<(&'static str, CommandBody)> {
    let plan = |task| {
        CommandBody::Plan(Box::new(PlanGraph {
            agent: agent("writer"),
            prompt: "A weekly report.".into(),
            task,
        }))
    };
    vec![
        ("generate_graph_blueprint", plan(Some(task(TASK)))),
        ("generate_graph_blueprint_content", plan(None)),
    ]
}

#[test]
fn plans_are_written_as_the_reference_shows_them_and_read_back_by_the_hub() {
    let progress = PlanReply::Progress {
        phase: GraphPhase::Planning,
        message: "The agent is planning.".into(),
        at: "2026-03-14T09:26:53.589Z".parse().unwrap(),
    };
    let result = |task, result| PlanReply::Result { task, result };
    let document = Ok("{\"name\":\"Report\"}".to_owned());
    let failed = Err("GRAPH_GENERATION_TIMEOUT".to_owned());
    let (first, second) = (
        "generate_graph_blueprint",
        "generate_graph_blueprint_content",
    );
    for (name, request, reply) in [
        ("graph_generation_progress", first, progress),
        (
            "intent_result_graph",
            first,
            result(Some(task(TASK)), document),
        ),
        ("intent_result_graph_failed", second, result(None, failed)),
    ] {
        let reply = Reply::Plan(reply);
        let origin = origin(request, Source::Plane);
        let frame = encode_reply(&reply, &origin).unwrap();
        assert_eq!(frame, golden(&format!("out/{name}")), "{name}");
        let heard = plane::decode(frame.as_bytes()).unwrap();
        let request_id = if request == first { "g1" } else { "g2" }.to_owned();
        assert_eq!(heard, FromBridge::Reply { request_id, reply }, "{name}");
    }
}

#[test]
fn a_request_that_cannot_be_read_gets_a_result_and_one_without_id_no_progress() {
    for (agent_id, code) in [
        ("", "AGENT_NOT_FOUND"),
        (r#","agentId":"writer""#, "GRAPH_GENERATION_PROVIDER_ERROR"),
    ] {
        let frame = format!(
            r#"{{"action":"generate_graph_blueprint","requestId":"g1","args":5{agent_id}}}"#
        );
        let error = decode(frame.as_bytes(), Source::Plane).unwrap_err();
        let answer = encode_refusal(frame.as_bytes(), &error).unwrap();
        assert!(answer.contains(&format!(r#""error":"{code}""#)), "{answer}");
        assert!(
            answer.contains(r#""providerMethod":"graph.generate""#),
            "{answer}"
        );
    }
    let silent = br#"{"action":"generate_graph_blueprint","agentId":"writer","content":"x"}"#;
    let origin = decode(silent, Source::Plane).unwrap().origin;
    let progress = PlanReply::Progress {
        phase: GraphPhase::Accepted,
        message: String::new(),
        at: "2026-03-14T09:26:53.589Z".parse().unwrap(),
    };
    assert_eq!(encode_reply(&Reply::Plan(progress), &origin), None);
}
