//! From one task of a pipeline to the next.
#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set its scene has failed"
)]

mod support;

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::symlink, net::UnixListener},
    path::{Path, PathBuf},
};

use bridge_workspace::{
    HandOverError, Workspace,
    pipeline::{MAX_BYTES, MAX_FILES},
};
use support::{Scene, put};

const FROM: &str = "tasks/p/03-14/aaaa-one";
const TO: &str = "tasks/p/03-14/bbbb-two";
const INTO: &str = "input/aaaa-one";

fn output(scene: &Scene) -> PathBuf {
    scene.root().join(FROM).join("output")
}

fn arrived(scene: &Scene) -> PathBuf {
    scene.root().join(TO).join(INTO)
}

fn hand_over(scene: &Scene) -> u64 {
    scene.workspace.hand_over(FROM, TO).unwrap()
}

/// All files below, relative, in order.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap();
                found.push(name.display().to_string());
            }
        }
    }
    found.sort();
    found
}

/// The hole of the existing bridge: it reads every file as UTF-8, trims it and adds a line break.
#[test]
fn no_byte_of_a_file_that_is_no_text_with_tags_is_changed() {
    let scene = Scene::new();
    let every_byte: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let exact: [(&str, &[u8]); 9] = [
        ("photo.jpg", &every_byte),
        ("tags in binary", b"\xff<TASK_COMPLETED:ab-12>\n\n"),
        ("zeros and tags", b"\0<TASK_COMPLETED:ab-12>\n\n"),
        ("latin1.txt", b"gr\xfc\xdfe  \r\n\r\n"),
        ("no end", b"text without a line break"),
        ("many ends", b"text\n\n\n  \n"),
        ("empty", b""),
        ("bom", b"\xef\xbb\xbfa\r\nb\r\n"),
        ("other tags", b"<TASK_COMPLETED:done> <task> \n\n"),
    ];
    for (name, bytes) in exact {
        put(&output(&scene).join(name), bytes);
    }
    assert_eq!(hand_over(&scene), 9);
    for (name, bytes) in exact {
        let copy = fs::read(arrived(&scene).join(name)).unwrap();
        assert!(copy == bytes, "{name} differs");
    }
}

#[test]
fn status_tags_are_taken_out_of_texts() {
    let scene = Scene::new();
    put(
        &output(&scene).join("a.md"),
        "# A <TASK_FAILED:0f>\nb\n<task_completed:1a2b-3c>  \n\n",
    );
    assert_eq!(hand_over(&scene), 1);
    assert_eq!(
        fs::read_to_string(arrived(&scene).join("a.md")).unwrap(),
        "# A \nb\n"
    );
}

#[test]
fn folders_below_are_kept_and_marks_of_empty_ones_left_out() {
    let scene = Scene::new();
    for name in [
        "a",
        "sub/b",
        "sub/deep/c",
        ".gitkeep",
        "sub/.gitkeep",
        ".hidden",
    ] {
        put(&output(&scene).join(name), name);
    }
    put(&arrived(&scene).join("a"), "older");
    put(&arrived(&scene).join("mine"), "stays");
    assert_eq!(hand_over(&scene), 4);
    assert_eq!(
        files(&arrived(&scene)),
        [".hidden", "a", "mine", "sub/b", "sub/deep/c"]
    );
    assert_eq!(fs::read_to_string(arrived(&scene).join("a")).unwrap(), "a");
    let next = scene.root().join(TO).join("output");
    assert_eq!(files(&next), [".gitkeep"]);
    assert_eq!(hand_over(&scene), 4, "again is the same");
}

#[test]
fn a_task_that_delivered_nothing_hands_over_nothing() {
    let scene = Scene::new();
    assert_eq!(hand_over(&scene), 0);
    assert!(scene.root().join(TO).join("output/.gitkeep").exists());
    assert!(!arrived(&scene).exists());
}

#[test]
fn links_pipes_and_odd_names_are_left_out() {
    let scene = Scene::new();
    let secret = scene.outside().join("secret");
    put(&secret, "secret");
    put(&output(&scene).join("good"), "good");
    symlink(&secret, output(&scene).join("link")).unwrap();
    symlink(scene.outside(), output(&scene).join("folder")).unwrap();
    symlink("good", output(&scene).join("inside")).unwrap();
    symlink("nowhere", output(&scene).join("dangling")).unwrap();
    let _socket = UnixListener::bind(output(&scene).join("socket")).unwrap();
    fs::write(output(&scene).join(OsStr::from_bytes(b"bad\xff")), "x").unwrap();
    assert_eq!(hand_over(&scene), 1);
    assert_eq!(files(&arrived(&scene)), ["good"]);
}

#[test]
fn folders_that_are_links_are_neither_read_nor_written() {
    let scene = Scene::new();
    let outside = scene.outside().join("elsewhere");
    put(&outside.join("output/secret"), "secret");
    fs::create_dir_all(scene.root().join("tasks/p/03-14")).unwrap();
    symlink(&outside, scene.root().join(FROM)).unwrap();
    assert!(!scene.workspace.has_output(FROM));
    assert_eq!(hand_over(&scene), 0);

    let scene = Scene::new();
    let outside = scene.outside().join("elsewhere");
    fs::create_dir(&outside).unwrap();
    put(&output(&scene).join("a"), "a");
    for linked in [TO.to_owned(), format!("{TO}/input"), format!("{TO}/{INTO}")] {
        let link = scene.root().join(&linked);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(&outside, &link).unwrap();
        let refused = scene.workspace.hand_over(FROM, TO);
        assert!(
            matches!(refused, Err(HandOverError::Contained(_))),
            "{refused:?}"
        );
        assert_eq!(files(&outside), Vec::<String>::new(), "{linked}");
        fs::remove_file(&link).unwrap();
    }
}

