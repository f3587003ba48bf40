//! The spool in a real folder: who may look into it, who has it open, what a full disk does.
#![cfg(all(unix, feature = "spool"))]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use bridge_transport::spool::{AppendError, Folder, FolderError, Found, Item, Spool, SpoolConfig};

const EPOCH: [u8; 16] = [1; 16];

fn open(path: &Path) -> (Spool<Folder>, Found) {
    Spool::open(Folder::open(path).unwrap(), SpoolConfig::default(), EPOCH).unwrap()
}

fn numbers(spool: &mut Spool<Folder>) -> Vec<u64> {
    let items = spool
        .read(spool.first_seq(), usize::MAX, usize::MAX)
        .unwrap();
    let numbers = items.iter().map(|item| match item {
        Item::Record { seq, .. } => *seq,
        Item::Gap { .. } => panic!("{item:?}"),
    });
    numbers.collect()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_folder_and_its_files_are_the_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let made = dir.path().join("made");
    let found = dir.path().join("found");
    fs::create_dir(&found).unwrap();
    fs::set_permissions(&found, fs::Permissions::from_mode(0o755)).unwrap();
    for path in [made, found] {
        let (mut spool, _) = open(&path);
        spool.append(0, 0, b"text").unwrap();
        assert_eq!(mode(&path), 0o700);
        let files: Vec<_> = fs::read_dir(&path).unwrap().collect();
        assert_eq!(files.len(), 3);
        for file in files {
            assert_eq!(mode(&file.unwrap().path()), 0o600);
        }
    }
}

#[test]
fn a_folder_is_open_once_and_free_again_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path());
    let second = Folder::open(dir.path());
    assert!(matches!(second, Err(FolderError::Locked { path }) if path == dir.path()));
    drop(spool);
    open(dir.path());
}

#[test]
fn what_was_appended_is_there_after_the_process_went_without_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path());
    for n in 0..100 {
        spool.append(1, n, b"text").unwrap();
    }
    drop(spool);
    let (mut spool, found) = open(dir.path());
    assert_eq!(found.records, 100);
    if cfg!(target_os = "linux") {
        assert_eq!((found.next, found.gaps), (101, vec![]));
    }
    assert_eq!(spool.append(1, 0, b"more").unwrap(), found.next);
    spool.close().unwrap();
    let (_, found) = open(dir.path());
    assert!(found.clean);
}

#[test]
fn a_link_in_the_place_of_a_file_is_refused() {
    for name in ["00000000000000000001.seg", "ledger", "lock"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let precious = dir.path().join("precious");
        fs::write(&precious, "kept").unwrap();
        fs::create_dir(&path).unwrap();
        symlink(&precious, path.join(name)).unwrap();
        let opened = Folder::open(&path)
            .map_err(|error| error.to_string())
            .and_then(|folder| {
                Spool::open(folder, SpoolConfig::default(), EPOCH)
                    .map_err(|error| error.to_string())
            });
        assert!(opened.is_err(), "{name}");
        assert_eq!(fs::read_to_string(&precious).unwrap(), "kept");
    }
}

#[test]
fn a_link_in_the_place_of_the_folder_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let theirs = dir.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o755)).unwrap();
    let path = dir.path().join("spool");
    for target in [&theirs, &dir.path().join("nowhere")] {
        symlink(target, &path).unwrap();
        for spelling in [path.clone(), path.join("")] {
            let opened = Folder::open(spelling);
            assert!(matches!(opened, Err(FolderError::Link { path: at }) if at == path));
        }
        fs::remove_file(&path).unwrap();
    }
    assert_eq!(mode(&theirs), 0o755);
    assert_eq!(fs::read_dir(&theirs).unwrap().count(), 0);
    assert!(!dir.path().join("nowhere").exists());
    // A link on the way there is the caller's own.
    symlink(&theirs, &path).unwrap();
    open(&path.join("inside"));
    assert_eq!(mode(&theirs.join("inside")), 0o700);
}

#[test]
fn a_link_that_appears_while_the_spool_is_open_is_not_written_through() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let precious = dir.path().join("precious");
    fs::write(&precious, "kept").unwrap();
    let (mut spool, _) = open(&path);
    symlink(&precious, path.join("00000000000000000001.seg")).unwrap();
    assert!(matches!(spool.append(0, 0, b"x"), Err(AppendError::Io(_))));
    assert_eq!(fs::read_to_string(&precious).unwrap(), "kept");
    assert_eq!(
        spool.append(0, 0, b"x").unwrap(),
        1,
        "the link was in the way once"
    );
}

#[test]
fn files_of_others_in_the_folder_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["notes.txt", "1.seg"] {
        fs::write(dir.path().join(name), "mine").unwrap();
    }
    let (mut spool, _) = open(dir.path());
    spool.append(0, 0, b"x").unwrap();
    spool.trim(1).unwrap();
    drop(spool);
    for name in ["notes.txt", "1.seg"] {
        assert_eq!(fs::read_to_string(dir.path().join(name)).unwrap(), "mine");
    }
}

