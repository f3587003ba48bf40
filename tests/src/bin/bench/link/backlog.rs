//! A backlog after an outage, and the requests that are answered while it goes out.

use std::time::{Duration, Instant};

use bridge_transport::{Class, Handle, Inbound, Inbox, Phase, SyncPolicy, Timings};

use super::{
    PATIENCE, endpoint,
    far_end::{FarEnd, Manner, Ways},
    message::{self, Message},
    on_one_thread, spooled,
    table::Row,
};
use crate::world::{percentile, seconds};

/// The best of some rounds, each with a backlog of its own; the answers of all of them.
pub(super) fn all() -> Vec<Row> {
    let (mut took, mut answers) = (f64::INFINITY, Vec::new());
    for _ in 0..ROUNDS {
        let (round, answered) = round();
        took = took.min(round);
        answers.extend(answered);
    }
    answers.sort_by(f64::total_cmp);
    vec![
        Row::time(
            "backlog of 10,000 after reconnect, stored and acknowledged",
            took,
            "ms",
            300.0,
        ),
        Row::time(
            "  a request meanwhile to its answer, p99",
            percentile(&answers, 99),
            "ms",
            20.0,
        ),
        Row::told_only("  requests answered meanwhile", answers.len().to_string()),
    ]
}

fn round() -> (f64, Vec<f64>) {
    let far = FarEnd::start(Ways {
        asks: Some(Duration::from_millis(1)),
        ..Ways::enveloped()
    });
    let folder = tempfile::tempdir().expect("a folder can be made");
    on_one_thread(async {
        let quick = Timings::default().reconnect_within(Duration::from_millis(20));
        let (link, inbox) = spooled(
            endpoint(&far).timings(quick),
            folder.path(),
            SyncPolicy::Never,
        );
        tokio::spawn(answer(link.clone(), inbox));
        let mut state = link.state();
        assert!(far.sees(PATIENCE, |seen| seen.opened == 1).await);
        far.be(Manner::Away);
        let gone = state.wait_for(|state| state.phase == Phase::Waiting).await;
        drop(gone.expect("the link is there"));
        let list: Vec<_> = (0..BACKLOG).map(|n| Message::durable(0, n)).collect();
        link.push_all(list).await.expect("the link is there");
        let before = far.ledger().answers.len();
        far.be(Manner::Here);
        let all = BACKLOG as usize;
        assert!(far.sees(PATIENCE, |seen| seen.taken.len() == all).await);
        let done = Instant::now();
        let ledger = far.ledger();
        let opened = ledger.opened_at.expect("it was opened");
        let meanwhile = ledger.answers.iter().skip(before);
        let answers = meanwhile.map(|took| seconds(*took) * 1000.0).collect();
        (seconds(done.duration_since(opened)) * 1000.0, answers)
    })
}

/// The embedder: answers what is asked, at once.
async fn answer(link: Handle<Message>, mut inbox: Inbox) {
    while let Some(inbound) = inbox.recv().await {
        let Inbound::Frame { conn, text, .. } = inbound else {
            continue;
        };
        let asked = std::str::from_utf8(&text).expect("it was checked");
        if let Some(answer) = message::answer(asked) {
            let reply = Message::of(Class::Reply { conn }, answer);
            if link.push(reply).await.is_err() {
                return;
            }
        }
    }
}

const BACKLOG: u32 = 10_000;
const ROUNDS: usize = 20;
