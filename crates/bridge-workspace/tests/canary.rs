//! Property: whatever is asked of any file action, and wherever links lead, nothing around the
//! roots is read, written or deleted. A hundred thousand requests, in worlds with links of all
//! sorts, and a canary tree around them that must be the same afterwards.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
};

use bridge_proto::model::{FileRoot, FileScope, NewFile, ReadOutcome, TreeChange};
use bridge_workspace::{ContentsPolicy, Tree};
use proptest::{
    prelude::*,
    sample::select,
    test_runner::{Config, TestRunner},
};
use support::{Scene, put};

/// Of a length that nothing else in the scene has.
const CANARY: &str = "what must never be seen by anybody";

#[derive(Debug, Clone)]
struct World {
    links: Vec<(&'static str, &'static str)>,
    policy: ContentsPolicy,
    requests: Vec<Asked>,
}

#[derive(Debug, Clone)]
struct Asked {
    what: What,
    tree: Tree,
    path: String,
    other: String,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Read,
    List,
    Write,
    Delete,
    Create,
    DeleteFolder,
    Rename,
    Workspace,
    AgentFolders,
}

fn component() -> impl Strategy<Value = String> {
    // Those that lead somewhere come often.
    const LEADING: &[&str] = &[
        "l",
        "m",
        "l",
        "m",
        "a",
        "b",
        "t",
        "tasks",
        "canary.txt",
        "canary.txt",
        "sub",
        "..",
    ];
    const OTHERS: &[&str] = &[
        "....",
        ".",
        "",
        "outside",
        "base",
        "base-x",
        ".ctrlnode",
        ".openclaw",
        "ctrlnode",
        "C:",
        "..\\..",
        "a\0",
        ".git",
        ".ssh",
        "..%2f",
        "%2e%2e",
        "\u{2025}",
        "．．",
        "~",
        "$HOME",
        "*",
        "canary.txt (deleted)",
        "proc",
        "self",
    ];
    prop_oneof![
        12 => select(LEADING).prop_map(str::to_owned),
        3 => select(OTHERS).prop_map(str::to_owned),
        1 => "[a-z./\\\\]{0,6}",
    ]
}

fn path() -> impl Strategy<Value = String> {
    const STARTS: &[&str] = &[
        "",
        "",
        "",
        "",
        "",
        "",
        "/",
        "./",
        "../",
        "\\",
        "ABSOLUTE/",
        "BASE/",
    ];
    (select(STARTS), prop::collection::vec(component(), 1..5))
        .prop_map(|(start, parts)| format!("{start}{}", parts.join("/")))
}

/// Where links may be, and where they may lead: up, out, round, to nowhere, to each other.
fn link() -> impl Strategy<Value = (&'static str, &'static str)> {
    const PLACES: &[&str] = &[
        "l",
        "m",
        "a/l",
        "b",
        ".ctrlnode/l",
        ".ctrlnode/tasks/t/l",
        ".ctrlnode/tasks/m",
    ];
    const TARGETS: &[&str] = &[
        "..",
        "../..",
        "../../..",
        "../../../outside",
        "../outside",
        "../../outside/canary.txt",
        "/",
        "ABSOLUTE",
        "ABSOLUTE/canary.txt",
        "ABSOLUTE/sub",
        "../outside/new",
        "a",
        "l",
        "m",
        "tasks",
        ".",
        "../a/l",
        "./../../outside",
        "a/../../outside",
        "tasks/../../../outside",
        "/proc/self/cwd",
        "/proc/self/root",
    ];
    (select(PLACES), select(TARGETS))
}

fn asked() -> impl Strategy<Value = Asked> {
    let what = select(
        &[
            What::Read,
            What::List,
            What::Write,
            What::Delete,
            What::Create,
            What::DeleteFolder,
            What::Rename,
            What::Workspace,
            What::AgentFolders,
        ][..],
    );
    let tree = prop_oneof![
        3 => Just(Tree::Base),
        3 => Just(Tree::Ctrlnode),
        1 => Just(Tree::OpenclawTasks),
        1 => path().prop_map(|path| Tree::OpenclawAgent(PathBuf::from(path.replace('\0', "")))),
    ];
    (what, tree, path(), path()).prop_map(|(what, tree, path, other)| Asked {
        what,
        tree,
        path,
        other,
    })
}

fn world() -> impl Strategy<Value = World> {
    let policy = select(
        &[
            ContentsPolicy::Workspace,
            ContentsPolicy::Workspace,
            ContentsPolicy::TaskOutputs,
        ][..],
    );
    (
        prop::collection::vec(link(), 1..6),
        policy,
        prop::collection::vec(asked(), REQUESTS..=REQUESTS),
    )
        .prop_map(|(links, policy, requests)| World {
            links,
            policy,
            requests,
        })
}

