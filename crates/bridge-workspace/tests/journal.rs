//! The run journal: what holds after a crash, wherever it struck.
#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod support;

use bridge_proto::model::{Actor, Outcome};
use bridge_workspace::{
    CommandId, Journal, JournalError, Numbering, RunEntry, RunState, journal::KEPT_ENDED,
};
use support::{Scene, at, entry, run};

fn reopen(scene: &Scene) -> Journal {
    Journal::open(&scene.workspace).unwrap()
}

fn file(scene: &Scene) -> std::path::PathBuf {
    scene.root().join("journal/runs.jsonl")
}

fn open_ids(journal: &Journal) -> Vec<String> {
    journal
        .open_runs()
        .map(|entry| entry.run.task.to_string())
        .collect()
}

#[test]
fn recorded_runs_are_found_again_whole() {
    let scene = Scene::in_memory();
    let full = RunEntry {
        pid: Some(4711),
        repository: Some("/home/dev/web".into()),
        joined: Some("r0".into()),
        ..entry("a")
    };
    let mut journal = reopen(&scene);
    journal.record(&entry("a")).unwrap();
    journal.record(&full).unwrap();
    journal.record(&entry("b")).unwrap();
    let outcome = Outcome::Cancelled { by: Actor::Person };
    journal.close(&run("b"), &outcome, 17, at(5)).unwrap();
    drop(journal);
    for _ in 0..2 {
        let journal = reopen(&scene);
        assert_eq!(journal.skipped(), 0);
        assert_eq!(journal.open_runs().collect::<Vec<_>>(), [&full]);
        assert_eq!(journal.find(&run("a")), Some(RunState::Running(&full)));
        match journal.find(&run("b")) {
            Some(RunState::Ended(ended)) => {
                assert_eq!(ended.entry, entry("b"));
                assert_eq!((&ended.outcome, ended.n, ended.at), (&outcome, 17, at(5)));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(journal.find(&run("c")), None);
    }
}

#[test]
fn a_run_ends_once_and_is_never_recorded_again() {
    let scene = Scene::in_memory();
    let mut journal = reopen(&scene);
    let close = |journal: &mut Journal, n| journal.close(&run("a"), &Outcome::Completed, n, at(1));
    assert!(matches!(
        close(&mut journal, 1),
        Err(JournalError::Unknown { .. })
    ));
    journal.record(&entry("a")).unwrap();
    close(&mut journal, 7).unwrap();
    close(&mut journal, 8).unwrap();
    assert!(matches!(
        journal.record(&entry("a")),
        Err(JournalError::Ended { .. })
    ));
    assert!(matches!(
        journal.reserve(&run("a"), 1),
        Err(JournalError::Unknown { .. })
    ));
    assert!(matches!(journal.find(&run("a")), Some(RunState::Ended(ended)) if ended.n == 7));
}

#[test]
fn event_numbers_are_reserved_in_blocks() {
    let scene = Scene::in_memory();
    let mut journal = reopen(&scene);
    journal.record(&entry("a")).unwrap();
    assert_eq!(journal.reserve(&run("a"), 1000).unwrap(), 1000);
    assert_eq!(journal.reserve(&run("a"), 1001).unwrap(), 2000);
    assert_eq!(journal.reserve(&run("a"), 1500).unwrap(), 2000);
    drop(journal);
    assert_eq!(reopen(&scene).open_runs().next().unwrap().reserved, 2000);
}

#[test]
fn a_write_torn_at_any_byte_loses_only_its_own_line() {
    let scene = Scene::in_memory();
    let mut journal = reopen(&scene);
    let mut ends = Vec::new();
    let size = || usize::try_from(std::fs::metadata(file(&scene)).unwrap().len()).unwrap();
    journal.record(&entry("a")).unwrap();
    ends.push(size());
    journal.record(&entry("b")).unwrap();
    ends.push(size());
    journal
        .close(&run("a"), &Outcome::Completed, 3, at(1))
        .unwrap();
    ends.push(size());
    drop(journal);
    let whole = std::fs::read(file(&scene)).unwrap();
    assert_eq!(whole.len(), ends[2]);
    for cut in 0..=whole.len() {
        std::fs::write(file(&scene), &whole[..cut]).unwrap();
        let mut journal = reopen(&scene);
        // Only the newline may be missing of a line that counts.
        let lines = ends.iter().filter(|end| cut + 1 >= **end).count();
        let expected: &[&str] = match lines {
            0 => &[],
            1 => &["a"],
            2 => &["a", "b"],
            _ => &["b"],
        };
        assert_eq!(open_ids(&journal), expected, "cut at {cut}");
        let torn = cut > 0 && !ends.iter().any(|end| cut == *end || cut + 1 == *end);
        assert_eq!(journal.skipped(), u64::from(torn), "cut at {cut}");
        // What is written next holds, whatever stood at the end.
        journal.record(&entry("c")).unwrap();
        drop(journal);
        let journal = reopen(&scene);
        assert_eq!(
            open_ids(&journal).last().map(String::as_str),
            Some("c"),
            "cut at {cut}"
        );
        assert_eq!(journal.skipped(), 0, "cut at {cut}");
    }
}

#[test]
fn a_damaged_line_is_skipped_and_counted() {
    let scene = Scene::in_memory();
    let mut journal = reopen(&scene);
    for id in ["a", "b", "c"] {
        journal.record(&entry(id)).unwrap();
    }
    journal
        .close(&run("b"), &Outcome::Completed, 3, at(1))
        .unwrap();
    drop(journal);
    let mut bytes = std::fs::read(file(&scene)).unwrap();
    let second = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    bytes[second + 60] ^= 1;
    bytes.splice(0..0, b"\n\xff\xfe not a line\n".iter().copied());
    std::fs::write(file(&scene), bytes).unwrap();
    let journal = reopen(&scene);
    // The garbage, the damaged beginning of b, and the end of b that has lost its beginning.
    assert_eq!(journal.skipped(), 3);
    assert_eq!(open_ids(&journal), ["a", "c"]);
    drop(journal);
    assert_eq!(reopen(&scene).skipped(), 0, "the file was rewritten");
}

#[test]
fn only_the_last_ended_runs_are_kept_and_the_file_stays_small() {
    let scene = Scene::in_memory();
    let mut journal = reopen(&scene);
    journal.record(&entry("open")).unwrap();
    let over = 700;
    for number in 0..KEPT_ENDED + over {
        let id = format!("t{number}");
        journal.record(&entry(&id)).unwrap();
        journal
            .close(&run(&id), &Outcome::Completed, 1, at(1))
            .unwrap();
    }
    let check = |journal: &Journal| {
        let known = |number: usize| journal.find(&run(&format!("t{number}"))).is_some();
        assert!(!known(0) && !known(over - 1));
        assert!(known(over) && known(KEPT_ENDED + over - 1));
        assert_eq!(open_ids(journal), ["open"]);
    };
    check(&journal);
    drop(journal);
    check(&reopen(&scene));
    let text = std::fs::read_to_string(file(&scene)).unwrap();
    assert_eq!(text.lines().count(), 2 * KEPT_ENDED + 1);
    // A long life does not make a long file.
    let mut journal = reopen(&scene);
    for n in 0..6000_u32 {
        journal
            .record(&RunEntry {
                pid: Some(n),
                ..entry("open")
            })
            .unwrap();
    }
    let lines = std::fs::read_to_string(file(&scene))
        .unwrap()
        .lines()
        .count();
    assert!(lines <= 2 * (2 * KEPT_ENDED + 1) + 1001, "{lines}");
}

#[test]
fn an_entry_without_measure_is_refused() {
    let scene = Scene::in_memory();
    let mut journal = reopen(&scene);
    let mut huge = entry("a");
    huge.origin.reply.0 = "x".repeat(300 * 1024);
    assert!(matches!(
        journal.record(&huge),
        Err(JournalError::TooLarge { .. })
    ));
    journal.record(&entry("a")).unwrap();
    drop(journal);
    assert_eq!(open_ids(&reopen(&scene)), ["a"]);
}

#[cfg(unix)]
#[test]
fn a_journal_that_is_a_link_or_a_folder_is_a_typed_error() {
    let scene = Scene::in_memory();
    drop(reopen(&scene));
    std::fs::remove_file(file(&scene)).unwrap();
    std::os::unix::fs::symlink("/dev/null", file(&scene)).unwrap();
    assert!(matches!(
        Journal::open(&scene.workspace),
        Err(JournalError::Open(_))
    ));
    std::fs::remove_file(file(&scene)).unwrap();
    std::fs::create_dir(file(&scene)).unwrap();
    assert!(matches!(
        Journal::open(&scene.workspace),
        Err(JournalError::Open(_))
    ));
}

fn command(seq: u64) -> CommandId {
    let numbering = Numbering(7);
    CommandId { numbering, seq }
}

#[test]
fn commands_that_were_carried_out_are_known_after_a_restart_in_whatever_order_they_were() {
    let scene = Scene::in_memory();
    let mut journal = reopen(&scene);
    assert_eq!(journal.kept(), None);
    journal.record_for(&entry("a"), Some(command(1))).unwrap();
    journal.done(command(4)).unwrap();
    journal.done(command(4)).unwrap();
    journal.passed(command(2)).unwrap();
    drop(journal);
    for _ in 0..2 {
        let journal = reopen(&scene);
        assert_eq!((journal.skipped(), open_ids(&journal).len()), (0, 1));
        assert_eq!(journal.kept(), Some(command(2)));
        let known: Vec<u64> = (1..=5)
            .filter(|seq| journal.executed().contains(command(*seq)))
            .collect();
        assert_eq!(known, [1, 2, 4]);
    }
    let mut journal = reopen(&scene);
    journal.done(command(3)).unwrap();
    assert_eq!(reopen(&scene).kept(), Some(command(4)));
}

#[test]
fn a_write_that_was_torn_between_a_run_and_its_command_knows_the_run() {
    let scene = Scene::in_memory();
    let mut journal = reopen(&scene);
    journal.done(command(1)).unwrap();
    journal.record_for(&entry("a"), Some(command(2))).unwrap();
    drop(journal);
    let whole = std::fs::read(file(&scene)).unwrap();
    let torn: usize = whole.len() - 10;
    std::fs::write(file(&scene), &whole[..torn]).unwrap();
    let journal = reopen(&scene);
    assert_eq!(
        (open_ids(&journal), journal.kept()),
        (vec!["a".into()], Some(command(1)))
    );
}

#[test]
fn thousands_of_commands_leave_a_small_file() {
    let scene = Scene::in_memory();
    let mut journal = reopen(&scene);
    for seq in 1..=3000 {
        journal.done(command(seq)).unwrap();
    }
    assert_eq!(journal.kept(), Some(command(3000)));
    let lines = std::fs::read_to_string(file(&scene))
        .unwrap()
        .lines()
        .count();
    assert!(lines < 1100, "{lines}");
    assert_eq!(reopen(&scene).kept(), Some(command(3000)));
}
