//! `ctrlnode task …`: tasks through the hub's API, streamed to the terminal.

use std::{
    io::{self, Read as _, Write as _},
    path::Path,
};

use bridge_hub::{Applies, StoredEvent, TaskView, Told};
use bridge_proto::{
    AskId,
    model::{Answer, Ask, AskEnd, EventBody, RunEvent, Tuning, When},
};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::follow::{LATER, follow};
use crate::{
    args::{HubAddress, RunArgs, TaskCommand, TuningArgs},
    client::{self, Client},
    invocation,
    machine::choose,
    render::{Renderer, in_a_while, plain},
    report::{Exit, Problem},
};

/// Does what was asked with tasks.
pub(crate) async fn run(command: TaskCommand, hub: &HubAddress) -> Result<Exit, Problem> {
    let client = Client::find(hub)?;
    match command {
        TaskCommand::Run(args) => start(&client, args, hub).await,
        TaskCommand::FollowUp {
            task,
            message,
            now,
            json,
        } => {
            let task = find(&client, &task).await?;
            let after = client.task(&task).await?.last_seq;
            let when = if now { When::Now } else { When::After };
            let run = client
                .follow_up(&task, &text_or_stdin(message)?, when)
                .await?;
            follow(&client, hub, &task, after, Renderer::of(&run, json)).await
        }
        TaskCommand::List { limit, json } => list(&client, limit, json).await,
        TaskCommand::Show { task, json } => show(&client, &task, json).await,
        TaskCommand::Logs {
            task,
            no_follow,
            json,
        } => logs(&client, &task, no_follow, json).await,
        TaskCommand::Asks { json } => asks(&client, json).await,
        TaskCommand::Answer {
            task,
            answer: text,
            ask,
        } => answer(&client, &task, text, ask.as_deref()).await,
        TaskCommand::Interrupt { task } => {
            let task = find(&client, &task).await?;
            client.interrupt(&task).await?;
            Ok(Exit::Done)
        }
        TaskCommand::Cancel { task } => {
            let task = find(&client, &task).await?;
            match client.cancel(&task).await? {
                Told::Now => {}
                Told::OnReturn => note(LATER)?,
            }
            Ok(Exit::Done)
        }
        TaskCommand::Tune { task, tuning } => {
            let task = find(&client, &task).await?;
            note(match client.tune(&task, &settings(tuning)).await? {
                Applies::Now => "asked for; the agent says what is in force",
                Applies::NextRun => "kept for the next run of the task",
            })?;
            Ok(Exit::Done)
        }
    }
}

async fn start(client: &Client, args: RunArgs, hub: &HubAddress) -> Result<Exit, Problem> {
    let mode = match &args.repo {
        Some(path) => json!({ "mode": "repository", "path": absolute(path)? }),
        None => json!({ "mode": "output" }),
    };
    let attachments = args.attach.iter().map(|path| client::attachment(path));
    let attachments: Vec<Value> = attachments.collect::<Result<_, _>>()?;
    let machine = match &args.machine {
        None => None,
        Some(wanted) => Some(machine(client, wanted).await?),
    };
    let task = json!({
        "machine": machine,
        "agent": args.agent,
        "prompt": text_or_stdin(args.prompt)?,
        "mode": mode,
        "tuning": settings(args.tuning),
        "attachments": attachments,
    });
    let id = client.create(&task).await?;
    if args.detach {
        print(&id)?;
        return Ok(Exit::Done);
    }
    if !args.json {
        note(&format!("task {id}"))?;
    }
    follow(client, hub, &id, 0, Renderer::new(args.json)).await
}

fn settings(args: TuningArgs) -> Tuning {
    let TuningArgs {
        model,
        mode,
        effort,
    } = args;
    Tuning {
        model,
        mode,
        effort,
    }
}

async fn logs(client: &Client, task: &str, no_follow: bool, json: bool) -> Result<Exit, Problem> {
    let id = find(client, task).await?;
    let task = client.task(&id).await?;
    let mut renderer = Renderer::new(json);
    renderer.answered_by(&id, false);
    let mut events = Box::pin(client.events(&id, 0).await?);
    let mut prompts = task.runs.clone();
    let live = task.summary.status.is_live() && !no_follow;
    let mut seq = 0;
    while live || seq < task.last_seq {
        let Some(stored) = events.next().await else {
            break;
        };
        let stored: StoredEvent = stored?;
        seq = stored.seq;
        let attempt = &stored.event.run.attempt;
        if let Some(at) = prompts.iter().position(|run| run.attempt == *attempt) {
            renderer
                .prompt(&prompts.remove(at).prompt)
                .map_err(Problem::output)?;
        }
        let end = renderer.event(&stored).map_err(Problem::output)?;
        if let Some(exit) = end
            && seq >= task.last_seq
            && live
        {
            return Ok(exit);
        }
    }
    Ok(Exit::Done)
}

