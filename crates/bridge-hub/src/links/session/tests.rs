//! What a link promises the requests of its bridge, with the test as its connection.

use tokio::task::JoinHandle;

use super::*;

/// A link whose connection is the test.
struct World {
    asks: mpsc::Sender<Ask>,
    said: mpsc::Receiver<Result<Frame, axum::Error>>,
    writing: mpsc::Sender<Frame>,
    farewell: watch::Receiver<bool>,
    link: JoinHandle<()>,
}

impl World {
    fn new() -> Self {
        let (asks, asked) = mpsc::channel(8);
        let (saying, said) = mpsc::channel(1);
        let (writing, written) = mpsc::channel(1);
        let wires = Wires {
            said: saying,
            written,
        };
        let (telling, farewell) = watch::channel(false);
        Self {
            asks,
            said,
            writing,
            farewell,
            link: tokio::spawn(serve(asked, wires, telling)),
        }
    }

    async fn ask<T>(
        &self,
        ask: impl FnOnce(Answer<T>) -> Ask,
    ) -> oneshot::Receiver<Result<T, NoLink>> {
        let (reply, answered) = oneshot::channel();
        self.asks.send(ask(reply)).await.unwrap();
        answered
    }

    async fn say(&self, first: u64, texts: &[&str]) -> oneshot::Receiver<Result<u64, NoLink>> {
        let batch = Batch {
            first,
            heard: 0,
            lines: texts.iter().map(|&text| Line::Text(text.into())).collect(),
        };
        self.ask(|reply| Ask::Say { batch, reply }).await
    }

    async fn tell(
        &self,
        after: u64,
        reader: Reader,
    ) -> oneshot::Receiver<Result<(Reader, Told), NoLink>> {
        let wait = Duration::from_secs(20);
        self.ask(|reply| Ask::Tell {
            after,
            reader,
            wait,
            reply,
        })
        .await
    }

    async fn heard(&mut self) -> Option<String> {
        let frame = self.said.recv().await?.unwrap();
        if let Frame::Text(text) = frame {
            return Some(text.as_str().to_owned());
        }
        Some(format!("{frame:?}"))
    }

    async fn write(&self, text: &str) {
        self.writing.send(Frame::Text(text.into())).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_not_listen_holds_the_bridge_up_and_loses_nothing() {
    let mut world = World::new();
    let begun = Instant::now();
    let taken = world.say(1, &["a", "b", "c"]).await.await.unwrap();
    assert_eq!((taken, begun.elapsed()), (Ok(1), TAKING));
    // It is said once more, from the beginning.
    let taken = world.say(1, &["a", "b", "c", "d"]).await;
    let mut heard = Vec::new();
    for _ in 0..4 {
        heard.push(world.heard().await.unwrap());
    }
    assert_eq!(heard, ["a", "b", "c", "d"]);
    assert_eq!(taken.await.unwrap(), Ok(4));
}

#[tokio::test(start_paused = true)]
async fn a_link_that_nobody_asks_anything_ends_with_its_connection() {
    let mut world = World::new();
    let begun = Instant::now();
    assert_eq!(world.heard().await, None);
    assert_eq!(begun.elapsed(), IDLE);
    let late = world.say(1, &["late"]).await;
    assert_eq!(late.await.unwrap(), Err(NoLink::Ended));
    drop(world.writing);
    world.link.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_bridge_whose_reader_is_gone_and_does_not_come_back_is_gone() {
    let mut world = World::new();
    drop(world.tell(0, Reader::New).await);
    let begun = Instant::now();
    assert_eq!(world.heard().await, None);
    assert_eq!(begun.elapsed(), UNREAD);

    let mut world = World::new();
    drop(world.tell(0, Reader::New).await);
    tokio::time::sleep(UNREAD / 2).await;
    let _back = world.tell(0, Reader::New).await;
    let begun = Instant::now();
    assert_eq!(world.heard().await, None);
    assert_eq!(begun.elapsed(), IDLE);
}

#[tokio::test(start_paused = true)]
async fn only_the_newest_reader_reads() {
    let world = World::new();
    let older = world.tell(0, Reader::New).await;
    let newer = world.tell(0, Reader::New).await;
    assert_eq!(older.await.unwrap(), Err(NoLink::ReadElsewhere));
    world.write("x").await;
    let (reader, told) = newer.await.unwrap().unwrap();
    assert_eq!((told.first, told.lines), (1, vec!["x".to_owned()]));
    let again = world.tell(1, Reader::Again(1)).await;
    assert_eq!(again.await.unwrap(), Err(NoLink::ReadElsewhere));
    let nothing = world.tell(1, reader).await.await.unwrap().unwrap().1;
    assert_eq!(nothing.lines, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_refused_takes_the_link_from_nobody() {
    let world = World::new();
    world.write("x").await;
    let (_, told) = world.tell(0, Reader::New).await.await.unwrap().unwrap();
    assert_eq!(told.lines, ["x"]);
    let good = world.tell(1, Reader::New).await;
    for after in [0, 9] {
        let refused = world.tell(after, Reader::New).await.await.unwrap();
        assert_eq!(refused.map(|_| ()), Err(NoLink::OutOfStep(OutOfStep)));
    }
    world.write("y").await;
    let (reader, told) = good.await.unwrap().unwrap();
    assert_eq!(told.lines, ["y"]);
    world.write("z").await;
    let (_, told) = world.tell(2, reader).await.await.unwrap().unwrap();
    assert_eq!(told.lines, ["z"]);
}

#[tokio::test(start_paused = true)]
async fn a_bridge_that_fetches_nothing_stops_the_connection_writing() {
    let world = World::new();
    let mut count = 0;
    let line = "x".repeat(100_000);
    while world
        .writing
        .try_send(Frame::Text(line.as_str().into()))
        .is_ok()
    {
        count += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // A mebibyte, and what is between the two.
    assert_eq!(count, 12);
    let told = world.tell(0, Reader::New).await.await.unwrap().unwrap().1;
    assert_eq!(told.lines.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_link_can_be_asked_for_and_then_it_is_gone() {
    let world = World::new();
    let bye = Frame::Close(Some(close(4001, "superseded".to_owned())));
    world.writing.send(bye).await.unwrap();
    drop(world.writing);
    drop(world.said);
    tokio::time::sleep(LINGER / 2).await;
    assert!(!*world.farewell.borrow());
    let told = |world: &mpsc::Sender<Ask>, after| {
        let world = world.clone();
        async move {
            let (reply, answered) = oneshot::channel();
            let wait = Duration::from_secs(20);
            let reader = Reader::New;
            let ask = Ask::Tell {
                after,
                reader,
                wait,
                reply,
            };
            world.send(ask).await.unwrap();
            answered.await.unwrap()
        }
    };
    let (_, last) = told(&world.asks, 0).await.unwrap();
    assert_eq!(
        last.lines,
        ["{\"carrier\":\"close\",\"code\":4001,\"reason\":\"superseded\"}"]
    );
    let mut farewell = world.farewell.clone();
    assert!(*farewell.wait_for(|said| *said).await.unwrap());
    assert_eq!(told(&world.asks, 1).await.map(|_| ()), Err(NoLink::Ended));
    world.link.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_end_comes_after_everything_that_was_said() {
    let mut world = World::new();
    let _said = world.say(1, &["a", "b"]).await;
    world.asks.send(Ask::End { code: 1000 }).await.unwrap();
    assert_eq!(world.heard().await.unwrap(), "a");
    assert_eq!(world.heard().await.unwrap(), "b");
    assert!(world.heard().await.unwrap().contains("1000"));
    assert_eq!(world.heard().await, None);
}
