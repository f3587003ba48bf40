//! What is told of files in the workspaces of OpenClaw's agents, and what is not.
#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set its scene has failed"
)]

mod support;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

use bridge_proto::{AgentId, model::FileChange};
use bridge_workspace::{ContentsPolicy, FileNews, Watch, Watching};
use support::{Scene, put};

struct World {
    claw: PathBuf,
    outside: PathBuf,
    watch: Watch,
    news: Receiver<FileNews>,
    // Dropped last: the folders lie in it.
    _outer: tempfile::TempDir,
}

fn id(text: &str) -> AgentId {
    AgentId::parse(text).unwrap()
}

impl World {
    fn new(policy: ContentsPolicy) -> Self {
        Self::with(policy, Watching::default(), |_| {})
    }

    fn with(policy: ContentsPolicy, how: Watching, before: impl FnOnce(&Path)) -> Self {
        let Scene { workspace, outer } = Scene::new();
        let outside = outer.path().canonicalize().unwrap();
        // As OpenClaw's own default: a folder with a dot.
        let claw = outside.join(".openclaw");
        put(&claw.join("openclaw.json"), "{}");
        fs::create_dir(claw.join("workspace")).unwrap();
        before(&claw.join("workspace"));
        let workspace = workspace.with_policy(policy).with_openclaw(Some(&claw));
        let (sender, news) = channel();
        let tell = move |news| sender.send(news).is_ok();
        let watch = Watch::start(Arc::new(workspace), how, tell).unwrap();
        let world = Self {
            claw,
            outside,
            watch,
            news,
            _outer: outer,
        };
        world.watch.agents(vec![(id("scout"), world.own(""))]);
        world.settle("ready");
        world
    }

    fn own(&self, path: &str) -> PathBuf {
        self.claw.join("workspace").join(path)
    }

    fn next(&self) -> FileNews {
        self.news.recv_timeout(Duration::from_secs(30)).unwrap()
    }

    /// Writes a file until it is told: then everything before it was told as well.
    fn settle(&self, name: &str) -> Vec<FileNews> {
        let mut before = Vec::new();
        loop {
            put(&self.own(name), name);
            while let Ok(news) = self.news.recv_timeout(Duration::from_secs(3)) {
                if news.path == name {
                    return before;
                }
                before.push(news);
            }
        }
    }

    /// What is told of what is done.
    fn told(&self, act: impl FnOnce(&Self)) -> Vec<FileNews> {
        act(self);
        let mut told = self.settle("after");
        told.sort_by(|a, b| (&a.path, &a.agent).cmp(&(&b.path, &b.agent)));
        told
    }
}

fn news(path: &str, change: FileChange, content: Option<&str>) -> FileNews {
    FileNews {
        agent: id("scout"),
        path: path.into(),
        change,
        content: content.map(str::to_owned),
    }
}

#[test]
fn a_new_file_and_a_changed_one_are_told_once_each_with_their_text() {
    let world = World::with(ContentsPolicy::Workspace, Watching::default(), |own| {
        put(&own.join("notes/old.md"), "old");
    });
    let told = world.told(|world| {
        for n in 0..50 {
            put(&world.own("notes/new.md"), format!("new {n}"));
            put(&world.own("notes/old.md"), format!("old {n}"));
        }
    });
    assert_eq!(
        told,
        [
            news("notes/new.md", FileChange::Add, Some("new 49")),
            news("notes/old.md", FileChange::Change, Some("old 49")),
        ]
    );
    // As editors save: beside, then in its place.
    let told = world.told(|world| {
        put(&world.own("notes/.new.md.tmp"), "saved");
        fs::rename(world.own("notes/.new.md.tmp"), world.own("notes/new.md")).unwrap();
    });
    assert_eq!(
        told,
        [news("notes/new.md", FileChange::Change, Some("saved"))]
    );
}

#[test]
fn folders_that_come_are_watched_and_those_that_go_are_forgotten() {
    let world = World::new(ContentsPolicy::Workspace);
    let elsewhere = world.outside.join("made");
    put(&elsewhere.join("deep/er/a.md"), "moved in");
    let told = world.told(|world| fs::rename(&elsewhere, world.own("made")).unwrap());
    assert_eq!(
        told,
        [news("made/deep/er/a.md", FileChange::Add, Some("moved in"))]
    );
    let told = world.told(|world| put(&world.own("made/deep/er/b.md"), "made here"));
    assert_eq!(
        told,
        [news(
            "made/deep/er/b.md",
            FileChange::Add,
            Some("made here")
        )]
    );
    let told = world.told(|world| {
        fs::rename(world.own("made"), &elsewhere).unwrap();
        put(&elsewhere.join("deep/er/c.md"), "not ours");
        fs::remove_file(world.own("ready")).unwrap();
    });
    assert_eq!(told, []);
}

