//! Commands: a person is asked, and what was said counts.

use bridge_proto::model::AskKind;

use crate::{
    output,
    product::Product,
    story::{Person, Story, follow},
};

promises![runs_what_is_allowed, leaves_what_is_rejected];

async fn runs_what_is_allowed(product: &mut Product) -> String {
    let (task, story) = ask_for_a_command(product, Person::Allows).await;
    assert!(
        product.task_folder(&task).await.join("made.txt").is_file(),
        "{}",
        story.answer()
    );
    format!("{story}")
}

async fn leaves_what_is_rejected(product: &mut Product) -> String {
    let (task, story) = ask_for_a_command(product, Person::Rejects).await;
    assert!(
        !product.task_folder(&task).await.join("made.txt").exists(),
        "{}",
        story.answer()
    );
    format!("{story}")
}

async fn ask_for_a_command(product: &Product, person: Person) -> (String, Story) {
    let command = product.agent.asked_about("touch made.txt");
    let prompt = format!("Make a file.\n@mock shell {command}");
    let task = product.give(&prompt, output()).await;
    let story = follow(product, &task, 0, person).await;
    story.assert_completed(product);
    let kinds: Vec<AskKind> = story.asks.iter().map(|ask| ask.kind).collect();
    assert_eq!(kinds, [AskKind::Command], "{:?}", story.asks);
    assert!(
        story.asks[0].summary.contains("touch made.txt"),
        "{:?}",
        story.asks
    );
    (task, story)
}
