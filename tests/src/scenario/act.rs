//! One step of a scenario.

use std::{fs, time::Duration};

use serde_json::Value;

use super::{
    Complaint,
    call::call,
    script::{Expect, Run, Step},
    stage::{Stage, manners},
    subset::{fill, fill_text, fits},
};
use crate::{
    fake_plane::{FakePlane, Heard, Manners, Order, What, frame},
    home::Running,
    wire,
};

type Done = Result<(), Complaint>;

/// Does it.
pub(super) async fn act(stage: &mut Stage, step: &Step) -> Done {
    match step {
        Step::Sync(providers) => sync(stage, providers).await,
        Step::Send(frame) => {
            let frame = fill(frame, &stage.kept);
            plane(stage)?.send(&frame).await;
            Ok(())
        }
        Step::SendText(text) => order(stage, Order::Text(text.clone())).await,
        Step::SendBinary(bytes) => order(stage, Order::Binary(vec![0; *bytes])).await,
        Step::Expect(expect) => wait_for(stage, expect).await,
        Step::Never(wanted) => never(stage, wanted),
        Step::Says { task, text } => {
            let plane = plane(stage)?;
            let says = |_: &Heard| plane.text_of(task).contains(text.as_str());
            see(plane, 0, PATIENCE, says, "the text did not come")
                .await
                .map(drop)
        }
        Step::File { path, contains } => file(stage, path, contains).await,
        Step::Cut(_) => {
            plane(stage)?.cut();
            Ok(())
        }
        Step::Close(code) => {
            plane(stage)?.close(*code, "as the scenario says");
            Ok(())
        }
        Step::Refuse(status) => {
            let plane = plane(stage)?;
            plane.set_manners(Manners::refuse(*status, "as the scenario says"));
            plane.cut();
            Ok(())
        }
        Step::Refused(times) => {
            let plane = plane(stage)?;
            let mut at = plane.seen();
            for _ in 0..*times {
                let refused = |heard: &Heard| matches!(heard.what, What::Refused(_));
                at = see(plane, at, PATIENCE, refused, "nobody dialled").await?.0;
            }
            Ok(())
        }
        Step::Accept(_) => {
            plane(stage)?.set_manners(manners(stage.other));
            Ok(())
        }
        Step::Connected(_) => {
            let from = stage.looked;
            let opened = |heard: &Heard| matches!(heard.what, What::Opened(_));
            stage.looked = see(plane(stage)?, from, PATIENCE, opened, "nobody connected")
                .await?
                .0;
            Ok(())
        }
        Step::Kill(_) => {
            bridge(stage)?.kill().await;
            stage.bridge = None;
            Ok(())
        }
        Step::Stop(_) => {
            let code = bridge(stage)?.terminate().await;
            let told = stage.output();
            stage.bridge = None;
            expect(
                code == Some(0),
                || format!("it ended with exit code {code:?}"),
                told,
            )
        }
        Step::Start(_) => {
            expect(
                stage.bridge.is_none(),
                || "it runs already".into(),
                String::new(),
            )?;
            stage.start();
            Ok(())
        }
        Step::NobodyLeft { task, request } => {
            stage.home.none_left_of(task, request).await;
            Ok(())
        }
        Step::Run(run) => ctrlnode(stage, run).await,
        Step::Call(asked) => call(stage, asked).await,
    }
}

async fn sync(stage: &mut Stage, providers: &[String]) -> Done {
    let plane = plane(stage)?;
    for provider in providers {
        let before = plane.seen();
        plane.send(&wire::sync(provider)).await;
        let ack = format!("sync_{provider}_agents_ack");
        let is_ack = |heard: &Heard| frame(heard).is_some_and(|frame| frame["action"] == ack);
        see(plane, before, PATIENCE, is_ack, "not acknowledged").await?;
    }
    Ok(())
}