const WRITER: &str = "a_writer_without_an_end";
const WRITES_TO: &str = "WRITES_TO";

/// The writer says each number after it was accepted, and is killed in the middle of it.
#[cfg(target_os = "linux")]
#[test]
fn a_killed_process_loses_nothing_that_it_was_told_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let mut told = 0;
    for round in 0..ROUNDS {
        told = killed_after(&path, told + 300 + round * 37);
        let (mut spool, found) = open(&path);
        assert!(
            found.next > told,
            "round {round}: {told} was told, {found:?}"
        );
        assert_eq!(found.gaps, [], "round {round}");
        let first = spool.first_seq();
        assert_eq!(numbers(&mut spool), (first..found.next).collect::<Vec<_>>());
        if round % 3 == 0 {
            spool.trim(told).unwrap();
        }
        told = found.next - 1;
    }
}

/// Lets the writer go on until it has told this number, and kills it. Gives the last one it told.
#[cfg(target_os = "linux")]
fn killed_after(path: &Path, number: u64) -> u64 {
    use std::io::BufRead as _;

    #[expect(
        clippy::disallowed_methods,
        reason = "this test binary again, to be killed"
    )]
    let mut writer = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", WRITER, "--ignored", "--nocapture"])
        .env(WRITES_TO, path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = io::BufReader::new(writer.stdout.take().unwrap()).lines();
    let mut numbers = lines.map_while(Result::ok).filter_map(|line| {
        let told = line.strip_prefix("accepted ")?;
        told.parse::<u64>().ok()
    });
    let reached = numbers.by_ref().find(|told| *told >= number);
    writer.kill().unwrap();
    writer.wait().unwrap();
    // What it told before it died is still in the pipe.
    numbers.last().or(reached).expect("the writer got that far")
}

#[test]
#[ignore = "the inner half of the test above"]
fn a_writer_without_an_end() {
    let Some(path) = std::env::var_os(WRITES_TO) else {
        return;
    };
    let (mut spool, _) = open(Path::new(&path));
    loop {
        let batch = spool.append_batch((0..17).map(|n| (0, n, &[7; 200][..])));
        assert!(batch.stopped.is_none());
        println!("accepted {}", batch.seqs.end - 1);
        let seq = spool.append(0, 0, &vec![8; 70_000]).unwrap();
        println!("accepted {seq}");
    }
}

const ROUNDS: u64 = 10;

const INNER: &str = "inside_of_the_namespace";
const DONE: &str = "the full disk was tried";
const VARIABLE: &str = "SMALL_DISK";

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_refuses_loses_nothing_and_takes_more_when_there_is_room() {
    let outer = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=512k none "$0" || exit 77; exec "$@""#;
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
        "{said}\n{told}"
    );
}

#[test]
#[ignore = "the inner half of the test above"]
fn inside_of_the_namespace() {
    let Some(disk) = std::env::var_os(VARIABLE).map(PathBuf::from) else {
        return;
    };
    let path = disk.join("spool");
    let filler = disk.join("filler");
    // Nothing fits at all: the spool opens, and nothing is accepted.
    fill(&filler);
    let (mut spool, _) = open(&path);
    let refused = spool.append(0, 0, &[0; 100]);
    assert!(
        matches!(refused, Err(AppendError::NoSpace(_))),
        "{refused:?}"
    );
    fs::remove_file(&filler).unwrap();

    let mut accepted = append_until_full(&mut spool);
    assert!(accepted > 400, "{accepted}");
    for _ in 0..3 {
        let again = spool.append(0, 0, &[2; 1000]);
        assert!(matches!(again, Err(AppendError::NoSpace(_))), "{again:?}");
    }
    assert_eq!(numbers(&mut spool), (1..=accepted).collect::<Vec<_>>());
    // Acknowledging makes room, on the full disk too.
    spool.trim(accepted).unwrap();
    accepted += append_until_full(&mut spool);
    drop(spool);

    let (mut spool, found) = open(&path);
    assert_eq!((found.next, found.gaps), (accepted + 1, vec![]));
    let waiting = numbers(&mut spool);
    assert_eq!(waiting.last(), Some(&accepted));
    assert!(waiting.len() > 400);
    spool.trim(accepted).unwrap();
    drop(spool);

    // Room that others take and give.
    fill(&filler);
    let (mut spool, _) = open(&path);
    assert!(spool.append(0, 0, &vec![3; 100_000]).is_err());
    fs::remove_file(&filler).unwrap();
    assert_eq!(spool.append(0, 0, &[3; 10_000]).unwrap(), accepted + 1);
    spool.sync().unwrap();
    spool.close().unwrap();
    println!("{DONE}");
}

fn append_until_full(spool: &mut Spool<Folder>) -> u64 {
    let mut accepted = 0;
    loop {
        match spool.append(0, 0, &[1; 1000]) {
            Ok(_) => accepted += 1,
            Err(AppendError::NoSpace(_)) => return accepted,
            Err(other) => panic!("{other:?}"),
        }
    }
}

fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    let error = loop {
        if let Err(error) = file.write_all(&[0; 512]) {
            break error;
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}
