//! What is kept of the commands of a machine, and under which numbers.

use super::*;

fn commands(epoch: u128, first: u64, words: &[&str]) -> Commands {
    let command = |word: &&str| Command {
        task: task("t1"),
        run: (*word == "start").then(|| run("t1", "r2")),
        frame: Arc::from(*word),
    };
    Commands {
        bridge: bridge("b1"),
        epoch: Epoch(epoch),
        first,
        list: words.iter().map(command).collect(),
    }
}

async fn kept(store: &SqliteStore, words: &[&str]) {
    store.keep_commands(commands(7, 1, words)).await.unwrap();
}

async fn outstanding(world: &World) -> (Option<Epoch>, u64, u64, Vec<(u64, String)>) {
    let found = world.store.outstanding(&bridge("b1")).await.unwrap();
    let commands = found.commands.iter();
    let words = commands.map(|(seq, command)| (*seq, command.frame.to_string()));
    (found.epoch, found.acked, found.sent, words.collect())
}

fn words(list: &[(u64, &str)]) -> Vec<(u64, String)> {
    list.iter()
        .map(|(seq, word)| (*seq, (*word).to_owned()))
        .collect()
}

#[tokio::test]
async fn a_run_is_kept_with_the_command_that_says_so_or_not_at_all() {
    let world = World::new().await;
    assert_eq!(outstanding(&world).await, (None, 0, 0, vec![]));
    let record = || run_record(run("t1", "r2"), RunKind::FollowUp, at(2));
    let sent = commands(7, 1, &["write", "start"]);
    world.store.add_run(record(), Some(sent)).await.unwrap();
    // The same run a second time: neither it nor its command is kept.
    let sent = commands(7, 3, &["start"]);
    world.store.add_run(record(), Some(sent)).await.unwrap_err();
    let world = world.reopen();
    let left = words(&[(1, "write"), (2, "start")]);
    assert_eq!(outstanding(&world).await, (Some(Epoch(7)), 0, 2, left));
    let found = world.store.outstanding(&bridge("b1")).await.unwrap();
    let runs: Vec<_> = found
        .commands
        .iter()
        .map(|(_, it)| it.run.clone())
        .collect();
    assert_eq!(runs, [None, Some(run("t1", "r2"))]);
}

#[tokio::test]
async fn a_number_is_never_given_twice_whatever_becomes_of_its_command() {
    let world = World::new().await;
    let store = &world.store;
    kept(store, &["a", "b", "c"]).await;
    store
        .acknowledged(&bridge("b1"), Epoch(8), 3)
        .await
        .unwrap();
    store
        .acknowledged(&bridge("b1"), Epoch(7), 1)
        .await
        .unwrap();
    let left = words(&[(2, "b"), (3, "c")]);
    assert_eq!(outstanding(&world).await, (Some(Epoch(7)), 1, 3, left));
    let (r1, outcome) = (run("t1", "r1"), Outcome::Completed);
    store.end_run(&r1, outcome, at(2)).await.unwrap();
    assert_eq!(store.forget_before(at(100)).await.unwrap(), 1);
    assert_eq!(outstanding(&world).await, (Some(Epoch(7)), 1, 3, vec![]));
}

#[tokio::test]
async fn counted_anew_what_waits_keeps_its_order() {
    let world = World::new().await;
    let store = &world.store;
    kept(store, &["a", "b", "c"]).await;
    store
        .acknowledged(&bridge("b1"), Epoch(7), 1)
        .await
        .unwrap();
    store.renumber(&bridge("b1"), Epoch(9)).await.unwrap();
    let left = words(&[(1, "b"), (2, "c")]);
    assert_eq!(outstanding(&world).await, (Some(Epoch(9)), 0, 2, left));
}

#[tokio::test]
async fn a_machine_that_was_removed_is_sent_nothing_more() {
    let world = World::new().await;
    let store = &world.store;
    kept(store, &["a"]).await;
    store.revoke_bridge(&bridge("b1"), at(3)).await.unwrap();
    assert_eq!(outstanding(&world).await.3, vec![]);
}