async fn list(client: &Client, limit: u32, json: bool) -> Result<Exit, Problem> {
    let tasks = client.tasks(limit).await?;
    if json {
        print(&to_json(&tasks)?)?;
        return Ok(Exit::Done);
    }
    let machines = tasks.iter().map(|task| plain(&task.machine_name));
    let width = machines.map(|name| name.chars().count()).max().unwrap_or(0);
    for task in tasks {
        let id: String = task.id.as_str().chars().take(8).collect();
        let title: String = plain(&task.title).chars().take(60).collect();
        let line = format!(
            "{id}  {}  {:<10} {:<10} {:<width$}  {title}",
            minute(task.updated),
            task.status.as_str(),
            task.agent,
            plain(&task.machine_name),
        );
        print(&line)?;
    }
    Ok(Exit::Done)
}

/// A time as it is listed: to the minute, in UTC.
fn minute(at: bridge_proto::Timestamp) -> String {
    let text: String = at.to_string().chars().take(16).collect();
    format!("{}Z", text.replace('T', " "))
}

async fn show(client: &Client, task: &str, json: bool) -> Result<Exit, Problem> {
    let id = find(client, task).await?;
    let task = client.task(&id).await?;
    if json {
        print(&to_json(&task)?)?;
        return Ok(Exit::Done);
    }
    let summary = &task.summary;
    print(&format!("{}  {}", summary.id, plain(&summary.title)))?;
    let reason = summary
        .reason
        .as_deref()
        .map(|reason| format!(": {}", plain(reason)));
    let stopping = if task.is_stopping() {
        ", asked to stop"
    } else {
        ""
    };
    print(&format!(
        "status   {}{}{stopping}",
        summary.status.as_str(),
        reason.unwrap_or_default()
    ))?;
    print(&format!(
        "agent    {} on {}",
        summary.agent,
        plain(&summary.machine_name)
    ))?;
    if let Some(path) = task.repo_path() {
        print(&format!("works in {}", plain(path)))?;
    }
    for ask in &task.open_asks {
        print_ask(ask)?;
    }
    match client.files(&id).await {
        Ok(files) => {
            // A run that has ended left its log at least.
            let none = files.iter().all(|file| file.is_dir);
            if none && !summary.status.is_live() {
                print("files    kept on the machine by its contents policy")?;
            }
            for file in files.iter().filter(|file| !file.is_dir) {
                let size = file
                    .size
                    .map(|size| format!(" ({size} bytes)"))
                    .unwrap_or_default();
                print(&format!("file     {}{size}", plain(&file.path)))?;
            }
        }
        Err(problem) => note(&format!("result files: {problem}"))?,
    }
    Ok(Exit::Done)
}

async fn asks(client: &Client, json: bool) -> Result<Exit, Problem> {
    let asks = client.asks().await?;
    if json {
        print(&to_json(&asks)?)?;
        return Ok(Exit::Done);
    }
    for open in asks {
        let id: String = open.task.as_str().chars().take(8).collect();
        let (agent, machine) = (&open.agent, plain(&open.machine_name));
        let title: String = plain(&open.title).chars().take(60).collect();
        print(&format!("{id}  {agent} on {machine}: {title}"))?;
        print_ask(&open.ask)?;
    }
    Ok(Exit::Done)
}

fn print_ask(ask: &Ask) -> Result<(), Problem> {
    let state = match (&ask.answered, ask.expires) {
        (Some(answer), _) => format!(" (answered: {}; waits for the agent)", plain(answer)),
        (None, Some(at)) => format!(" (decided without you {})", in_a_while(at)),
        (None, None) => String::new(),
    };
    let summary = plain(&ask.summary);
    print(&format!("asks     {summary} [{}]{state}", ask.id))?;
    if ask.answered.is_some() {
        return Ok(());
    }
    for (place, option) in ask.options.iter().enumerate() {
        print(&format!("         {}. {}", place + 1, plain(&option.label)))?;
    }
    Ok(())
}

/// Answers a question, and says what came of it.
async fn answer(
    client: &Client,
    task: &str,
    answer: String,
    wanted: Option<&str>,
) -> Result<Exit, Problem> {
    let id = find(client, task).await?;
    let task = client.task(&id).await?;
    let ask = send_answer(client, &task, &answer, wanted).await?;
    note("sent, waiting for the agent")?;
    let taken = taken(client, &id, task.last_seq, &ask);
    match tokio::time::timeout(TAKEN_WITHIN, taken).await {
        Ok(Ok(line)) => note(&line)?,
        Ok(Err(problem)) => note(&format!("what came of it is not known: {problem}"))?,
        Err(_) => note(&format!(
            "the agent has not taken it yet; `{} show {id}` tells",
            invocation::task()
        ))?,
    }
    Ok(Exit::Done)
}

