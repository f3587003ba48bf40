//! Trouble with the model: what becomes of a run when it refuses, is busy or is broken.

use std::time::Duration;

use bridge_proto::model::{Fix, Outcome};

use crate::{
    output,
    product::Product,
    story::{Person, Story, follow},
};

promises![
    says_who_must_log_in,
    goes_on_when_the_model_was_busy,
    says_why_the_model_is_broken,
];

async fn says_who_must_log_in(product: &mut Product) -> String {
    let (story, reason) = ends_without_success(product, 401).await;
    let Outcome::Blocked {
        fix: Fix::Login, ..
    } = &story.outcome
    else {
        panic!("{:?}\n{}", story.outcome, product.diagnosis());
    };
    format!("{story}: {reason}")
}

/// 429 once, with a hint to ask again after a second.
async fn goes_on_when_the_model_was_busy(product: &mut Product) -> String {
    let task = product
        .give("Try again.\n@mock error 429 once", output())
        .await;
    let story = follow(product, &task, 0, Person::Absent).await;
    story.assert_completed(product);
    assert_eq!(story.answer().trim(), "word1 word2 word3", "{story}");
    let asked = product.model.log();
    let tries = asked.iter().filter(|asked| asked.script.is_some());
    let statuses: Vec<u16> = tries.map(|asked| asked.status).collect();
    assert_eq!(statuses, [429, 200], "{asked:#?}");
    format!("{story}")
}

/// Some agents ask a broken model for minutes without a word; then the bridge's own patience
/// counts.
async fn says_why_the_model_is_broken(product: &mut Product) -> String {
    let patience = PATIENCE.as_secs().to_string();
    let variables = [("CTRLNODE_MODEL_PATIENCE_SECONDS", patience.as_str())];
    product.start_again_with(&variables).await;
    let (story, reason) = ends_without_success(product, 500).await;
    assert!(story.took < PATIENCE + SLACK, "{story}: {reason}");
    format!("{story}: {reason}")
}

/// Gives a task whose model answers with this status; its end, and the reason that is shown.
async fn ends_without_success(product: &Product, status: u16) -> (Story, String) {
    let task = product
        .give(&format!("Try.\n@mock error {status}"), output())
        .await;
    let story = follow(product, &task, 0, Person::Absent).await;
    match &story.outcome {
        Outcome::Failed { .. } | Outcome::Blocked { .. } => {}
        Outcome::Completed | Outcome::Cancelled { .. } => {
            panic!("{:?}\n{}", story.outcome, product.diagnosis())
        }
    }
    let view = product.task(&task).await;
    let reason = view["summary"]["reason"].as_str().unwrap_or_default();
    assert!(!reason.trim().is_empty(), "{view}");
    (story, reason.to_owned())
}

const PATIENCE: Duration = Duration::from_secs(10);
/// For the start of the agent and for the end of its processes.
const SLACK: Duration = Duration::from_secs(25);
