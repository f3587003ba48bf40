//! A running program: its lines, its input, its end.

use std::process::ExitStatus;

use tokio::{
    process::{Child as Running, ChildStderr, ChildStdin, ChildStdout},
    runtime::Handle,
    sync::watch,
};

use super::{
    input::{Input, NotReading},
    output::{LINE_LIMIT, Line, Lines, Tail},
    platform::Tree,
    spawner,
    terminate::{Ladder, end_tree},
};
use crate::dialogue::Exit;

/// A program that was started. Dropping it kills it with all it started.
pub(crate) struct Child {
    /// `None` only while it is being dropped.
    running: Option<Running>,
    pid: u32,
    /// `None` once its end was begun.
    tree: Option<Tree>,
    output: Option<Lines<ChildStdout>>,
    complaints: Tail<ChildStderr>,
    input: Input<ChildStdin>,
    exit: Option<ExitStatus>,
}

/// What happens with a program.
#[derive(Debug)]
pub(crate) enum ChildEvent {
    Line(Line),
    /// The program is over. What it printed before may still follow, and what it started may
    /// still run.
    Exited,
    /// Standard output and standard error were read to their ends.
    Drained,
}

impl Child {
    pub(super) fn new(mut running: Running, pid: u32, tree: Tree) -> Self {
        let output = running
            .stdout
            .take()
            .map(|pipe| Lines::new(pipe, LINE_LIMIT));
        let complaints = Tail::new(running.stderr.take());
        let input = Input::new(running.stdin.take());
        Self {
            running: Some(running),
            pid,
            tree: Some(tree),
            output,
            complaints,
            input,
            exit: None,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn has_exited(&self) -> bool {
        self.exit.is_some()
    }

    /// Whether standard output and standard error were read to their ends.
    pub(crate) fn is_drained(&self) -> bool {
        self.output.is_none() && !self.complaints.is_open()
    }

    /// The next event; lines only if `reading`. Writes input and drains standard error in the
    /// meantime. Nothing is lost when the future is dropped. After [`ChildEvent::Exited`] and
    /// [`ChildEvent::Drained`] it never comes back.
    pub(crate) async fn next_event(&mut self, reading: bool) -> ChildEvent {
        loop {
            let Some(running) = &mut self.running else {
                return std::future::pending().await;
            };
            let was_open = self.output.is_some() || self.complaints.is_open();
            tokio::select! {
                line = next_line(&mut self.output), if reading && self.output.is_some() => match line {
                    Some(line) => return ChildEvent::Line(line),
                    None => self.output = None,
                },
                () = self.complaints.read_some(), if self.complaints.is_open() => {}
                () = self.input.write_some(), if self.input.has_work() => {}
                status = running.wait(), if self.exit.is_none() => {
                    // A status that cannot be read leaves nothing to wait for either.
                    self.exit = Some(status.unwrap_or_default());
                    return ChildEvent::Exited;
                }
                else => return std::future::pending().await,
            }
            if was_open && self.is_drained() {
                return ChildEvent::Drained;
            }
        }
    }

    /// Standard output itself, to be read in another way than by lines; `None` once it was read
    /// from or taken.
    pub(super) fn take_output(&mut self) -> Option<ChildStdout> {
        self.output.take().and_then(Lines::untouched)
    }

    /// Lets a line be written when the program reads.
    pub(crate) fn send(&mut self, line: String) -> Result<(), NotReading> {
        self.input.push(line)
    }

    /// Closes standard input once everything sent has been written.
    pub(crate) fn close_input(&mut self) {
        self.input.close();
    }

    /// Ends the program and all it started by the ladder, which may be changed on the way; the
    /// future tells how many would not die. `None` if that was begun before.
    pub(crate) fn end(
        &mut self,
        ladder: watch::Receiver<Ladder>,
    ) -> Option<impl Future<Output = usize> + Send + 'static> {
        self.tree.take().map(|tree| end_tree(tree, ladder))
    }

    /// How it ended, as far as is known by now.
    pub(crate) fn exit(&self) -> Exit {
        Exit {
            code: self.exit.and_then(|status| status.code()),
            signal: self.exit.and_then(signal),
            stderr_tail: self.complaints.text(),
        }
    }

    /// Reaps the orphans it left; to be called when its end is done.
    pub(crate) async fn release(mut self) {
        if self.exit.is_some() {
            // Nothing is left for `drop` to end.
            self.running = None;
            spawner::release(self.pid).await;
        }
    }
}

async fn next_line(output: &mut Option<Lines<ChildStdout>>) -> Option<Line> {
    match output {
        Some(lines) => lines.next().await,
        None => None,
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        let tree = self.tree.take();
        let (pid, exited) = (self.pid, self.exit.is_some());
        // Without a runtime (it is shutting down) the drop of the tree kills what it finds.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                if let Some(mut tree) = tree {
                    tree.kill();
                    let (_hold, ladder) = watch::channel(Ladder::kill());
                    end_tree(tree, ladder).await;
                }
                if exited || running.wait().await.is_ok() {
                    spawner::release(pid).await;
                }
            });
        }
    }
}

#[cfg(unix)]
fn signal(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(windows)]
fn signal(_: ExitStatus) -> Option<i32> {
    None
}
