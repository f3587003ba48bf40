//! Bad input from the disk: what swaps places while it is read, what is no file, what is too much.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "everything but the expected fails the test"
)]

mod support;

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use bridge_proto::model::{FileRoot, FileScope, ReadOutcome, TreeChange, TreeChanged};
use bridge_workspace::{
    ContentsPolicy, Tree,
    files::{MAX_ENTRIES, MAX_PDF_BYTES},
};
use support::{Scene, put};

fn wide() -> Scene {
    let mut scene = Scene::in_memory();
    scene.workspace = scene.workspace.with_policy(ContentsPolicy::Workspace);
    scene
}

fn read(scene: &Scene, path: &str) -> ReadOutcome {
    scene.workspace.read_file(&Tree::Base, path).1
}

fn change(scene: &Scene, change: &TreeChange) -> Option<String> {
    match scene.workspace.change_tree(change, Some(&Tree::Base)) {
        TreeChanged::Done { error, .. } => error,
        other @ (TreeChanged::Workspace { .. } | TreeChanged::AgentFolders { .. }) => {
            panic!("{other:?}")
        }
    }
}

fn scope() -> FileScope {
    FileScope {
        root: FileRoot::Base,
        agent: None,
        provider: None,
    }
}

fn delete(scene: &Scene, path: &str) -> Option<String> {
    let (scope, path) = (scope(), path.into());
    change(scene, &TreeChange::DeletePath { scope, path })
}

/// Runs `work` while another thread swaps `place` between a real folder and a link to `outside`.
fn while_swapped(place: &Path, outside: &Path, work: impl FnOnce()) {
    let aside = place.with_extension("aside");
    let link = place.with_extension("link");
    symlink(outside, &link).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|threads| {
        threads.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // A worker may have made a folder there meanwhile, or taken one away.
                let swapped = fs::rename(place, &aside).and_then(|()| fs::rename(&link, place));
                thread::yield_now();
                if place.is_symlink() {
                    fs::rename(place, &link).unwrap();
                }
                if aside.exists() && fs::rename(&aside, place).is_err() {
                    fs::remove_dir_all(&aside).unwrap();
                }
                drop(swapped);
            }
        });
        // Also when the work panics, or its panic would never be heard of.
        let _stop = Stop(&stop);
        work();
    });
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_folder_that_is_swapped_for_a_link_while_it_is_read_gives_nothing_from_outside() {
    let scene = wide();
    let outside = scene.outside().join("outside");
    put(&outside.join("x"), "what must never be seen");
    put(&scene.base().join("web/x"), "inside");
    let mut seen = 0;
    while_swapped(&scene.base().join("web"), &outside, || {
        for _ in 0..3000 {
            match read(&scene, "web/x") {
                ReadOutcome::Content { content, .. } => {
                    assert_eq!(content, "inside");
                    seen += 1;
                }
                ReadOutcome::InvalidPath | ReadOutcome::NotFound => {}
                other => panic!("{other:?}"),
            }
            let listed = scene.workspace.list_files(&Tree::Base, "web", true, true);
            for entry in listed.map(|listing| listing.entries).unwrap_or_default() {
                assert_ne!(entry.size, Some(23), "{entry:?}");
            }
        }
    });
    assert!(seen > 0, "the folder was there at times");
}

#[test]
fn a_folder_that_is_swapped_for_a_link_while_it_is_changed_leaves_the_outside_alone() {
    let scene = wide();
    let outside = scene.outside().join("outside");
    put(&outside.join("x"), "canary");
    put(&outside.join("sub/x"), "canary");
    put(&scene.base().join("web/x"), "inside");
    while_swapped(&scene.base().join("web"), &outside, || {
        for round in 0..400 {
            drop(
                scene
                    .workspace
                    .write_file(&Tree::Base, "web/x", b"new", true),
            );
            drop(
                scene
                    .workspace
                    .write_file(&Tree::Base, "web/sub/x", b"new", true),
            );
            let (scope, path) = (scope(), String::from("web/made"));
            change(
                &scene,
                &TreeChange::CreateFolder {
                    scope: scope.clone(),
                    path: path.clone(),
                },
            );
            change(
                &scene,
                &TreeChange::DeleteFolder {
                    scope: scope.clone(),
                    path,
                },
            );
            let (path, new_path) = ("web/sub".into(), format!("web/moved-{round}"));
            change(
                &scene,
                &TreeChange::RenameFolder {
                    scope,
                    path,
                    new_path,
                },
            );
            delete(&scene, "web/x");
            delete(&scene, "web/sub");
        }
    });
    assert_eq!(fs::read_to_string(outside.join("x")).unwrap(), "canary");
    assert_eq!(fs::read_to_string(outside.join("sub/x")).unwrap(), "canary");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 2);
}

