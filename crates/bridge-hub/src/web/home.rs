//! The start page: machines with their agents, tasks that run, tasks that ran.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use bridge_proto::{
    ProviderKey,
    model::{AgentStatus, Health, HealthReason, Trouble},
};
use maud::{Markup, html};

use super::{
    layout::{Icon, Page, Tone, badge, html_response, icon, time, with_code},
    message,
};
use crate::{
    Hub,
    error::HubError,
    prepare::shortened,
    view::{AgentView, Machine, TaskStatus, TaskSummary},
};

/// `GET /`.
pub(crate) async fn page(State(hub): State<Hub>, headers: HeaderMap) -> Response {
    match load(&hub).await {
        Ok((machines, tasks)) => {
            let waiting = waiting(&tasks);
            let title = if waiting == 0 {
                "Tasks".to_owned()
            } else {
                format!("({waiting}) Tasks")
            };
            let main = html! {
                h1.sr { "Machines and tasks" }
                div #home { (content(&machines, &tasks, &Door::of(&hub, &headers))) }
                form.foot method="post" action="/logout" {
                    button.button.ghost.small type="submit" { "Log out" }
                }
            };
            let page = Page {
                title: &title,
                script: Some("home.js"),
                navigation: true,
                main,
            };
            page.respond(StatusCode::OK)
        }
        Err(error) => message::problem(&error),
    }
}

/// `GET /fragments/home`: what stands between the bars, for the script.
pub(crate) async fn fragment(State(hub): State<Hub>, headers: HeaderMap) -> Response {
    match load(&hub).await {
        Ok((machines, tasks)) => html_response(
            StatusCode::OK,
            content(&machines, &tasks, &Door::of(&hub, &headers)),
        ),
        Err(error) => message::problem(&error),
    }
}

async fn load(hub: &Hub) -> Result<(Vec<Machine>, Vec<TaskSummary>), HubError> {
    Ok((
        online_first(hub.machines().await?),
        hub.tasks(SHOWN_TASKS, None).await?,
    ))
}

/// Machines in the order people look for them.
pub(crate) fn online_first(mut machines: Vec<Machine>) -> Vec<Machine> {
    machines.sort_by_key(|machine| !machine.online);
    machines
}

/// Tasks that wait for a person.
fn waiting(tasks: &[TaskSummary]) -> usize {
    let waits = |task: &&TaskSummary| task.status == TaskStatus::Waiting;
    tasks.iter().filter(waits).count()
}

fn content(machines: &[Machine], tasks: &[TaskSummary], door: &Door) -> Markup {
    if machines.is_empty() && tasks.is_empty() {
        return welcome(door);
    }
    let (live, ended): (Vec<_>, Vec<_>) = tasks.iter().partition(|task| task.status.is_live());
    html! {
        div.columns data-waiting=(waiting(tasks)) {
            section.tasks aria-label="Tasks" {
                @if tasks.is_empty() {
                    (first_task(machines))
                }
                @if !live.is_empty() {
                    h2 { "Now" }
                    ul.list { @for task in live { (task_line(task)) } }
                }
                @if !ended.is_empty() {
                    h2 { "Recent" }
                    ul.list { @for task in ended { (task_line(task)) } }
                }
            }
            section.machines aria-label="Machines" {
                h2 { "Machines" }
                @if machines.is_empty() { p.hint { "No machine is paired any more." } }
                @for one in machines { (machine(one, tasks)) }
                details.fold.more #pair {
                    summary { "Pair another machine" }
                    div.inside { (pairing(door)) }
                }
            }
        }
    }
}

