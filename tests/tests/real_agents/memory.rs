//! Memory: a follow-up goes on where the conversation was.

use crate::{
    output,
    product::Product,
    story::{Person, follow},
};

promises![remembers, remembers_after_a_restart];

async fn remembers(product: &mut Product) -> String {
    remembers_when(product, async |_| ()).await
}

/// The bridge is stopped and started between the two, so that the agent is another process.
async fn remembers_after_a_restart(product: &mut Product) -> String {
    remembers_when(product, async |product| {
        product.stop_and_start_again().await;
    })
    .await
}

async fn remembers_when(product: &mut Product, between: impl AsyncFnOnce(&mut Product)) -> String {
    let task = product
        .give("The word is pelican-7341.\n@mock text 3", output())
        .await;
    let first = follow(product, &task, 0, Person::Absent).await;
    first.assert_completed(product);
    between(product).await;
    product
        .follow_up(&task, "What was the word?\n@mock recall")
        .await;
    let second = follow(product, &task, first.last, Person::Absent).await;
    second.assert_completed(product);
    let answer = second.answer();
    assert!(answer.contains("The word is pelican-7341."), "{answer}");
    format!("{first}; then {second}")
}
