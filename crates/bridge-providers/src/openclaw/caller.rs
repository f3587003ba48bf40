//! One call of a tool over the gateway's HTTP endpoint for tools, from its request to its answer.

use futures_util::StreamExt as _;
use reqwest::Response;
use tokio::time::timeout;

use super::{
    calls::read,
    door::Door,
    http::{client, what},
};
use crate::remote::{CallFault, DirectAnswer, DirectCall};

/// Makes the call and waits for its answer, at most as long as it says.
pub(super) async fn make(door: &Door, call: &DirectCall) -> Result<DirectAnswer, CallFault> {
    let made = timeout(call.limit, send(door, call)).await;
    let seconds = call.limit.as_secs();
    made.unwrap_or_else(|_| Err(CallFault::Broken(format!("no answer within {seconds} s"))))
}

async fn send(door: &Door, call: &DirectCall) -> Result<DirectAnswer, CallFault> {
    let http = client(door).await.map_err(CallFault::Broken)?;
    let url = door.gateway.http("/tools/invoke");
    let mut request = http.post(url).json(&call.body);
    if let Some(secret) = &door.gateway.secret {
        request = request.bearer_auth(secret.expose());
    }
    let answer = request.send().await;
    let answer = answer.map_err(|error| CallFault::Broken(what(&error)))?;
    let status = answer.status().as_u16();
    let body = whole(answer).await?;
    read(status, &body, door.gateway.secret.as_ref())
}

async fn whole(answer: Response) -> Result<Vec<u8>, CallFault> {
    let mut read = Vec::new();
    let mut stream = answer.bytes_stream();
    while let Some(bytes) = stream.next().await {
        let bytes = bytes.map_err(|error| CallFault::Broken(what(&error)))?;
        if read.len() + bytes.len() > MAX_ANSWER {
            let why = "the answer of the gateway has more than 1 MiB";
            return Err(CallFault::Broken(why.to_owned()));
        }
        read.extend_from_slice(&bytes);
    }
    Ok(read)
}

const MAX_ANSWER: usize = 1 << 20;