/// The first task, from the start page itself; a form that works without a script too.
fn first_task(machines: &[Machine]) -> Markup {
    let fit: Vec<(&Machine, &AgentView)> = machines
        .iter()
        .filter(|machine| machine.online)
        .flat_map(|machine| machine.agents.iter().map(move |agent| (machine, agent)))
        .filter(|(_, agent)| agent.health.available)
        .collect();
    html! {
        div.empty {
            h2 { "No tasks yet" }
            @if fit.is_empty() {
                p { "Give an agent something to do as soon as one is ready." }
                a.button href="/new" { (icon(Icon::Plus)) "New task" }
            } @else {
                p { "Give an agent something to do and watch it work." }
                form.stack #first method="post" action="/new" {
                    label.sr for="first-prompt" { "What shall it do?" }
                    textarea #first-prompt name="prompt" rows="3" required placeholder="Describe the task in your own words" {}
                    div.actions {
                        label.sr for="first-target" { "Agent" }
                        select #first-target name="target" {
                            @for (machine, agent) in &fit {
                                option value={ (machine.id) "/" (agent.profile.id) } { (agent.profile.name) " on " (machine.name) }
                            }
                        }
                        button.button.primary type="submit" { "Start task" }
                    }
                }
                @if let Some((machine, agent)) = fit.iter().find(|(_, agent)| agent.profile.provider.as_str() == "demo") {
                    form method="post" action="/new" {
                        input type="hidden" name="target" value={ (machine.id) "/" (agent.profile.id) };
                        input type="hidden" name="prompt" value="Write a haiku";
                        button.button.ghost.small type="submit" { "Or let the demo agent write a haiku" }
                    }
                }
            }
        }
    }
}

/// What other machines are paired with.
struct Door {
    address: String,
    /// Only the hub's own machine reaches it.
    local: bool,
}

impl Door {
    /// By the public origin, or else by the address the page itself was asked for.
    fn of(hub: &Hub, headers: &HeaderMap) -> Self {
        let host = headers.get(header::HOST);
        let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
        Self::new(hub.public.as_deref(), host)
    }

    fn new(public: Option<&str>, host: &str) -> Self {
        let address = match public.and_then(|origin| origin.split_once("://")) {
            Some(("https", host)) => format!("wss://{host}/ws/bridge"),
            Some((_, host)) => format!("ws://{host}/ws/bridge"),
            None => format!("ws://{host}/ws/bridge"),
        };
        let bare = host.rsplit_once(':').map_or(host, |(bare, _)| bare);
        let local = matches!(bare, "127.0.0.1" | "localhost" | "[::1]" | "");
        Self {
            address,
            local: public.is_none() && local,
        }
    }
}

fn welcome(door: &Door) -> Markup {
    html! {
        div.notice.wide {
            h1 { "Pair your first machine" }
            p { "A machine runs the agents. It connects to this page by itself; nothing on it has to be reachable from outside." }
            (pairing(door))
            p.hint { "It appears here as soon as it connects." }
        }
    }
}

fn pairing(door: &Door) -> Markup {
    html! {
        ol.numbered {
            li { "Where this hub runs, make a token for the machine:" pre tabindex="0" { code { "ctrlnode hub token create my-machine" } } }
            li { "On the machine, run the setup and give it the token:" pre tabindex="0" { code { "ctrlnode setup --token-stdin --url " (door.address) } }
                @if door.local {
                    p.hint { "Only the hub’s own machine reaches this address. For others, put HTTPS in front of the hub and start it with " code { "--public-origin https://…" } ", or let it listen on a private network." }
                } }
            li { "Start the bridge there:" pre tabindex="0" { code { "ctrlnode" } } }
        }
        p.hint { "Or without a token: run " code { "ctrlnode login --url " (door.address) } " on the machine, then " a href="/bridge/activate" { "enter its code" } "." }
    }
}

fn task_line(task: &TaskSummary) -> Markup {
    html! {
        li {
            a.task-line href={ "/tasks/" (path_segment(task.id.as_str())) } {
                span.title { (task.title) }
                (status_badge(task.status))
                span.meta { (task.agent) " on " (task.machine_name) " · " (time(task.updated)) }
                @if let Some(reason) = &task.reason { span.reason { (reason) } }
            }
        }
    }
}

/// A task's status as a badge.
pub(crate) fn status_badge(status: TaskStatus) -> Markup {
    let (tone, text) = match status {
        TaskStatus::Queued => (Tone::Quiet, "Queued"),
        TaskStatus::Running => (Tone::Active, "Running"),
        TaskStatus::Waiting => (Tone::Attention, "Waiting for you"),
        TaskStatus::Completed => (Tone::Good, "Completed"),
        TaskStatus::Failed => (Tone::Bad, "Failed"),
        TaskStatus::Blocked => (Tone::Attention, "Blocked"),
        TaskStatus::Cancelled => (Tone::Quiet, "Cancelled"),
        TaskStatus::Rejected => (Tone::Bad, "Not accepted"),
        TaskStatus::Joined => (Tone::Quiet, "Read at once"),
    };
    badge(tone, text)
}

