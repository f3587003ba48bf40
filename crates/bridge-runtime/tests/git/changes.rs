//! Operations: what they do, what they refuse, which errors they give.

use std::fs;

use bridge_proto::model::{GitFault, GitOperation, GitStep};

use crate::support::{Stage, named};

fn said(result: Result<String, GitFault>) -> String {
    match result {
        Err(GitFault::Said(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_repository_is_made_committed_to_and_branched() {
    let stage = Stage::new();
    let path = stage.base().join("new");
    fs::create_dir(&path).unwrap();
    stage.operate("new", GitOperation::Init).await.unwrap();
    fs::write(path.join("x y"), "x\n").unwrap();
    fs::create_dir(path.join("sub")).unwrap();
    fs::write(path.join("sub/z"), "z\n").unwrap();
    // From a folder below, everything is committed all the same.
    let output = stage
        .commit("new/sub", "Say \"hi\"; $(x)\n\n-f")
        .await
        .unwrap();
    assert!(output.contains("2 files changed"), "{output}");
    assert_eq!(
        stage.git(&path, &["log", "-1", "--format=%B"]).trim(),
        "Say \"hi\"; $(x)\n\n-f"
    );
    assert!(stage.status("new").await.files.is_empty());

    let create = |branch: &str, base: Option<&str>| GitOperation::CreateBranch {
        branch: branch.into(),
        base: base.map(str::to_owned),
    };
    stage
        .operate("new", create("fix/größe#1", None))
        .await
        .unwrap();
    fs::write(path.join("more"), "x\n").unwrap();
    stage.commit("new", "more").await.unwrap();
    stage
        .operate("new", create("other", Some("main")))
        .await
        .unwrap();
    assert!(!path.join("more").exists());
    let output = stage.checkout("new", "fix/größe#1").await.unwrap();
    assert!(output.contains("fix/größe#1"), "{output}");
    let status = stage.status("new").await;
    assert_eq!(status.branches, ["fix/größe#1", "main", "other"]);
}

#[tokio::test]
async fn fetch_pull_and_push_go_to_the_upstream_of_a_trusted_repository() {
    let mut stage = Stage::new();
    let seed = stage.repository("seed");
    let hub = stage.base().join("hub.git");
    let (seed_path, hub_path) = (seed.display().to_string(), hub.display().to_string());
    stage.git(
        &stage.base(),
        &["clone", "-q", "--bare", &seed_path, &hub_path],
    );
    for name in ["one", "two"] {
        let path = stage.base().join(name).display().to_string();
        stage.git(&stage.base(), &["clone", "-q", &hub_path, &path]);
    }
    let (one, two) = (stage.base().join("one"), stage.base().join("two"));
    // A remote that is a folder runs the hooks of that folder.
    let refused = said(stage.operate("one", GitOperation::Push).await);
    assert!(refused.contains("'file' not allowed"), "{refused}");
    stage.tools.trusted = std::sync::Arc::new([one.clone(), two.clone()]);

    fs::write(one.join("n"), "n\n").unwrap();
    stage.commit("one", "n").await.unwrap();
    assert_eq!(stage.status("one").await.ahead, 1);
    stage.operate("one", GitOperation::Push).await.unwrap();
    stage.operate("two", GitOperation::Fetch).await.unwrap();
    assert_eq!(stage.status("two").await.behind, 1);
    stage.operate("two", GitOperation::Pull).await.unwrap();
    assert!(two.join("n").exists());

    // Nothing is merged and nothing is forced.
    for (path, at) in [("one", &one), ("two", &two)] {
        fs::write(at.join(path), "x").unwrap();
        stage.commit(path, path).await.unwrap();
    }
    stage.operate("one", GitOperation::Push).await.unwrap();
    said(stage.operate("two", GitOperation::Push).await);
    said(stage.operate("two", GitOperation::Pull).await);
    assert!(!two.join("one").exists());
}

#[tokio::test]
async fn names_that_are_no_branch_are_refused_and_nothing_is_discarded() {
    let stage = Stage::new();
    let repository = stage.repository("r");
    fs::write(repository.join("a.txt"), "my work\n").unwrap();
    for name in [
        ".",
        "..",
        "-f",
        "--force",
        "-",
        "@",
        "@{-1}",
        "--upload-pack=touch x",
        "x;rm",
        "a b",
        "a..b",
        "a~1",
        "a^",
        "a:b",
        "*",
        "a?",
        "a[b",
        r"a\b",
        "a.lock",
        "a/.b",
        "/a",
        "a/",
        "a//b",
        "a.",
        "$(x)",
        "`x`",
        "a|b",
        "a&b",
        "a>b",
        "a\nb",
        "a\0b",
        "a\u{7f}",
        "a.txt/",
        "HEAD~0",
        "refs/../x",
        "'x'",
        "\"x\"",
        ":/x",
    ] {
        let text = said(stage.checkout("r", name).await);
        assert!(
            text.contains("is not a valid branch name"),
            "{name:?}: {text}"
        );
        for (branch, base) in [(name, None), ("good", Some(name))] {
            let operation = GitOperation::CreateBranch {
                branch: branch.into(),
                base: base.map(str::to_owned),
            };
            said(stage.operate("r", operation).await);
        }
    }
    // A file of this name is not restored.
    said(stage.checkout("r", "a.txt").await);
    let long = "x".repeat(300);
    said(stage.checkout("r", &long).await);
    let head = GitOperation::CreateBranch {
        branch: "HEAD".into(),
        base: None,
    };
    said(stage.operate("r", head).await);
    assert_eq!(
        fs::read_to_string(repository.join("a.txt")).unwrap(),
        "my work\n"
    );
    assert_eq!(stage.status("r").await.branches, ["main"]);
}

#[tokio::test]
async fn a_checkout_that_would_lose_work_fails() {
    let stage = Stage::new();
    let repository = stage.repository("r");
    stage.git(&repository, &["checkout", "-qb", "other"]);
    fs::write(repository.join("a.txt"), "other\n").unwrap();
    stage.git(&repository, &["commit", "-qam", "other"]);
    fs::write(repository.join("a.txt"), "my work\n").unwrap();
    let text = said(stage.checkout("r", "main").await);
    assert!(text.contains("a.txt"), "{text}");
    assert_eq!(
        fs::read_to_string(repository.join("a.txt")).unwrap(),
        "my work\n"
    );
}

#[tokio::test]
async fn what_is_missing_or_unknown_has_its_code_in_the_order_of_the_wire() {
    let stage = Stage::new();
    stage.repository("r");
    fs::create_dir(stage.base().join("plain")).unwrap();
    let commit = |message: &str| GitOperation::Commit {
        message: message.into(),
    };
    let checkout = |branch: &str| GitOperation::Checkout {
        branch: branch.into(),
    };
    let create = |branch: &str| GitOperation::CreateBranch {
        branch: branch.into(),
        base: None,
    };
    let unknown = GitOperation::Unsupported {
        name: "rebase".into(),
    };
    for (path, operation, fault) in [
        ("../x", unknown, GitFault::UnsupportedOperation),
        ("../x", commit(""), GitFault::InvalidPath),
        ("plain", commit(""), GitFault::MissingMessage),
        ("plain", checkout(""), GitFault::MissingBranch),
        ("missing", create(""), GitFault::MissingBranch),
        ("plain", commit("m"), GitFault::NotARepository),
        ("missing", checkout("m"), GitFault::NotARepository),
        ("missing", GitOperation::Init, GitFault::NoFolder),
    ] {
        let name = operation.name().to_owned();
        assert_eq!(
            stage.operate(path, operation).await,
            Err(fault),
            "{path} {name}"
        );
    }
}

#[tokio::test]
async fn a_git_that_fails_without_a_word_gives_the_code_of_the_step() {
    let mut stage = Stage::new();
    let repository = stage.repository("r").display().to_string();
    let looks = format!(
        r#"case "$*" in *rev-parse*) printf '{repository}\n{repository}/.git\n{repository}/.git\n';; *--list*|*ls-files*) ;; *status*) printf '# branch.head main\0';; *) exit 1;; esac"#
    );
    stage.fake_git(&looks);
    let branch = || "x".to_owned();
    for (operation, step) in [
        (GitOperation::Init, GitStep::Init),
        (
            GitOperation::Commit {
                message: "m".into(),
            },
            GitStep::Add,
        ),
        (GitOperation::Fetch, GitStep::Transfer),
        (GitOperation::Pull, GitStep::Transfer),
        (GitOperation::Push, GitStep::Transfer),
        (
            GitOperation::Checkout { branch: branch() },
            GitStep::Checkout,
        ),
        (
            GitOperation::CreateBranch {
                branch: branch(),
                base: None,
            },
            GitStep::CreateBranch,
        ),
    ] {
        assert_eq!(
            stage.operate("r", operation).await,
            Err(GitFault::Failed(step))
        );
    }
    let empty = looks.replace(r"printf '# branch.head main\0'", "true");
    stage.fake_git(&empty);
    assert_eq!(stage.try_status("r").await, Err(GitFault::StatusEmpty));
}

#[tokio::test]
async fn a_commit_without_changes_says_so() {
    let stage = Stage::new();
    stage.repository("r");
    let text = said(stage.commit("r", "again").await);
    assert!(text.contains("nothing to commit"), "{text}");
}

#[tokio::test]
async fn a_new_key_or_login_is_not_committed_from_outside() {
    let stage = Stage::new();
    let repository = stage.repository("r");
    fs::create_dir_all(repository.join("home/.ssh")).unwrap();
    fs::write(repository.join("home/.ssh/id_ed25519"), "key\n").unwrap();
    let text = said(stage.commit("r", "all").await);
    assert!(text.contains("home/.ssh/id_ed25519 is new"), "{text}");
    let status = stage.status("r").await;
    assert!(
        named(&status, "home/.ssh/id_ed25519").untracked(),
        "not even staged"
    );
    fs::write(repository.join(".gitignore"), ".ssh\n").unwrap();
    stage.commit("r", "all").await.unwrap();
}

#[tokio::test]
async fn a_key_that_was_staged_or_only_meant_to_be_is_new_as_well() {
    for how in [
        &["add", "-f", "home/.ssh/id_ed25519"][..],
        &["add", "-f", "--intent-to-add", "home/.ssh/id_ed25519"],
        &["mv", "-f", "a.txt", "home/.ssh/id_ed25519"],
    ] {
        let stage = Stage::new();
        let repository = stage.repository("r");
        fs::create_dir_all(repository.join("home/.ssh")).unwrap();
        if how[0] == "add" {
            fs::write(repository.join("home/.ssh/id_ed25519"), "key\n").unwrap();
        }
        stage.git(&repository, how);
        let before = stage.git(&repository, &["rev-parse", "HEAD"]);
        let text = said(stage.commit("r", "all").await);
        assert!(
            text.contains("home/.ssh/id_ed25519 is new"),
            "{how:?}: {text}"
        );
        assert_eq!(stage.git(&repository, &["rev-parse", "HEAD"]), before);
    }
    // One that is in the repository already is the person's own affair.
    let stage = Stage::new();
    let repository = stage.repository("r");
    fs::create_dir_all(repository.join(".ssh")).unwrap();
    fs::write(repository.join(".ssh/config"), "one\n").unwrap();
    stage.git(&repository, &["add", "-A"]);
    stage.git(&repository, &["commit", "-qm", "mine"]);
    fs::write(repository.join(".ssh/config"), "two\n").unwrap();
    stage.commit("r", "changed").await.unwrap();
}

#[tokio::test]
async fn messages_that_no_program_can_be_given_are_refused() {
    let stage = Stage::new();
    let repository = stage.repository("r");
    fs::write(repository.join("n"), "n\n").unwrap();
    for message in ["a\0b".to_owned(), "x".repeat(200_000)] {
        let text = said(stage.commit("r", &message).await);
        assert!(text.contains("commit message"), "{text}");
    }
    assert!(named(&stage.status("r").await, "n").untracked());
}

#[tokio::test]
async fn a_login_in_an_address_is_not_told() {
    let mut stage = Stage::new();
    stage.repository("r");
    let script = r#"case "$*" in *rev-parse*) exec /usr/bin/git "$@";; *--list*|*ls-files*) exec /usr/bin/git "$@";; *) echo "fatal: unable to access 'https://user:s3cret@example.org/x.git/': no" >&2; exit 1;; esac"#;
    stage.fake_git(script);
    let text = said(stage.operate("r", GitOperation::Fetch).await);
    assert_eq!(
        text,
        "fatal: unable to access 'https://***@example.org/x.git/': no"
    );
}
