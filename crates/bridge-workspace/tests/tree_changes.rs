//! Requests that delete, create and rename: what they do, what they leave alone, what they say.
#![cfg(unix)]

mod support;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use bridge_proto::model::{FileRoot, FileScope, NewFile, ReadOutcome, TreeChange, TreeChanged};
use bridge_workspace::{ContentsPolicy, Tree};
use support::{Scene, put};

fn open(policy: ContentsPolicy) -> Scene {
    let mut scene = Scene::new();
    scene.workspace = scene.workspace.with_policy(policy);
    scene
}

/// Everything is allowed that can be.
fn wide() -> Scene {
    open(ContentsPolicy::Workspace)
}

fn scope() -> FileScope {
    FileScope {
        root: FileRoot::Owner,
        agent: None,
        provider: None,
    }
}

fn error(scene: &Scene, tree: Option<&Tree>, change: &TreeChange) -> Option<String> {
    match scene.workspace.change_tree(change, tree) {
        TreeChanged::Done { error, .. } | TreeChanged::Workspace { error, .. } => error,
        TreeChanged::AgentFolders { errors, .. } => errors.into_iter().next(),
    }
}

fn delete_in(scene: &Scene, tree: &Tree, path: &str) -> Option<String> {
    let (scope, path) = (scope(), path.into());
    error(scene, Some(tree), &TreeChange::DeletePath { scope, path })
}

fn delete(scene: &Scene, path: &str) -> Option<String> {
    delete_in(scene, &Tree::Base, path)
}

fn create_in(scene: &Scene, tree: &Tree, path: &str) -> Option<String> {
    let (scope, path) = (scope(), path.into());
    error(scene, Some(tree), &TreeChange::CreateFolder { scope, path })
}

fn create(scene: &Scene, path: &str) -> Option<String> {
    create_in(scene, &Tree::Base, path)
}

fn delete_folder(scene: &Scene, path: &str) -> Option<String> {
    let (scope, path) = (scope(), path.into());
    let change = TreeChange::DeleteFolder { scope, path };
    error(scene, Some(&Tree::Base), &change)
}

fn rename_in(scene: &Scene, tree: &Tree, from: &str, to: &str) -> Option<String> {
    let change = TreeChange::RenameFolder {
        scope: scope(),
        path: from.into(),
        new_path: to.into(),
    };
    error(scene, Some(tree), &change)
}

fn rename(scene: &Scene, from: &str, to: &str) -> Option<String> {
    rename_in(scene, &Tree::Base, from, to)
}

