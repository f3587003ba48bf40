//! Where runs may work: task folders, repositories, one daemon per workspace.
#![cfg(unix)]

mod support;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::{PermissionsExt as _, symlink},
};

use bridge_proto::TaskFolder;
use bridge_workspace::{ContainError, Kept, OpenError, PathFault, PlaceError, Workspace};
use support::{Scene, folder, put, task};

#[test]
fn a_task_folder_is_made_with_input_and_output_and_is_found_again() {
    let scene = Scene::new();
    let name = folder("tasks/web/03-14/1a2b3c4d-fix-login");
    let dir = scene
        .workspace
        .task_dir(&task("1a2b3c4d-aaaa"), Some(&name))
        .unwrap();
    assert_eq!(
        dir.path(),
        scene.root().join("tasks/web/03-14/1a2b3c4d-fix-login")
    );
    assert!(dir.input().is_dir() && dir.output().is_dir());
    assert_eq!(
        (dir.name(), dir.short()),
        ("1a2b3c4d-fix-login", "1a2b3c4d")
    );
    assert_eq!(dir.relative(), name.as_str());
    put(&dir.output().join("x.md"), "kept");
    scene
        .workspace
        .task_dir(&task("1a2b3c4d-aaaa"), Some(&name))
        .unwrap();
    assert_eq!(
        std::fs::read_to_string(dir.output().join("x.md")).unwrap(),
        "kept"
    );
}

#[test]
fn without_a_name_the_folder_is_that_of_the_task_id() {
    let scene = Scene::new();
    let dir = scene
        .workspace
        .task_dir(&task("9f8e7d6c5b4a"), None)
        .unwrap();
    assert_eq!(dir.path(), scene.root().join("tasks/9f8e7d6c5b4a"));
    assert_eq!(dir.short(), "9f8e7d6c");
}

#[test]
fn folder_names_that_try_to_escape_are_refused_with_the_reason() {
    let scene = Scene::new();
    let refused = |name: &str| match scene
        .workspace
        .task_dir(&task("t"), Some(&TaskFolder::parse(name).unwrap()))
    {
        Err(PlaceError::Path { fault, .. }) => fault,
        other => panic!("{name}: {other:?}"),
    };
    for name in [
        "..",
        "../x",
        "tasks/../../x",
        "tasks/a/..",
        "a/..",
        "....//x",
        "tasks/....//x",
    ] {
        assert_eq!(refused(name), PathFault::Up, "{name}");
    }
    for name in ["/etc", "//etc", "C:", "C:/x", "c:x"] {
        assert_eq!(refused(name), PathFault::Absolute, "{name}");
    }
    for name in ["C:\\x", "tasks\\x", "..\\x", "\\\\server\\share"] {
        assert_eq!(refused(name), PathFault::Backslash, "{name}");
    }
    for name in [".", "./", "./."] {
        assert_eq!(refused(name), PathFault::Empty, "{name}");
    }
    assert_eq!(refused(&"a/".repeat(100)), PathFault::TooLong);
    assert_eq!(
        std::fs::read_dir(scene.outside()).unwrap().count(),
        1,
        "only the base is there"
    );
}

#[test]
fn a_task_id_is_one_component_or_refused() {
    let scene = Scene::new();
    for id in ["..", "a/../../..", "a/b", "/etc", "a\\b"] {
        let got = scene.workspace.task_dir(&task(id), None);
        assert!(matches!(got, Err(PlaceError::Path { .. })), "{id}: {got:?}");
    }
}

#[test]
fn nul_and_other_control_characters_are_refused() {
    use bridge_workspace::ContainedPath;
    for text in ["a\0b", "\0", "a\nb", "a/\u{7f}"] {
        assert_eq!(
            ContainedPath::parse(text),
            Err(PathFault::ControlCharacter),
            "{text:?}"
        );
    }
}

#[test]
fn links_on_the_way_are_refused_wherever_they_point() {
    let scene = Scene::new();
    let tasks = scene.root().join("tasks");
    std::fs::create_dir_all(tasks.join("real")).unwrap();
    symlink(scene.outside(), tasks.join("out")).unwrap();
    symlink("real", tasks.join("in")).unwrap();
    symlink("/nowhere", tasks.join("dangling")).unwrap();
    for name in [
        "tasks/out",
        "tasks/out/x",
        "tasks/in",
        "tasks/in/x/y",
        "tasks/dangling",
    ] {
        let got = scene.workspace.task_dir(&task("t"), Some(&folder(name)));
        assert!(
            matches!(
                got,
                Err(PlaceError::Contained {
                    source: ContainError::Link { .. },
                    ..
                })
            ),
            "{name}: {got:?}"
        );
    }
    assert!(!scene.outside().join("input").exists());
    assert_eq!(std::fs::read_dir(tasks.join("real")).unwrap().count(), 0);
}

