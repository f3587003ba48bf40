//! Property: whatever is asked for, and wherever links point, nothing outside is read or changed.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod support;

use std::{collections::BTreeMap, os::unix::fs::symlink, path::Path};

use bridge_proto::{TaskFolder, model::ReadOutcome};
use bridge_workspace::{ContainedPath, ContentsPolicy, Tree};
use proptest::prelude::*;
use support::{Scene, put, task};

/// Of a length that nothing else in the scene has.
const CANARY: &str = "what must never be seen";

fn component() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("..".to_owned()),
        Just("....".to_owned()),
        Just(".".to_owned()),
        Just(String::new()),
        Just("a".to_owned()),
        Just("b".to_owned()),
        Just("tasks".to_owned()),
        Just("outside".to_owned()),
        Just("canary.txt".to_owned()),
        Just(".ctrlnode".to_owned()),
        Just("C:".to_owned()),
        Just("..\\..".to_owned()),
        Just("a\0".to_owned()),
        "[a-z./\\\\]{0,6}",
    ]
}

fn path() -> impl Strategy<Value = String> {
    (any::<bool>(), prop::collection::vec(component(), 0..7))
        .prop_map(|(rooted, parts)| format!("{}{}", if rooted { "/" } else { "" }, parts.join("/")))
}

/// Where links inside may point: up, out, to each other, to nowhere.
fn target() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("..".to_owned()),
        Just("../..".to_owned()),
        Just("../../..".to_owned()),
        Just("../../../outside".to_owned()),
        Just("../outside".to_owned()),
        Just("/".to_owned()),
        Just("ABSOLUTE".to_owned()),
        Just("ABSOLUTE/canary.txt".to_owned()),
        Just("../../outside/canary.txt".to_owned()),
        Just("../../outside/new.txt".to_owned()),
        Just("b".to_owned()),
        Just("tasks".to_owned()),
    ]
}

fn snapshot(folder: &Path) -> BTreeMap<String, String> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            (path.display().to_string(), text)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_path_escapes_its_root(
        links in prop::collection::vec((0..2_u8, prop_oneof![Just("a"), Just("b"), Just("tasks")], target()), 0..4),
        paths in prop::collection::vec((any::<bool>(), path()), 1..8),
    ) {
        let mut scene = Scene::in_memory();
        scene.workspace = scene.workspace.with_policy(ContentsPolicy::Workspace);
        let outside = scene.outside().join("outside");
        put(&outside.join("canary.txt"), CANARY);
        for (place, name, to) in links {
            let place = if place == 0 { scene.base() } else { scene.root() };
            let to = to.replace("ABSOLUTE", outside.to_str().unwrap());
            // A link that repeats a name is simply not made.
            if !place.join(name).is_symlink() {
                symlink(to, place.join(name)).unwrap();
            }
        }
        let (around, before) = (snapshot(&scene.outside()), snapshot(&outside));
        for (base, path) in paths {
            let scope = if base { Tree::Base } else { Tree::Ctrlnode };
            if let (_, ReadOutcome::Content { content, .. }) = scene.workspace.read_file(&scope, &path) {
                prop_assert_ne!(content, CANARY);
            }
            if let Ok(listing) = scene.workspace.list_files(&scope, &path, true, true) {
                prop_assert!(listing.entries.iter().all(|entry| entry.size != Some(CANARY.len() as u64)), "{:?}", listing);
            }
            if scene.workspace.write_file(&scope, &path, b"written", true).is_ok() {
                prop_assert_eq!(ContainedPath::parse_wire(&path).is_ok(), true);
            }
            if let Ok(folder) = TaskFolder::parse(&path)
                && let Ok(dir) = scene.workspace.task_dir(&task("t"), Some(&folder))
            {
                prop_assert!(dir.path().canonicalize().unwrap().starts_with(scene.root()));
            }
            if let Ok(repository) = scene.workspace.repository(&path) {
                prop_assert!(repository.path().starts_with(scene.base()));
            }
        }
        prop_assert_eq!(snapshot(&scene.outside()), around);
        prop_assert_eq!(snapshot(&outside), before);
    }

    #[test]
    fn a_parsed_path_has_plain_components_only(text in path()) {
        if let Ok(path) = ContainedPath::parse_wire(&text) {
            for part in path.parts() {
                prop_assert!(!part.is_empty() && part != "." && !part.starts_with("..") || part.len() > 2);
                prop_assert!(!part.contains(['/', '\\', '\0']));
            }
            prop_assert_eq!(ContainedPath::parse(&path.to_string()), Ok(path));
        }
    }
}