#[expect(clippy::unnecessary_wraps, reason = "compared with what changes give")]
fn code(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn invalid() -> Option<String> {
    code("INVALID_PATH")
}

/// What must never be taken for a place inside.
const BAD_PATHS: [&str; 17] = [
    "..",
    "../x",
    "a/..",
    "a/../..",
    "....//x",
    "..../x",
    "...",
    ".",
    "./.",
    "/",
    "/etc/passwd",
    "C:\\x",
    "c:/x",
    "\\\\server\\share",
    "a\0b",
    "a\nb",
    "a/\u{1b}[2J",
];

#[test]
fn files_links_and_whole_folders_are_deleted_and_what_is_missing_is_success() {
    let scene = wide();
    put(&scene.base().join("web/a/b/c.txt"), "x");
    put(&scene.base().join("web/d.txt"), "x");
    put(&scene.outside().join("kept.txt"), "x");
    symlink(scene.outside(), scene.base().join("web/a/out")).unwrap();
    symlink("../kept.txt", scene.base().join("link")).unwrap();
    assert_eq!(delete(&scene, "web/d.txt"), None);
    assert!(!scene.base().join("web/d.txt").exists());
    assert_eq!(delete(&scene, "link"), None);
    assert_eq!(delete(&scene, "web"), None);
    assert!(!scene.base().join("web").exists());
    for missing in ["web", "web/a/b", "nothing"] {
        assert_eq!(delete(&scene, missing), None, "{missing}");
    }
    assert!(scene.outside().join("kept.txt").exists());
}

#[test]
fn folders_are_created_with_their_parents_and_again() {
    let scene = wide();
    assert_eq!(create(&scene, "a/b\\c"), None);
    assert!(scene.base().join("a/b/c").is_dir());
    assert_eq!(create(&scene, "a/b/c"), None);
    put(&scene.base().join("file"), "x");
    for path in ["file", "file/below"] {
        let told = create(&scene, path).unwrap();
        assert!(told.contains("exists"), "{path}: {told}");
    }
}

#[test]
fn only_empty_folders_are_deleted_as_folders() {
    let scene = wide();
    put(&scene.base().join("full/x"), "x");
    put(&scene.base().join("file"), "x");
    fs::create_dir(scene.base().join("empty")).unwrap();
    symlink("empty", scene.base().join("link")).unwrap();
    assert_eq!(delete_folder(&scene, "full"), code("FOLDER_NOT_EMPTY"));
    assert_eq!(delete_folder(&scene, "missing"), code("FOLDER_NOT_FOUND"));
    assert_eq!(delete_folder(&scene, "file"), code("FOLDER_NOT_FOUND"));
    assert_eq!(delete_folder(&scene, "link"), invalid());
    assert_eq!(delete_folder(&scene, "empty"), None);
    assert!(!scene.base().join("empty").exists());
    assert!(scene.base().join("full/x").exists());
}

#[test]
fn folders_are_renamed_into_new_parents_and_never_over_something() {
    let scene = wide();
    put(&scene.base().join("web/x"), "x");
    fs::create_dir(scene.base().join("taken")).unwrap();
    assert_eq!(rename(&scene, "web", "code/js/web"), None);
    assert!(scene.base().join("code/js/web/x").exists());
    let told = rename(&scene, "code", "taken").unwrap();
    assert!(told.contains("exists"), "{told}");
    assert!(scene.base().join("code/js/web/x").exists());
    assert_eq!(rename(&scene, "gone", "new"), code("FOLDER_NOT_FOUND"));
    put(&scene.base().join("file"), "x");
    assert_eq!(rename(&scene, "file", "new"), code("FOLDER_NOT_FOUND"));
    // Into itself: the system's own words.
    assert!(rename(&scene, "code", "code/js/inner").is_some());
    assert!(scene.base().join("code/js/web/x").exists());
}

#[test]
fn every_change_says_what_it_misses() {
    let scene = wide();
    for blank in ["", "  "] {
        assert_eq!(delete(&scene, blank), code("INVALID_REQUEST"));
        assert_eq!(create(&scene, blank), code("MISSING_PATH"));
        assert_eq!(delete_folder(&scene, blank), code("MISSING_PATH"));
        assert_eq!(rename(&scene, blank, "x"), code("MISSING_PATH"));
        assert_eq!(rename(&scene, "x", blank), code("MISSING_PATH"));
    }
    let (scope, path) = (scope(), String::from("x"));
    for (change, told) in [
        (
            TreeChange::DeletePath {
                scope: scope.clone(),
                path: path.clone(),
            },
            "INVALID_REQUEST",
        ),
        (
            TreeChange::CreateFolder {
                scope: scope.clone(),
                path: path.clone(),
            },
            "BASE_PATH_NOT_FOUND",
        ),
        (
            TreeChange::DeleteFolder {
                scope: scope.clone(),
                path: path.clone(),
            },
            "BASE_PATH_NOT_FOUND",
        ),
        (
            TreeChange::RenameFolder {
                scope,
                new_path: path.clone(),
                path,
            },
            "BASE_PATH_NOT_FOUND",
        ),
    ] {
        assert_eq!(error(&scene, None, &change), code(told), "{change:?}");
    }
}

#[test]
fn bad_paths_are_invalid_for_every_change_and_change_nothing() {
    let scene = wide();
    put(&scene.base().join("a/kept"), "x");
    put(&scene.outside().join("x/kept"), "x");
    let long_name = "n".repeat(5000);
    let deep = "d/".repeat(100);
    for bad in BAD_PATHS
        .into_iter()
        .chain([long_name.as_str(), deep.as_str()])
    {
        assert_eq!(delete(&scene, bad), invalid(), "{bad:?}");
        assert_eq!(create(&scene, bad), invalid(), "{bad:?}");
        assert_eq!(delete_folder(&scene, bad), invalid(), "{bad:?}");
        assert_eq!(rename(&scene, bad, "new"), invalid(), "{bad:?}");
        assert_eq!(rename(&scene, "a", bad), invalid(), "{bad:?}");
    }
    assert!(scene.base().join("a/kept").exists());
    assert!(scene.outside().join("x/kept").exists());
}

/// Hole of the Bridge before: `....//x` became `../x` when `../` was cut out of it.
#[test]
fn hole_paths_that_become_bad_by_being_cleaned_are_refused() {
    let scene = wide();
    put(&scene.outside().join("x/kept"), "x");
    put(&scene.root().join("x"), "x");
    for path in ["....//x", "..././x", "....\\\\x", "x/....//....//x"] {
        assert_eq!(delete(&scene, path), invalid(), "{path}");
        assert_eq!(
            delete_in(&scene, &Tree::Ctrlnode, path),
            invalid(),
            "{path}"
        );
    }
    assert!(scene.outside().join("x/kept").exists());
}

/// Hole of the Bridge before: `a/..` is the root, and the root could be deleted and renamed.
#[test]
fn hole_the_roots_are_never_deleted_or_renamed() {
    let scene = wide();
    put(&scene.root().join("tasks/t/output/x"), "x");
    for root in [".", "./", "a/..", "", "/", ".//."] {
        assert!(delete(&scene, root).is_some(), "{root:?}");
        assert!(
            delete_in(&scene, &Tree::Ctrlnode, root).is_some(),
            "{root:?}"
        );
        assert!(rename(&scene, root, "new").is_some(), "{root:?}");
    }
    // The root of the bridge is below the base; where another spelling is another name, nothing is
    // there.
    for root in [".CTRLNODE", ".ctrlnode.", ".ctrl\u{200b}node"] {
        assert!(rename(&scene, root, "new").is_some(), "{root:?}");
        assert_eq!(create(&scene, root), invalid(), "{root:?}");
    }
    assert_eq!(rename(&scene, ".ctrlnode", "new"), invalid());
    assert_eq!(delete(&scene, ".ctrlnode"), invalid());
    assert_eq!(delete(&scene, ".ctrlnode/tasks"), invalid());
    assert_eq!(delete_in(&scene, &Tree::Ctrlnode, "tasks"), invalid());
    assert_eq!(
        rename_in(&scene, &Tree::Ctrlnode, "tasks", "other"),
        invalid()
    );
    assert!(scene.root().join("tasks/t/output/x").exists());
}

/// Hole of the Bridge before: a sibling whose name begins like the root counted as inside of it.
#[test]
fn hole_a_sibling_with_the_same_beginning_is_not_inside() {
    let scene = wide();
    let sibling = PathBuf::from(format!("{}-x", scene.base().display()));
    put(&sibling.join("kept"), "x");
    symlink(&sibling, scene.base().join("link")).unwrap();
    let name = sibling.file_name().unwrap().to_str().unwrap();
    for path in [
        format!("../{name}/kept"),
        "link/kept".into(),
        format!("....//{name}/kept"),
    ] {
        assert_eq!(delete(&scene, &path), invalid(), "{path}");
        assert_eq!(create(&scene, &format!("{path}/new")), invalid(), "{path}");
    }
    put(&scene.base().join(".ctrlnode-x/kept"), "x");
    assert!(delete_in(&scene, &Tree::Ctrlnode, "../.ctrlnode-x/kept").is_some());
    assert!(sibling.join("kept").exists());
    assert!(scene.base().join(".ctrlnode-x/kept").exists());
}

/// Hole of the Bridge before: `write_file` with `useCtrlnode` was not contained at all.
#[test]
fn hole_a_write_into_the_task_tree_stays_in_it() {
    let scene = wide();
    for path in BAD_PATHS {
        let written = scene
            .workspace
            .write_file(&Tree::Ctrlnode, path, b"x", true);
        assert!(written.is_err(), "{path:?}");
    }
    assert_eq!(fs::read_dir(scene.outside()).unwrap().count(), 1);
}

#[test]
fn a_link_out_of_the_root_is_deleted_as_a_link_and_never_gone_through() {
    let scene = wide();
    let outside = scene.outside().join("outside");
    put(&outside.join("kept/x"), "x");
    symlink(&outside, scene.base().join("out")).unwrap();
    symlink("../outside", scene.base().join("up")).unwrap();
    for link in ["out", "up"] {
        for path in [format!("{link}/kept"), format!("{link}/kept/x")] {
            assert_eq!(delete(&scene, &path), invalid(), "{path}");
            assert_eq!(delete_folder(&scene, &path), invalid(), "{path}");
            assert_eq!(rename(&scene, &path, "new"), invalid(), "{path}");
        }
        assert_eq!(create(&scene, &format!("{link}/new")), invalid());
        assert_eq!(create(&scene, link), invalid());
        assert_eq!(rename(&scene, link, "new"), invalid());
        put(&scene.base().join("real/x"), "x");
        assert_eq!(rename(&scene, "real", &format!("{link}/new")), invalid());
        assert_eq!(delete(&scene, link), None);
        assert!(!scene.base().join(link).is_symlink());
    }
    assert!(outside.join("kept/x").exists());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn a_hard_link_to_a_file_outside_is_never_read_and_a_write_leaves_the_other_name_alone() {
    let scene = wide();
    let secret = scene.outside().join("secret.txt");
    put(&secret, "secret");
    fs::hard_link(&secret, scene.base().join("mine.txt")).unwrap();
    let (_, read) = scene.workspace.read_file(&Tree::Base, "mine.txt");
    assert_eq!(read, ReadOutcome::InvalidPath);
    scene
        .workspace
        .write_file(&Tree::Base, "mine.txt", b"new", true)
        .unwrap();
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
    assert_eq!(
        fs::read_to_string(scene.base().join("mine.txt")).unwrap(),
        "new"
    );
    fs::hard_link(&secret, scene.base().join("again.txt")).unwrap();
    assert_eq!(delete(&scene, "again.txt"), None);
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
}

#[test]
fn protected_places_are_not_touched_under_any_spelling() {
    let scene = wide();
    for path in [
        ".ssh/id_ed25519",
        "web/.git/config",
        ".aws/credentials",
        "vault.kdbx",
        ".claude/settings.json",
    ] {
        put(&scene.base().join(path), "x");
    }
    put(&scene.root().join(".env"), "PAIRING_TOKEN=t");
    for path in [
        ".ssh",
        ".ssh/id_ed25519",
        ".SSH",
        ".Ssh/ID_ED25519",
        "web/.git",
        "web/.git/config",
        "web/.GIT/config",
        "vault.kdbx",
        "vault.KDBX",
        ".aws",
        ".claude",
        ".claude/settings.json",
        ".ctrlnode/.env",
        ".CtrlNode/.ENV",
        "web/.git./config",
        "web/.git /config",
        "web/.g\u{200c}it/config",
        "web/GIT~1/config",
        "web/.git::$INDEX_ALLOCATION/config",
        ".\u{17f}\u{17f}h/x",
    ] {
        let spelled = scene.base().join(path).exists();
        let told = delete(&scene, path);
        // Of a spelling that is another name here, nothing is there to be deleted.
        assert!(
            told == invalid() || (told.is_none() && !spelled),
            "{path}: {told:?}"
        );
        assert_eq!(create(&scene, path), invalid(), "{path}");
        assert!(rename(&scene, path, "free").is_some(), "{path}");
        let written = scene.workspace.write_file(&Tree::Base, path, b"x", true);
        assert!(written.is_err(), "{path}");
        let (_, read) = scene.workspace.read_file(&Tree::Base, path);
        if !path.contains("git") && !path.contains("GIT") && !path.contains("claude") {
            let content = matches!(read, ReadOutcome::Content { .. });
            assert!(!content, "{path}: {read:?}");
        }
    }
    for kept in [
        ".ssh/id_ed25519",
        "web/.git/config",
        "vault.kdbx",
        ".ctrlnode/.env",
    ] {
        assert!(scene.base().join(kept).exists(), "{kept}");
    }
}

#[test]
fn a_folder_goes_as_a_whole_or_not_at_all_when_something_protected_is_in_it() {
    let scene = wide();
    put(&scene.base().join("web/a.txt"), "x");
    put(&scene.base().join("web/deep/.git/config"), "x");
    put(&scene.base().join("web/z.txt"), "x");
    assert_eq!(delete(&scene, "web"), invalid());
    for kept in ["web/a.txt", "web/deep/.git/config", "web/z.txt"] {
        assert!(scene.base().join(kept).exists(), "{kept}");
    }
    // A repository may be given another name: it is as protected there.
    assert_eq!(rename(&scene, "web", "site"), None);
    assert!(scene.base().join("site/deep/.git/config").exists());
}

#[test]
fn what_agents_left_in_a_task_folder_goes_with_it() {
    let scene = Scene::new();
    put(&scene.root().join("tasks/t/output/repo/.git/config"), "x");
    put(&scene.root().join("tasks/t/.claude/settings.json"), "x");
    put(&scene.root().join("tasks/t/.tmp/chat"), "x");
    let direct = "tasks/t/output/repo/.git";
    assert_eq!(delete_in(&scene, &Tree::Ctrlnode, direct), invalid());
    assert_eq!(delete_in(&scene, &Tree::Ctrlnode, "tasks/t"), None);
    assert!(!scene.root().join("tasks/t").exists());
}

#[test]
fn a_new_name_never_frees_what_was_kept() {
    let scene = wide();
    put(&scene.base().join("x/.config/gh/hosts.yml"), "login");
    put(&scene.base().join("y/gh/hosts.yml"), "no login");
    // Without `.config` around it the same file could be read.
    assert_eq!(rename(&scene, "x/.config", "x/config"), invalid());
    assert_eq!(rename(&scene, "x", "z"), None);
    assert!(scene.base().join("z/.config/gh/hosts.yml").exists());
    let scene = open(ContentsPolicy::TaskOutputs);
    put(&scene.root().join("templates/a/x.md"), "kept by policy");
    let freed = rename_in(&scene, &Tree::Ctrlnode, "templates/a", "tasks/t/input");
    assert_eq!(freed, invalid());
    assert!(scene.root().join("templates/a/x.md").exists());
}

#[test]
fn outside_of_its_own_root_changes_need_the_workspace_policy() {
    for policy in [ContentsPolicy::Never, ContentsPolicy::TaskOutputs] {
        let scene = open(policy);
        put(&scene.base().join("web/x"), "x");
        fs::create_dir(scene.base().join("empty")).unwrap();
        assert_eq!(delete(&scene, "web/x"), invalid(), "{policy}");
        assert_eq!(create(&scene, "new"), invalid(), "{policy}");
        assert_eq!(delete_folder(&scene, "empty"), invalid(), "{policy}");
        assert_eq!(rename(&scene, "web", "new"), invalid(), "{policy}");
        assert!(scene.base().join("web/x").exists());
        assert_eq!(create_in(&scene, &Tree::Ctrlnode, "tasks/t/input"), None);
        assert_eq!(delete_in(&scene, &Tree::Ctrlnode, "tasks/t"), None);
    }
}

#[test]
fn the_bridges_own_files_stay() {
    let scene = wide();
    put(&scene.root().join("journal/runs.jsonl"), "x");
    put(&scene.root().join("hub.db"), "x");
    put(&scene.root().join(".codex-agents/a/auth.json"), "x");
    for path in [
        "journal",
        "journal/runs.jsonl",
        "JOURNAL",
        "hub.db",
        "bridge.lock",
        ".codex-agents",
        ".codex-agents/a",
    ] {
        let told = delete_in(&scene, &Tree::Ctrlnode, path);
        assert!(
            told == invalid() || !scene.root().join(path).exists(),
            "{path}: {told:?}"
        );
        assert!(
            rename_in(&scene, &Tree::Ctrlnode, path, "tasks/t").is_some(),
            "{path}"
        );
    }
    assert_eq!(create_in(&scene, &Tree::Ctrlnode, "journal/x"), invalid());
    assert_eq!(create_in(&scene, &Tree::Ctrlnode, "spool"), invalid());
    assert_eq!(create_in(&scene, &Tree::Ctrlnode, "templates"), None);
    assert!(scene.root().join("journal/runs.jsonl").exists());
}

#[test]
fn a_tree_that_is_too_deep_says_so_and_stays() {
    let scene = wide();
    let deep = "d/".repeat(140);
    fs::create_dir_all(scene.base().join("deep").join(&deep)).unwrap();
    let told = delete(&scene, "deep").unwrap();
    assert!(told.contains("deeper than 128"), "{told}");
    assert!(scene.base().join("deep").join(&deep).exists());
}

#[test]
fn names_that_are_not_utf8_are_not_listed_and_go_with_their_folder() {
    use std::os::unix::ffi::OsStrExt as _;
    let scene = wide();
    let odd = std::ffi::OsStr::from_bytes(b"a\xff\xfeb");
    let folder = scene.base().join("web");
    fs::create_dir_all(folder.join(odd)).unwrap();
    fs::write(folder.join(odd).join(odd), "x").unwrap();
    fs::write(folder.join("plain"), "x").unwrap();
    let listed = scene
        .workspace
        .list_files(&Tree::Base, "web", true, true)
        .unwrap();
    assert_eq!(listed.entries.len(), 1);
    assert_eq!(delete(&scene, "web"), None);
    assert!(!folder.exists());
}

#[test]
fn workspaces_are_made_below_openclaws_folder_and_nowhere_without_it() {
    let make = |scene: &Scene, folder: &str, files: &[(&str, &str)], use_ctrlnode| {
        let files = files.iter().map(|(path, content)| NewFile {
            path: (*path).into(),
            content: (*content).into(),
        });
        let change = TreeChange::CreateWorkspace {
            folder: folder.into(),
            files: files.collect(),
            use_ctrlnode,
        };
        match scene.workspace.change_tree(&change, None) {
            TreeChanged::Workspace { path, error } => (path, error),
            other @ (TreeChanged::Done { .. } | TreeChanged::AgentFolders { .. }) => {
                panic!("{other:?}")
            }
        }
    };
    let bare = Scene::new();
    assert_eq!(make(&bare, "w", &[("a", "b")], false), (None, None));
    assert_eq!(make(&bare, "", &[], false).1, code("MISSING_FOLDER_NAME"));

    let mut scene = Scene::new();
    let own = scene.base().join(".openclaw");
    put(&own.join("openclaw.json"), "{}");
    scene.workspace = scene.workspace.with_openclaw(Some(&own));
    let own = own.canonicalize().unwrap();
    let files = [("SOUL.md", "Be brief."), ("memory/day.md", "ü")];
    let made = make(&scene, "workspace-writer", &files, false);
    let path = own.join("workspace-writer");
    assert_eq!(made, (Some(path.display().to_string()), None));
    assert_eq!(fs::read_to_string(path.join("memory/day.md")).unwrap(), "ü");
    let made = make(&scene, "tasks/blog", &[], true);
    assert_eq!(made.1, None);
    assert!(own.join("ctrlnode/tasks/blog").is_dir());

    for folder in BAD_PATHS {
        assert_eq!(make(&scene, folder, &[], false).1, invalid(), "{folder:?}");
    }
    for kept in [
        "agents",
        "agents/main",
        "credentials",
        "openclaw.json",
        ".env",
        "AGENTS/x",
        "a/.ssh",
    ] {
        assert_eq!(make(&scene, kept, &[], false).1, invalid(), "{kept}");
    }
    for file in [
        "../x",
        "/etc/x",
        "a/../../x",
        "",
        ".git/hooks/x",
        ".ssh/id",
        "a\0",
    ] {
        let told = make(&scene, "fresh", &[("ok.md", "x"), (file, "x")], false)
            .1
            .unwrap();
        assert!(told.starts_with("INVALID_FILE_PATH: "), "{file:?}: {told}");
        assert!(!own.join("fresh").exists(), "nothing is half made");
    }
    // What is there is somebody's work.
    let over = make(&scene, "workspace-writer", &[("SOUL.md", "other")], false).1;
    assert_eq!(over, invalid());
    assert_eq!(
        fs::read_to_string(path.join("SOUL.md")).unwrap(),
        "Be brief."
    );
}

#[test]
fn an_agents_own_workspace_is_a_root_within_the_policy_and_openclaws_own_files_are_none() {
    let mut scene = Scene::new();
    let own = scene.base().join(".openclaw");
    for path in [
        "openclaw.json",
        "workspace/SOUL.md",
        "workspace/tasks/t/output/x.md",
        "agents/main/sessions/s.jsonl",
        "credentials/x",
    ] {
        put(&own.join(path), "text");
    }
    put(&scene.base().join("web/input/x.md"), "text");
    put(&scene.outside().join("other/x.md"), "text");
    scene.workspace = scene.workspace.with_openclaw(Some(&own));
    let agent = |path: &Path| Tree::OpenclawAgent(path.to_owned());
    let reads = |scene: &Scene, tree: &Tree, path: &str| {
        matches!(
            scene.workspace.read_file(tree, path).1,
            ReadOutcome::Content { .. }
        )
    };
    let workspace = agent(&own.join("workspace"));
    assert!(reads(&scene, &workspace, "tasks/t/output/x.md"));
    assert!(!reads(&scene, &workspace, "SOUL.md"), "the policy keeps it");
    assert!(reads(
        &scene,
        &agent(Path::new("workspace")),
        "tasks/t/output/x.md"
    ));
    let write = |scene: &Scene, path| scene.workspace.write_file(&workspace, path, b"x", true);
    assert!(write(&scene, "tasks/t/input/y.md").is_ok());
    assert!(write(&scene, "SOUL.md").is_err());
    // None of these is anybody's workspace.
    for path in [
        own.clone(),
        own.join("agents"),
        own.join("agents/main"),
        own.join("credentials"),
        scene.outside().join("other"),
        scene.base().to_owned(),
        scene.base().join("web"),
    ] {
        let tree = agent(&path);
        for file in [
            "x.md",
            "sessions/s.jsonl",
            "x",
            "openclaw.json",
            "input/x.md",
            "agents/main/sessions/s.jsonl",
        ] {
            assert!(!reads(&scene, &tree, file), "{path:?} {file}");
        }
        let listed = scene.workspace.list_files(&tree, "", true, true);
        assert_eq!(listed, Err("AGENT_NOT_FOUND".into()), "{path:?}");
    }
    scene.workspace = scene.workspace.with_policy(ContentsPolicy::Workspace);
    assert!(reads(&scene, &workspace, "SOUL.md"));
    assert!(write(&scene, "SOUL.md").is_ok());
    assert!(reads(
        &scene,
        &agent(&scene.base().join("web")),
        "input/x.md"
    ));
    for path in [
        own.clone(),
        own.join("agents"),
        scene.outside().join("other"),
    ] {
        assert!(!reads(&scene, &agent(&path), "x.md"), "{path:?}");
    }
}

#[test]
fn tasks_of_the_bridge_before_are_still_read_from_openclaws_tree() {
    let mut scene = Scene::new();
    let own = scene.base().join(".openclaw");
    put(&own.join("openclaw.json"), "{}");
    put(&own.join("ctrlnode/tasks/old/output/x.md"), "old");
    put(&own.join("ctrlnode/tasks/both/output/x.md"), "there");
    put(&scene.root().join("tasks/both/output/x.md"), "here");
    scene.workspace = scene.workspace.with_openclaw(Some(&own));
    let read = |path: &str| {
        let (_, read) = scene.workspace.read_file(&Tree::OpenclawTasks, path);
        let ReadOutcome::Content { content, .. } = read else {
            panic!("{path}: {read:?}")
        };
        content
    };
    assert_eq!(read("tasks/old/output/x.md"), "old");
    assert_eq!(read("tasks/both/output/x.md"), "here");
    scene
        .workspace
        .write_file(&Tree::OpenclawTasks, "tasks/new/input/x.md", b"new", true)
        .unwrap();
    assert!(scene.root().join("tasks/new/input/x.md").exists());
}

#[test]
fn agent_folders_are_deleted_nowhere_but_in_the_container_of_old() {
    let scene = wide();
    put(&scene.base().join("agents/x/kept"), "x");
    let base = scene.base().display().to_string();
    let delete = |folder: &str| {
        let change = TreeChange::DeleteAgentFolders {
            folder: folder.into(),
            agent: Some("A".into()),
        };
        match scene.workspace.change_tree(&change, None) {
            TreeChanged::AgentFolders {
                agent,
                deleted,
                errors,
            } => {
                assert_eq!(agent.as_deref(), Some("A"));
                assert_eq!(deleted, Vec::<String>::new(), "{folder}");
                errors
            }
            other @ (TreeChanged::Done { .. } | TreeChanged::Workspace { .. }) => {
                panic!("{other:?}")
            }
        }
    };
    assert_eq!(delete(""), ["NO_FOLDER_SPECIFIED"]);
    for folder in [
        "/",
        "/app",
        "/app/",
        "/app/..",
        "/app/../etc",
        "/app/....//etc",
        "/apple/x",
        "app/x",
        "/etc",
        "/app/a\0b",
        &base,
        &format!("{base}/agents/x"),
        &format!("/app/../{base}/agents"),
    ] {
        let told = delete(folder);
        assert!(told[0].starts_with("UNSAFE_PATH: "), "{folder}: {told:?}");
    }
    // Not in the workspace of this bridge, so nothing of it may be touched.
    assert_eq!(delete("/app/agents/x"), ["UNSAFE_PATH: /app/agents/x"]);
    assert!(scene.base().join("agents/x/kept").exists());
}
