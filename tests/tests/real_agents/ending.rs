//! The end of a run: a cancel, a bridge that is killed, and that nobody is left behind.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use bridge_proto::model::{Actor, Outcome};
use futures_util::future::{Either, select};

use crate::{
    output,
    product::Product,
    story::{Person, Story, follow},
};

promises![
    leaves_nobody_behind,
    ends_what_was_left_running,
    goes_on_after_a_cancel,
    survives_a_killed_bridge,
];

async fn leaves_nobody_behind(product: &mut Product) -> String {
    let prompt = format!(
        "Take your time.\n@mock shell {}",
        product.agent.long_command()
    );
    let task = product.give(&prompt, output()).await;
    let (story, took) = cancel_while_it_sleeps(product, &task).await;
    format!("{story}, cancelled in {took:?}")
}

async fn ends_what_was_left_running(product: &mut Product) -> String {
    // Hermes refuses a command that goes on by itself where it sees it.
    let command = "sh -c 'nohup sleep 321 >/dev/null 2>&1 &'";
    let task = product
        .give(&format!("Leave it on.\n@mock linger {command}"), output())
        .await;
    let (story, took) = cancel_while_it_sleeps(product, &task).await;
    format!("{story}, cancelled in {took:?}")
}

async fn goes_on_after_a_cancel(product: &mut Product) -> String {
    let prompt = format!(
        "The word is heron-2986.\n@mock shell {}",
        product.agent.long_command()
    );
    let task = product.give(&prompt, output()).await;
    let (first, _) = cancel_while_it_sleeps(product, &task).await;
    product
        .follow_up(&task, "What was the word?\n@mock recall")
        .await;
    let second = follow(product, &task, first.last, Person::Absent).await;
    second.assert_completed(product);
    assert!(
        second.answer().contains("The word is heron-2986."),
        "{}",
        second.answer()
    );
    format!("{first}; then {second}")
}

async fn survives_a_killed_bridge(product: &mut Product) -> String {
    let prompt = format!(
        "Take your time.\n@mock shell {}",
        product.agent.long_command()
    );
    let task = product.give(&prompt, output()).await;
    let following = Box::pin(follow(product, &task, 0, Person::Allows));
    drop(until_it_sleeps(product, following).await);
    product.kill_and_start_again().await;
    let story = follow(product, &task, 0, Person::Away).await;
    let left = product.processes();
    let Outcome::Failed { fault, reason } = &story.outcome else {
        panic!("{story:?}\n{}", product.diagnosis());
    };
    assert!(!reason.trim().is_empty(), "{story:?}");
    assert!(
        left.iter().all(|one| one.run.is_none()),
        "{left:#?}\n{}",
        product.diagnosis()
    );
    format!("{story}, failed by the {fault:?}: {reason}")
}

/// Allows the command, cancels the task once its `sleep 321` is there, and looks who is left.
async fn cancel_while_it_sleeps(product: &Product, task: &str) -> (Story, Duration) {
    let following = pin!(follow(product, task, 0, Person::Allows));
    let following = until_it_sleeps(product, following).await;
    let asked = Instant::now();
    product.cancel(task).await;
    let story = following.await;
    let took = asked.elapsed();
    let left = product.processes();
    assert_eq!(
        story.outcome,
        Outcome::Cancelled { by: Actor::Person },
        "{story}"
    );
    assert_eq!(product.task(task).await["summary"]["status"], "cancelled");
    assert!(
        !left.iter().any(|one| one.command.starts_with("sleep")),
        "{left:#?}"
    );
    assert!(
        left.iter().all(|one| one.run.is_none()),
        "{left:#?}\n{}",
        product.diagnosis()
    );
    assert!(took < Duration::from_secs(10), "{took:?}");
    (story, took)
}

/// Follows a run until its `sleep 321` is there.
async fn until_it_sleeps<F>(product: &Product, following: F) -> F
where
    F: Future<Output = Story> + Unpin,
{
    let sleeps = async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while !product
            .processes()
            .iter()
            .any(|one| one.command == "sleep 321")
        {
            tick.tick().await;
        }
    };
    match select(following, pin!(sleeps)).await {
        Either::Left((story, _)) => panic!("it did not sleep: {story:?}"),
        Either::Right(((), following)) => following,
    }
}