#[test]
fn folders_that_are_no_task_folders_are_refused() {
    let scene = Scene::new();
    put(&scene.outside().join("x/output/secret"), "secret");
    put(&scene.base().join("x/output/secret"), "secret");
    put(&scene.root().join("journal/x/output/a"), "a");
    for bad in [
        "../../x",
        "tasks/../../x",
        "/etc/x",
        "C:/x/y",
        "tasks",
        ".",
        "tasks/..",
        "tasks/a\0b",
        "journal/x",
        ".env/x",
        r"..\x",
    ] {
        assert!(!scene.workspace.has_output(bad), "{bad}");
        for (from, to) in [(bad, TO), (FROM, bad)] {
            let code = scene.workspace.hand_over(from, to).unwrap_err().code();
            assert_eq!(code, "INVALID_PATH", "{bad}");
        }
    }
    for blank in ["", "  "] {
        assert!(!scene.workspace.has_output(blank));
        let code = scene.workspace.hand_over(blank, TO).unwrap_err().code();
        assert_eq!(code, "INVALID_REQUEST");
    }
}

#[test]
fn too_many_files_and_too_many_bytes_are_refused_before_anything_is_copied() {
    let scene = Scene::in_memory();
    put(&output(&scene).join("a"), "a");
    let sparse = fs::File::create(output(&scene).join("huge")).unwrap();
    sparse.set_len(10 << 30).unwrap();
    let refused = scene.workspace.hand_over(FROM, TO);
    assert!(
        matches!(refused, Err(HandOverError::TooLarge)),
        "{refused:?}"
    );
    assert!(!arrived(&scene).exists());
    const { assert!(MAX_BYTES < 10 << 30) };

    sparse.set_len(0).unwrap();
    for number in 0..MAX_FILES {
        fs::write(output(&scene).join(number.to_string()), "").unwrap();
    }
    let refused = scene.workspace.hand_over(FROM, TO);
    assert!(
        matches!(refused, Err(HandOverError::TooMany)),
        "{refused:?}"
    );
    assert!(!arrived(&scene).exists());
}

#[test]
fn a_large_file_is_copied_piece_by_piece() {
    let scene = Scene::in_memory();
    let large: Vec<u8> = (0..17_u32 << 20)
        .map(|n| (n / 7).to_le_bytes()[0])
        .collect();
    put(&output(&scene).join("large"), &large);
    assert_eq!(hand_over(&scene), 1);
    assert!(fs::read(arrived(&scene).join("large")).unwrap() == large);
    assert_eq!(
        files(&arrived(&scene)),
        ["large"],
        "nothing unfinished stays"
    );
}

#[test]
fn output_is_what_a_task_delivers_and_not_its_log() {
    let scene = Scene::new();
    assert!(!scene.workspace.has_output(FROM));
    for name in [
        ".gitkeep",
        ".DS_Store",
        "Thumbs.db",
        ".keep",
        "agent_log.md",
    ] {
        put(&output(&scene).join(name), "x");
        assert!(!scene.workspace.has_output(FROM), "{name}");
    }
    for name in ["a.md", "sub"] {
        let path = output(&scene).join(name);
        if name == "sub" {
            fs::create_dir(&path).unwrap();
        } else {
            put(&path, "");
        }
        assert!(scene.workspace.has_output(FROM), "{name}");
        if path.is_dir() {
            fs::remove_dir(&path).unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
    }
    put(&output(&scene).join("agent_log.followup-1.md"), "x");
    assert!(scene.workspace.has_output(FROM));
}

/// The hole of the existing bridge: it looks in the tree of OpenClaw only.
#[test]
fn the_own_tree_comes_first_and_that_of_openclaw_second() {
    let outer = tempfile::tempdir().unwrap();
    let openclaw = outer.path().join("openclaw/ctrlnode");
    let open = || {
        Workspace::open(&outer.path().join("base"), None)
            .unwrap()
            .with_openclaw(Some(openclaw.clone()))
    };
    let workspace = open();
    let root = workspace.root().to_owned();
    assert!(
        !workspace.has_output(FROM),
        "OpenClaw's tree need not exist"
    );

    put(&openclaw.join(FROM).join("output/theirs"), "theirs");
    assert!(workspace.has_output(FROM));
    assert_eq!(workspace.hand_over(FROM, TO).unwrap(), 1);
    assert!(openclaw.join(TO).join(INTO).join("theirs").exists());
    assert!(!root.join(TO).exists());

    // The next task lives where its folder is.
    put(&root.join("tasks/p/03-14/cccc-three/input/task.md"), "x");
    let three = "tasks/p/03-14/cccc-three";
    assert_eq!(workspace.hand_over(FROM, three).unwrap(), 1);
    assert!(root.join(three).join(INTO).join("theirs").exists());

    put(&root.join(FROM).join("output/ours"), "ours");
    assert_eq!(workspace.hand_over(FROM, three).unwrap(), 1);
    assert!(root.join(three).join(INTO).join("ours").exists());
}
