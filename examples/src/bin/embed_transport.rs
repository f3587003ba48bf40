//! A client of a WebSocket server in a few lines: sends each line of standard input, prints what
//! comes back, reconnects by itself. `cargo run -p bridge-examples --bin embed_transport -- ws://127.0.0.1:9000`

use bridge_transport::{Endpoint, Inbound, Text, connect};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, stdin, stdout};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args()
        .nth(1)
        .ok_or("usage: embed_transport <ws-url>")?;
    let (link, mut inbox) = connect(Endpoint::new(&url)?);
    let mut lines = BufReader::new(stdin()).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(line) => link.push(Text(line)).await?,
                None => break,
            },
            Some(Inbound::Frame { text, .. }) = inbox.recv() => stdout().write_all(&text).await?,
        }
    }
    link.shutdown(std::time::Duration::from_secs(5)).await;
    Ok(())
}