#[test]
fn pipes_sockets_and_devices_are_no_files_and_block_nobody() {
    let scene = wide();
    let pipe = scene.base().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o644.into()).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(scene.base().join("socket")).unwrap();
    let mut names = vec!["pipe", "socket"];
    #[cfg(target_os = "linux")]
    {
        // As /dev/zero, which never ends.
        let zero = rustix::fs::makedev(1, 5);
        let device = scene.base().join("device");
        let kind = rustix::fs::FileType::CharacterDevice;
        match rustix::fs::mknodat(rustix::fs::CWD, &device, kind, 0o666.into(), zero) {
            Ok(()) => names.push("device"),
            Err(error) => println!("skipped: no device can be made here: {error}"),
        }
    }
    for name in names {
        assert!(
            matches!(
                read(&scene, name),
                ReadOutcome::NotFound | ReadOutcome::Unreadable
            ),
            "{name}"
        );
        let written = scene.workspace.write_file(&Tree::Base, name, b"x", true);
        assert!(written.is_err(), "{name}");
        let below = format!("{name}/x");
        assert!(
            matches!(read(&scene, &below), ReadOutcome::NotFound),
            "{name}"
        );
        assert_eq!(delete(&scene, name), None, "{name}");
        assert!(!scene.base().join(name).exists(), "{name}");
    }
}

/// Hole of the Bridge before: text had no limit, and all of it was read.
#[test]
fn hole_a_sparse_file_of_ten_gigabytes_is_too_large_at_once() {
    let scene = wide();
    let bytes = 10 << 30;
    for (name, content_type) in [
        ("big.txt", "text/plain"),
        ("big.png", "application/octet-stream"),
        ("big.pdf", "application/pdf"),
        ("big", "application/octet-stream"),
    ] {
        let file = fs::File::create(scene.base().join(name)).unwrap();
        if let Err(error) = file.set_len(bytes) {
            return println!("skipped: no such file can be made here: {error}");
        }
        let content_type = content_type.to_owned();
        assert_eq!(
            read(&scene, name),
            ReadOutcome::TooLarge {
                bytes,
                content_type
            }
        );
        assert_eq!(delete(&scene, name), None);
    }
}

