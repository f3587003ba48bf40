//! Status and diff: names, states, limits.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt as _,
    time::{Duration, Instant},
};

use bridge_proto::model::{GitFault, GitStatus};
use bridge_runtime::git::Limits;

use crate::support::{Stage, named};

#[tokio::test]
async fn every_name_of_a_status_is_accepted_by_a_diff() {
    let stage = Stage::new();
    let repository = stage.repository("r");
    let names = [
        "größe.txt",
        "with \"quotes\" and 'others'.txt",
        "new\nline\tand tab.txt",
        "back\\slash.txt",
        " spaces around ",
        "-rf",
        "-",
        "*.txt",
        "a[1].txt",
        ":(exclude)x",
        "\u{1f98a}/deep er/x",
        ".dot",
    ];
    for name in names {
        let file = repository.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "new\n").unwrap();
    }
    for expected in ["+new", "+changed"] {
        let status = stage.status("r").await;
        for name in names {
            let diff = stage.diff("r", named(&status, name)).await;
            let added = diff.lines().filter(|line| *line == expected).count();
            assert_eq!(added, 1, "{name:?}: {diff}");
        }
        assert_eq!(status.files.len(), names.len());
        stage.git(&repository, &["add", "-A"]);
        stage.git(&repository, &["commit", "-qm", "all"]);
        for name in names {
            fs::write(repository.join(name), "changed\n").unwrap();
        }
    }
}

#[tokio::test]
async fn untracked_files_are_listed_one_by_one_from_wherever_it_is_asked() {
    let stage = Stage::new();
    let repository = stage.repository("r");
    fs::create_dir_all(repository.join("sub/deep")).unwrap();
    fs::write(repository.join("sub/deep/x"), "x\n").unwrap();
    fs::write(repository.join("sub/a.txt"), "same name\n").unwrap();
    fs::write(repository.join("a.txt"), "one\n2\n3\n").unwrap();
    for asked in [
        "r",
        "r/sub",
        "r/sub/deep",
        "./r/",
        &repository.display().to_string(),
    ] {
        let status = stage.status(asked).await;
        let paths: Vec<_> = status.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["a.txt", "sub/a.txt", "sub/deep/x"], "{asked}");
        assert_eq!(status.root, repository.display().to_string());
        // The numbers are those of the file itself, not of one of the same name at the top.
        let counted = named(&status, "a.txt");
        assert_eq!((counted.added, counted.deleted), (2, 1), "{asked}");
        assert_eq!(named(&status, "sub/a.txt").added, 0);
        let diff = stage.diff(asked, named(&status, "sub/deep/x")).await;
        assert!(diff.contains("+++ b/sub/deep/x"), "{diff}");
    }
}

#[tokio::test]
async fn staged_and_unstaged_changes_renames_and_binaries_are_told() {
    let stage = Stage::new();
    let repository = stage.repository("r");
    fs::write(repository.join("gone"), "x\n").unwrap();
    fs::write(repository.join("bin"), b"\0\x01").unwrap();
    stage.git(&repository, &["add", "-A"]);
    stage.git(&repository, &["commit", "-qm", "more"]);
    stage.git(&repository, &["mv", "a.txt", "b c.txt"]);
    fs::remove_file(repository.join("gone")).unwrap();
    fs::write(repository.join("bin"), b"\0\x02").unwrap();
    fs::write(repository.join("both"), "1\n").unwrap();
    stage.git(&repository, &["add", "both"]);
    fs::write(repository.join("both"), "1\n2\n").unwrap();

    let status = stage.status("r").await;
    let renamed = named(&status, "b c.txt");
    assert_eq!(
        (renamed.staged, renamed.original.as_deref()),
        ('R', Some("a.txt"))
    );
    assert_eq!(named(&status, "gone").unstaged, 'D');
    assert!(named(&status, "bin").binary);
    let both = named(&status, "both");
    assert_eq!((both.staged, both.unstaged, both.added), ('A', 'M', 2));
    // The working tree first; the index when nothing differs there.
    assert!(stage.diff("r", both).await.contains("+2"));
    stage.git(&repository, &["add", "both"]);
    let staged = stage.try_diff("r", "both", false).await.unwrap();
    assert!(staged.contains("+1\n+2"), "{staged}");
    assert!(stage.diff("r", named(&status, "gone")).await.contains("-x"));
    let binary = stage.diff("r", named(&status, "bin")).await;
    assert!(binary.contains("Binary files"), "{binary}");
}

