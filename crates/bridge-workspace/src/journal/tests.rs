//! The journal on a device that is full.

use bridge_proto::{
    TaskId,
    model::{ReplyToken, Source},
};

use super::*;
use crate::executed::Numbering;

fn entry(id: &str) -> RunEntry {
    let run = RunKey {
        task: TaskId::parse(id).unwrap(),
        attempt: "1".into(),
    };
    RunEntry {
        marker: run.marker(),
        run,
        agent: AgentId::parse("dev").unwrap(),
        provider: ProviderKey::parse("demo").unwrap(),
        kind: RunKind::Dispatch,
        origin: Origin {
            source: Source::Local,
            reply: ReplyToken::default(),
        },
        started: Timestamp::from_millis(0),
        pid: None,
        folder: None,
        repository: None,
        reserved: 0,
        joined: None,
    }
}

#[test]
fn a_device_that_is_full_refuses_the_run_and_the_next_write_holds() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Journal::open_in(Folder::open(dir.path()).unwrap()).unwrap();
    let mut journal = open();
    journal.record(&entry("a")).unwrap();
    journal.file = Some(File::options().write(true).open("/dev/full").unwrap());
    let error = journal.record(&entry("b")).unwrap_err();
    assert!(
        matches!(&error, JournalError::Write(e) if e.kind() == io::ErrorKind::StorageFull),
        "{error:?}"
    );
    assert_eq!(journal.find(&entry("b").run), None);
    journal.file = None;
    journal.record(&entry("c")).unwrap();
    drop(journal);
    let journal = open();
    let runs: Vec<_> = journal.open_runs().cloned().collect();
    assert_eq!((runs, journal.skipped()), (vec![entry("a"), entry("c")], 0));
}

#[test]
fn a_command_that_found_the_device_full_counts_as_kept_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Journal::open_in(Folder::open(dir.path()).unwrap()).unwrap();
    let mut journal = open();
    let command = |seq| CommandId {
        numbering: Numbering(1),
        seq,
    };
    journal.done(command(1)).unwrap();
    journal.file = Some(File::options().write(true).open("/dev/full").unwrap());
    journal.done(command(2)).unwrap_err();
    assert!(journal.executed().contains(command(2)));
    assert_eq!((journal.kept(), open().kept()), (None, Some(command(1))));
    journal.file = None;
    journal.settle();
    assert_eq!(journal.kept(), Some(command(2)));
    assert_eq!(open().kept(), Some(command(2)));
}

#[test]
fn an_end_that_found_the_device_full_is_written_when_there_is_room() {
    let full = || Some(File::options().write(true).open("/dev/full").unwrap());
    let dir = tempfile::tempdir().unwrap();
    let open = || Journal::open_in(Folder::open(dir.path()).unwrap()).unwrap();
    let mut journal = open();
    for id in ["a", "b"] {
        journal.record(&entry(id)).unwrap();
        journal.file = full();
        let now = Timestamp::from_millis(1);
        let run = entry(id).run;
        journal
            .close(&run, &Outcome::Completed, 7, now)
            .unwrap_err();
        assert!(matches!(journal.find(&run), Some(RunState::Ended(_))));
        journal.file = None;
        if id == "a" {
            journal.record(&entry("c")).unwrap();
        } else {
            journal.settle();
        }
        let left: Vec<_> = open().open_runs().map(|it| it.run.clone()).collect();
        assert_eq!(left, [entry("c").run], "after {id}");
    }
}