#[test]
fn an_output_that_is_a_link_or_a_file_is_refused() {
    let scene = Scene::new();
    let dir = scene.root().join("tasks/t");
    std::fs::create_dir_all(&dir).unwrap();
    symlink(scene.outside(), dir.join("output")).unwrap();
    let got = scene.workspace.task_dir(&task("t"), None);
    assert!(matches!(
        got,
        Err(PlaceError::Contained {
            source: ContainError::Link { .. },
            ..
        })
    ));
    std::fs::remove_file(dir.join("output")).unwrap();
    std::fs::write(dir.join("output"), "").unwrap();
    let got = scene.workspace.task_dir(&task("t"), None);
    assert!(matches!(
        got,
        Err(PlaceError::Contained {
            source: ContainError::NotAFolder { .. },
            ..
        })
    ));
}

#[test]
fn a_sibling_that_shares_the_name_is_not_inside() {
    let scene = Scene::new();
    put(&scene.base().join(".ctrlnode-x/file"), "sibling");
    put(&scene.outside().join("base-x/file"), "sibling");
    let sibling = scene.outside().join("base-x");
    let got = scene.workspace.repository(sibling.to_str().unwrap());
    assert!(
        matches!(
            got,
            Err(PlaceError::Kept {
                kept: Kept::Outside,
                ..
            })
        ),
        "{got:?}"
    );
    // Below the base it is an ordinary folder, no part of CTRLNODE_ROOT.
    let got = scene.workspace.repository(".ctrlnode-x").unwrap();
    assert_eq!(got.path(), scene.base().join(".ctrlnode-x"));
}

#[test]
fn the_bridges_own_folders_are_no_task_folders() {
    let scene = Scene::new();
    for name in [
        "journal",
        "journal/x",
        "Spool/x",
        ".hidden/x",
        "hub/x",
        "tasks",
    ] {
        let got = scene.workspace.task_dir(&task("t"), Some(&folder(name)));
        assert!(
            matches!(
                got,
                Err(PlaceError::Kept {
                    kept: Kept::Internal,
                    ..
                })
            ),
            "{name}"
        );
    }
}

#[test]
fn repositories_must_be_existing_folders_below_the_base() {
    let scene = Scene::new();
    put(
        &scene.base().join("code/web/.git/HEAD"),
        "ref: refs/heads/main\n",
    );
    put(&scene.base().join("code/web/src/main.rs"), "");
    put(&scene.base().join("notes/x.md"), "");
    symlink(scene.base().join("code"), scene.base().join("linked")).unwrap();
    symlink(scene.outside(), scene.base().join("escape")).unwrap();

    let open = |path: &str| scene.workspace.repository(path);
    let web = scene.base().join("code/web");
    let repository = open(web.to_str().unwrap()).unwrap();
    assert_eq!(
        (repository.path(), repository.is_git()),
        (web.as_path(), true)
    );
    let inner = open("linked/web/src").unwrap();
    assert_eq!(
        (inner.path(), inner.writer_key()),
        (web.join("src").as_path(), web.as_path())
    );
    let notes = open("notes").unwrap();
    assert_eq!((notes.writer_key(), notes.is_git()), (notes.path(), false));
    assert_eq!(open("code/../notes").unwrap(), notes);

    assert!(matches!(open("missing"), Err(PlaceError::Missing { .. })));
    assert!(matches!(open(""), Err(PlaceError::Missing { .. })));
    assert!(matches!(open("a\0b"), Err(PlaceError::Missing { .. })));
    assert!(matches!(
        open("notes/x.md"),
        Err(PlaceError::NotAFolder { .. })
    ));
    assert!(matches!(
        open("notes/x.md/y"),
        Err(PlaceError::NotAFolder { .. })
    ));
    for outside in ["..", "/", "/etc", "escape", "code/../../base/.."] {
        let got = open(outside);
        assert!(
            matches!(
                got,
                Err(PlaceError::Kept {
                    kept: Kept::Outside,
                    ..
                })
            ),
            "{outside}"
        );
    }
    let reason = open("/etc").unwrap_err().reason();
    assert!(reason.contains("--workspace"), "{reason}");
}

