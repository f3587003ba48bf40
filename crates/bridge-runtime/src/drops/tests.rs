//! Dropped tasks in virtual time.

use bridge_proto::TaskId;
use bridge_workspace::DropRecord;

use super::*;

struct World {
    drops: Drops,
    now: Instant,
    found: Vec<Dropped>,
}

impl World {
    fn with(folders: &[&str]) -> Self {
        let found = folders.iter().map(|folder| dropped(folder, "1")).collect();
        Self {
            drops: Drops::default(),
            now: Instant::now(),
            found,
        }
    }

    fn look(&mut self) -> Vec<Step> {
        let wish = self.found.iter().filter(|it| it.cancel);
        let mut steps: Vec<Step> = wish
            .filter_map(|it| self.drops.cancel(&run(&it.folder)))
            .collect();
        steps.extend(self.drops.on_look(self.now, &self.found));
        steps
    }

    /// Looks whenever the machine wants to, until so much time has passed.
    fn pass(&mut self, time: Duration) -> Vec<Step> {
        let end = self.now + time;
        let mut steps = self.look();
        for _ in 0..1000 {
            match self.drops.deadline() {
                Some(at) if at <= end => {
                    self.now = self.now.max(at);
                    steps.extend(self.look());
                }
                Some(_) | None => {
                    self.now = end;
                    return steps;
                }
            }
        }
        panic!("it looks without end");
    }

    /// As the porter does: the record is kept before the run is handed on.
    fn hand_on(&mut self, folder: &str) -> RunKey {
        let run = run(folder);
        self.keep(
            folder,
            DropState::Working {
                attempt: "1".into(),
            },
        );
        let agent = AgentId::parse("demo").unwrap();
        self.drops.begun(folder.to_owned(), run.clone(), agent);
        run
    }

    fn keep(&mut self, folder: &str, state: DropState) {
        let it = self.find(folder);
        it.record = Some(DropRecord {
            folder: folder.into(),
            state,
            print: it.print.clone(),
            text: String::new(),
            runs: 1,
            told: true,
        });
    }

    fn end(&mut self, folder: &str) {
        self.keep(folder, DropState::Over);
        self.drops.over(folder);
    }

    fn find(&mut self, folder: &str) -> &mut Dropped {
        let mut found = self.found.iter_mut();
        found.find(|it| it.folder == folder).unwrap()
    }
}

fn dropped(folder: &str, print: &str) -> Dropped {
    Dropped {
        folder: folder.into(),
        print: print.into(),
        fault: None,
        cancel: false,
        record: None,
    }
}

fn run(folder: &str) -> RunKey {
    RunKey {
        task: TaskId::parse(folder).unwrap(),
        attempt: "1".into(),
    }
}

fn take(folder: &str, print: &str) -> Step {
    Step::Take {
        folder: folder.into(),
        print: print.into(),
    }
}

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn a_folder_is_taken_when_nothing_in_it_has_changed_for_a_while() {
    let mut world = World::with(&["a"]);
    for n in 0..5 {
        assert_eq!(world.look(), []);
        world.now += SETTLED / 2;
        world.find("a").print = n.to_string();
    }
    assert_eq!(world.look(), []);
    assert_eq!(world.drops.deadline(), Some(world.now + SETTLED));
    assert_eq!(world.pass(SETTLED), [take("a", "4")]);
}

#[test]
fn what_was_dealt_with_is_not_taken_again_until_it_changes() {
    let mut world = World::with(&["a"]);
    assert_eq!(world.pass(SETTLED), [take("a", "1")]);
    world.hand_on("a");
    world.find("a").print = "2".into();
    assert_eq!(world.pass(LONG), [], "it is at work");
    world.end("a");
    assert_eq!(world.pass(LONG), []);
    world.find("a").print = "3".into();
    assert_eq!(world.pass(LONG), [take("a", "3")]);
}

#[test]
fn more_than_are_handed_on_at_once_wait_and_none_is_left_out() {
    let names: Vec<String> = (0..AT_ONCE + 3).map(|n| format!("{n:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut world = World::with(&names);
    assert_eq!(world.look(), []);
    world.now += SETTLED;
    assert_eq!(world.look().len(), AT_ONCE);
    for name in &names[..AT_ONCE] {
        world.hand_on(name);
    }
    assert_eq!(world.pass(LONG), []);
    assert_eq!(world.drops.deadline(), None);
    world.end(names[0]);
    assert_eq!(world.look(), [take(names[AT_ONCE], "1")]);
    world.hand_on(names[AT_ONCE]);
    for name in &names[1..=2] {
        world.end(name);
    }
    let rest = [take(names[AT_ONCE + 1], "1"), take(names[AT_ONCE + 2], "1")];
    assert_eq!(world.look(), rest);
}

#[test]
fn a_cancel_ends_the_run_once_and_begins_none() {
    let mut world = World::with(&["a"]);
    world.find("a").cancel = true;
    assert_eq!(world.pass(LONG), []);
    world.find("a").cancel = false;
    assert_eq!(world.pass(LONG), [take("a", "1")]);
    let run = world.hand_on("a");
    world.find("a").cancel = true;
    assert_eq!(world.pass(LONG), [Step::Cancel(run)]);
    assert_eq!(world.pass(LONG), []);
    world.end("a");
    world.find("a").print = "2".into();
    assert_eq!(world.pass(LONG), [], "as long as it lies there");
}

#[test]
fn what_is_wrong_is_said_when_the_folder_is_complete_and_once() {
    let mut world = World::with(&["a"]);
    world.find("a").fault = Some("a link".into());
    assert_eq!(world.look(), []);
    let refuse = Step::Refuse {
        folder: "a".into(),
        print: "1".into(),
        fault: "a link".into(),
    };
    assert_eq!(world.pass(SETTLED), [refuse]);
    world.keep("a", DropState::Refused);
    assert_eq!(world.pass(LONG), []);
    let mended = world.find("a");
    (mended.print, mended.fault) = ("2".into(), None);
    assert_eq!(world.pass(LONG), [take("a", "2")]);
}

#[test]
fn what_was_not_possible_is_tried_again_after_a_minute_or_when_it_changes() {
    let mut world = World::with(&["a"]);
    assert_eq!(world.pass(SETTLED), [take("a", "1")]);
    world.drops.put_off(world.now, "a".into(), "1".into());
    assert_eq!(world.pass(AGAIN / 2), []);
    assert_eq!(world.pass(AGAIN), [take("a", "1")]);
    world.drops.put_off(world.now, "a".into(), "1".into());
    world.find("a").print = "2".into();
    assert_eq!(world.pass(SETTLED), [take("a", "2")]);
}

#[test]
fn what_another_process_had_handed_on_is_taken_up_at_once() {
    let mut world = World::with(&["a"]);
    world.keep(
        "a",
        DropState::Working {
            attempt: "1".into(),
        },
    );
    assert_eq!(world.look(), [take("a", "1")]);
    world.hand_on("a");
    assert_eq!(world.look(), []);
}

#[test]
fn a_folder_that_is_gone_is_forgotten() {
    let mut world = World::with(&["a"]);
    assert_eq!(world.look(), []);
    world.found.clear();
    assert_eq!(world.look(), []);
    assert_eq!(world.drops.deadline(), None);
}
