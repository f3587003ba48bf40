//! One WebSocket of the gateway.

use axum::{
    extract::{
        State,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade},
    },
    response::Response,
};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{
    Line,
    brain::{ToBrain, frame},
    endpoint::Doors,
};

pub(super) async fn upgrade(State(doors): State<Doors>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(|socket| async move {
        let stale = doors.generation();
        serve(socket, doors, stale).await;
    })
}

/// Until one of the two sides has enough.
async fn serve(mut socket: WebSocket, doors: Doors, generation: u64) {
    let mut end = Box::pin(Line::end(doors.line.subscribe(), generation));
    let (tell, told) = oneshot::channel();
    if doors.brain.send(ToBrain::Connected(tell)).await.is_err() {
        return;
    }
    let Ok((number, mut events)) = told.await else {
        return;
    };
    let payload = json!({ "nonce": format!("nonce-{number}"), "ts": 1_795_149_370_894_u64 });
    let challenge = json!({ "type": "event", "event": "connect.challenge", "payload": payload });
    if socket.send(frame(&challenge)).await.is_err() {
        return;
    }
    let mut let_in = false;
    loop {
        tokio::select! {
            end = &mut end => {
                if let Line::Dead(Some(code)) = end {
                    let code = 4000 + u16::try_from(code).unwrap_or_default();
                    let reason = format!("exit {}", code - 4000).into();
                    let close = Message::Close(Some(CloseFrame { code, reason }));
                    drop(socket.send(close).await);
                }
                return;
            }
            event = events.recv(), if let_in => {
                let Ok(event) = event else { return };
                if socket.send(event).await.is_err() {
                    return;
                }
            }
            message = socket.recv() => {
                let Some(Ok(message)) = message else { return };
                let Message::Text(text) = message else { continue };
                let Ok(asked) = serde_json::from_str::<Value>(text.as_str()) else { return };
                let connects = asked["method"] == "connect";
                if let_in == connects {
                    return;
                }
                let (reply, replied) = oneshot::channel();
                let request = ToBrain::Request { frame: asked, reply };
                if doors.brain.send(request).await.is_err() {
                    return;
                }
                let Ok(answer) = replied.await else { return };
                if socket.send(frame(&answer)).await.is_err() {
                    return;
                }
                if connects && answer["ok"] == false {
                    let code = match answer["error"]["code"].as_str() {
                        Some("UNAVAILABLE") => 1013,
                        _ => 1008,
                    };
                    let close = Message::Close(Some(CloseFrame { code, reason: "refused".into() }));
                    drop(socket.send(close).await);
                    return;
                }
                let_in = true;
            }
        }
    }
}
