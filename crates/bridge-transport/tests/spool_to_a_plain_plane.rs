//! Terminal messages to a plane without the envelope, over a spool in a real folder, when this
//! process dies at the wrong moment.

#![cfg(feature = "spool")]
#![expect(
    clippy::unwrap_used,
    reason = "the lint exempts test functions, not their helpers"
)]

use std::{path::Path, time::Duration};

use bridge_transport::{
    Endpoint, Flushed, Handle, Inbox, SyncPolicy, Text, WebSocket, connect_spooled,
    spool::{Folder, Spool, SpoolConfig},
};
use futures_util::StreamExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{WebSocketStream, accept_async, tungstenite::Message};

fn open(folder: &Path) -> Spool<Folder> {
    let folder = Folder::open(folder).unwrap();
    let (spool, _) = Spool::open(folder, SpoolConfig::default(), [7; 16]).unwrap();
    spool
}

/// The numbers that wait on the disk.
fn waiting(folder: &Path) -> std::ops::Range<u64> {
    let spool = open(folder);
    spool.first_seq()..spool.next_seq()
}

fn start(listener: &TcpListener, folder: &Path) -> (Handle<Text>, Inbox) {
    let url = format!("ws://{}/ws", listener.local_addr().unwrap());
    let endpoint = Endpoint::new(&url).unwrap();
    let carrier = Box::new(WebSocket::new(&endpoint));
    connect_spooled(endpoint, carrier, open(folder), SyncPolicy::Never).unwrap()
}

/// The next text; nothing is read, and so no ping answered, before it is asked for.
async fn read(socket: &mut WebSocketStream<TcpStream>) -> String {
    loop {
        if let Message::Text(text) = socket.next().await.unwrap().unwrap() {
            return text.as_str().to_owned();
        }
    }
}

#[test]
fn what_was_written_and_not_proven_is_found_again_by_the_next_life_and_leaves_when_it_is() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("spool");
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let life = runtime();
    let socket = life.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (link, _inbox) = start(&listener, &folder);
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = accept_async(stream).await.unwrap();
        link.push(Text("the end".to_owned())).await.unwrap();
        assert_eq!(read(&mut socket).await, "the end");
        (socket, link)
    });
    // The tasks are dropped where they stand.
    drop(life);
    drop(socket);
    assert_eq!(waiting(&folder), 1..2);

    runtime().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (link, _inbox) = start(&listener, &folder);
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = accept_async(stream).await.unwrap();
        assert_eq!(read(&mut socket).await, "the end");
        let plane = tokio::spawn(async move { while let Some(Ok(_)) = socket.next().await {} });
        let flushed = link.shutdown(Duration::from_secs(20)).await;
        assert_eq!(flushed, Flushed::Everything);
        plane.await.unwrap();
    });
    assert_eq!(waiting(&folder), 2..2);
}