async fn wait_for(stage: &mut Stage, expect: &Expect) -> Done {
    let wanted = fill(&expect.frame, &stage.kept);
    let within = Duration::from_secs(expect.within);
    let is_it = |heard: &Heard| frame(heard).is_some_and(|frame| fits(&wanted, frame));
    let what = format!("not heard within {} s", expect.within);
    let (at, heard) = see(plane(stage)?, stage.looked, within, is_it, &what).await?;
    stage.looked = at;
    for (name, pointer) in &expect.keep {
        let found = frame(&heard)
            .and_then(|frame| frame.pointer(pointer))
            .and_then(Value::as_str);
        let Some(text) = found else {
            return Err(complaint(
                format!("there is no text at {pointer}"),
                format!("{heard:?}"),
            ));
        };
        stage.kept.insert(name.clone(), text.to_owned());
    }
    Ok(())
}

fn never(stage: &Stage, wanted: &Value) -> Done {
    let wanted = fill(wanted, &stage.kept);
    let frames = plane(stage)?.frames();
    let found = frames.iter().find(|frame| fits(&wanted, frame));
    expect(
        found.is_none(),
        || "it was heard".into(),
        found.map(Value::to_string).unwrap_or_default(),
    )
}

async fn file(stage: &Stage, path: &str, contains: &str) -> Done {
    let file = stage.home.workspace().join(fill_text(path, &stage.kept));
    let mut text = String::new();
    for _ in 0..LOOKS {
        text = fs::read_to_string(&file).unwrap_or_default();
        if text.contains(contains) {
            return Ok(());
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    Err(complaint(format!("{path} does not hold that"), text))
}

async fn ctrlnode(stage: &mut Stage, run: &Run) -> Done {
    let args: Vec<String> = run
        .args
        .iter()
        .map(|arg| fill_text(arg, &stage.kept))
        .collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if run.background {
        stage
            .background
            .push(Running::start(stage.home.ctrlnode(&args)));
        return Ok(());
    }
    let mut left = LOOKS;
    let done = loop {
        let done = stage.home.run(&args, &run.input).await;
        // The hub may not be up yet, and its machine not connected.
        let early = stage.plane.is_none() && !stage.kept.contains_key("UP");
        left -= 1;
        if !early || done.code == Some(run.exit) || left == 0 {
            break done;
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    };
    stage.kept.insert("UP".into(), "yes".into());
    let told = format!("{}{}", done.stdout, done.stderr);
    let code = done.code;
    expect(
        code == Some(run.exit),
        || format!("it ended with exit code {code:?}"),
        told.clone(),
    )?;
    for (part, all) in run
        .stdout
        .iter()
        .map(|part| (part, &done.stdout))
        .chain(run.stderr.iter().map(|part| (part, &done.stderr)))
    {
        let part = fill_text(part, &stage.kept);
        expect(
            all.contains(&part),
            || format!("it did not say {part:?}"),
            told.clone(),
        )?;
    }
    if let Some(name) = &run.keep {
        stage
            .kept
            .insert(name.clone(), done.stdout.trim().to_owned());
    }
    Ok(())
}

async fn order(stage: &Stage, what: Order) -> Done {
    plane(stage)?.order(what).await;
    Ok(())
}

fn plane(stage: &Stage) -> Result<&FakePlane, Complaint> {
    let none = || complaint("this step needs a fake plane".into(), String::new());
    stage.plane.as_ref().ok_or_else(none)
}

fn bridge(stage: &mut Stage) -> Result<&mut Running, Complaint> {
    let none = || complaint("no bridge is running".into(), String::new());
    stage.bridge.as_mut().ok_or_else(none)
}

async fn see(
    plane: &FakePlane,
    skip: usize,
    within: Duration,
    is_it: impl Fn(&Heard) -> bool,
    what: &str,
) -> Result<(usize, Heard), Complaint> {
    let seen = plane.try_see_after(skip, within, is_it).await;
    seen.ok_or_else(|| {
        complaint(
            what.to_owned(),
            format!("the plane heard:\n{}", plane.told()),
        )
    })
}

fn expect(good: bool, what: impl FnOnce() -> String, told: String) -> Done {
    if good {
        Ok(())
    } else {
        Err(complaint(what(), told))
    }
}

fn complaint(what: String, told: String) -> Complaint {
    Complaint { what, told }
}

/// Generous: a busy machine is no failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// A file makes no event here, so it is looked for this often.
const LOOKS: u32 = 1200;
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
