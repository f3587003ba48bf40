//! Dropped tasks on the disk: which folders are taken for one, what is refused and why, what is
//! told in `output/`, and that nothing is dealt with twice.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set its scene has failed"
)]

mod support;

use std::{fs, path::PathBuf, sync::mpsc, time::Duration};

use bridge_workspace::{
    DropBox, DropRecord, DropState, DropStatus, DropWatcher, Dropped, drops::MAX_TASK_BYTES,
};
use support::{Scene, put};

struct Place {
    scene: Scene,
    drops: DropBox,
}

impl Place {
    fn new() -> Self {
        let scene = Scene::new();
        let drops = scene.workspace.drop_box().unwrap();
        Self { scene, drops }
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.scene.root().join(relative)
    }

    fn put(&self, relative: &str, content: impl AsRef<[u8]>) {
        put(&self.path(relative), content);
    }

    fn found(&self) -> Vec<Dropped> {
        self.drops.look().found
    }

    fn names(&self) -> Vec<String> {
        self.found().into_iter().map(|it| it.folder).collect()
    }

    /// Of the only folder there is.
    fn only(&self) -> Dropped {
        let found = self.found();
        assert_eq!(found.len(), 1, "{found:?}");
        found.into_iter().next().unwrap()
    }
}

fn record(folder: &str, state: DropState) -> DropRecord {
    DropRecord {
        folder: folder.into(),
        state,
        print: "p".into(),
        text: "t".into(),
        runs: 1,
        told: false,
    }
}

fn status(word: &'static str) -> DropStatus {
    DropStatus {
        status: word,
        reason: None,
        agent: Some("demo".into()),
        task: "drop-1".into(),
        at: "now".into(),
    }
}

#[test]
fn a_folder_with_a_task_is_found_at_every_depth_of_the_layout_and_nowhere_else() {
    let place = Place::new();
    for folder in [
        "tasks/a",
        "tasks/web/b",
        "tasks/web/03-14/1a2b-c",
        "tasks/1/2/3/d",
    ] {
        place.put(&format!("{folder}/input/TASK.md"), "Do it.");
    }
    place.put("tasks/1/2/3/4/e/input/TASK.md", "Too deep.");
    place.put("tasks/a/sub/input/TASK.md", "Within a task.");
    place.put("tasks/f/input/f.md", "Of a control plane.");
    place.put("tasks/input/TASK.md", "No folder of its own.");
    place.put("agents/g/input/TASK.md", "Elsewhere.");
    let wanted = [
        "tasks/1/2/3/d",
        "tasks/a",
        "tasks/web/03-14/1a2b-c",
        "tasks/web/b",
    ];
    // `tasks/input` is a folder like any other, and one level down its file is no folder.
    assert_eq!(place.names(), wanted);
    assert!(
        place
            .found()
            .iter()
            .all(|it| it.fault.is_none() && it.record.is_none())
    );
}

#[test]
fn a_folder_that_a_control_plane_uses_is_no_dropped_task() {
    let place = Place::new();
    for (folder, trace) in [
        ("tasks/logged", "output/agent_log.md"),
        ("tasks/ours", "session_ids.json"),
        ("tasks/theirs", "session_id"),
    ] {
        place.put(&format!("{folder}/input/TASK.md"), "x");
        place.put(&format!("{folder}/{trace}"), "x");
    }
    place.put("tasks/dispatched/input/TASK.md", "x");
    place.drops.leave_to_the_plane("tasks/dispatched").unwrap();
    let written = place.path("tasks/written/input/TASK.md");
    put(&written, "x");
    place.drops.written_by_the_plane(&written).unwrap();
    assert_eq!(place.names(), [""; 0]);

    // What was written beside a task, and a task that was dropped before, change nothing.
    let own = place.path("tasks/own/input/TASK.md");
    put(&own, "x");
    place
        .drops
        .written_by_the_plane(&place.path("tasks/own/input/other.md"))
        .unwrap();
    place
        .drops
        .keep(&record("tasks/own", DropState::Over))
        .unwrap();
    place.drops.written_by_the_plane(&own).unwrap();
    assert_eq!(place.names(), ["tasks/own"]);
}

#[test]
fn what_a_control_plane_moves_into_place_is_no_dropped_task() {
    let place = Place::new();
    for folder in ["tasks/a", "tasks/web/b", "tasks/web/03-14/c", "tasks/d"] {
        place.put(&format!("{folder}/input/TASK.md"), "x");
    }
    place.put(
        "tasks/web/half/input/notes.md",
        "Somebody is still writing.",
    );
    // Of another folder that had the name.
    for state in [DropState::Over, DropState::Refused] {
        let mut told = record("tasks/a", state);
        told.told = true;
        place.drops.keep(&told).unwrap();
    }
    for moved in [
        "tasks/a",
        "tasks/web",
        "tasks/d/input",
        "agents/x",
        "tasks/gone",
    ] {
        place.drops.moved_by_the_plane(&place.path(moved)).unwrap();
    }
    let outside = place.scene.outside();
    place.drops.moved_by_the_plane(&outside).unwrap();
    assert_eq!(place.names(), [""; 0]);
    // A task comes to the folder that had none.
    place.put("tasks/web/half/input/TASK.md", "x");
    assert_eq!(place.names(), ["tasks/web/half"]);
}

