//! What one connection of a bridge is sent, in which order: what the envelope has to say, then
//! whatever waits, then a part of something large.

use std::{future::ready, sync::Arc, time::Duration};

use axum::{
    body::Bytes,
    extract::ws::{CloseFrame, Message as Frame},
};
use bridge_transport::delivery::{Writer, write_list};
use futures_util::{Sink, SinkExt as _};
use tokio::{
    sync::mpsc,
    time::{Instant, interval_at, timeout},
};

use crate::owner::Outgoing;

/// Writes until there is no more, or it cannot. What is there at one moment is flushed together.
pub(super) async fn write(
    mut sink: impl Sink<Frame> + Unpin,
    mut outgoing: mpsc::Receiver<Outgoing>,
) -> &'static str {
    let mut pings = interval_at(Instant::now() + PING, PING);
    let mut numbered = Numbered::default();
    let mut unflushed = false;
    loop {
        let frame = if let Some(text) = numbered.next_frame() {
            Frame::Text(text.into())
        } else {
            let in_parts = numbered.has_parts();
            tokio::select! {
                biased;
                _ = pings.tick() => Frame::Ping(Bytes::new()),
                next = outgoing.recv() => match next {
                    Some(Outgoing::Frame(text)) => Frame::Text(text.into()),
                    Some(Outgoing::Close(why)) => {
                        let (code, reason) = why.close();
                        let close = CloseFrame { code, reason: reason.into() };
                        let close = sink.send(Frame::Close(Some(close)));
                        return match timeout(CLOSING, close).await {
                            Ok(Ok(())) => reason,
                            Ok(Err(_)) | Err(_) => "closed without a word",
                        };
                    }
                    Some(Outgoing::Resumed(writer)) => {
                        numbered.writer = Some(*writer);
                        continue;
                    }
                    Some(Outgoing::Numbered { stream, frame }) => {
                        numbered.keep(stream, frame);
                        continue;
                    }
                    Some(Outgoing::Acknowledged { seq }) => {
                        numbered.on_ack(seq);
                        continue;
                    }
                    None => return in_time(sink.flush()).await.err().unwrap_or("let go"),
                },
                () = ready(()), if unflushed => {
                    if let Err(why) = in_time(sink.flush()).await {
                        return why;
                    }
                    unflushed = false;
                    continue;
                }
                () = ready(()), if in_parts => match numbered.next_part() {
                    Some(text) => Frame::Text(text.into()),
                    None => continue,
                },
            }
        };
        if let Err(why) = in_time(sink.feed(frame)).await {
            return why;
        }
        unflushed = true;
    }
}

/// Waits for the socket; why there is nothing to wait for any more.
async fn in_time<E>(taking: impl Future<Output = Result<(), E>>) -> Result<(), &'static str> {
    match timeout(STALL, taking).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err("broken"),
        Err(_) => Err("does not read"),
    }
}

/// The hub's stream on this connection, if the bridge takes one.
#[derive(Default)]
struct Numbered {
    writer: Option<Writer<Arc<str>>>,
}

impl Numbered {
    /// The command is kept by the store, under the number it gets here.
    fn keep(&mut self, stream: u64, frame: Arc<str>) {
        if let Some(writer) = &mut self.writer {
            let size = frame.len();
            let seq = writer.keep(frame, stream, size);
            writer.on_stored(seq);
        }
    }

    fn on_ack(&mut self, seq: u64) {
        if let Some(writer) = &mut self.writer
            && let Err(error) = writer.on_ack(seq)
        {
            tracing::error!(%error, "an acknowledgement that was checked");
        }
    }

    fn next_frame(&mut self) -> Option<String> {
        let writer = self.writer.as_mut()?;
        writer.next_frame(|frame, list| write_list(list, [&**frame]))
    }

    fn has_parts(&self) -> bool {
        self.writer.as_ref().is_some_and(Writer::has_parts)
    }

    fn next_part(&mut self) -> Option<String> {
        self.writer.as_mut()?.next_part()
    }
}

/// Keeps proxies from closing an idle connection, and makes a live bridge answer.
const PING: Duration = Duration::from_secs(20);
/// A frame of 32 MiB on a slow line takes its time.
const STALL: Duration = Duration::from_secs(60);
pub(super) const CLOSING: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::sink_of;

    /// What a bridge gets that is sent these frames, and then let go or not.
    async fn written(frames: &[&str], let_go: bool) -> Vec<String> {
        let (out, outgoing) = mpsc::channel(8);
        let (writing, mut written) = mpsc::channel(8);
        for frame in frames {
            let frame = Outgoing::Frame((*frame).into());
            assert!(out.try_send(frame).is_ok());
        }
        let out = (!let_go).then_some(out);
        // Nothing gets through it that is not flushed.
        let sink = sink_of(writing).buffer(8);
        let mut got = Vec::new();
        let reading = async {
            while got.len() < frames.len() {
                match written.recv().await {
                    Some(Frame::Text(text)) => got.push(text.as_str().to_owned()),
                    other => panic!("{other:?}"),
                }
            }
        };
        tokio::join!(reading, async {
            tokio::select! {
                why = write(sink, outgoing) => assert_eq!(why, "let go"),
                () = tokio::time::sleep(PING / 2) => assert!(!let_go),
            }
        });
        drop(out);
        got
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_written_is_flushed_when_there_is_no_more_and_at_the_end() {
        for let_go in [false, true] {
            assert_eq!(written(&["one", "two"], let_go).await, ["one", "two"]);
        }
    }
}