/// Sends an answer to the question that is wanted, or the only open one of the task.
///
/// # Errors
/// Says that there is no such question, that there are several, or that this is no answer to it.
pub(super) async fn send_answer(
    client: &Client,
    task: &TaskView,
    answer: &str,
    wanted: Option<&str>,
) -> Result<AskId, Problem> {
    let mut open = task.open_asks.iter().filter(|ask| ask.answered.is_none());
    let ask = match wanted {
        Some(wanted) => open.find(|ask| ask.id.as_str() == wanted),
        None => match (open.next(), open.next()) {
            (first, None) => first,
            (_, Some(_)) => {
                return Err(Problem::new("several questions are open").hint(format!(
                    "name one with --ask; `{} show {}` lists them",
                    invocation::task(),
                    task.summary.id
                )));
            }
        },
    };
    let ask = ask.ok_or_else(|| {
        Problem::new("no such question is open").hint("it may have been answered or withdrawn")
    })?;
    let answer = bridge_proto::model::match_answer(ask, answer);
    if let (Answer::Text { .. }, false) = (&answer, ask.options.is_empty())
        && ask.kind != bridge_proto::model::AskKind::Question
    {
        return Err(Problem::new("that is none of the options")
            .hint("answer with the number or the name of an option, or yes or no"));
    }
    let body = json!({ "ask": ask.id, "digest": ask.digest, "answer": answer });
    client.answer(task.summary.id.as_str(), &body).await?;
    Ok(ask.id.clone())
}

/// What became of an answer, in words.
async fn taken(client: &Client, id: &str, after: u64, ask: &AskId) -> Result<String, Problem> {
    let mut events = Box::pin(client.events(id, after).await?);
    while let Some(stored) = events.next().await {
        let EventBody::Seen(seen) = stored?.event.body else {
            continue;
        };
        if let RunEvent::AskClosed { ask: closed, how } = &seen.event
            && closed == ask
        {
            return Ok(match how {
                AskEnd::Answered { answer } => format!("the agent took it: {answer}"),
                AskEnd::ByPolicy { rule } => format!("decided by {rule}"),
                AskEnd::Expired => "too late: nobody had answered in time".to_owned(),
                AskEnd::Withdrawn => "the question was withdrawn".to_owned(),
            });
        }
    }
    Err(Problem::new("the stream of events ended"))
}

/// The one task whose id begins like this.
async fn find(client: &Client, wanted: &str) -> Result<String, Problem> {
    let tasks = client.tasks(SEARCHED).await?;
    let mut fits = tasks
        .iter()
        .filter(|task| task.id.as_str().starts_with(wanted));
    match (fits.next(), fits.next()) {
        (Some(task), None) => Ok(task.id.to_string()),
        (None, _) => Ok(wanted.to_owned()),
        (Some(_), Some(_)) => Err(
            Problem::new(format!("several tasks begin with {wanted}")).hint(format!(
                "give more letters of the id; `{} list` shows them",
                invocation::task()
            )),
        ),
    }
}

/// The machine of this id, or else of this name.
async fn machine(client: &Client, wanted: &str) -> Result<String, Problem> {
    choose(&client.machines().await?, wanted).map(|machine| machine.id.to_string())
}

fn absolute(path: &Path) -> Result<String, Problem> {
    let path = path.canonicalize().map_err(|error| {
        Problem::new(format!("{} is no folder on this machine", path.display())).because(error)
    })?;
    Ok(path.display().to_string())
}

fn text_or_stdin(text: String) -> Result<String, Problem> {
    if text != "-" {
        return Ok(text);
    }
    let mut text = String::new();
    io::stdin()
        .take(MAX_STDIN)
        .read_to_string(&mut text)
        .map_err(|error| Problem::new("standard input cannot be read").because(error))?;
    Ok(text)
}

fn to_json(value: &impl serde::Serialize) -> Result<String, Problem> {
    serde_json::to_string_pretty(value)
        .map_err(|error| Problem::new("the answer cannot be written as JSON").because(error))
}

fn print(line: &str) -> Result<(), Problem> {
    writeln!(io::stdout(), "{line}").map_err(Problem::output)
}

pub(super) fn note(line: &str) -> Result<(), Problem> {
    writeln!(io::stderr(), "· {line}").map_err(Problem::output)
}

/// How long an agent may take to take an answer before nobody waits for it here.
const TAKEN_WITHIN: std::time::Duration = std::time::Duration::from_secs(15);

/// Tasks among which the beginning of an id is looked for.
const SEARCHED: u32 = 200;

/// The hub takes no longer prompt.
const MAX_STDIN: u64 = 1024 * 1024 + 1;
