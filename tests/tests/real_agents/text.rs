//! Text: that it arrives while the agent works, and all of it.

use std::time::Duration;

use crate::{
    output,
    product::Product,
    story::{Person, follow},
};

promises![text_arrives_while_it_works, every_increment_arrives];

async fn text_arrives_while_it_works(product: &mut Product) -> String {
    let task = product
        .give("Tell me something long.\n@mock text 200", output())
        .await;
    let story = follow(product, &task, 0, Person::Absent).await;
    story.assert_completed(product);
    // A busy agent puts many of them together.
    assert!(story.increments > 5, "{story}");
    let wanted: Vec<String> = (1..=200).map(|n| format!("word{n}")).collect();
    assert_eq!(story.answer().trim(), wanted.join(" "), "{story}");
    assert!(
        story.first_before_end > Duration::from_millis(500),
        "{story:?}"
    );
    format!(
        "{story}, the first {:?} before the end",
        story.first_before_end
    )
}

/// 2,000 increments as fast as the model can say them, equal to the last byte.
async fn every_increment_arrives(product: &mut Product) -> String {
    let task = product
        .give("Tell me all of it.\n@mock flood 2000", output())
        .await;
    let story = follow(product, &task, 0, Person::Absent).await;
    story.assert_completed(product);
    let words = (1..=2000).map(|n| format!("word{n}"));
    let wanted: Vec<String> = words.chain(["end.".to_owned()]).collect();
    assert_eq!(story.answer(), wanted.join(" "), "{story}");
    format!("{story}")
}