/// Every file of a tree with its content, mode and links, but for what may change.
fn snapshot(folder: &Path, but: &Path, into: &mut BTreeMap<PathBuf, (u32, u64, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path == but {
            continue;
        }
        let meta = path.symlink_metadata().unwrap();
        if meta.is_dir() {
            snapshot(&path, but, into);
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        into.insert(path, (meta.mode(), meta.ino(), text));
    }
}

struct Ground {
    scene: Option<Scene>,
    around: BTreeMap<PathBuf, (u32, u64, String)>,
}

impl Ground {
    fn new() -> Self {
        let scene = Scene::in_memory();
        let outer = scene.outside();
        for path in [
            "outside/canary.txt",
            "outside/sub/canary.txt",
            "base-x/canary.txt",
            "canary.txt",
            "a/canary.txt",
            ".ssh/canary.txt",
        ] {
            put(&outer.join(path), CANARY);
        }
        put(&scene.base().join(".openclaw/openclaw.json"), "{}");
        let mut ground = Self {
            scene: Some(scene),
            around: BTreeMap::new(),
        };
        ground.around = ground.look();
        ground
    }

    fn scene(&self) -> &Scene {
        self.scene.as_ref().unwrap()
    }

    fn look(&self) -> BTreeMap<PathBuf, (u32, u64, String)> {
        let mut seen = BTreeMap::new();
        snapshot(&self.scene().outside(), self.scene().base(), &mut seen);
        seen
    }

    /// As new within the base, with these links.
    fn lay_out(&mut self, world: &World) {
        let scene = self.scene.take().unwrap();
        for (folder, kept) in [(scene.base(), ".ctrlnode"), (scene.root(), "bridge.lock")] {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_name() == kept {
                    continue;
                }
                if entry.file_type().unwrap().is_dir() {
                    fs::remove_dir_all(entry.path()).unwrap();
                } else {
                    fs::remove_file(entry.path()).unwrap();
                }
            }
        }
        for path in [
            "a/sub/x",
            ".ctrlnode/tasks/t/output/x",
            ".openclaw/openclaw.json",
            ".openclaw/a/x",
            ".openclaw/ctrlnode/tasks/b/x",
        ] {
            put(&scene.base().join(path), "inside");
        }
        let outside = scene.outside().join("outside");
        for (place, to) in &world.links {
            let place = scene.base().join(place);
            if !place.is_symlink() && !place.exists() {
                // A place behind another link is simply not made.
                drop(symlink(
                    to.replace("ABSOLUTE", outside.to_str().unwrap()),
                    place,
                ));
            }
        }
        let own = scene.base().join(".openclaw");
        self.scene = Some(Scene {
            workspace: scene
                .workspace
                .with_policy(world.policy)
                .with_openclaw(Some(&own)),
            ..scene
        });
    }

    fn ask(&self, asked: &Asked) -> Result<(), TestCaseError> {
        let workspace = &self.scene().workspace;
        let outside = self.scene().outside().join("outside").display().to_string();
        let base = self.scene().base().display().to_string();
        let named = |path: &str| path.replace("ABSOLUTE", &outside).replace("BASE", &base);
        let (path, other) = (named(&asked.path), named(&asked.other));
        let tree = match &asked.tree {
            Tree::OpenclawAgent(path) => Tree::OpenclawAgent(named(path.to_str().unwrap()).into()),
            other @ (Tree::Base | Tree::Ctrlnode | Tree::OpenclawTasks) => other.clone(),
        };
        let scope = FileScope {
            root: FileRoot::Owner,
            agent: None,
            provider: None,
        };
        let change = match asked.what {
            What::Read => {
                if let (_, ReadOutcome::Content { content, .. }) = workspace.read_file(&tree, &path)
                {
                    prop_assert_ne!(content, CANARY);
                }
                return Ok(());
            }
            What::List => {
                let listing = workspace
                    .list_files(&tree, &path, true, true)
                    .unwrap_or_default();
                let seen = |size| size == Some(CANARY.len() as u64);
                prop_assert!(
                    !listing.entries.iter().any(|entry| seen(entry.size)),
                    "{listing:?}"
                );
                return Ok(());
            }
            What::Write => {
                if let Ok(file) = workspace.write_file(&tree, &path, b"written", true) {
                    prop_assert!(file.starts_with(&base), "{file:?}");
                }
                return Ok(());
            }
            What::Delete => TreeChange::DeletePath { scope, path },
            What::Create => TreeChange::CreateFolder { scope, path },
            What::DeleteFolder => TreeChange::DeleteFolder { scope, path },
            What::Rename => TreeChange::RenameFolder {
                scope,
                path,
                new_path: other,
            },
            What::Workspace => TreeChange::CreateWorkspace {
                folder: path,
                files: vec![NewFile {
                    path: other,
                    content: "written".into(),
                }],
                use_ctrlnode: asked.tree == Tree::OpenclawTasks,
            },
            What::AgentFolders => TreeChange::DeleteAgentFolders {
                folder: path,
                agent: None,
            },
        };
        workspace.change_tree(&change, Some(&tree));
        prop_assert!(
            self.scene().root().join("bridge.lock").exists(),
            "the root went"
        );
        Ok(())
    }
}

fn nothing_around_the_roots_is_touched(worlds: u32) {
    let config = Config {
        cases: worlds,
        failure_persistence: None,
        ..Config::default()
    };
    let ground = std::cell::RefCell::new(Ground::new());
    let mut runner = TestRunner::new(config);
    let result = runner.run(&world(), |world| {
        let mut ground = ground.borrow_mut();
        ground.lay_out(&world);
        for asked in &world.requests {
            ground.ask(asked)?;
        }
        prop_assert_eq!(&ground.look(), &ground.around);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn a_hundred_thousand_requests_read_write_and_delete_nothing_around_the_roots_first_half() {
    nothing_around_the_roots_is_touched(WORLDS / 2);
}

#[test]
fn a_hundred_thousand_requests_read_write_and_delete_nothing_around_the_roots_second_half() {
    nothing_around_the_roots_is_touched(WORLDS / 2);
}

const WORLDS: u32 = 2000;
const REQUESTS: usize = 50;
