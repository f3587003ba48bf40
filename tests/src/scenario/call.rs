//! One request to the API of the hub, as a program on this machine makes it.

use std::{fs, time::Duration};

use reqwest::Method;
use serde_json::Value;

use super::{
    Complaint,
    script::Call,
    stage::Stage,
    subset::{fill, fill_text, fits},
};
use crate::loopback::http_client;

/// Asks, and asks again where that changes nothing, until the answer is the wanted one.
pub(super) async fn call(stage: &mut Stage, call: &Call) -> Result<(), Complaint> {
    let complaint = |what: &str, told: String| Complaint {
        what: what.to_owned(),
        told,
    };
    let method: Method = call
        .method
        .parse()
        .map_err(|_| complaint("this is no method", call.method.clone()))?;
    let looks = if method == Method::GET { LOOKS } else { 1 };
    let wanted = call.json.as_ref().map(|json| fill(json, &stage.kept));
    let path = fill_text(&call.path, &stage.kept);
    let body = call.body.as_ref().map(|body| fill(body, &stage.kept));
    let mut told = String::new();
    for _ in 0..looks {
        let Some((address, token)) = note(stage).await else {
            told = "no hub has left its address".into();
            continue;
        };
        let mut request = http_client().request(method.clone(), format!("{address}{path}"));
        if call.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = &body {
            request = request.json(body);
        }
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => {
                told = error.to_string();
                tokio::time::sleep(BETWEEN_LOOKS).await;
                continue;
            }
        };
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap_or_default();
        told = format!("{status}: {text}");
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        let good = status == call.status
            && wanted.as_ref().is_none_or(|wanted| fits(wanted, &json))
            && call.text.iter().all(|part| text.contains(part.as_str()));
        if good {
            for (name, pointer) in &call.keep {
                let Some(found) = json.pointer(pointer).and_then(Value::as_str) else {
                    return Err(complaint("the answer has no such text", told));
                };
                stage.kept.insert(name.clone(), found.to_owned());
            }
            return Ok(());
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    Err(complaint("that was not the answer", told))
}

/// Address and token of the hub that runs here; it leaves them when it is up.
async fn note(stage: &Stage) -> Option<(String, String)> {
    let file = stage.home.path().join("state/hub.json");
    let text = fs::read_to_string(file);
    let Ok(text) = text else {
        tokio::time::sleep(BETWEEN_LOOKS).await;
        return None;
    };
    let note: Value = serde_json::from_str(&text).ok()?;
    let text = |name: &str| Some(note[name].as_str()?.trim_end_matches('/').to_owned());
    Some((text("address")?, text("token")?))
}

/// What the hub says changes without an event here, so it is asked this often.
const LOOKS: u32 = 1200;
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
