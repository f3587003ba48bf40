//! The form for a new task. With the script it sends JSON with attachments to the API; without it
//! the form itself is sent here, without attachments.

use axum::{
    Form,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};
use bridge_proto::{AgentId, BridgeId, TaskId, model::Tuning};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    home::{online_first, path_segment, provider_name, reason},
    layout::{Icon, Page, icon, with_code},
    message,
};
use crate::{
    Hub,
    error::HubError,
    view::{Machine, Mode, NewTask, TaskView},
};

/// `GET /new`, or `GET /new?like=<task>`.
pub(crate) async fn page(State(hub): State<Hub>, Query(like): Query<Like>) -> Response {
    let found = async { Ok((hub.machines().await?, filled_like(&hub, &like).await?)) };
    match found.await {
        Ok((machines, filled)) => respond(StatusCode::OK, &online_first(machines), &filled, None),
        Err(error) => message::problem(&error),
    }
}

/// The query of the form's address.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Like {
    /// A task whose order the form begins with.
    like: Option<String>,
}

async fn filled_like(hub: &Hub, like: &Like) -> Result<Filled, HubError> {
    let id = like.like.as_deref().and_then(|id| TaskId::parse(id).ok());
    let task = match id {
        Some(id) => hub.task(&id).await?,
        None => None,
    };
    Ok(task.map(|task| Filled::of(&task)).unwrap_or_default())
}

/// `POST /new`: the plain form.
pub(crate) async fn create(State(hub): State<Hub>, Form(filled): Form<Filled>) -> Response {
    let error = match attempt(&hub, &filled).await {
        Ok(address) => return Redirect::to(&address).into_response(),
        Err(error) => error,
    };
    match hub.machines().await {
        Ok(machines) => {
            let status =
                StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            respond(status, &online_first(machines), &filled, Some(&error))
        }
        Err(error) => message::problem(&error),
    }
}

async fn attempt(hub: &Hub, filled: &Filled) -> Result<String, HubError> {
    let id = hub.create(filled.order()?).await?;
    Ok(format!("/tasks/{}", path_segment(id.as_str())))
}

/// The form as sent.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Filled {
    /// Machine and agent, with a slash between them.
    #[serde(default)]
    target: String,
    #[serde(default)]
    prompt: String,
    #[serde(default)]
    mode: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    model: String,
    /// The agent's own mode; `mode` is the place.
    #[serde(default)]
    agent_mode: String,
    #[serde(default)]
    effort: String,
}

impl Filled {
    /// What a task was made with; its attachments have to be chosen again.
    fn of(task: &TaskView) -> Self {
        let mode = match task.mode {
            Mode::Output => "output",
            Mode::Repository { .. } => "repository",
        };
        Self {
            target: format!("{}/{}", task.summary.machine, task.summary.agent),
            prompt: task
                .runs
                .first()
                .map(|run| run.prompt.clone())
                .unwrap_or_default(),
            mode: mode.to_owned(),
            path: task.repo_path().unwrap_or_default().to_owned(),
            model: task.tuning.model.clone().unwrap_or_default(),
            agent_mode: task.tuning.mode.clone().unwrap_or_default(),
            effort: task.tuning.effort.clone().unwrap_or_default(),
        }
    }

    fn order(&self) -> Result<NewTask, HubError> {
        let malformed = |reason: &dyn std::fmt::Display| HubError::Malformed {
            what: "the choice of an agent",
            reason: reason.to_string(),
        };
        let (machine, agent) = self
            .target
            .split_once('/')
            .ok_or_else(|| malformed(&"no agent is chosen"))?;
        let mode = match self.mode.as_str() {
            "repository" => Mode::Repository {
                path: self.path.trim().to_owned(),
            },
            _ => Mode::Output,
        };
        let chosen = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        Ok(NewTask {
            machine: BridgeId::parse(machine).map_err(|error| malformed(&error))?,
            agent: AgentId::parse(agent).map_err(|error| malformed(&error))?,
            prompt: self.prompt.clone(),
            mode,
            attachments: Vec::new(),
            tuning: Tuning {
                model: chosen(&self.model),
                mode: chosen(&self.agent_mode),
                effort: chosen(&self.effort),
            },
        })
    }
}

