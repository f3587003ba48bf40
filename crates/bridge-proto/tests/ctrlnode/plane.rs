//! What the hub makes of frames that other bridges may send.

use bridge_proto::{
    ctrlnode::plane::{self, FromBridge},
    model::{Notice, ReadOutcome, Reply},
};

use crate::provider;

#[test]
fn codes_of_a_newer_bridge_are_shown_and_not_lost() {
    let frame = r#"{"action":"provider_health","providerHealth":{"x":{"available":false,"reason":"on_fire"}}}"#;
    let Ok(FromBridge::Notice(Notice::ProviderHealth { health })) = plane::decode(frame.as_bytes())
    else {
        panic!("not a health notice");
    };
    let health = &health[&provider("x")].health;
    assert_eq!(
        (health.reason, health.hint.as_deref()),
        (None, Some("on_fire"))
    );
    let frame = r#"{"action":"read_file_response","requestId":"r","content":null,"error":"NEW"}"#;
    assert_eq!(
        plane::decode(frame.as_bytes()),
        Ok(FromBridge::Reply {
            request_id: "r".into(),
            reply: Reply::ReadFile {
                path: String::new(),
                outcome: ReadOutcome::Unreadable
            },
        })
    );
}

#[test]
fn abilities_and_troubles_in_another_shape_leave_the_rest_as_it_is() {
    let frame = r#"{"action":"provider_health","providerHealth":{"x":{"available":true,"can":{"inject":true,"mode":"sometimes"},"trouble":"much"},"y":{"available":true,"can":{"inject":true,"fly":true}}}}"#;
    let Ok(FromBridge::Notice(Notice::ProviderHealth { health })) = plane::decode(frame.as_bytes())
    else {
        panic!("not a health notice");
    };
    let x = &health[&provider("x")];
    assert!(x.health.available && x.can.is_none() && x.trouble.is_none());
    assert!(health[&provider("y")].can.is_some_and(|can| can.inject));
}

#[test]
fn an_answer_about_a_run_that_does_not_say_whether_it_is_known_is_no_answer() {
    for known in ["", r#","known":null"#, r#","known":"no""#] {
        let frame = format!(
            r#"{{"action":"run_checked","requestId":"r","taskId":"t","executionId":"e"{known}}}"#
        );
        assert!(plane::decode(frame.as_bytes()).is_err(), "{frame}");
    }
}

#[test]
fn agents_without_provider_or_model_are_openclaws_defaults() {
    let frame = r#"{"action":"agent_update","agents":[{"id":"A","workspace":"/w","name":"A","model":"default","exists":true,"hostname":"box"},{"id":" "}]}"#;
    let Ok(FromBridge::Notice(Notice::Agents { agents, .. })) = plane::decode(frame.as_bytes())
    else {
        panic!("not agents");
    };
    assert_eq!(agents.len(), 1);
    assert_eq!(agents[0].provider, provider("openclaw"));
    assert_eq!((agents[0].id.as_str(), &agents[0].model), ("a", &None));
}

#[test]
fn results_of_intents_that_are_no_runs_are_unknown() {
    let frame = r#"{"action":"intent_result","requestId":"r","agentId":"a","intentType":"something_else","contextTaskId":"t","result":"{}"}"#;
    let unknown = FromBridge::Unknown {
        kind: "intent_result".into(),
    };
    assert_eq!(plane::decode(frame.as_bytes()), Ok(unknown));
}
