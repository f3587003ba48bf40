//! A full and a read-only disk: a small tmpfs in a mount namespace of its own. Permissions prove
//! nothing when the tests run as root.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod support;

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use bridge_proto::model::{FileRoot, FileScope, ReadOutcome, TreeChange, TreeChanged};
use bridge_workspace::{
    Appended, ContentsPolicy, FileRefusal, Journal, JournalError, LogError, OpenError, Tree,
    Workspace,
    contained::ContainError,
    env_file::{SetError, set},
    task_log::RETRY_MILLIS,
};
use support::{at, entry, task};

const INNER: &str = "inside_of_the_namespace";
const DONE: &str = "both disks were tried";
const VARIABLE: &str = "SMALL_DISKS";

#[test]
fn a_full_or_read_only_disk_is_a_typed_error_and_everything_goes_on_afterwards() {
    let outer = tempfile::tempdir().unwrap();
    let script = r#"mkdir "$0/small" "$0/fixed" &&
        mount -t tmpfs -o size=512k none "$0/small" &&
        mount -t tmpfs -o size=64k,ro none "$0/fixed" || exit 77
        exec "$@""#;
    #[expect(
        clippy::disallowed_methods,
        reason = "this test binary again, in a namespace"
    )]
    let output = std::process::Command::new("unshare")
        .args(["-rm", "sh", "-c", script])
        .arg(outer.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", INNER, "--ignored", "--nocapture"])
        .env(VARIABLE, outer.path())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => return println!("skipped: there is no unshare: {error}"),
    };
    let told = String::from_utf8_lossy(&output.stderr);
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() && !said.contains("running 1 test") {
        return println!("skipped: no namespace with a tmpfs: {told}");
    }
    assert!(
        output.status.success() && said.contains(DONE),
        "{said}
{told}"
    );
}

#[test]
#[ignore = "the inner half of the test above"]
fn inside_of_the_namespace() {
    let Some(disks) = std::env::var_os(VARIABLE).map(PathBuf::from) else {
        return;
    };
    full(&disks.join("small"));
    read_only(&disks.join("fixed"));
    files_on_a_read_only_disk(&disks);
    println!("{DONE}");
}

fn full(disk: &Path) {
    let workspace = Workspace::open(disk, None).unwrap();
    let dir = workspace.task_dir(&task("t"), None).unwrap();
    let mut log = dir.log(None);
    let mut journal = Journal::open(&workspace).unwrap();
    let env = disk.join(".env");
    let input = "tasks/t/input/x.md";
    let write = |bytes: &[u8]| workspace.write_file(&Tree::Ctrlnode, input, bytes, true);
    let block = "x".repeat(5000);
    assert_eq!(log.append(at(0), "a", &block).unwrap(), Appended::Written);
    journal.record(&entry("a")).unwrap();
    set(&env, &[("A", "1")]).unwrap();
    write(b"old").unwrap();

    let filler = disk.join("filler");
    fill(&filler);
    let error = log.append(at(1), "a", &block).unwrap_err();
    assert!(matches!(error, LogError::DiskFull { .. }), "{error:?}");
    assert_eq!(log.append(at(2), "a", "b").unwrap(), Appended::Skipped);
    let retry = RETRY_MILLIS.cast_signed();
    assert_eq!(
        log.append(at(1 + retry), "a", &block).unwrap(),
        Appended::Skipped
    );
    let mut big = entry("b");
    big.origin.reply.0 = "y".repeat(20_000);
    let error = journal.record(&big).unwrap_err();
    assert!(
        matches!(&error, JournalError::Write(e) if e.kind() == io::ErrorKind::StorageFull),
        "{error:?}"
    );
    let error = set(&env, &[("A", "2")]).unwrap_err();
    assert!(matches!(error, SetError::Io { .. }), "{error:?}");
    assert_eq!(std::fs::read_to_string(&env).unwrap(), "A=1\n");
    let error = write(&vec![b'n'; 20_000]).unwrap_err();
    assert!(
        matches!(&error, FileRefusal::Contained(ContainError::Io { source, .. })
            if source.kind() == io::ErrorKind::StorageFull),
        "{error:?}"
    );
    assert_eq!(
        std::fs::read_to_string(workspace.root().join(input)).unwrap(),
        "old"
    );

    std::fs::remove_file(&filler).unwrap();
    assert_eq!(
        log.append(at(1 + 2 * retry), "a", "back").unwrap(),
        Appended::Written
    );
    let text = std::fs::read_to_string(dir.output().join("agent_log.md")).unwrap();
    assert!(text.contains("LOG_GAP\n3 entries are missing"), "{text}");
    assert!(text.ends_with("] A\nback\n"), "{text}");
    journal.record(&entry("c")).unwrap();
    drop(journal);
    let journal = Journal::open(&workspace).unwrap();
    let open: Vec<_> = journal
        .open_runs()
        .map(|entry| entry.run.task.to_string())
        .collect();
    assert_eq!(open, ["a", "c"]);
    set(&env, &[("A", "2")]).unwrap();
    write(b"new").unwrap();
    let left = std::fs::read_dir(dir.input()).unwrap().count();
    assert_eq!(left, 1, "no unfinished file stays behind");
}