#[test]
fn input_looks_another_way_after_every_change_and_the_same_otherwise() {
    let place = Place::new();
    place.put("tasks/a/input/TASK.md", "one");
    let mut before = place.only().print;
    assert_eq!(place.only().print, before);
    let changes: [(&str, &str); 3] = [
        ("tasks/a/input/TASK.md", "longer"),
        ("tasks/a/input/data/1.csv", "1"),
        ("tasks/a/input/data/1.csv", "1,2"),
    ];
    for (file, text) in changes {
        place.put(file, text);
        let after = place.only().print;
        assert_ne!(after, before, "{file}");
        before = after;
    }
    place.put("tasks/a/output/result.md", "what an agent writes");
    place.put("tasks/a/input/CANCEL", "");
    assert_eq!(place.only().print, before);
    assert!(place.only().cancel);
}

#[cfg(unix)]
#[test]
fn links_pipes_long_and_unreadable_texts_are_refused_with_what_is_wrong() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

    type Making<'a> = &'a dyn Fn(&Place);
    let make: [(&str, Making<'_>); 6] = [
        ("input/TASK.md is a symbolic link", &|place| {
            let secret = place.scene.outside().join("secret");
            fs::write(&secret, "secret").unwrap();
            fs::create_dir_all(place.path("tasks/a/input")).unwrap();
            std::os::unix::fs::symlink(secret, place.path("tasks/a/input/TASK.md")).unwrap();
        }),
        ("input/TASK.md is neither a file nor a folder", &|place| {
            fs::create_dir_all(place.path("tasks/a/input")).unwrap();
            let path = place.path("tasks/a/input/TASK.md");
            rustix::fs::mknodat(
                rustix::fs::CWD,
                &path,
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::RUSR,
                0,
            )
            .unwrap();
        }),
        ("input/data/etc is a symbolic link", &|place| {
            place.put("tasks/a/input/TASK.md", "x");
            fs::create_dir_all(place.path("tasks/a/input/data")).unwrap();
            std::os::unix::fs::symlink("/etc", place.path("tasks/a/input/data/etc")).unwrap();
        }),
        ("input is not a folder", &|place| {
            fs::create_dir_all(place.path("tasks/a")).unwrap();
            std::os::unix::fs::symlink("/etc", place.path("tasks/a/input")).unwrap();
        }),
        ("input has a name that is not UTF-8", &|place| {
            place.put("tasks/a/input/TASK.md", "x");
            let odd = place
                .path("tasks/a/input")
                .join(OsStr::from_bytes(b"x\xff"));
            fs::write(odd, "x").unwrap();
        }),
        ("TASK.md has more than 1048576 bytes", &|place| {
            fs::create_dir_all(place.path("tasks/a/input")).unwrap();
            let file = fs::File::create(place.path("tasks/a/input/TASK.md")).unwrap();
            file.set_len(10 * 1024 * 1024 * 1024).unwrap();
        }),
    ];
    for (fault, make) in make {
        let place = Place::new();
        make(&place);
        assert_eq!(place.only().fault.as_deref(), Some(fault));
    }
}

#[test]
fn what_is_read_is_bounded_text_with_something_to_do() {
    let place = Place::new();
    let read = |content: &[u8]| {
        place.put("tasks/a/input/TASK.md", content);
        let read = place.drops.read("tasks/a");
        read.map(|(text, _)| text.task)
            .map_err(|error| error.to_string())
    };
    assert_eq!(read(b"---\nagent: demo\n---\nDo it."), Ok("Do it.".into()));
    assert_eq!(read(b"\xff\xfe"), Err("TASK.md is not UTF-8".into()));
    assert_eq!(read(b"  "), Err("TASK.md says nothing to do".into()));
    let long = vec![b'x'; usize::try_from(MAX_TASK_BYTES).unwrap() + 1];
    assert_eq!(
        read(&long),
        Err("TASK.md has more than 1048576 bytes".into())
    );
    let most = vec![b'x'; usize::try_from(MAX_TASK_BYTES).unwrap()];
    assert!(read(&most).is_ok());
}

#[test]
fn more_attachments_than_a_task_may_have_are_refused() {
    let place = Place::new();
    place.put("tasks/a/input/TASK.md", "x");
    for n in 0..2_100 {
        place.put(&format!("tasks/a/input/{n}"), "");
    }
    let fault = place.only().fault;
    assert_eq!(fault.as_deref(), Some("input holds more than 2000 entries"));
}