#[tokio::test]
async fn conflicts_a_detached_head_and_an_unborn_branch_are_told() {
    let stage = Stage::new();
    let repository = stage.repository("r");
    stage.git(&repository, &["checkout", "-qb", "other"]);
    fs::write(repository.join("a.txt"), "theirs\n").unwrap();
    stage.git(&repository, &["commit", "-qam", "theirs"]);
    stage.git(&repository, &["checkout", "-q", "main"]);
    fs::write(repository.join("a.txt"), "ours\n").unwrap();
    stage.git(&repository, &["commit", "-qam", "ours"]);
    let merged = stage.try_git(&repository, &["merge", "-q", "other"]);
    assert!(!merged.status.success());
    let status = stage.status("r").await;
    assert!(named(&status, "a.txt").conflicted);
    assert_eq!(status.branches, ["main", "other"]);
    let diff = stage.diff("r", named(&status, "a.txt")).await;
    assert!(diff.contains("++<<<<<<<"), "{diff}");

    stage.git(&repository, &["merge", "--abort"]);
    stage.git(&repository, &["checkout", "-q", "--detach"]);
    let detached = stage.status("r").await;
    assert_eq!(detached.branch, None);
    assert_eq!(detached.branches, ["main", "other"]);

    let unborn = stage.base().join("unborn");
    fs::create_dir_all(&unborn).unwrap();
    stage.git(&unborn, &["init", "-q", "-b", "first"]);
    fs::write(unborn.join("x"), "x\n").unwrap();
    let status = stage.status("unborn").await;
    assert_eq!(status.branch.as_deref(), Some("first"));
    assert_eq!(status.branches, ["first"]);
    assert!(named(&status, "x").untracked());
    stage.git(&unborn, &["add", "x"]);
    let staged = stage.try_diff("unborn", "x", false).await.unwrap();
    assert!(staged.contains("+x"), "{staged}");
}

#[tokio::test]
async fn ahead_and_behind_are_counted_with_an_upstream_and_zero_without() {
    let stage = Stage::new();
    let repository = stage.repository("r");
    let alone = stage.status("r").await;
    assert_eq!((alone.upstream, alone.ahead, alone.behind), (None, 0, 0));
    let clone = stage.base().join("clone");
    let (from, to) = (
        repository.display().to_string(),
        clone.display().to_string(),
    );
    stage.git(&stage.base(), &["clone", "-q", &from, &to]);
    for (at, name) in [(&repository, "theirs"), (&clone, "ours"), (&clone, "ours2")] {
        fs::write(at.join(name), name).unwrap();
        stage.git(at, &["add", "-A"]);
        stage.git(at, &["commit", "-qm", name]);
    }
    stage.git(&clone, &["fetch", "-q"]);
    let status = stage.status("clone").await;
    assert_eq!(status.upstream.as_deref(), Some("origin/main"));
    assert_eq!((status.ahead, status.behind), (2, 1));
}

#[tokio::test]
async fn a_clean_repository_has_no_files_and_one_without_git_is_none() {
    let stage = Stage::new();
    stage.repository("r");
    let status = stage.status("r").await;
    assert_eq!(
        status,
        GitStatus {
            root: stage.base().join("r").display().to_string(),
            branch: Some("main".into()),
            upstream: None,
            ahead: 0,
            behind: 0,
            branches: vec!["main".into()],
            files: Vec::new(),
        }
    );
    fs::create_dir(stage.base().join("plain")).unwrap();
    for none in ["plain", "", "missing", "r/missing", "r/a.txt"] {
        assert_eq!(stage.try_status(none).await, Ok(None), "{none:?}");
        let diff = stage.try_diff(none, "a.txt", false).await;
        assert_eq!(diff, Err(GitFault::NotARepository), "{none:?}");
    }
}

