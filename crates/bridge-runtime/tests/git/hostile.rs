//! Repositories that were made to start programs. Each test first sees that the trap works.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use bridge_proto::model::{GitFault, GitOperation};

use crate::support::{Canary, Stage, named, write_program};

/// Makes the content of a tracked file differ in a way that only reading it tells.
fn disturb(repository: &std::path::Path) {
    fs::write(repository.join("a.txt"), "one\nTWO\n").unwrap();
}

async fn look_at_everything(stage: &Stage, path: &str) {
    let status = stage.status(path).await;
    for file in &status.files {
        stage
            .try_diff(path, &file.path, file.untracked())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_monitor_a_pager_and_drivers_of_diffs_are_not_started_by_a_look() {
    let stage = Stage::new();
    let repository = stage.repository("r");
    let canary = Canary::new(&stage);
    let program = canary.program(&stage);
    fs::write(
        repository.join(".gitattributes"),
        "* diff=evil\nb.txt diff=evil\n",
    )
    .unwrap();
    fs::write(repository.join("b.txt"), "new\n").unwrap();
    disturb(&repository);
    for (name, value) in [
        ("core.fsmonitor", program.as_str()),
        ("core.pager", &program),
        ("pager.diff", &program),
        ("pager.status", &program),
        ("diff.external", &program),
        ("diff.evil.command", &program),
        ("diff.evil.textconv", &program),
        ("core.sshCommand", &program),
        ("core.askPass", &program),
        ("core.editor", &program),
        ("credential.helper", &program),
        ("color.ui", "always"),
        ("diff.noprefix", "true"),
        ("diff.relative", "true"),
        ("status.showUntrackedFiles", "no"),
        ("status.submoduleSummary", "true"),
    ] {
        stage.git(&repository, &["config", name, value]);
    }
    look_at_everything(&stage, "r").await;
    canary.assert_silent("looking at a repository");
    let status = stage.status("r").await;
    assert!(named(&status, "b.txt").untracked());
    let diff = stage.diff("r", named(&status, "a.txt")).await;
    assert!(diff.starts_with("diff --git a/a.txt b/a.txt\n"), "{diff}");
    stage.try_git(&repository, &["status"]);
    assert!(canary.sings(), "the trap is no trap");
}

#[tokio::test]
async fn filters_are_not_started_by_a_look_whatever_they_are_called() {
    for variable in ["clean", "process"] {
        for name in ["evil", "a=b", "a.b c"] {
            let stage = Stage::new();
            let repository = stage.repository("r");
            let canary = Canary::new(&stage);
            fs::write(
                repository.join(".gitattributes"),
                format!("*.txt filter={}\n", name.replace(' ', "")),
            )
            .unwrap();
            let key = format!("filter.{}.{variable}", name.replace(' ', ""));
            stage.git(&repository, &["config", &key, &canary.filter()]);
            let required = key.replace(variable, "required");
            stage.git(&repository, &["config", &required, "true"]);
            disturb(&repository);
            look_at_everything(&stage, "r").await;
            canary.assert_silent(&key);
            stage.try_git(&repository, &["diff"]);
            assert!(canary.sings(), "{key} is no trap");
        }
    }
}

#[tokio::test]
async fn filters_of_the_user_are_not_started_by_a_look_at_a_repository_that_is_not_trusted() {
    let stage = Stage::new();
    let repository = stage.repository("r");
    let canary = Canary::new(&stage);
    stage.git(
        &repository,
        &["config", "--global", "filter.lfs.clean", &canary.filter()],
    );
    fs::write(repository.join(".gitattributes"), "*.txt filter=lfs\n").unwrap();
    disturb(&repository);
    look_at_everything(&stage, "r").await;
    canary.assert_silent("a filter of the user");
    // A commit without it would store something else than the user wants.
    stage.commit("r", "filtered").await.unwrap();
    assert!(canary.sings(), "the user's filter is left out of a commit");
}

#[tokio::test]
async fn hooks_run_only_in_a_repository_that_is_trusted() {
    let mut stage = Stage::new();
    let repository = stage.repository("r");
    let canary = Canary::new(&stage);
    let elsewhere = repository.join("hooks");
    fs::create_dir(&elsewhere).unwrap();
    for hook in [
        "pre-commit",
        "commit-msg",
        "prepare-commit-msg",
        "post-commit",
        "post-checkout",
        "post-index-change",
        "reference-transaction",
        "pre-auto-gc",
    ] {
        for folder in [repository.join(".git/hooks"), elsewhere.clone()] {
            write_program(&folder.join(hook), &canary.command());
        }
    }
    for hooks in [None, Some("hooks")] {
        if let Some(hooks) = hooks {
            stage.git(&repository, &["config", "core.hooksPath", hooks]);
        }
        let number = hooks.map_or("1", |_| "2");
        fs::write(repository.join("n"), number).unwrap();
        look_at_everything(&stage, "r").await;
        stage.commit("r", "m").await.unwrap();
        let branch = format!("b{number}");
        let create = GitOperation::CreateBranch { branch, base: None };
        stage.operate("r", create).await.unwrap();
        stage.checkout("r", "main").await.unwrap();
        let again = format!("b{number}");
        stage.checkout("r", &again).await.unwrap();
        canary.assert_silent("a hook of a repository that is not trusted");
    }
    stage.trust(&repository);
    fs::write(repository.join("n"), "3").unwrap();
    look_at_everything(&stage, "r").await;
    canary.assert_silent("looking, even at a repository that is trusted,");
    stage.commit("r", "m").await.unwrap();
    assert!(
        canary.sings(),
        "the hooks of a trusted repository do not run"
    );
}

#[tokio::test]
async fn nothing_is_changed_where_the_repositorys_own_settings_would_start_a_program() {
    for key in [
        "filter.crypt.clean",
        "filter.crypt.smudge",
        "core.sshCommand",
        "core.gitProxy",
        "credential.helper",
        "credential.https://example.org.helper",
        "gpg.program",
        "gpg.ssh.program",
        "remote.origin.uploadpack",
        "remote.origin.receivepack",
        "remote.origin.vcs",
        "lfs.extension.x.clean",
        "lfs.customtransfer.x.path",
    ] {
        let mut stage = Stage::new();
        let repository = stage.repository("r");
        let canary = Canary::new(&stage);
        stage.git(&repository, &["config", key, &canary.command()]);
        fs::write(repository.join("n"), "n\n").unwrap();
        let before = stage.git(&repository, &["rev-parse", "HEAD"]);
        for operation in [
            GitOperation::Commit {
                message: "m".into(),
            },
            GitOperation::Fetch,
            GitOperation::Pull,
            GitOperation::Push,
            GitOperation::Checkout {
                branch: "main".into(),
            },
        ] {
            let Err(GitFault::Said(text)) = stage.operate("r", operation).await else {
                panic!("{key}");
            };
            assert!(
                text.contains(&key.to_lowercase()) && text.contains("CTRLNODE_TRUSTED"),
                "{text}"
            );
        }
        canary.assert_silent(key);
        assert_eq!(stage.git(&repository, &["rev-parse", "HEAD"]), before);
        // Looking is possible all the same.
        assert!(named(&stage.status("r").await, "n").untracked());
        if !key.contains("gpg") {
            stage.trust(&repository);
            stage.git(&repository, &["config", "--unset", key]);
            stage.commit("r", "m").await.unwrap();
        }
    }
}

#[tokio::test]
async fn settings_that_a_file_of_the_repository_brings_in_are_its_own() {
    let stage = Stage::new();
    let repository = stage.repository("r");
    let canary = Canary::new(&stage);
    fs::write(
        repository.join("more"),
        format!("[core]\nsshCommand = {}\n", canary.program(&stage)),
    )
    .unwrap();
    stage.git(&repository, &["config", "include.path", "../more"]);
    let Err(GitFault::Said(text)) = stage.operate("r", GitOperation::Fetch).await else {
        panic!("an included setting was not seen");
    };
    assert!(text.contains("core.sshcommand"), "{text}");
}

#[tokio::test]
async fn remotes_that_are_programs_or_folders_are_not_reached_from_an_untrusted_repository() {
    let stage = Stage::new();
    let repository = stage.repository("r");
    let canary = Canary::new(&stage);
    let evil = repository.join("evil.git");
    stage.git(&repository, &["init", "-q", "--bare", "evil.git"]);
    for hook in ["pre-receive", "post-receive", "update"] {
        write_program(&evil.join("hooks").join(hook), &canary.command());
    }
    stage.git(&repository, &["config", "protocol.allow", "always"]);
    stage.git(&repository, &["config", "protocol.ext.allow", "always"]);
    stage.git(&repository, &["config", "push.default", "current"]);
    stage.git(&repository, &["remote", "add", "origin", "x"]);
    for address in [
        format!("ext::sh -c {}", canary.program(&stage)),
        "./evil.git".to_owned(),
        format!("file://{}", evil.display()),
        "evil::x".to_owned(),
    ] {
        stage.git(&repository, &["remote", "set-url", "origin", &address]);
        for operation in [GitOperation::Fetch, GitOperation::Pull, GitOperation::Push] {
            assert!(stage.operate("r", operation).await.is_err(), "{address}");
        }
        canary.assert_silent(&address);
    }
    stage.git(&repository, &["remote", "set-url", "origin", "./evil.git"]);
    stage.try_git(&repository, &["push", "origin", "main"]);
    assert!(canary.sings(), "the trap is no trap");
}

#[tokio::test]
async fn missing_objects_are_not_fetched_by_a_look() {
    let stage = Stage::new();
    let repository = stage.repository("r");
    let canary = Canary::new(&stage);
    let blob = stage.git(&repository, &["rev-parse", "HEAD:a.txt"]);
    let (start, rest) = blob.trim().split_at(2);
    fs::remove_file(repository.join(".git/objects").join(start).join(rest)).unwrap();
    let address = format!("ext::sh -c {}", canary.program(&stage));
    for (name, value) in [
        ("remote.origin.url", address.as_str()),
        ("remote.origin.promisor", "true"),
        ("remote.origin.partialclonefilter", "blob:none"),
        ("extensions.partialClone", "origin"),
        ("core.repositoryformatversion", "1"),
        ("protocol.ext.allow", "always"),
    ] {
        stage.git(&repository, &["config", name, value]);
    }
    disturb(&repository);
    let status = stage.try_status("r").await;
    let diff = stage.try_diff("r", "a.txt", false).await;
    canary.assert_silent(&format!("{status:?} {diff:?}"));
    stage.try_git(&repository, &["diff"]);
    assert!(canary.sings(), "the trap is no trap");
}

/// A repository with another in it that would start a program if it was entered.
fn with_a_trap_inside(stage: &Stage, canary: &Canary, embedded: bool) -> PathBuf {
    let library = stage.repository("library");
    let repository = stage.repository("r");
    let inside = repository.join("lib");
    let address = library.display().to_string();
    if embedded {
        stage.git(&repository, &["clone", "-q", &address, "lib"]);
        stage.git(&repository, &["add", "-A"]);
    } else {
        let add = [
            "-c",
            "protocol.file.allow=always",
            "submodule",
            "add",
            "-q",
            &address,
            "lib",
        ];
        stage.git(&repository, &add);
    }
    stage.git(&repository, &["commit", "-qm", "lib"]);
    stage.git(
        &inside,
        &["config", "core.fsmonitor", &canary.program(stage)],
    );
    stage.git(&inside, &["config", "filter.evil.clean", &canary.filter()]);
    fs::write(inside.join(".gitattributes"), "*.txt filter=evil\n").unwrap();
    disturb(&inside);
    repository
}

#[tokio::test]
async fn repositories_inside_are_entered_neither_by_looks_nor_by_changes() {
    let settings = [
        ("submodule.recurse", "true"),
        ("diff.submodule", "log"),
        ("diff.ignoreSubmodules", "none"),
        ("submodule.lib.ignore", "none"),
        ("status.submoduleSummary", "true"),
        ("push.recurseSubmodules", "on-demand"),
        ("fetch.recurseSubmodules", "true"),
    ];
    for (embedded, file) in [
        (false, ".git/config"),
        (false, ".gitmodules"),
        (true, ".git/config"),
    ] {
        let stage = Stage::new();
        let canary = Canary::new(&stage);
        let repository = with_a_trap_inside(&stage, &canary, embedded);
        if file == ".gitmodules" {
            // Its name is nowhere else then.
            let forget = ["config", "--remove-section", "submodule.lib"];
            stage.git(&repository, &forget);
        }
        for (name, value) in settings {
            stage.git(&repository, &["config", "--file", file, name, value]);
        }
        fs::write(repository.join("n"), "n\n").unwrap();
        look_at_everything(&stage, "r").await;
        canary.assert_silent(&format!("looking, {embedded} {file},"));
        stage.commit("r", "n").await.unwrap();
        let create = GitOperation::CreateBranch {
            branch: "b".into(),
            base: None,
        };
        stage.operate("r", create).await.unwrap();
        stage.checkout("r", "main").await.unwrap();
        for operation in [GitOperation::Fetch, GitOperation::Pull, GitOperation::Push] {
            drop(stage.operate("r", operation).await);
        }
        canary.assert_silent(&format!("changing, {embedded} {file},"));
        stage.try_git(&repository, &["status", "--ignore-submodules=none"]);
        assert!(canary.sings(), "the trap is no trap");
    }
}

#[tokio::test]
async fn a_moved_submodule_is_told_although_it_is_not_entered() {
    let stage = Stage::new();
    let library = stage.repository("library");
    let repository = stage.repository("r");
    let address = library.display().to_string();
    let add = [
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "add",
        "-q",
        &address,
        "lib",
    ];
    stage.git(&repository, &add);
    stage.git(&repository, &["commit", "-qm", "lib"]);
    let inside = repository.join("lib");
    stage.git(&inside, &["commit", "-qm", "moved", "--allow-empty"]);
    let status = stage.status("r").await;
    let diff = stage.diff("r", named(&status, "lib")).await;
    assert!(diff.contains("+Subproject commit"), "{diff}");
    stage.commit("r", "moved").await.unwrap();
    assert!(stage.status("r").await.files.is_empty());
    // Of one that was taken away its end is committed.
    fs::remove_dir_all(&inside).unwrap();
    stage.commit("r", "gone").await.unwrap();
    assert_eq!(stage.git(&repository, &["ls-files", "lib"]), "");
}

#[tokio::test]
async fn a_bare_repository_among_the_files_of_another_is_not_used() {
    let stage = Stage::new();
    let repository = stage.repository("r");
    let canary = Canary::new(&stage);
    let hidden = repository.join("docs");
    stage.git(&repository, &["init", "-q", "--bare", "docs"]);
    let config = format!(
        "[core]\nbare = false\nworktree = ..\nfsmonitor = {}\n",
        canary.program(&stage)
    );
    fs::write(hidden.join("config"), config).unwrap();
    assert_eq!(stage.try_status("r/docs").await, Ok(None));
    assert_eq!(
        stage.commit("r/docs", "m").await,
        Err(GitFault::NotARepository)
    );
    canary.assert_silent("a bare repository");
}

#[tokio::test]
async fn settings_that_cannot_be_read_are_an_error_and_not_a_clean_tree() {
    let stage = Stage::new();
    let repository = stage.repository("r");
    fs::write(repository.join(".git/index"), "broken").unwrap();
    let Err(GitFault::StatusFailed(text)) = stage.try_status("r").await else {
        panic!("a broken index");
    };
    assert!(text.contains("index"), "{text}");
}

#[tokio::test]
async fn links_among_the_files_of_git_do_not_lead_a_change_elsewhere() {
    for link in [
        "COMMIT_EDITMSG",
        "logs/HEAD",
        "config",
        "refs/heads/evil",
        "logs/refs/heads/objects/x",
        "info",
    ] {
        let mut stage = Stage::new();
        let repository = stage.repository("r");
        let outside = stage.outside();
        let target = outside.join("target");
        let inside = repository.join(".git").join(link);
        if inside.is_dir() {
            fs::remove_dir_all(&inside).unwrap();
            fs::create_dir(&target).unwrap();
        } else if inside.exists() {
            fs::rename(&inside, &target).unwrap();
        } else {
            fs::create_dir_all(inside.parent().unwrap()).unwrap();
            fs::write(&target, "mine\n").unwrap();
        }
        symlink(&target, &inside).unwrap();
        let content = fs::read(&target).unwrap_or_default();
        fs::write(repository.join("n"), "n\n").unwrap();
        let Err(GitFault::Said(text)) = stage.commit("r", "echo evil").await else {
            panic!("{link}");
        };
        assert!(text.contains("is a link"), "{text}");
        assert!(stage.checkout("r", "main").await.is_err(), "{link}");
        assert_eq!(fs::read(&target).unwrap_or_default(), content, "{link}");
        // Looking is possible all the same.
        assert!(named(&stage.status("r").await, "n").untracked());
        if link == "COMMIT_EDITMSG" {
            stage.trust(&repository);
            stage.commit("r", "echo evil").await.unwrap();
            let written = fs::read_to_string(&target).unwrap();
            assert!(written.contains("echo evil"), "the trap is no trap");
        }
    }
}

#[tokio::test]
async fn hooks_that_are_links_are_in_nobodys_way() {
    let stage = Stage::new();
    let repository = stage.repository("r");
    let canary = Canary::new(&stage);
    let hook = repository.join("check");
    write_program(&hook, &canary.command());
    symlink("../../check", repository.join(".git/hooks/pre-commit")).unwrap();
    stage.commit("r", "m").await.unwrap();
    canary.assert_silent("a hook");
}

#[tokio::test]
async fn a_repository_is_not_made_where_its_files_would_be_elsewhere() {
    let stage = Stage::new();
    let outside = stage.outside();
    stage.make_repository(&outside);
    for (name, gitfile) in [("file", true), ("link", false), ("dangling", false)] {
        let folder = stage.base().join(name);
        fs::create_dir(&folder).unwrap();
        let target = outside.join(if name == "dangling" { "new" } else { ".git" });
        if gitfile {
            fs::write(
                folder.join(".git"),
                format!("gitdir: {}\n", target.display()),
            )
            .unwrap();
        } else {
            symlink(&target, folder.join(".git")).unwrap();
        }
        let done = stage.operate(name, GitOperation::Init).await;
        assert_eq!(done, Err(GitFault::InvalidPath), "{name}");
        assert!(!outside.join("new").exists());
    }
}