#[test]
fn protected_places_and_the_bridges_own_are_no_repositories() {
    let scene = Scene::new();
    for name in [
        ".ssh",
        ".SSH",
        "x/.gnupg/sub",
        ".config/google-chrome",
        "web/.git/hooks",
    ] {
        std::fs::create_dir_all(scene.base().join(name)).unwrap();
        let got = scene.workspace.repository(name);
        assert!(
            matches!(
                got,
                Err(PlaceError::Kept {
                    kept: Kept::Protected(_),
                    ..
                })
            ),
            "{name}"
        );
    }
    for name in [".ctrlnode", ".ctrlnode/tasks"] {
        std::fs::create_dir_all(scene.base().join(name)).unwrap();
        let got = scene.workspace.repository(name);
        assert!(
            matches!(
                got,
                Err(PlaceError::Kept {
                    kept: Kept::Internal,
                    ..
                })
            ),
            "{name}"
        );
    }
    // Work trees that agents keep below their settings are ordinary places.
    std::fs::create_dir_all(scene.base().join("web/.claude/worktrees/a")).unwrap();
    scene
        .workspace
        .repository("web/.claude/worktrees/a")
        .unwrap();
}

#[test]
fn the_summary_of_an_agent_has_a_place_below_the_root_or_none() {
    let scene = Scene::new();
    let name = "tasks/web/03-14/1a-x/output/1a-x-output.md";
    let path = scene.workspace.task_log_path(name).unwrap();
    assert_eq!(path, scene.root().join(name));
    assert!(path.parent().unwrap().is_dir() && !path.exists());
    symlink(scene.outside(), scene.root().join("tasks/out")).unwrap();
    let refused = |name: &str| scene.workspace.task_log_path(name).unwrap_err();
    assert!(matches!(
        refused("tasks/../../x.md"),
        PlaceError::Path { .. }
    ));
    assert!(matches!(refused("/etc/x.md"), PlaceError::Path { .. }));
    assert!(matches!(
        refused("tasks/out/x.md"),
        PlaceError::Contained { .. }
    ));
    for name in ["", "x.md", ".env", "journal/x.md"] {
        assert!(matches!(refused(name), PlaceError::Kept { .. }), "{name}");
    }
}

#[test]
fn the_state_may_live_elsewhere() {
    let outer = tempfile::tempdir().unwrap();
    let (base, state) = (outer.path().join("base"), outer.path().join("state"));
    let workspace = Workspace::open(&base, Some(&state)).unwrap();
    assert_eq!(workspace.root(), state.canonicalize().unwrap());
    assert!(!base.join(".ctrlnode").exists());
    let mode = std::fs::metadata(&state).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_base_that_is_a_file_is_a_typed_error() {
    let outer = tempfile::tempdir().unwrap();
    let base = outer.path().join("file");
    std::fs::write(&base, "").unwrap();
    assert!(matches!(
        Workspace::open(&base, None),
        Err(OpenError::Folder { .. })
    ));
}

#[test]
fn the_second_daemon_is_told_who_holds_the_workspace() {
    let outer = tempfile::tempdir().unwrap();
    let first = Workspace::open(outer.path(), None).unwrap();
    match Workspace::open(outer.path(), None) {
        Err(OpenError::Locked { pid, hint }) => {
            assert_eq!(pid, Some(std::process::id()));
            assert!(!hint.is_empty());
        }
        other => panic!("{other:?}"),
    }
    drop(first);
    Workspace::open(outer.path(), None).unwrap();
}

#[test]
fn the_lock_dies_with_its_process() {
    let outer = tempfile::tempdir().unwrap();
    #[expect(
        clippy::disallowed_methods,
        reason = "this test binary again, as another process"
    )]
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "hold_the_lock_until_killed",
            "--ignored",
            "--nocapture",
        ])
        .env("HOLD_THE_LOCK_OF", outer.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(
        lines.any(|line| line.unwrap().contains("locked")),
        "the child got the lock"
    );
    match Workspace::open(outer.path(), None) {
        Err(OpenError::Locked { pid, .. }) => assert_eq!(pid, Some(child.id())),
        other => panic!("{other:?}"),
    }
    child.kill().unwrap();
    child.wait().unwrap();
    Workspace::open(outer.path(), None).unwrap();
}

#[test]
#[ignore = "the other process of the_lock_dies_with_its_process"]
fn hold_the_lock_until_killed() {
    let Some(base) = std::env::var_os("HOLD_THE_LOCK_OF") else {
        return;
    };
    let workspace = Workspace::open(base.as_ref(), None).unwrap();
    println!("\nlocked");
    std::io::stdout().flush().unwrap();
    // Ends when killed, or with the parent.
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    drop(workspace);
}