#[test]
fn what_was_dealt_with_is_known_to_the_next_process_until_it_is_taken_away() {
    let place = Place::new();
    place.put("tasks/a/input/TASK.md", "x");
    let mut done = record(
        "tasks/a",
        DropState::Working {
            attempt: "1".into(),
        },
    );
    place.drops.keep(&done).unwrap();
    assert_eq!(place.only().record, Some(done.clone()));
    done.state = DropState::Over;
    place.drops.close(&mut done, &status("completed")).unwrap();
    assert!(done.told);
    assert_eq!(place.only().record, Some(done.clone()));
    // Whoever takes away what was told wants it done anew.
    fs::remove_file(place.path("tasks/a/output/TASK.md")).unwrap();
    assert_eq!(place.only().record, None);
    // What could not be told, on a full disk for example, is still done once only.
    done.told = false;
    place.drops.keep(&done).unwrap();
    assert_eq!(place.only().record, Some(done));
}

#[test]
fn a_record_that_is_spoiled_runs_nothing() {
    let place = Place::new();
    place.put("tasks/a/input/TASK.md", "x");
    place
        .drops
        .keep(&record("tasks/a", DropState::Over))
        .unwrap();
    let records = place.path("journal/drops");
    for entry in fs::read_dir(&records).unwrap() {
        fs::write(entry.unwrap().path(), "{").unwrap();
    }
    assert_eq!(place.names(), [""; 0]);
}

#[test]
fn the_records_of_folders_that_are_gone_are_forgotten() {
    let place = Place::new();
    for folder in ["tasks/stays", "tasks/goes"] {
        place.put(&format!("{folder}/input/TASK.md"), "x");
        place.drops.keep(&record(folder, DropState::Over)).unwrap();
    }
    fs::remove_dir_all(place.path("tasks/goes")).unwrap();
    place.drops.tidy().unwrap();
    assert!(place.drops.record("tasks/stays").is_some());
    assert_eq!(place.drops.record("tasks/goes"), None);
}

#[test]
fn what_is_told_stands_above_what_the_agent_wrote() {
    let place = Place::new();
    place.put("tasks/a/input/TASK.md", "x");
    place.drops.tell("tasks/a", &status("working")).unwrap();
    let file = place.path("tasks/a/output/TASK.md");
    let written = fs::read_to_string(&file).unwrap() + "# Half done\n";
    fs::write(&file, written).unwrap();
    place.drops.tell("tasks/a", &status("completed")).unwrap();
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        "---\nstatus: completed\nagent: demo\ntask: drop-1\nat: now\n---\n# Half done\n"
    );
}

