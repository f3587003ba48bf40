//! A client in a few lines: sends each line of standard input, prints what comes back, reconnects by
//! itself. `cargo run -p bridge-examples --bin embed_transport -- ws://127.0.0.1:9000`

use bridge_transport::{Endpoint, Inbound, Text, connect};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, stdin, stdout};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("name a ws:// address")?;
    let (link, mut inbox) = connect(Endpoint::new(&url)?.offer_extension(true));
    let mut lines = BufReader::new(stdin()).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(line) => link.push(Text(line)).await?,
                None => break,
            },
            received = inbox.recv() => if let Some(Inbound::Frame { text, .. }) = received {
                stdout().write_all(&[&text[..], b"\n"].concat()).await?;
            },
        }
    }
    link.shutdown(std::time::Duration::from_secs(5)).await;
    Ok(())
}
