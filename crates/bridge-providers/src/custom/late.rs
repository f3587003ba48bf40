//! A program that gets its prompt as an argument can only be started once the prompt is there.
//! Until then the conversation is open without a process.

use bridge_proto::model::{Fault, Outcome};
use tokio::sync::mpsc;

use super::exec::ExecDialogue;
use crate::{
    conversation,
    process::Launch,
    provider::{Conversation, Heard, Injection, Steer, TurnEnd},
};

/// Opens the conversation. Dropping it ends the program, if it was started.
pub(super) fn converse(launch: Launch, dialogue: ExecDialogue) -> Conversation {
    let (tell, heard) = mpsc::channel(HEARD_ROOM);
    let (steer, asked) = mpsc::channel(STEER_ROOM);
    tokio::spawn(run(launch, dialogue, tell, asked));
    Conversation {
        heard,
        steer,
        pid: None,
    }
}

/// Every failure to send below means that the owner is gone, and with it the reason to go on.
async fn run(
    mut launch: Launch,
    dialogue: ExecDialogue,
    tell: mpsc::Sender<Heard>,
    mut asked: mpsc::Receiver<Steer>,
) {
    let Some(prompt) = first_prompt(&tell, &mut asked).await else {
        drop(tell.send(Heard::Gone).await);
        return;
    };
    let argument = dialogue.whole(&prompt);
    let opened = if argument.len() > ARGUMENT_BYTES || argument.contains('\0') {
        Err("the prompt is too long for an argument, or has a NUL in it".to_owned())
    } else {
        launch.args.push(argument.into());
        let opened = conversation::converse(launch, Box::new(dialogue)).await;
        opened.map_err(|error| match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        })
    };
    match opened {
        Ok(inner) => {
            if inner.steer.send(Steer::Prompt(prompt)).await.is_ok() {
                pass_on(inner, tell, asked).await;
            }
        }
        Err(reason) => {
            let outcome = Outcome::Failed {
                fault: Fault::Agent,
                reason,
            };
            let end = TurnEnd {
                outcome,
                answer: String::new(),
            };
            if tell.send(Heard::TurnOver(end)).await.is_ok() {
                drop(tell.send(Heard::Gone).await);
            }
        }
    }
}

/// `None` when there will be none.
async fn first_prompt(
    tell: &mpsc::Sender<Heard>,
    asked: &mut mpsc::Receiver<Steer>,
) -> Option<String> {
    loop {
        let steer = tokio::select! {
            steer = asked.recv() => steer?,
            () = tell.closed() => return None,
        };
        match steer {
            Steer::Prompt(prompt) => return Some(prompt),
            Steer::Close => return None,
            Steer::Inject(_) => {
                let refused = Heard::Injected(Injection::Refused);
                tell.send(refused).await.ok()?;
            }
            Steer::Answer(..) | Steer::Interrupt | Steer::Tune(_) => {}
        }
    }
}

/// Until the program is gone or nobody listens. One piece of news waits at a time, so the program
/// waits with it, and what the owner says is heard all the time.
async fn pass_on(
    mut inner: Conversation,
    tell: mpsc::Sender<Heard>,
    mut asked: mpsc::Receiver<Steer>,
) {
    let mut news = None;
    let mut listening = true;
    loop {
        tokio::select! {
            () = tell.closed() => return,
            steer = asked.recv(), if listening => match steer {
                Some(steer) => listening = inner.steer.send(steer).await.is_ok(),
                None => listening = false,
            },
            heard = inner.heard.recv(), if news.is_none() => match heard {
                Some(heard) => news = Some(heard),
                None => return,
            },
            room = tell.reserve(), if news.is_some() => {
                let (Ok(room), Some(heard)) = (room, news.take()) else { return };
                room.send(heard);
            }
        }
    }
}

const HEARD_ROOM: usize = 32;
const STEER_ROOM: usize = 16;
/// One argument may have 128 KiB on Linux, a whole command line 32 KiB on Windows.
const ARGUMENT_BYTES: usize = if cfg!(windows) { 30_000 } else { 120_000 };