fn respond(
    status: StatusCode,
    machines: &[Machine],
    filled: &Filled,
    error: Option<&HubError>,
) -> Response {
    let main = form(machines, filled, error);
    Page {
        title: "New task",
        script: Some("new.js"),
        navigation: true,
        main,
    }
    .respond(status)
}

fn form(machines: &[Machine], filled: &Filled, error: Option<&HubError>) -> Markup {
    let ready = |machine: &Machine| {
        machine.online && machine.agents.iter().any(|agent| agent.health.available)
    };
    let any = machines.iter().any(ready);
    let in_repository = filled.mode == "repository";
    let tuned = [&filled.model, &filled.agent_mode, &filled.effort];
    let tuned = tuned.iter().any(|text| !text.is_empty());
    html! {
        div.narrow {
            h1 { "New task" }
            @if let Some(error) = error {
                p.alert.bad role="alert" { (message::sentence(&error.to_string()))
                    @if let Some(hint) = error.hint() { " " (with_code(&message::sentence(hint))) } }
            }
            @if !any {
                p.alert.attention {
                    @if machines.is_empty() { "No machine is paired yet. " a href="/" { "See how to pair one." } }
                    @else { "No agent is available at the moment. Start the bridge on a machine, or run " code { "ctrlnode doctor" } " there." }
                }
            }
            form.stack #new method="post" action="/new" {
                div.field {
                    label for="target" { "Agent" }
                    select #target name="target" required {
                        @for machine in machines { (options(machine, filled)) }
                    }
                    @let unfit: Vec<_> = machines.iter().flat_map(unavailable).collect();
                    @if !unfit.is_empty() {
                        details.fold.more #unfit {
                            summary { "Why are some not available?" }
                            ul.inside.plain { @for one in &unfit { li { strong { (one.0) } " " (with_code(&one.1)) } } }
                        }
                    }
                }
                div.field {
                    label for="prompt" { "What shall it do?" }
                    textarea #prompt name="prompt" rows="6" required autofocus
                        placeholder="Describe the task in your own words" { (filled.prompt) }
                }
                div.field #attachments hidden {
                    label.button.small for="files" { (icon(Icon::Clip)) "Attach files" }
                    input.sr #files type="file" multiple;
                    ul.chips #chosen aria-label="Chosen files" {}
                }
                fieldset.field {
                    legend { "Where" }
                    label.choice { input type="radio" name="mode" value="output" checked[!in_repository];
                        span { strong { "In a folder of its own" } span.hint { "Results appear on the task’s page." } } }
                    label.choice { input type="radio" name="mode" value="repository" checked[in_repository];
                        span { strong { "In a repository" } span.hint { "Works directly on the files of a project." } } }
                    div.field.sub #place {
                        label for="path" { "Path on that machine" }
                        input #path name="path" type="text" value=(filled.path) spellcheck="false"
                            autocapitalize="off" autocomplete="off" placeholder="/home/me/project";
                    }
                }
                details.fold.more #options open[tuned] {
                    summary { "More options" }
                    div.field.inside {
                        label for="model" { "Model" span.hint { "optional" } }
                        input #model name="model" type="text" value=(filled.model) spellcheck="false"
                            autocapitalize="off" autocomplete="off" placeholder="The agent’s own" list="models";
                        datalist #models {
                            @for (provider, models) in machines.iter().flat_map(|machine| &machine.models) {
                                @for model in models.iter().take(MAX_MODELS) {
                                    option value=(model) data-provider=(provider) { (provider_name(provider.as_str())) }
                                }
                            }
                        }
                    }
                    (own_words("agent-mode", "agent_mode", "Mode", &filled.agent_mode))
                    (own_words("effort", "effort", "Thinking effort", &filled.effort))
                }
                div.actions {
                    button.button.primary type="submit" disabled[!any] { "Start task" }
                    span.hint.keys { kbd { "Ctrl" } " + " kbd { "Enter" } }
                }
            }
        }
    }
}

/// A setting in the agent's own words, which it may refuse.
fn own_words(id: &str, name: &str, label: &str, value: &str) -> Markup {
    html! {
        div.field.inside {
            label for=(id) { (label) span.hint { "optional, where the agent has it" } }
            input id=(id) name=(name) type="text" value=(value) spellcheck="false"
                autocapitalize="off" autocomplete="off" placeholder="The agent’s own";
        }
    }
}

