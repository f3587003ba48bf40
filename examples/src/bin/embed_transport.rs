//! A client in a few lines: sends each line it reads, prints what comes back, reconnects by itself.

use bridge_transport::{Endpoint, Flushed, Inbound, Text, connect};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, stdin, stdout};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("name a ws:// address")?;
    let (link, mut inbox) = connect(Endpoint::new(&url)?.offer_extension(true));
    let mut lines = BufReader::new(stdin()).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => if let Some(line) = line? {
                link.push(Text(line)).await?;
            } else { break },
            received = inbox.recv() => if let Some(Inbound::Frame { text, .. }) = received {
                stdout().write_all(&[&text[..], b"\n"].concat()).await?;
            },
        }
    }
    match link.shutdown(std::time::Duration::from_secs(5)).await {
        Flushed::Everything => Ok(()),
        Flushed::Left { messages, .. } => Err(format!("{messages} were not delivered").into()),
    }
}
