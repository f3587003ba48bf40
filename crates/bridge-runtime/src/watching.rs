//! From files that change in the workspaces of OpenClaw's agents to what the plane hears of them.

use std::sync::Arc;

use bridge_proto::{AgentId, model::Notice};
use bridge_transport::Handle;
use bridge_workspace::{FileNews, Watch, Watching, Workspace};
use tokio::sync::{mpsc, watch};

use crate::{homes::Residents, outgoing::Outgoing};

/// Starts watching, for the agents that live here from now on. `stirring` hears whose files say
/// that it works. `None` where OpenClaw is not here, and when the system gives no thread.
///
/// Must be called on a tokio runtime; what it started ends with the list of agents.
pub(crate) fn start(
    workspace: Arc<Workspace>,
    how: Watching,
    link: Handle<Outgoing>,
    residents: watch::Receiver<Residents>,
    stirring: mpsc::Sender<AgentId>,
) -> Option<Arc<Watch>> {
    if !workspace.has_openclaw() {
        return None;
    }
    let (tell, news) = mpsc::channel(NEWS);
    let watch = Watch::start(workspace, how, move |one| tell.blocking_send(one).is_ok());
    let watch = match watch {
        Ok(watch) => Arc::new(watch),
        Err(error) => {
            tracing::warn!(%error, "the workspaces of OpenClaw cannot be watched");
            return None;
        }
    };
    tokio::spawn(follow(residents, Arc::clone(&watch)));
    tokio::spawn(pass_on(news, link, stirring));
    Some(watch)
}

async fn follow(mut residents: watch::Receiver<Residents>, watch: Arc<Watch>) {
    while residents.changed().await.is_ok() {
        let living = residents.borrow_and_update().clone();
        let agents = living.iter().filter_map(|(agent, resident)| {
            Some((agent.clone(), resident.openclaw_workspace()?.into()))
        });
        watch.agents(agents.collect());
    }
}

async fn pass_on(
    mut news: mpsc::Receiver<FileNews>,
    link: Handle<Outgoing>,
    stirring: mpsc::Sender<AgentId>,
) {
    while let Some(one) = news.recv().await {
        let FileNews {
            agent,
            path,
            change,
            content,
        } = one;
        if says_work(&path) && stirring.try_send(agent.clone()).is_err() {
            tracing::trace!("that the agent works was said just now");
        }
        // Nobody asks later for what changed meanwhile, and runs need the room.
        if !link.state().borrow().phase.is_open() {
            continue;
        }
        let notice = Notice::FileChanged {
            agent,
            path,
            change,
            content,
        };
        if link.push(Outgoing::notice(notice)).await.is_err() {
            return;
        }
    }
}

/// Whether somebody writes there who works.
fn says_work(path: &str) -> bool {
    let mut folders = path.rsplit('/').skip(1);
    folders.any(|folder| folder == "output" || folder == "logs")
}

/// News that wait for the link.
const NEWS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_an_output_or_a_log_say_that_the_agent_works() {
        for (path, expected) in [
            ("tasks/t/output/a.md", true),
            ("output/a.md", true),
            ("logs/today/x.log", true),
            ("notes/output.md", false),
            ("output", false),
            ("outputs/a.md", false),
        ] {
            assert_eq!(says_work(path), expected, "{path}");
        }
    }
}