fn machine(machine: &Machine, tasks: &[TaskSummary]) -> Markup {
    let served = |key: &ProviderKey| {
        machine
            .agents
            .iter()
            .any(|one| one.profile.provider == *key)
    };
    let missing: Vec<(&ProviderKey, &Health)> = machine
        .providers
        .iter()
        .map(|(key, report)| (key, &report.health))
        .filter(|(key, health)| !health.available && !served(key))
        .collect();
    // An agent that only waits for a person does not work.
    let waits = |agent: &AgentView| {
        let mut of_it = tasks
            .iter()
            .filter(|task| task.machine == machine.id && task.agent == agent.profile.id);
        let busy = of_it.clone().any(|task| task.status == TaskStatus::Running);
        !busy && of_it.any(|task| task.status == TaskStatus::Waiting)
    };
    let hostname = machine
        .hostname
        .as_deref()
        .filter(|name| *name != machine.name);
    let about: Vec<&str> = [hostname, machine.version.as_deref()]
        .into_iter()
        .flatten()
        .collect();
    html! {
        article.machine.off[!machine.online] {
            header {
                span.machine-sign { (icon(Icon::Machine)) }
                div.who {
                    h3 { (machine.name) }
                    @if !about.is_empty() { p.meta { (about.join(" · ")) } }
                    p.meta {
                        @if machine.online { "connected " } @else if machine.hostname.is_some() { "last seen " } @else { "paired " }
                        (time(machine.since))
                    }
                }
                @if machine.online { (badge(Tone::Good, "Online")) } @else { (badge(Tone::Quiet, "Offline")) }
            }
            @if !machine.agents.is_empty() {
                ul.agents { @for one in &machine.agents { (agent(one, waits(one))) } }
            } @else if machine.online {
                p.hint { "No agents yet. Install one there, and run " code { "ctrlnode doctor" } " to see what is missing." }
            } @else if machine.hostname.is_none() {
                p.hint { "Waits for its first connection: run " code { "ctrlnode setup" } " there." }
            }
            @if !missing.is_empty() {
                details.fold.more #{ "m-" (machine.id) } {
                    summary { (missing.len()) @if missing.len() == 1 { " more agent program" } @else { " more agent programs" } " not available" }
                    ul.agents.inside {
                        @for (key, health) in missing {
                            li.unfit {
                                div.agent-name { strong { (provider_name(key.as_str())) } }
                                (health_badge(health, AgentStatus::Idle))
                                @if let Some(hint) = &health.hint { p.hint { (with_code(hint)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn agent(agent: &AgentView, waits: bool) -> Markup {
    let profile = &agent.profile;
    let provider = provider_name(profile.provider.as_str());
    let about: Vec<&str> = [
        (!profile.name.eq_ignore_ascii_case(provider)).then_some(provider),
        agent.health.version.as_deref(),
        profile.model.as_deref(),
    ]
    .into_iter()
    .flatten()
    .collect();
    html! {
        li.unfit[!agent.health.available] {
            div.agent-name {
                @if !profile.emoji.is_empty() { span.emoji aria-hidden="true" { (profile.emoji) } }
                strong { (profile.name) }
                @if !about.is_empty() { span.meta { (about.join(" · ")) } }
            }
            @if waits && agent.health.available { (badge(Tone::Attention, "Waits for you")) }
            @else { (health_badge(&agent.health, agent.status)) }
            @if !agent.health.available {
                @if let Some(hint) = &agent.health.hint { p.hint { (with_code(hint)) } }
            }
            @if let Some(last) = &agent.trouble { (trouble(last)) }
        }
    }
}

/// What went wrong last, and what to do about it.
fn trouble(last: &Trouble) -> Markup {
    html! {
        p.hint.trouble {
            "Last run, " (time(last.at)) ": " (shortened(&last.reason, 300))
            @if let Some(todo) = &last.todo { br; (with_code(&message::sentence(todo))) }
        }
    }
}

fn health_badge(health: &Health, status: AgentStatus) -> Markup {
    if !health.available {
        return badge(Tone::Attention, reason(health.reason));
    }
    match status {
        AgentStatus::Running => badge(Tone::Active, "Working"),
        AgentStatus::Idle => badge(Tone::Good, "Ready"),
    }
}

/// Why a provider cannot run, in a few words.
pub(crate) fn reason(reason: Option<HealthReason>) -> &'static str {
    match reason {
        Some(HealthReason::BinaryMissing) => "Not installed",
        Some(HealthReason::AuthRequired) => "Needs login",
        Some(HealthReason::ServiceUnreachable) => "Service unreachable",
        None => "Not available",
    }
}

/// What people call a provider.
pub(crate) fn provider_name(key: &str) -> &str {
    match key {
        "claude" => "Claude Code",
        "gemini" => "Gemini CLI",
        "codex" => "Codex",
        "copilot" => "Copilot",
        "cursor" => "Cursor",
        "opencode" => "opencode",
        "openclaw" => "OpenClaw",
        "hermes" => "Hermes",
        "demo" => "Demo agent",
        other => other,
    }
}

/// Text as one segment of a path.
pub(crate) fn path_segment(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// Tasks on the start page.
const SHOWN_TASKS: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::tests::{assert_nothing_inline, machines, summary};

    #[test]
    fn an_empty_hub_tells_how_to_pair_a_machine() {
        let html = content(&[], &[], &door()).into_string();
        assert!(html.contains("ctrlnode setup") && html.contains("Pair your first machine"));
    }

    #[test]
    fn machines_say_what_runs_and_why_the_rest_does_not() {
        let html = content(&machines(), &[summary(TaskStatus::Running)], &door()).into_string();
        assert_nothing_inline(&html);
        assert!(html.contains("Demo agent") && html.contains("Ready"));
        assert!(
            html.contains("Needs login")
                && html.contains(
                    "run <gemini>"
                        .replace('<', "&lt;")
                        .replace('>', "&gt;")
                        .as_str()
                )
        );
        assert!(html.contains("Now") && !html.contains("Recent"));
    }

    fn door() -> Door {
        Door::new(None, "127.0.0.1:7433")
    }

    #[test]
    fn a_pairing_names_the_address_others_reach() {
        let html =
            pairing(&Door::new(Some("https://hub.example.org"), "127.0.0.1:1")).into_string();
        assert!(
            html.contains("ctrlnode setup --token-stdin --url wss://hub.example.org/ws/bridge")
        );
        assert!(!html.contains("--public-origin"));
        let private = Door::new(None, "100.64.0.5:7433");
        assert_eq!(private.address, "ws://100.64.0.5:7433/ws/bridge");
        assert!(!private.local);
        let html = pairing(&door()).into_string();
        assert!(html.contains("ws://127.0.0.1:7433/ws/bridge") && html.contains("--public-origin"));
    }

    #[test]
    fn an_agent_that_waits_for_a_person_does_not_work() {
        let mut busy = machines();
        busy[0].agents[0].status = AgentStatus::Running;
        let html = content(&busy, &[summary(TaskStatus::Waiting)], &door()).into_string();
        assert!(
            html.contains("Waits for you") && !html.contains("Working"),
            "{html}"
        );
        assert!(html.contains("data-waiting=\"1\""));
        let both = [summary(TaskStatus::Waiting), summary(TaskStatus::Running)];
        let html = content(&busy, &both, &door()).into_string();
        assert!(html.contains("Working") && !html.contains("Waits for you"));
    }

    #[test]
    fn the_first_task_starts_on_the_start_page() {
        let html = content(&machines(), &[], &door()).into_string();
        assert_nothing_inline(&html);
        assert!(html.contains("name=\"prompt\"") && html.contains("value=\"m1/demo\""));
        assert!(!html.contains("m1/gemini"), "it cannot run");
    }

    #[test]
    fn an_agent_shows_what_went_wrong_last_and_what_to_do() {
        let mut machines = machines();
        machines[0].agents[0].trouble = Some(Trouble {
            at: bridge_proto::Timestamp::from_millis(1_773_480_413_589),
            reason: format!("<b>no credit</b>{}", "x".repeat(1000)),
            todo: Some("buy credit".into()),
        });
        let html = content(&machines, &[], &door()).into_string();
        assert_nothing_inline(&html);
        assert!(html.contains("&lt;b&gt;no credit&lt;/b&gt;") && html.contains("Buy credit."));
        assert!(html.len() < 20_000 && html.contains("x…"), "{html}");
    }

    #[test]
    fn ids_become_one_segment_of_a_path() {
        assert_eq!(path_segment("a/../b?c#d é"), "a%2F..%2Fb%3Fc%23d%20%C3%A9");
    }
}