fn options(machine: &Machine, filled: &Filled) -> Markup {
    let label = if machine.online {
        machine.name.clone()
    } else {
        format!("{} (offline)", machine.name)
    };
    html! {
        optgroup label=(label) {
            @for agent in &machine.agents {
                @let value = format!("{}/{}", machine.id, agent.profile.id);
                @let fit = machine.online && agent.health.available;
                option value=(value) disabled[!fit] selected[fit && value == filled.target]
                    data-provider=(agent.profile.provider) data-machine=(machine.id) data-agent=(agent.profile.id) {
                    (agent.profile.name)
                    @if !fit { " (" (reason(agent.health.reason).to_lowercase()) ")" }
                }
            }
            @if machine.agents.is_empty() { option disabled { @if machine.online { "no agents" } @else { "not connected" } } }
        }
    }
}

/// What cannot be chosen: its name, and why with what to do.
fn unavailable(machine: &Machine) -> Vec<(String, String)> {
    if !machine.online {
        let why = "is not connected: start the bridge on that machine.";
        return vec![(machine.name.clone(), why.to_owned())];
    }
    machine
        .agents
        .iter()
        .filter(|agent| !agent.health.available)
        .map(|agent| {
            let mut why = reason(agent.health.reason).to_lowercase();
            if let Some(hint) = &agent.health.hint {
                why.push_str(": ");
                why.push_str(hint);
            }
            (format!("{} on {}", agent.profile.name, machine.name), why)
        })
        .collect()
}

/// Of one provider; a datalist of thousands is no help.
const MAX_MODELS: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::tests::{assert_nothing_inline, machines};

    #[test]
    fn only_agents_that_can_run_can_be_chosen_and_the_rest_says_why() {
        let html = form(&machines(), &Filled::default(), None).into_string();
        assert_nothing_inline(&html);
        assert!(html.contains("value=\"m1/demo\" data-provider"), "{html}");
        assert!(html.contains("value=\"m1/gemini\" disabled"), "{html}");
        assert!(html.contains("run &lt;gemini&gt;"), "{html}");
        assert!(html.contains("not connected"), "{html}");
    }

    #[test]
    fn a_refused_form_comes_back_filled_and_escaped() {
        let filled = Filled {
            prompt: "</textarea><script>".into(),
            ..Filled::default()
        };
        let html = form(&machines(), &filled, Some(&HubError::EmptyPrompt)).into_string();
        assert!(html.contains("&lt;/textarea&gt;&lt;script&gt;"));
        assert!(html.contains("The prompt is empty."));
    }

    #[test]
    fn a_task_like_another_begins_with_its_order() {
        let mut task = crate::web::task::tests::view("mend <it>");
        task.mode = Mode::Repository {
            path: "/src/web".into(),
        };
        task.tuning = Tuning {
            model: Some("m".into()),
            mode: Some("plan".into()),
            effort: Some("high".into()),
        };
        let filled = Filled::of(&task);
        let html = form(&machines(), &filled, None).into_string();
        assert!(html.contains("mend &lt;it&gt;</textarea>"), "{html}");
        assert!(html.contains("value=\"/src/web\""));
        assert!(html.contains("value=\"m1/demo\" selected"), "{html}");
        let order = filled.order().unwrap();
        assert_eq!((order.mode, order.tuning), (task.mode, task.tuning));
    }

    #[test]
    fn the_plain_form_becomes_an_order() {
        let filled = Filled {
            target: "m1/Demo".into(),
            prompt: "go".into(),
            mode: "repository".into(),
            path: " /src ".into(),
            model: " ".into(),
            ..Filled::default()
        };
        let order = filled.order().unwrap();
        assert_eq!(
            (order.machine.as_str(), order.agent.as_str()),
            ("m1", "demo")
        );
        assert_eq!(
            order.mode,
            Mode::Repository {
                path: "/src".into()
            }
        );
        assert_eq!(order.tuning, Tuning::default());
        assert!(Filled::default().order().is_err());
    }
}