#[test]
fn a_file_that_grows_while_it_is_read_stays_within_the_limit() {
    let scene = wide();
    let path = scene.base().join("log.txt");
    fs::write(&path, "x").unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|threads| {
        threads.spawn(|| {
            use std::io::Write as _;
            let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
            let piece = vec![b'x'; 1 << 20];
            let mut written = 0;
            while !stop.load(Ordering::Relaxed) && written < 2 * MAX_PDF_BYTES {
                file.write_all(&piece).unwrap();
                written += piece.len() as u64;
            }
        });
        for _ in 0..30 {
            match read(&scene, "log.txt") {
                ReadOutcome::Content { content, .. } => {
                    assert!(content.len() as u64 <= MAX_PDF_BYTES);
                }
                ReadOutcome::TooLarge { bytes, .. } => assert!(bytes > MAX_PDF_BYTES),
                other => panic!("{other:?}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_folder_with_ten_thousand_entries_is_listed_whole_and_deleted() {
    let scene = wide();
    let folder = scene.base().join("many");
    fs::create_dir(&folder).unwrap();
    for n in 0..10_000 {
        fs::write(folder.join(format!("{n}.txt")), "").unwrap();
    }
    let listed = scene
        .workspace
        .list_files(&Tree::Base, "many", false, true)
        .unwrap();
    assert_eq!((listed.entries.len(), listed.cut), (10_000, false));
    assert_eq!(delete(&scene, "many"), None);
    assert!(!folder.exists());
}

/// Hole of the Bridge before: neither the depth nor the count had a limit.
#[test]
fn hole_a_listing_beyond_the_limit_is_cut_and_says_so() {
    let scene = wide();
    for folder in ["a", "b", "c"] {
        let folder = scene.base().join("many").join(folder);
        fs::create_dir_all(&folder).unwrap();
        for n in 0..MAX_ENTRIES / 3 {
            fs::write(folder.join(n.to_string()), "").unwrap();
        }
    }
    let listed = scene
        .workspace
        .list_files(&Tree::Base, "many", true, true)
        .unwrap();
    assert_eq!((listed.entries.len(), listed.cut), (MAX_ENTRIES, true));
    let level = scene
        .workspace
        .list_files(&Tree::Base, "many", false, true)
        .unwrap();
    assert_eq!((level.entries.len(), level.cut), (3, false));
    let deep = "d/".repeat(70);
    fs::create_dir_all(scene.base().join("deep").join(deep)).unwrap();
    let listed = scene
        .workspace
        .list_files(&Tree::Base, "deep", true, true)
        .unwrap();
    assert!(listed.cut && listed.entries.len() < 70);
}

/// `cargo xtask million` runs it: it takes a while, and a million names on a disk.
#[test]
#[ignore = "a million files; `cargo xtask million` runs it"]
fn a_folder_with_a_million_entries_is_listed_within_its_limits_and_deleted() {
    let scene = wide();
    let folder = scene.base().join("million");
    fs::create_dir(&folder).unwrap();
    for n in 0..1_000_000 {
        fs::File::create(folder.join(format!("{n}"))).unwrap();
    }
    let begun = std::time::Instant::now();
    let listed = scene
        .workspace
        .list_files(&Tree::Base, "million", false, true)
        .unwrap();
    println!(
        "listed {} entries in {:?}",
        listed.entries.len(),
        begun.elapsed()
    );
    assert_eq!((listed.entries.len(), listed.cut), (MAX_ENTRIES, true));
    let begun = std::time::Instant::now();
    assert_eq!(delete(&scene, "million"), None);
    println!("deleted a million entries in {:?}", begun.elapsed());
    assert!(!folder.exists());
}

#[test]
fn two_writers_of_one_file_leave_the_text_of_one_of_them_whole() {
    let scene = wide();
    let texts: Vec<String> = ["a", "b", "c", "d"].map(|text| text.repeat(300_000)).into();
    for _ in 0..20 {
        thread::scope(|threads| {
            for text in &texts {
                let scene = &scene;
                threads.spawn(move || {
                    let written =
                        scene
                            .workspace
                            .write_file(&Tree::Base, "both.md", text.as_bytes(), true);
                    written.unwrap();
                });
            }
            for _ in 0..5 {
                if let ReadOutcome::Content { content, .. } = read(&scene, "both.md") {
                    assert!(texts.contains(&content), "{} bytes", content.len());
                }
            }
        });
        let left = fs::read_to_string(scene.base().join("both.md")).unwrap();
        assert!(texts.contains(&left), "{} bytes", left.len());
    }
    let mut names: Vec<_> = fs::read_dir(scene.base())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    // Nothing unfinished stays behind.
    assert_eq!(names, [".ctrlnode", "both.md"]);
}

#[test]
fn binary_files_are_known_by_their_bytes_and_text_by_its_name() {
    let scene = wide();
    for (name, bytes) in [
        ("x.txt", b"\xff\xfea\0".as_slice()),
        ("x.zip", b"PK\x03\x04\xff"),
        ("x", b"\x7fELF\x80"),
        ("x.json", b"{\"a\":\"\xc3\x28\"}"),
    ] {
        put(&scene.base().join(name), bytes);
        assert!(
            matches!(read(&scene, name), ReadOutcome::Binary { bytes: got, .. } if got == bytes),
            "{name}"
        );
    }
    put(&scene.base().join("x.rs"), "fn main() {}");
    assert!(matches!(
        read(&scene, "x.rs"),
        ReadOutcome::Content { content_type, .. } if content_type == "application/octet-stream"
    ));
}