#[test]
fn what_leads_out_is_ignored_or_protected_is_not_told_at_all() {
    let world = World::new(ContentsPolicy::Workspace);
    put(&world.outside.join("secrets/plans.md"), "hush");
    let told = world.told(|world| {
        symlink(
            world.outside.join("secrets/plans.md"),
            world.own("plans.md"),
        )
        .unwrap();
        symlink(world.outside.join("secrets"), world.own("secrets")).unwrap();
        for name in [
            ".env",
            ".git/config",
            "a/.hidden/x",
            "node_modules/x/index.js",
            "Thumbs.db",
            "id_rsa",
            "keys/id_ed25519",
        ] {
            put(&world.own(name), "hush");
        }
        put(&world.outside.join("secrets/more.md"), "hush");
        // A folder under watch that becomes a link keeps its name, and nothing else.
        fs::create_dir(world.own("turned")).unwrap();
        fs::rename(world.own("turned"), world.outside.join("turned")).unwrap();
        symlink(world.outside.join("secrets"), world.own("turned")).unwrap();
        put(&world.own("turned/inside.md"), "hush");
        put(&world.outside.join("turned/left.md"), "hush");
        let fifo = world.own("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
    });
    assert_eq!(told, []);
}

#[test]
fn what_is_no_text_or_too_long_or_has_another_name_is_told_without_contents() {
    let world = World::new(ContentsPolicy::Workspace);
    put(&world.outside.join("base/elsewhere.md"), "hush");
    let told = world.told(|world| {
        put(&world.own("image.png"), [0x89, b'P', 0xff]);
        put(&world.own("zero.txt"), "a\0b");
        put(&world.own("large.txt"), "x".repeat((1 << 20) + 1));
        fs::hard_link(
            world.outside.join("base/elsewhere.md"),
            world.own("linked.md"),
        )
        .unwrap();
        put(&world.own("whole.txt"), "x".repeat(1 << 20));
    });
    let withheld: Vec<(&str, bool)> = told
        .iter()
        .map(|news| (news.path.as_str(), news.content.is_none()))
        .collect();
    assert_eq!(
        withheld,
        [
            ("image.png", true),
            ("large.txt", true),
            ("linked.md", true),
            ("whole.txt", false),
            ("zero.txt", true),
        ]
    );
}

#[test]
fn the_contents_policy_holds_for_what_is_told() {
    let world = World::new(ContentsPolicy::TaskOutputs);
    let told = world.told(|world| {
        put(&world.own("notes.md"), "hush");
        put(&world.own("tasks/t/output/a.md"), "done");
    });
    assert_eq!(
        told,
        [
            news("notes.md", FileChange::Add, None),
            news("tasks/t/output/a.md", FileChange::Add, Some("done")),
        ]
    );
}

#[test]
fn under_never_nothing_is_watched() {
    let Scene { workspace, outer } = Scene::new();
    let claw = outer.path().canonicalize().unwrap().join("claw");
    put(&claw.join("openclaw.json"), "{}");
    fs::create_dir(claw.join("workspace")).unwrap();
    let workspace = workspace
        .with_policy(ContentsPolicy::Never)
        .with_openclaw(Some(&claw));
    let (sender, heard) = channel();
    let tell = move |news| sender.send(news).is_ok();
    let watch = Watch::start(Arc::new(workspace), Watching::default(), tell).unwrap();
    watch.agents(vec![(id("scout"), claw.join("workspace"))]);
    put(&claw.join("workspace/a.md"), "hush");
    // Nothing can be waited for that does not come; the thread says that it has ended.
    watch.wrote(&claw);
    drop(watch);
    assert_eq!(heard.recv(), Err(std::sync::mpsc::RecvError));
}

#[test]
fn what_the_bridge_wrote_itself_is_no_news() {
    let world = World::new(ContentsPolicy::Workspace);
    let told = world.told(|world| {
        put(&world.own("input/a.md"), "from the plane");
        world.watch.wrote(&world.own("input/a.md"));
        put(&world.own("b.md"), "by the agent");
    });
    assert_eq!(told, [news("b.md", FileChange::Add, Some("by the agent"))]);
}

#[test]
fn every_agent_of_a_workspace_hears_of_it_and_those_that_left_do_not() {
    let world = World::new(ContentsPolicy::Workspace);
    put(&world.claw.join("other/x"), "");
    let both = vec![
        (id("scout"), world.own("")),
        (id("writer"), PathBuf::from("workspace")),
        (id("far"), world.outside.join("base")),
        (id("root"), world.claw.clone()),
        (id("nowhere"), world.claw.join("missing")),
    ];
    world.watch.agents(both);
    put(&world.own("a.md"), "x");
    let heard = [world.next(), world.next()];
    let agents: Vec<&str> = heard.iter().map(|news| news.agent.as_str()).collect();
    assert_eq!(agents, ["scout", "writer"]);
    world
        .watch
        .agents(vec![(id("writer"), world.claw.join("other"))]);
    put(&world.own("b.md"), "x");
    let news = loop {
        put(&world.claw.join("other/c.md"), "x");
        if let Ok(news) = world.news.recv_timeout(Duration::from_secs(3)) {
            break news;
        }
    };
    assert_eq!(
        (news.agent.as_str(), news.path.as_str()),
        ("writer", "c.md")
    );
}

#[test]
fn a_folder_that_is_looked_at_again_and_again_tells_the_same() {
    let how = Watching {
        polling: true,
        interval: Duration::from_millis(100),
    };
    let world = World::with(ContentsPolicy::Workspace, how, |own| {
        put(&own.join("a.md"), "old");
    });
    let told = world.told(|world| {
        put(&world.own("a.md"), "quite new");
        put(&world.own("b.md"), "b");
    });
    assert_eq!(
        told,
        [
            news("a.md", FileChange::Change, Some("quite new")),
            news("b.md", FileChange::Add, Some("b")),
        ]
    );
}

#[test]
fn two_thousand_files_at_once_end_in_news_and_not_in_a_stall() {
    let world = World::new(ContentsPolicy::TaskOutputs);
    let told = world.told(|world| {
        for n in 0..2000 {
            put(&world.own(&format!("many/{n}.md")), "x");
        }
    });
    assert!(told.len() > 1000, "{}", told.len());
    let mut paths: Vec<&str> = told.iter().map(|news| news.path.as_str()).collect();
    paths.dedup();
    assert_eq!(paths.len(), told.len(), "each is told once");
}
