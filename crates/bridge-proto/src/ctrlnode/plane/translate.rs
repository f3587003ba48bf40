//! Messages of a plain bridge about a run become the same events that our own bridge sends whole.

use std::collections::{HashMap, VecDeque};

use super::{PlainMessage, PlainRun, plain_run::OpenRun};
use crate::{
    id::{RunKey, TaskId},
    model::{AskEnd, EventBody},
};

/// Turns [`PlainRun`]s into events. Pure: no clock, no IO; the hub numbers and dates the events.
///
/// The plain wire names tasks, not runs, so the hub says with [`open`](Self::open) which run it
/// started; messages go to the oldest run of their task that has not ended, and messages of tasks
/// without one are dropped. Promises per run: `Started` at most once and before anything seen, no
/// text twice although one chunk arrives as up to three messages, exactly one terminal event
/// (`task_complete`, or else `intent_result`) and nothing after it.
#[derive(Debug, Default)]
pub struct Translator {
    tasks: HashMap<TaskId, VecDeque<OpenRun>>,
}

/// Events with the run they belong to, in order.
pub(super) type Events = Vec<(RunKey, EventBody)>;

impl Translator {
    /// A run was sent to the bridge; a run that is open already stays as it is.
    pub fn open(&mut self, run: RunKey) {
        let runs = self.tasks.entry(run.task.clone()).or_default();
        // An `intent_result` that never came would keep ended runs forever.
        runs.retain(|open| !open.ended);
        if !runs.iter().any(|open| open.run == run) {
            runs.push_back(OpenRun::new(run));
        }
    }

    /// The hub closed the run itself: whatever still comes for it is dropped.
    pub fn close(&mut self, run: &RunKey) {
        self.remove(&run.task, |open| open.run == *run);
    }

    /// Whether the run was opened and has not ended.
    pub fn is_open(&self, run: &RunKey) -> bool {
        let runs = self.tasks.get(&run.task);
        runs.is_some_and(|runs| runs.iter().any(|open| open.run == *run && !open.ended))
    }

    /// A person answered the task's open question, with these words or the label of this option.
    /// The plain wire does not confirm it.
    pub fn on_answer(&mut self, task: &TaskId, answer: &str) -> Events {
        let Some(open) = self.current(task) else {
            return Vec::new();
        };
        open.close_ask(AskEnd::Answered {
            answer: answer.to_owned(),
        });
        open.take_events()
    }

    /// A message came.
    pub fn on(&mut self, message: PlainRun) -> Events {
        let PlainRun {
            task,
            agent: _,
            message,
        } = message;
        if let PlainMessage::IntentResult {
            request_id,
            execution_id,
            result,
            error,
        } = message
        {
            let ids = [execution_id, request_id];
            return self.on_intent_result(&task, &ids, result.as_deref(), error);
        }
        let Some(open) = self.current(&task) else {
            return Vec::new();
        };
        open.on(message);
        open.take_events()
    }

    fn on_intent_result(
        &mut self,
        task: &TaskId,
        ids: &[Option<String>; 2],
        result: Option<&str>,
        error: Option<String>,
    ) -> Events {
        let anonymous = ids.iter().all(Option::is_none);
        let meant =
            |open: &OpenRun| anonymous || ids.iter().flatten().any(|id| *id == open.run.attempt);
        let Some(mut open) = self.remove(task, meant) else {
            return Vec::new();
        };
        if !open.ended {
            open.on_intent_result(result, error);
        }
        open.take_events()
    }

    fn current(&mut self, task: &TaskId) -> Option<&mut OpenRun> {
        self.tasks
            .get_mut(task)?
            .iter_mut()
            .find(|open| !open.ended)
    }

    fn remove(&mut self, task: &TaskId, which: impl Fn(&OpenRun) -> bool) -> Option<OpenRun> {
        let runs = self.tasks.get_mut(task)?;
        let index = runs.iter().position(which)?;
        let removed = runs.remove(index);
        if runs.is_empty() {
            self.tasks.remove(task);
        }
        removed
    }
}
