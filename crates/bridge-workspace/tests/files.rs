//! File requests: roots, limits, the contents policy.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod support;

use std::os::unix::fs::{PermissionsExt as _, symlink};

use bridge_proto::model::{FileRoot, FileScope, Listing, ReadOutcome, Reply, Request};
use bridge_workspace::{
    ContainError, ContentsPolicy, FileRefusal, Keep, Kept, OwnPlace, Served, Tree,
    files::{MAX_IMAGE_BYTES, MAX_PDF_BYTES},
};
use support::{Scene, put};

fn open(policy: ContentsPolicy) -> Scene {
    let mut scene = Scene::new();
    scene.workspace = scene.workspace.with_policy(policy);
    scene
}

fn content(text: &str, content_type: &str) -> ReadOutcome {
    ReadOutcome::Content {
        content: text.into(),
        content_type: content_type.into(),
    }
}

fn names(scene: &Scene, root: &Tree, subpath: &str, recursive: bool, files: bool) -> Vec<String> {
    let Listing { entries, .. } = scene
        .workspace
        .list_files(root, subpath, recursive, files)
        .unwrap();
    entries
        .into_iter()
        .map(|e| {
            if e.is_dir {
                format!("{}/", e.path)
            } else {
                e.path
            }
        })
        .collect()
}

#[test]
fn what_is_written_is_read_back() {
    let scene = Scene::new();
    let scope = Tree::Ctrlnode;
    let path = "tasks/web/03-14/1a-x/input/1a-x.md";
    scene
        .workspace
        .write_file(&scope, path, b"# Fix", true)
        .unwrap();
    assert_eq!(
        std::fs::read_to_string(scene.root().join(path)).unwrap(),
        "# Fix"
    );
    let got = scene
        .workspace
        .read_file(&scope, "tasks\\web//03-14/./1a-x/input/1a-x.md");
    assert_eq!(got, (path.to_owned(), content("# Fix", "text/markdown")));
    scene.workspace.write_file(&scope, path, b"", true).unwrap();
    assert_eq!(
        scene.workspace.read_file(&scope, path).1,
        content("", "text/markdown")
    );
}

#[test]
fn text_for_output_loses_status_tags_and_ends_with_one_newline() {
    let scene = Scene::new();
    let write = |path: &str, bytes: &[u8], text| {
        scene
            .workspace
            .write_file(&Tree::Ctrlnode, path, bytes, text)
            .unwrap();
        std::fs::read(scene.root().join(path)).unwrap()
    };
    let tagged = b"Done. <TASK_COMPLETED:9f8e-7d> <task_failed:ab>  \n\n";
    assert_eq!(write("tasks/a/output/x.md", tagged, true), b"Done.\n");
    assert_eq!(
        write("tasks/a/output/deep/x.md", b"<TASK_BLOCKED:no id>", true),
        b"<TASK_BLOCKED:no id>\n"
    );
    assert_eq!(write("tasks/a/output/y.md", b"", true), b"");
    assert_eq!(write("tasks/a/output/z.bin", tagged, false), tagged);
    assert_eq!(
        write("tasks/a/output/w.bin", b"\xff\n\n", true),
        b"\xff\n\n"
    );
    assert_eq!(write("tasks/a/input/x.md", tagged, true), tagged);
    assert_eq!(write("tasks/b/output", tagged, true), tagged);
}