#[cfg(unix)]
#[test]
fn what_cannot_be_told_in_output_is_told_beside_it_and_never_through_a_link() {
    let place = Place::new();
    place.put("tasks/a/input/TASK.md", "x");
    let outside = place.scene.outside().join("target");
    put(&outside.join("TASK.md"), "theirs");
    let (output, beside) = (
        place.path("tasks/a/output"),
        place.path("tasks/a/STATUS.md"),
    );
    std::os::unix::fs::symlink(&outside, &output).unwrap();
    let seen = place.only();
    assert_eq!(seen.fault.as_deref(), Some("output is a symbolic link"));

    let mut refused = record("tasks/a", DropState::Refused);
    let told = status("refused");
    place.drops.close(&mut refused, &told).unwrap();
    assert_eq!(
        fs::read_to_string(&beside).unwrap(),
        "---\nstatus: refused\nreason: told here because \"output\" is a symbolic link\n\
         agent: demo\ntask: drop-1\nat: now\n---\n"
    );
    let written = fs::read_to_string(outside.join("TASK.md")).unwrap();
    assert_eq!((written.as_str(), refused.told), ("theirs", true));
    // It counts as told, and a link to the file is none.
    assert_eq!(place.only().record, Some(refused.clone()));
    fs::remove_file(&output).unwrap();
    let mended = place.only();
    assert_eq!((&mended.fault, &mended.record), (&None, &Some(refused)));
    assert_ne!(mended.print, seen.print);
    fs::create_dir(&output).unwrap();
    std::os::unix::fs::symlink(outside.join("TASK.md"), output.join("TASK.md")).unwrap();
    place.drops.tell("tasks/a", &status("working")).unwrap();
    let told = fs::read_to_string(&beside).unwrap();
    assert!(
        told.contains("status: working\nreason: told here because \"output/TASK.md\" is"),
        "{told}"
    );

    // Where it can be told again, only what somebody else wrote stays there.
    fs::remove_file(output.join("TASK.md")).unwrap();
    fs::write(&beside, told + "mine\n").unwrap();
    for rest in ["mine\n", "mine\n"] {
        place.drops.tell("tasks/a", &status("completed")).unwrap();
        assert_eq!(fs::read_to_string(&beside).unwrap(), rest);
    }
    // Neither place can be used.
    fs::remove_dir_all(&output).unwrap();
    fs::remove_file(&beside).unwrap();
    for link in [&output, &beside] {
        std::os::unix::fs::symlink(&outside, link).unwrap();
    }
    assert!(place.drops.tell("tasks/a", &status("working")).is_err());
    assert_eq!(place.only().record, None);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn a_folder_that_is_moved_while_its_task_is_at_work_is_told_where_it_is() {
    let place = Place::new();
    place.put("tasks/a/input/TASK.md", "x");
    let attempt = String::from("1");
    place
        .drops
        .keep(&record("tasks/a", DropState::Working { attempt }))
        .unwrap();
    let held = place.drops.hold("tasks/a").unwrap();
    let say = |status| DropStatus {
        task: DropBox::task_of("tasks/a").to_string(),
        ..status
    };
    held.tell(&say(status("waiting"))).unwrap();
    assert!(place.drops.is_at(&held, "tasks/a"));
    fs::rename(place.path("tasks/a"), place.path("tasks/b")).unwrap();
    assert!(!place.drops.is_at(&held, "tasks/a"));
    // It is no task of its new name, at work or ended, and its old one is not made again.
    for word in ["waiting", "working", "completed", "failed", "cancelled"] {
        held.tell(&say(status(word))).unwrap();
        assert_eq!(place.names(), [""; 0], "{word}");
        let told = fs::read_to_string(place.path("tasks/b/output/TASK.md")).unwrap();
        assert!(
            told.starts_with(&format!("---\nstatus: {word}\n")),
            "{told}"
        );
        let at_work = ["waiting", "working"].contains(&word);
        let astray = place.drops.astray();
        assert_eq!(astray.len(), usize::from(at_work), "{word}: {astray:?}");
    }
    assert!(!place.path("tasks/a").exists());
    // One that was never begun may be begun there.
    for word in ["blocked", "refused"] {
        held.tell(&say(status(word))).unwrap();
        assert_eq!(place.names(), ["tasks/b"], "{word}");
    }
    // Another folder, or a link to this one, has the name: a task of its own.
    std::os::unix::fs::symlink(place.path("tasks/b"), place.path("tasks/a")).unwrap();
    assert!(!place.drops.is_at(&held, "tasks/a"));
    fs::remove_file(place.path("tasks/a")).unwrap();
    place.put("tasks/a/input/TASK.md", "x");
    assert!(!place.drops.is_at(&held, "tasks/a"));
    place.drops.moved_away("tasks/a", "another").unwrap();
    assert!(place.drops.record("tasks/a").is_some());
    place.drops.moved_away("tasks/a", "1").unwrap();
    assert_eq!(place.drops.record("tasks/a"), None);
    // The same is seen without the folder that was held: it tells nothing of the task.
    let attempt = String::from("1");
    let working = record("tasks/a", DropState::Working { attempt });
    let task = DropBox::task_of("tasks/a");
    place.drops.keep(&working).unwrap();
    place
        .drops
        .tell("tasks/a", &say(status("working")))
        .unwrap();
    place.drops.replaced(&task).unwrap();
    assert_eq!(place.drops.record("tasks/a"), Some(working), "a copy");
    fs::remove_dir_all(place.path("tasks/a/output")).unwrap();
    place.drops.replaced(&task).unwrap();
    assert_eq!(place.drops.record("tasks/a"), None);
    // What is asked of it is asked where it is.
    assert!(!held.wants_cancel());
    place.put("tasks/a/input/CANCEL", "");
    assert!(!held.wants_cancel());
    place.put("tasks/b/input/CANCEL", "");
    assert!(held.wants_cancel());
}

#[test]
fn a_folder_that_is_moved_into_place_wakes_whoever_looks() {
    let place = Place::new();
    let (wake, woken) = mpsc::channel();
    let mut watcher = DropWatcher::start(move || wake.send(()).unwrap_or_default()).unwrap();
    assert!(watcher.watch(place.drops.look().places));
    assert!(!watcher.watch(place.drops.look().places));
    let made = place.scene.outside().join("made");
    put(&made.join("input/TASK.md"), "x");
    fs::rename(&made, place.path("tasks/made")).unwrap();
    woken.recv_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!(place.names(), ["tasks/made"]);
    // Now its own input is watched as well.
    assert!(watcher.watch(place.drops.look().places));
    while woken.try_recv().is_ok() {}
    place.put("tasks/made/input/TASK.md", "y");
    woken.recv_timeout(Duration::from_secs(30)).unwrap();
}
