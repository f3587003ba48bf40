//! A run that never reached its machine is sent once more, made anew from what the store has of it.

use bridge_proto::{
    RunKey,
    model::{CommandBody, Fault, Outcome, RunKind, StartRun},
};

use crate::{
    error::HubError,
    owner::{Owner, report},
    requests::{frames, further, place, task_log},
    state::ConnId,
    store::StoreError,
    view::{RunView, TaskView},
};

impl Owner {
    /// The machine says that it does not know the run, and never said anything about it. It is
    /// named as before, so it does not run twice even if the machine is wrong.
    pub(crate) async fn resend(&mut self, conn: ConnId, run: RunKey) {
        let task = match self.store.task(&run.task).await {
            Ok(Some(task)) => task,
            Ok(None) => return,
            Err(error) => return report("read a run to send again", &error),
        };
        let Some(asked) = task.runs.iter().find(|one| one.attempt == run.attempt) else {
            let what = "run";
            return report("read a run to send again", &StoreError::Corrupt { what });
        };
        if !asked.attachments.is_empty() {
            let outcome = Outcome::Failed {
                fault: Fault::Bridge,
                reason: FILES_LOST.to_owned(),
            };
            return self.end(run, outcome).await;
        }
        tracing::info!(task = %run.task, "a run that did not reach its machine is sent again");
        let sent = match frames(&[command(&task, asked, run.clone())], &run.attempt) {
            Ok(frames) => self.send_again(conn, &task, &run, frames).await,
            Err(error) => Err(error),
        };
        if let Err(error) = sent {
            tracing::error!(error = &error as &dyn std::error::Error, "not sent again");
        }
    }

    async fn send_again(
        &mut self,
        conn: ConnId,
        task: &TaskView,
        run: &RunKey,
        frames: Vec<String>,
    ) -> Result<(), HubError> {
        let route = self.route(&task.summary.machine)?;
        if route.conn != conn {
            return Ok(()); // the newer connection is asked about it again
        }
        let sending = self.sending(&route, &run.task, Some(run), frames)?;
        Ok(self.keep_and_go(sending).await?)
    }
}

/// A run without files, as it was sent first.
fn command(task: &TaskView, asked: &RunView, run: RunKey) -> CommandBody {
    let message = asked.prompt.clone();
    match asked.kind {
        RunKind::Dispatch => CommandBody::Start(Box::new(StartRun {
            run,
            agent: task.summary.agent.clone(),
            prompt: message,
            task_log: task_log(&task.mode, task.folder.as_str()),
            place: place(&task.mode, &task.folder),
            tuning: task.tuning.clone(),
        })),
        kind @ (RunKind::FollowUp | RunKind::AgentCommand) => {
            CommandBody::FollowUp(Box::new(further(task, run, kind, message)))
        }
    }
}

/// Attached files are kept only until they are on their machine; for an old bridge not at all.
const FILES_LOST: &str = "the connection was lost before the machine had this and its files; \
                          send it again";