#[test]
fn writes_that_would_escape_or_touch_the_bridge_itself_are_refused() {
    let scene = open(ContentsPolicy::Workspace);
    symlink(scene.outside(), scene.base().join("escape")).unwrap();
    symlink(scene.outside().join("new"), scene.base().join("dangling")).unwrap();
    put(&scene.base().join("web/.git/config"), "");
    let write = |root, path: &str| {
        scene
            .workspace
            .write_file(&root, path, b"x", true)
            .unwrap_err()
    };
    for path in [
        "../x",
        "a/../../x",
        "....//x",
        "/etc/x",
        "C:\\x",
        "..\\x",
        "a\0b",
    ] {
        assert!(
            matches!(write(Tree::Base, path), FileRefusal::Path(_)),
            "{path:?}"
        );
    }
    for path in ["escape/x", "escape/deep/x", "dangling", ""] {
        assert!(
            matches!(
                write(Tree::Base, path),
                FileRefusal::Contained(_) | FileRefusal::Kept(_)
            ),
            "{path:?}"
        );
    }
    for path in [
        "web/.git/config",
        "web/.git/hooks/pre-commit",
        ".bashrc",
        ".ssh/authorized_keys",
        ".claude/settings.json",
        ".ctrlnode/.env",
    ] {
        assert!(
            matches!(
                write(Tree::Base, path),
                FileRefusal::Kept(Kept::Protected(_))
            ),
            "{path}"
        );
    }
    for path in [".env", "bridge.lock", "journal/runs.jsonl", "x.md"] {
        let got = write(Tree::Ctrlnode, path);
        assert!(matches!(got, FileRefusal::Kept(_)), "{path}: {got:?}");
    }
    assert_eq!(std::fs::read_dir(scene.outside()).unwrap().count(), 1);
    assert_eq!(
        std::fs::read(scene.base().join("web/.git/config")).unwrap(),
        b""
    );
}

#[test]
fn outside_of_its_own_root_writing_needs_the_workspace_policy() {
    for (policy, allowed) in [
        (ContentsPolicy::Never, false),
        (ContentsPolicy::TaskOutputs, false),
        (ContentsPolicy::Workspace, true),
    ] {
        let scene = open(policy);
        let write = |root, path: &str| scene.workspace.write_file(&root, path, b"x", true);
        assert_eq!(write(Tree::Base, "web/x.md").is_ok(), allowed, "{policy}");
        write(Tree::Ctrlnode, "tasks/a/input/x.md").unwrap();
        write(Tree::Base, ".ctrlnode/tasks/a/input/y.md").unwrap();
    }
}

#[test]
fn a_write_through_a_link_inside_reaches_the_real_file_and_keeps_its_mode() {
    let scene = open(ContentsPolicy::Workspace);
    let real = scene.base().join("real/run.md");
    put(&real, "old");
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
    symlink("real", scene.base().join("link")).unwrap();
    scene
        .workspace
        .write_file(&Tree::Base, "link/run.md", b"new", true)
        .unwrap();
    assert_eq!(std::fs::read_to_string(&real).unwrap(), "new");
    assert_eq!(
        std::fs::metadata(&real).unwrap().permissions().mode() & 0o777,
        0o640
    );
    assert!(scene.base().join("link").is_symlink());
    assert_eq!(
        std::fs::read_dir(scene.base().join("real"))
            .unwrap()
            .count(),
        1
    );
}