#[tokio::test]
async fn a_name_that_is_no_text_is_shown_and_does_no_harm() {
    let stage = Stage::new();
    let repository = stage.repository("r");
    fs::write(repository.join(OsStr::from_bytes(b"bad\xff")), "x\n").unwrap();
    let status = stage.status("r").await;
    let file = named(&status, "bad\u{fffd}");
    assert_eq!(stage.diff("r", file).await, "");
}

#[tokio::test]
async fn a_file_in_another_encoding_still_has_a_diff() {
    let stage = Stage::new();
    let repository = stage.repository("r");
    fs::write(repository.join("a.txt"), b"one\r\nf\xfcr\r\n").unwrap();
    let diff = stage.try_diff("r", "a.txt", false).await.unwrap();
    assert!(diff.contains("+one\r\n+f\u{fffd}r\r\n"), "{diff:?}");
}

#[tokio::test]
async fn without_git_on_the_path_git_is_not_available() {
    let mut stage = Stage::new();
    stage.repository("r");
    stage.without_git();
    let missing = GitFault::NotAvailable;
    assert_eq!(stage.try_status("r").await, Err(missing.clone()));
    let diff = stage.try_diff("r", "a.txt", false).await;
    assert_eq!(diff, Err(missing.clone()));
    assert_eq!(stage.commit("r", "m").await, Err(missing));
}

#[tokio::test]
async fn a_git_that_hangs_is_ended_with_all_it_started_and_answered_for() {
    let mut stage = Stage::new();
    stage.repository("r");
    let pids = stage.home().join("pids");
    stage.fake_git(&format!(
        "setsid sleep 1000 & echo $! >> '{0}'; echo $$ >> '{0}'; sleep 1000",
        pids.display()
    ));
    stage.tools.limits = Limits {
        time: Duration::from_millis(300),
        ..Limits::default()
    };
    let began = Instant::now();
    let Err(GitFault::StatusFailed(text)) = stage.try_status("r").await else {
        panic!("a status of a git that hangs");
    };
    assert!(text.contains("did not end within"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(10));
    for pid in fs::read_to_string(&pids).unwrap().lines() {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(
            stat.is_empty() || stat.contains(") Z "),
            "{pid} lives: {stat}"
        );
    }
}

#[tokio::test]
async fn a_diff_beyond_the_limit_is_an_error_and_not_an_empty_diff() {
    let mut stage = Stage::new();
    let repository = stage.repository("r");
    fs::write(repository.join("a.txt"), "x\n".repeat(100_000)).unwrap();
    fs::write(repository.join("new.txt"), "y\n".repeat(100_000)).unwrap();
    stage.tools.limits = Limits {
        output: 64 * 1024,
        ..Limits::default()
    };
    for (file, untracked) in [("a.txt", false), ("new.txt", true)] {
        let diff = stage.try_diff("r", file, untracked).await;
        let Err(GitFault::Said(text)) = diff else {
            panic!("{diff:?}");
        };
        assert!(text.contains("32 MiB"), "{text}");
    }
}

#[tokio::test]
async fn a_huge_sparse_file_is_refused_at_once() {
    let stage = Stage::new();
    let repository = stage.repository("r");
    let file = fs::File::create(repository.join("huge")).unwrap();
    file.set_len(10 << 30).unwrap();
    let diff = stage.try_diff("r", "huge", true).await;
    let Err(GitFault::Said(text)) = diff else {
        panic!("{diff:?}");
    };
    assert!(text.contains("32 MiB"), "{text}");
    assert_eq!(stage.status("r").await.files.len(), 1);
}

#[tokio::test]
async fn looking_changes_nothing_in_the_repository() {
    let stage = Stage::new();
    let repository = stage.repository("r");
    // The same content with a new time would make git refresh its index.
    fs::write(repository.join("a.txt"), "one\ntwo\n").unwrap();
    let index = || {
        let meta = fs::metadata(repository.join(".git/index")).unwrap();
        (
            meta.modified().unwrap(),
            fs::read(repository.join(".git/index")).unwrap(),
        )
    };
    let before = index();
    assert!(stage.status("r").await.files.is_empty());
    stage.try_diff("r", "a.txt", false).await.unwrap();
    assert_eq!(index(), before);
}
