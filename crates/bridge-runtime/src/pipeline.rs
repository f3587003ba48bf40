//! Pipelines for the control plane. In the order of the frames: what was handed over is there when
//! the next task starts.

use std::sync::Arc;

use bridge_proto::model::{PipelineReply, PipelineRequest};
use bridge_workspace::{HandOverError, Workspace};

/// Carries out one request and gives its answer, whatever happens.
pub(crate) async fn answer(workspace: &Arc<Workspace>, request: PipelineRequest) -> PipelineReply {
    let workspace = Arc::clone(workspace);
    match request {
        PipelineRequest::CheckOutput { agent: _, folder } => {
            let asked = folder.clone();
            let look = tokio::task::spawn_blocking(move || workspace.has_output(&asked));
            let present = look.await.unwrap_or_else(|error| {
                tracing::error!(%error, "looking for output failed");
                false
            });
            PipelineReply::Output { folder, present }
        }
        PipelineRequest::Activate { from, to } => {
            if from.agent.is_none() || to.agent.is_none() {
                let copied = Err(HandOverError::NoFolder.code());
                return PipelineReply::Activated { copied };
            }
            let copy =
                tokio::task::spawn_blocking(move || workspace.hand_over(&from.folder, &to.folder));
            let copied = match copy.await {
                Ok(copied) => copied.map_err(|error| error.code()),
                Err(error) => {
                    tracing::error!(%error, "handing over failed");
                    Err("ACTIVATE_FAILED".to_owned())
                }
            };
            if let Err(error) = &copied {
                tracing::warn!(error, "the output of a task was not handed over");
            }
            PipelineReply::Activated { copied }
        }
    }
}