#[test]
fn reading_tells_apart_what_is_missing_what_escapes_and_what_is_no_file() {
    let scene = open(ContentsPolicy::Workspace);
    put(&scene.outside().join("secret.txt"), "secret");
    put(&scene.base().join("a.txt"), "in");
    symlink(
        scene.outside().join("secret.txt"),
        scene.base().join("out.txt"),
    )
    .unwrap();
    symlink("../secret.txt", scene.base().join("up.txt")).unwrap();
    symlink("a.txt", scene.base().join("in.txt")).unwrap();
    symlink("loop", scene.base().join("loop")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(scene.base().join("socket")).unwrap();
    #[cfg(target_os = "linux")]
    rustix::fs::mkfifoat(rustix::fs::CWD, scene.base().join("pipe"), 0o644.into()).unwrap();
    let read = |path: &str| scene.workspace.read_file(&Tree::Base, path).1;
    assert_eq!(read("in.txt"), content("in", "text/plain"));
    for path in [
        "out.txt",
        "up.txt",
        "../secret.txt",
        "/etc/passwd",
        "a/..",
        "....//x",
        "\0",
    ] {
        assert_eq!(read(path), ReadOutcome::InvalidPath, "{path:?}");
    }
    for path in ["missing", "a.txt/x", "pipe", "socket", ""] {
        let got = read(path);
        assert_eq!(got, ReadOutcome::NotFound, "{path:?}");
    }
    assert_eq!(read("loop"), ReadOutcome::InvalidPath);
    drop(socket);
}

#[test]
fn protected_places_are_not_read_even_through_a_link() {
    let scene = open(ContentsPolicy::Workspace);
    put(&scene.base().join(".ssh/id_ed25519"), "key");
    put(&scene.base().join(".aws/credentials"), "key");
    put(&scene.base().join("vault.kdbx"), "key");
    put(&scene.root().join(".env"), "PAIRING_TOKEN=t");
    put(&scene.root().join("tasks/a/output/x"), "");
    symlink("../../../.env", scene.root().join("tasks/a/output/env")).unwrap();
    symlink(".ssh", scene.base().join("harmless")).unwrap();
    let base = |path: &str| scene.workspace.read_file(&Tree::Base, path).1;
    for path in [
        ".ssh/id_ed25519",
        "harmless/id_ed25519",
        ".aws/credentials",
        "vault.kdbx",
        ".ctrlnode/.env",
        ".ctrlnode/tasks/a/output/env",
    ] {
        assert_eq!(base(path), ReadOutcome::InvalidPath, "{path}");
    }
    for path in [".env", "tasks/a/output/env", "bridge.lock"] {
        let got = scene.workspace.read_file(&Tree::Ctrlnode, path).1;
        assert_eq!(got, ReadOutcome::InvalidPath, "{path}");
    }
    assert_eq!(
        names(&scene, &Tree::Base, "", false, true),
        [".ctrlnode/"]
            .map(String::from)
            .into_iter()
            .chain(["harmless".into()])
            .collect::<Vec<_>>()
    );
    assert!(names(&scene, &Tree::Base, ".ssh", true, true).is_empty());
    assert!(names(&scene, &Tree::Base, "harmless", true, true).is_empty());
}

#[test]
fn images_and_pdf_come_as_base64_within_their_limits() {
    let scene = Scene::new();
    let dir = scene.root().join("tasks/a/output");
    let read = |name: &str| {
        scene
            .workspace
            .read_file(&Tree::Ctrlnode, &format!("tasks/a/output/{name}"))
            .1
    };
    put(&dir.join("x.PNG"), b"\x89PNG");
    assert_eq!(read("x.PNG"), content("iVBORw==", "image/png"));
    put(&dir.join("x.svg"), "<svg/>");
    assert_eq!(read("x.svg"), content("PHN2Zy8+", "image/svg+xml"));
    put(&dir.join("x"), b"a\xffb");
    assert_eq!(
        read("x"),
        ReadOutcome::Binary {
            bytes: b"a\xffb".to_vec(),
            content_type: "application/octet-stream".into()
        }
    );

    let sized = |name: &str, bytes: u64| {
        let file = std::fs::File::create(dir.join(name)).unwrap();
        file.set_len(bytes).unwrap();
        let outcome = read(name);
        if let ReadOutcome::TooLarge {
            bytes,
            content_type,
        } = outcome
        {
            return Some((bytes, content_type));
        }
        assert!(matches!(outcome, ReadOutcome::Content { .. }));
        None
    };
    assert_eq!(sized("big.png", MAX_IMAGE_BYTES), None);
    let over = MAX_IMAGE_BYTES + 1;
    assert_eq!(
        sized("big.png", over),
        Some((over, "application/octet-stream".into()))
    );
    assert_eq!(sized("big.pdf", MAX_PDF_BYTES), None);
    let over = MAX_PDF_BYTES + 1;
    assert_eq!(
        sized("big.pdf", over),
        Some((over, "application/pdf".into()))
    );
    // Zero bytes take six bytes each in a frame.
    let zeros = 6 * 1024 * 1024;
    assert_eq!(
        sized("zeros.txt", zeros),
        Some((zeros, "text/plain".into()))
    );
}

#[test]
fn the_policy_decides_what_leaves() {
    let expect = |policy, task_file, log, other, internal| {
        let scene = open(policy);
        put(&scene.base().join("web/a.rs"), "code");
        put(&scene.root().join("tasks/p/d/t/input/x.md"), "in");
        put(&scene.root().join("tasks/p/d/t/output/agent_log.md"), "log");
        put(&scene.root().join("journal/runs.jsonl"), "journal");
        put(&scene.root().join(".codex-agents/a/auth.json"), "login");
        let read = |root, path: &str| {
            matches!(
                scene.workspace.read_file(&root, path).1,
                ReadOutcome::Content { .. }
            )
        };
        assert_eq!(
            read(Tree::Ctrlnode, "tasks/p/d/t/input/x.md"),
            task_file,
            "{policy}"
        );
        assert_eq!(
            read(Tree::Base, ".ctrlnode/tasks/p/d/t/output/agent_log.md"),
            log,
            "{policy}"
        );
        assert_eq!(read(Tree::Base, "web/a.rs"), other, "{policy}");
        assert_eq!(
            read(Tree::Ctrlnode, "journal/runs.jsonl"),
            internal,
            "{policy}"
        );
        assert_eq!(
            read(Tree::Ctrlnode, ".codex-agents/a/auth.json"),
            internal,
            "{policy}"
        );
        let leaves = |path: &str| scene.workspace.may_leave(path.as_ref());
        assert_eq!(leaves("web/a.rs"), other);
        assert_eq!(leaves("web/new.rs"), other);
        assert_eq!(leaves(".ctrlnode/tasks/p/d/t/output/new.md"), task_file);
        assert!(!leaves("/etc/passwd") && !leaves("../x") && !leaves("web/../../x"));
    };
    expect(ContentsPolicy::Never, false, false, false, false);
    expect(ContentsPolicy::TaskOutputs, true, true, false, false);
    expect(ContentsPolicy::Workspace, true, true, true, false);
}

#[test]
fn policies_are_written_as_in_settings() {
    for policy in [
        ContentsPolicy::Never,
        ContentsPolicy::TaskOutputs,
        ContentsPolicy::Workspace,
    ] {
        assert_eq!(policy.to_string().parse(), Ok(policy));
    }
    assert_eq!(
        "everything"
            .parse::<ContentsPolicy>()
            .unwrap_err()
            .to_string(),
        "\"everything\" is none of never, task-outputs, workspace"
    );
    assert_eq!(ContentsPolicy::default(), ContentsPolicy::TaskOutputs);
}

#[test]
fn listings_are_ordered_and_leave_out_what_nobody_wants_to_see() {
    let scene = open(ContentsPolicy::Workspace);
    for path in [
        "b/x.md",
        "b/deep/y.md",
        "A/z.md",
        "Zeta.md",
        "alpha.md",
        "a/n/q.md",
        "node_modules/m/i.js",
        "b/.git/HEAD",
        ".openclaw/c",
        "b/node_modules",
    ] {
        put(&scene.base().join(path), "12345");
    }
    symlink("b", scene.base().join("linked")).unwrap();
    let list = |subpath, recursive, files| names(&scene, &Tree::Base, subpath, recursive, files);
    assert_eq!(list("", false, false), [".ctrlnode/", "A/", "a/", "b/"]);
    assert_eq!(
        list("", false, true),
        [
            ".ctrlnode/",
            "A/",
            "a/",
            "b/",
            "alpha.md",
            "linked",
            "Zeta.md"
        ]
    );
    assert_eq!(list("b", true, false), ["b/deep/", "b/deep/y.md", "b/x.md"]);
    assert_eq!(list("linked", false, true), ["linked/deep/", "linked/x.md"]);
    assert!(list("missing", true, true).is_empty());
    assert!(list("alpha.md", true, true).is_empty());

    let Listing { base, entries, cut } = scene
        .workspace
        .list_files(&Tree::Base, "b", false, true)
        .unwrap();
    assert_eq!((base, cut), (scene.base().display().to_string(), false));
    assert_eq!(entries[1].name, "x.md");
    assert_eq!((entries[0].size, entries[1].size), (None, Some(5)));
}

#[test]
fn listings_outside_are_an_error_and_kept_ones_are_empty() {
    let scene = Scene::new();
    put(&scene.base().join("web/a.rs"), "");
    put(&scene.root().join("tasks/t/output/x.md"), "");
    put(&scene.root().join("journal/runs.jsonl"), "");
    symlink(scene.outside(), scene.base().join("escape")).unwrap();
    let list = |path: &str| scene.workspace.list_files(&Tree::Base, path, true, true);
    for path in ["..", "a/../..", "/etc", "....//", "escape", "escape/base"] {
        assert_eq!(list(path), Err("INVALID_PATH".into()), "{path}");
    }
    // Only what may leave, and the folders on the way to it.
    assert_eq!(
        names(&scene, &Tree::Base, "", true, true),
        [
            ".ctrlnode/",
            ".ctrlnode/tasks/",
            ".ctrlnode/tasks/t/",
            ".ctrlnode/tasks/t/output/",
            ".ctrlnode/tasks/t/output/x.md",
        ]
    );
    assert!(names(&scene, &Tree::Base, "web", true, true).is_empty());
    let scene = open(ContentsPolicy::Never);
    put(&scene.root().join("tasks/t/output/x.md"), "");
    assert!(names(&scene, &Tree::Ctrlnode, "", true, true).is_empty());
    assert!(names(&scene, &Tree::Ctrlnode, "tasks/t/output", true, true).is_empty());
}

#[test]
fn requests_are_served_whole() {
    let scene = Scene::new();
    let scope = FileScope {
        root: FileRoot::Ctrlnode,
        agent: None,
        provider: None,
    };
    let path = String::from("tasks/t/input/x.txt");
    let write = |path: &str| Request::WriteFile {
        scope: scope.clone(),
        path: path.into(),
        bytes: b"hi".to_vec(),
        text: true,
    };
    let serve = |request: &Request| scene.workspace.serve(request, Some(&Tree::Ctrlnode));
    let written = scene.root().join(&path);
    assert!(matches!(serve(&write(&path)), Served::Write(Ok(file)) if file == written));
    assert!(matches!(serve(&write("../x")), Served::Write(Err(_))));
    let read = Request::ReadFile {
        scope: scope.clone(),
        path: path.clone(),
    };
    let Served::Reply(reply) = serve(&read) else {
        panic!("a read is answered")
    };
    let outcome = content("hi", "text/plain");
    assert_eq!(reply, Reply::ReadFile { path, outcome });
    let list = Request::ListFiles {
        scope: scope.clone(),
        subpath: "tasks/t".into(),
        recursive: false,
        include_files: false,
    };
    match serve(&list) {
        Served::Reply(Reply::ListFiles { listing: Ok(it) }) => assert_eq!(it.entries.len(), 1),
        other @ (Served::Reply(_) | Served::Moved { .. } | Served::Write(_)) => panic!("{other:?}"),
    }
}

#[test]
fn without_a_root_every_request_has_its_own_code() {
    let scene = Scene::new();
    let scope = FileScope {
        root: FileRoot::Owner,
        agent: None,
        provider: None,
    };
    let path = String::from("x");
    let serve = |request: &Request| scene.workspace.serve(request, None);
    let write = Request::WriteFile {
        scope: scope.clone(),
        path: path.clone(),
        bytes: Vec::new(),
        text: true,
    };
    assert!(matches!(
        serve(&write),
        Served::Write(Err(FileRefusal::NoRoot))
    ));
    let read = Request::ReadFile {
        scope: scope.clone(),
        path,
    };
    assert!(matches!(
        serve(&read),
        Served::Reply(Reply::ReadFile {
            outcome: ReadOutcome::NoRoot,
            ..
        })
    ));
    let list = Request::ListFiles {
        scope,
        subpath: String::new(),
        recursive: true,
        include_files: true,
    };
    assert!(matches!(
        serve(&list),
        Served::Reply(Reply::ListFiles { listing: Err(code) }) if code == "AGENT_NOT_FOUND"
    ));
}

#[test]
fn what_agents_keep_for_themselves_in_a_task_folder_never_leaves() {
    for policy in [ContentsPolicy::TaskOutputs, ContentsPolicy::Workspace] {
        let scene = open(policy);
        for path in ["tasks/a/.tmp/chat-1.json", "tasks/web/03-14/x/.TMP/deep/y"] {
            put(&scene.root().join(path), "a whole repository");
            let (_, read) = scene.workspace.read_file(&Tree::Ctrlnode, path);
            assert!(!matches!(read, ReadOutcome::Content { .. }), "{read:?}");
            let written = scene
                .workspace
                .write_file(&Tree::Ctrlnode, path, b"x", false);
            assert!(written.is_err(), "{path}");
        }
        let listed = names(&scene, &Tree::Ctrlnode, "tasks", true, true);
        assert!(
            !listed.iter().any(|path| path.contains("chat-1")),
            "{listed:?}"
        );
    }
}

#[test]
fn programs_are_not_replaced_and_new_files_are_none() {
    let scene = open(ContentsPolicy::Workspace);
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let set = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let write = |tree: &Tree, path: &str| {
        scene
            .workspace
            .write_file(tree, path, b"#!/bin/sh\nevil", true)
    };
    for bits in [0o755, 0o100, 0o610, 0o001] {
        let program = scene.base().join("web/run.sh");
        put(&program, "#!/bin/sh");
        set(&program, bits);
        let refused = write(&Tree::Base, "web/run.sh").unwrap_err();
        assert!(
            matches!(
                refused,
                FileRefusal::Contained(ContainError::Executable { .. })
            ),
            "{bits:o}: {refused:?}"
        );
        assert_eq!(mode(&program), bits);
        set(&program, 0o644);
        assert_eq!(std::fs::read_to_string(&program).unwrap(), "#!/bin/sh");
        std::fs::remove_file(&program).unwrap();
    }
    let new = write(&Tree::Base, "web/new.sh").unwrap();
    assert_eq!(mode(&new) & 0o111, 0);
    // What a task delivered is its own matter.
    let delivered = scene.root().join("tasks/a/output/run.sh");
    put(&delivered, "#!/bin/sh");
    set(&delivered, 0o755);
    write(&Tree::Ctrlnode, "tasks/a/output/run.sh").unwrap();
    assert_eq!(mode(&delivered), 0o755);
}

#[test]
fn a_place_that_is_named_is_kept_from_every_request() {
    let mut scene = open(ContentsPolicy::Workspace);
    let state = scene.base().join("elsewhere");
    put(&state.join("note"), "token");
    put(&scene.base().join("cx/config.toml"), "a = 1");
    let place = |path, keep| OwnPlace {
        path,
        what: "the hub's own files",
        keep,
    };
    let settings = scene.outside().join("base/cx");
    scene.workspace = scene.workspace.with_protected(&[
        place(state.clone(), Keep::Always),
        place(settings, Keep::FromWrites),
    ]);
    let read = |path| scene.workspace.read_file(&Tree::Base, path).1;
    assert_eq!(read("elsewhere/note"), ReadOutcome::InvalidPath);
    assert_eq!(
        read("cx/config.toml"),
        content("a = 1", "application/octet-stream")
    );
    for path in [
        "elsewhere/note",
        "elsewhere/new",
        "cx/config.toml",
        "cx/new",
    ] {
        let refused = scene
            .workspace
            .write_file(&Tree::Base, path, b"x", true)
            .unwrap_err();
        assert!(
            matches!(refused, FileRefusal::Kept(Kept::Protected(_))),
            "{path}: {refused:?}"
        );
    }
    assert!(!scene.workspace.may_leave(&state.join("note")));
    assert!(scene.workspace.repository("elsewhere").is_err());
    assert!(scene.workspace.git_place("elsewhere").is_err());
    let listed = names(&scene, &Tree::Base, "", true, true);
    assert_eq!(listed, [".ctrlnode/", "cx/", "cx/config.toml"]);
}
