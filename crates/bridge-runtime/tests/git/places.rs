//! Where git may be asked, and what of it may be seen.

use std::{fs, os::unix::fs::symlink, process::Command};

use bridge_proto::model::{GitFault, GitOperation};
use bridge_workspace::ContentsPolicy;

use crate::support::{Stage, named};

#[tokio::test]
async fn paths_outside_of_the_allowed_roots_are_refused() {
    let stage = Stage::new();
    stage.repository("r");
    let outside = stage.outside();
    stage.make_repository(&outside);
    symlink(&outside, stage.base().join("link")).unwrap();
    fs::create_dir_all(stage.base().join(".ssh")).unwrap();
    let absolute = outside.display().to_string();
    let refused = Err(GitFault::InvalidPath);
    for path in [
        "../outside",
        "..",
        "r/..",
        "r/../../outside",
        r"r\..",
        "a\0b",
        &absolute,
        "/",
        "link",
        ".ctrlnode",
        ".ctrlnode/tasks",
        ".ssh",
        "r/.git",
        "r/.git/objects",
    ] {
        fs::create_dir_all(stage.base().join(".ctrlnode/tasks")).unwrap();
        assert_eq!(stage.try_status(path).await, refused.clone(), "{path}");
        let diff = stage.try_diff(path, "a.txt", false).await;
        assert_eq!(diff, Err(GitFault::InvalidPath), "{path}");
        for operation in [GitOperation::Init, GitOperation::Fetch] {
            let done = stage.operate(path, operation).await;
            assert_eq!(done, Err(GitFault::InvalidPath), "{path}");
        }
    }
    assert_eq!(stage.try_status("....//outside").await, Ok(None));
    assert_eq!(stage.try_status(&"x".repeat(5000)).await, refused);
}

#[tokio::test]
async fn a_repository_above_the_workspace_is_not_looked_for() {
    let stage = Stage::new();
    stage.make_repository(&stage.home());
    fs::create_dir_all(stage.base().join("sub")).unwrap();
    for path in ["", "sub"] {
        assert_eq!(stage.try_status(path).await, Ok(None), "{path:?}");
    }
}

#[tokio::test]
async fn a_working_tree_or_objects_elsewhere_make_no_repository() {
    let stage = Stage::new();
    let outside = stage.outside();
    stage.make_repository(&outside);
    fs::write(outside.join("a.txt"), "secret\n").unwrap();

    let tree = stage.repository("tree");
    let elsewhere = outside.display().to_string();
    stage.git(&tree, &["config", "core.worktree", &elsewhere]);
    let objects = stage.base().join("objects");
    fs::create_dir(&objects).unwrap();
    let gitfile = format!("gitdir: {elsewhere}/.git\n");
    fs::write(objects.join(".git"), gitfile).unwrap();
    let linked = stage.base().join("linked");
    fs::create_dir(&linked).unwrap();
    symlink(outside.join(".git"), linked.join(".git")).unwrap();

    for path in ["tree", "objects", "linked"] {
        assert_eq!(stage.try_status(path).await, Ok(None), "{path}");
        let diff = stage.try_diff(path, "a.txt", false).await;
        assert_eq!(diff, Err(GitFault::NotARepository), "{path}");
        let done = stage.commit(path, "m").await;
        assert_eq!(done, Err(GitFault::NotARepository), "{path}");
    }
}

#[tokio::test]
async fn objects_borrowed_from_elsewhere_make_no_repository() {
    let stage = Stage::new();
    let outside = stage.outside();
    stage.make_repository(&outside);
    let (theirs, clone) = (outside.display().to_string(), stage.base().join("clone"));
    let home = stage.base();
    stage.git(&home, &["clone", "-q", "--shared", &theirs, "clone"]);
    fs::write(clone.join("a.txt"), "changed\n").unwrap();
    let text = stage.git(&clone, &["diff", "a.txt"]);
    assert!(text.contains("-one"), "it is borrowed: {text}");
    assert_eq!(stage.try_status("clone").await, Ok(None));
    let diff = stage.try_diff("clone", "a.txt", false).await;
    assert_eq!(diff, Err(GitFault::NotARepository));
    // From one in the workspace they may be.
    stage.repository("r");
    stage.git(&home, &["clone", "-q", "--shared", "r", "second"]);
    fs::write(home.join("second/a.txt"), "changed\n").unwrap();
    let diff = stage.try_diff("second", "a.txt", false).await.unwrap();
    assert!(diff.contains("-one"), "{diff}");
}

#[tokio::test]
async fn a_second_working_tree_of_a_repository_is_one() {
    let stage = Stage::new();
    let repository = stage.repository("r");
    stage.git(&repository, &["worktree", "add", "-q", "../second"]);
    assert_eq!(
        stage.status("second").await.branch.as_deref(),
        Some("second")
    );
}