/// A disk inside the workspace that nothing can be written to; the workspace itself is writable.
fn files_on_a_read_only_disk(disks: &Path) {
    let workspace = Workspace::open(disks, Some(&disks.join("state"))).unwrap();
    let workspace = workspace.with_policy(ContentsPolicy::Workspace);
    let error = workspace
        .write_file(&Tree::Base, "fixed/x.md", b"x", true)
        .unwrap_err();
    assert!(
        matches!(&error, FileRefusal::Contained(ContainError::Io { source, .. })
            if source.kind() == io::ErrorKind::ReadOnlyFilesystem),
        "{error:?}"
    );
    let told = changed(&workspace, &Tree::Base, Ask::Create, "fixed/new");
    assert!(told.is_some_and(|told| told.contains("Read-only")));
    let told = changed(&workspace, &Tree::Base, Ask::Delete, "fixed/new");
    assert_eq!(told, None, "what is not there is deleted");
    // A mounted disk is no folder that can be deleted, and none is gone into.
    std::fs::write(disks.join("small/kept"), "x").unwrap();
    for mounted in ["fixed", "small"] {
        let told = changed(&workspace, &Tree::Base, Ask::Delete, mounted);
        assert_eq!(told.as_deref(), Some("INVALID_PATH"), "{mounted}");
    }
    assert!(disks.join("small/kept").exists());
    let (_, read) = workspace.read_file(&Tree::Base, "fixed/x.md");
    assert_eq!(read, ReadOutcome::NotFound);
    let listed = workspace.list_files(&Tree::Base, "fixed", true, true);
    assert_eq!(listed.unwrap().entries, []);
}

#[derive(Clone, Copy)]
enum Ask {
    Create,
    Delete,
}

/// The error, if any.
fn changed(workspace: &Workspace, tree: &Tree, ask: Ask, path: &str) -> Option<String> {
    let scope = FileScope {
        root: FileRoot::Owner,
        agent: None,
        provider: None,
    };
    let path = path.to_owned();
    let change = match ask {
        Ask::Create => TreeChange::CreateFolder { scope, path },
        Ask::Delete => TreeChange::DeletePath { scope, path },
    };
    match workspace.change_tree(&change, Some(tree)) {
        TreeChanged::Done { error, .. } => error,
        other @ (TreeChanged::Workspace { .. } | TreeChanged::AgentFolders { .. }) => {
            panic!("{other:?}")
        }
    }
}

fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    let error = loop {
        if let Err(error) = file.write_all(&[0; 512]) {
            break error;
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

fn read_only(disk: &Path) {
    let error = Workspace::open(disk, None).unwrap_err();
    assert!(
        matches!(&error, OpenError::Folder { source, .. }
            if source.kind() == io::ErrorKind::ReadOnlyFilesystem),
        "{error:?}"
    );
    let error = set(&disk.join(".env"), &[("A", "1")]).unwrap_err();
    assert!(matches!(error, SetError::Io { .. }), "{error:?}");
}