#[tokio::test]
async fn files_outside_of_the_repository_and_inside_of_git_have_no_diff() {
    let stage = Stage::new();
    let repository = stage.repository("r");
    let outside = stage.outside();
    fs::write(outside.join("secret"), "secret\n").unwrap();
    symlink(&outside, repository.join("out")).unwrap();
    fs::create_dir(stage.base().join("next")).unwrap();
    fs::write(stage.base().join("next/secret"), "secret\n").unwrap();
    symlink("../next", repository.join("next")).unwrap();
    let absolute = outside.join("secret").display().to_string();
    for file in [
        "../next/secret",
        "sub/../../next/secret",
        &absolute,
        "out/secret",
        "next/secret",
        ".git/config",
        ".GIT/config",
        "sub/.git/config",
        ".",
        "./a.txt",
        "a//b",
        "a\0b",
    ] {
        for untracked in [false, true] {
            let diff = stage.try_diff("r", file, untracked).await;
            assert_eq!(diff, Err(GitFault::InvalidPath), "{file:?}");
        }
    }
    for file in ["", "  "] {
        let diff = stage.try_diff("../x", file, false).await;
        assert_eq!(diff, Err(GitFault::MissingFile), "comes before the path");
    }
}

#[tokio::test]
async fn a_link_shows_where_it_leads_and_not_what_is_there() {
    let stage = Stage::new();
    let repository = stage.repository("r");
    fs::write(stage.base().join("secret"), "hush\n").unwrap();
    symlink("../secret", repository.join("link")).unwrap();
    let diff = stage.try_diff("r", "link", true).await.unwrap();
    assert!(
        diff.contains("+../secret") && !diff.contains("hush"),
        "{diff}"
    );
}

#[tokio::test]
async fn a_folder_has_no_diff_even_where_all_in_it_was_deleted() {
    let stage = Stage::new();
    let repository = stage.repository("r");
    fs::create_dir(repository.join("d")).unwrap();
    fs::write(repository.join("d/.npmrc"), "token=hush\n").unwrap();
    fs::write(repository.join("d/x"), "x\n").unwrap();
    stage.git(&repository, &["add", "-A"]);
    stage.git(&repository, &["commit", "-qm", "d"]);
    for gone in [false, true] {
        if gone {
            fs::remove_dir_all(repository.join("d")).unwrap();
        } else {
            fs::write(repository.join("d/.npmrc"), "token=other\n").unwrap();
        }
        for untracked in [false, true] {
            for file in ["d", "d/"] {
                let diff = stage.try_diff("r", file, untracked).await;
                assert_eq!(diff, Ok(String::new()), "{file} {untracked} {gone}");
            }
        }
        let protected = stage.try_diff("r", "d/.npmrc", false).await;
        assert_eq!(protected, Err(GitFault::InvalidPath));
    }
}

#[tokio::test]
async fn pipes_and_devices_are_not_read() {
    let stage = Stage::new();
    let repository = stage.repository("r");
    #[expect(clippy::disallowed_methods, reason = "makes a pipe")]
    let made = Command::new("mkfifo").arg(repository.join("pipe")).status();
    assert!(made.unwrap().success());
    assert_eq!(stage.try_diff("r", "pipe", true).await, Ok(String::new()));
}

#[tokio::test]
async fn the_contents_policy_holds_for_diffs() {
    let file = "a.txt";
    for (policy, shown) in [
        (ContentsPolicy::Never, false),
        (ContentsPolicy::TaskOutputs, false),
        (ContentsPolicy::Workspace, true),
    ] {
        let stage = Stage::under(policy);
        let repository = stage.repository("r");
        fs::write(repository.join(file), "changed\n").unwrap();
        let diff = stage.try_diff("r", file, false).await;
        assert_eq!(diff.is_ok(), shown, "{policy}");
        if !shown {
            assert_eq!(diff, Err(GitFault::InvalidPath));
        }
    }
}

#[tokio::test]
async fn names_are_told_and_changes_made_unless_nothing_may_leave() {
    let stage = Stage::under(ContentsPolicy::TaskOutputs);
    let repository = stage.repository("r");
    fs::write(repository.join("new"), "x\n").unwrap();
    assert!(named(&stage.status("r").await, "new").untracked());
    stage.commit("r", "m").await.unwrap();

    let stage = Stage::under(ContentsPolicy::Never);
    stage.repository("r");
    let kept = "the contents policy never keeps it".to_owned();
    assert_eq!(
        stage.try_status("r").await,
        Err(GitFault::StatusFailed(kept.clone()))
    );
    let done = stage.operate("r", GitOperation::Push).await;
    assert_eq!(done, Err(GitFault::Said(kept)));
}

#[tokio::test]
async fn a_repository_that_git_does_not_trust_is_none() {
    let stage = Stage::new();
    let repository = stage.repository("r");
    #[expect(clippy::disallowed_methods, reason = "gives the repository away")]
    let given = Command::new("chown")
        .arg("-R")
        .arg("65534")
        .arg(&repository)
        .status();
    if !given.unwrap().success() {
        eprintln!("skipped: only root can give a folder away");
        return;
    }
    assert_eq!(stage.try_status("r").await, Ok(None));
    assert_eq!(stage.commit("r", "m").await, Err(GitFault::NotARepository));
}
