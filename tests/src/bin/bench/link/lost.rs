//! What is lost in outages, when connections are cut, and when the process is killed.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::Stdio,
    time::Duration,
};

use bridge_testkit::program::command;
use bridge_transport::{Phase, SyncPolicy, Timings, connect};

use super::{
    PATIENCE,
    account::{Account, Pushed},
    endpoint,
    far_end::{Cuts, FarEnd, Manner, Random, Ways},
    message::Message,
    on_one_thread, spooled,
    table::Row,
};

/// So many wait while there is no far end.
pub(super) fn in_outages() -> Vec<Row> {
    let rows = [50, 100, 150, 1_000, 100_000].map(|waiting| {
        let spooled = in_an_outage(waiting, true);
        let kept = in_an_outage(waiting, false);
        let wrong =
            |account: Account| account.lost + account.doubled + account.reordered + account.wrong;
        let what = format!("lost, doubled or reordered in an outage with {waiting} waiting");
        Row::none(what, wrong(spooled) + wrong(kept))
    });
    rows.into()
}

fn in_an_outage(waiting: u32, with_spool: bool) -> Account {
    let far = FarEnd::start(Ways::enveloped());
    let folder = tempfile::tempdir().expect("a folder can be made");
    on_one_thread(async {
        let quick = Timings::default().reconnect_within(QUICK);
        let endpoint = endpoint(&far).timings(quick);
        let (link, _inbox) = if with_spool {
            spooled(endpoint, folder.path(), SyncPolicy::Never)
        } else {
            connect(endpoint)
        };
        let mut state = link.state();
        assert!(far.sees(PATIENCE, |seen| seen.opened == 1).await);
        far.be(Manner::Away);
        let gone = state.wait_for(|state| state.phase == Phase::Waiting).await;
        gone.expect("the link is there");
        let list: Vec<_> = (0..waiting).map(|n| Message::durable(0, n)).collect();
        link.push_all(list).await.expect("the link is there");
        far.be(Manner::Here);
        let all = waiting as usize;
        far.sees(PATIENCE, |seen| seen.taken.len() >= all).await;
        let _counted_below = link.shutdown(Duration::from_secs(1)).await;
        Account::of(&Pushed::from([(0, waiting)]), &far.ledger())
    })
}

/// Connections are cut while messages of eight streams flow: before the far end has committed what
/// it heard, after it, and after it has acknowledged.
pub(super) fn in_cuts() -> Vec<Row> {
    let seed = u64::from(std::process::id());
    let mut rows = vec![Row::told_only("seed of the cuts", seed.to_string())];
    for (with_spool, how) in [(true, "over a spool"), (false, "in memory")] {
        let account = over_cuts(seed, with_spool);
        rows.extend(account.rows(&format!("over {CUTS} cut connections, {how}")));
    }
    rows
}

fn over_cuts(seed: u64, with_spool: bool) -> Account {
    let random = Random(seed);
    let cuts = Some(Cuts { left: CUTS, random });
    let far = FarEnd::start(Ways {
        cuts,
        ..Ways::enveloped()
    });
    let folder = tempfile::tempdir().expect("a folder can be made");
    on_one_thread(async {
        let quick = Timings::default().reconnect_within(QUICK);
        let endpoint = endpoint(&far).timings(quick);
        let (link, _inbox) = if with_spool {
            spooled(endpoint, folder.path(), SyncPolicy::Never)
        } else {
            connect(endpoint)
        };
        let mut random = random;
        let mut pushed = Pushed::new();
        let mut all = 0;
        while far.ledger().cut < CUTS {
            let count = usize::try_from(random.below(40)).expect("a small number");
            let list: Vec<_> = (0..count)
                .map(|_| {
                    let stream = u32::try_from(random.below(8)).expect("a small number");
                    let next = pushed.entry(stream).or_insert(0);
                    *next += 1;
                    Message::new(stream, *next - 1)
                })
                .collect();
            all += count;
            link.push_all(list).await.expect("the link is there");
            tokio::task::yield_now().await;
        }
        far.sees(PATIENCE, |seen| seen.taken.len() >= all).await;
        let _counted_below = link.shutdown(Duration::from_secs(1)).await;
        Account::of(&pushed, &far.ledger())
    })
}

/// A process of its own is killed with a thousand waiting, half of the times while they go out,
/// and started again.
pub(super) fn in_kills() -> Vec<Row> {
    let far = FarEnd::start(Ways::enveloped());
    let place = tempfile::tempdir().expect("a folder can be made");
    let folder = place.path().join("spool");
    let mut pushed = Pushed::new();
    for round in 0..KILLS {
        let offline = round % 2 == 0;
        if offline {
            far.be(Manner::Away);
        }
        let mut first = bridge(&far, &folder, round * WAITING, WAITING);
        let mut said = String::new();
        let out = first.stdout.take().expect("a pipe was asked for");
        BufReader::new(out)
            .read_line(&mut said)
            .expect("our own process");
        assert_eq!(said, "waiting\n", "the first life has pushed everything");
        first.kill().expect("our own process");
        first.wait().expect("our own process");
        *pushed.entry(0).or_insert(0) += WAITING;
        far.be(Manner::Here);
        let mut second = bridge(&far, &folder, 0, 0);
        let ended = second.wait().expect("our own process");
        assert!(ended.success(), "the second life sends everything: {ended}");
    }
    let account = Account::of(&pushed, &far.ledger());
    account.rows(&format!("over {KILLS} kill -9 with {WAITING} waiting"))
}

fn bridge(far: &FarEnd, folder: &Path, first: u32, count: u32) -> std::process::Child {
    let this = std::env::current_exe().expect("a program knows its own file");
    let mut bridge = command(this);
    bridge.args(["link", "child", "bridge", &far.url()]);
    bridge
        .arg(folder)
        .args([first.to_string(), count.to_string()]);
    let bridge = bridge.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    bridge.expect("our own program")
}

/// What the process does that is killed: pushes so many messages, says so and waits for its end; or
/// sends what it finds, without any.
pub(super) fn child(words: &[String]) {
    let [url, folder, first, count] = words else {
        panic!("url, folder, first and count")
    };
    let [first, count]: [u32; 2] = [first, count].map(|it| it.parse().expect("a number"));
    on_one_thread(async {
        let quick = Timings::default().reconnect_within(QUICK);
        let endpoint = super::endpoint_at(url).timings(quick);
        let (link, _inbox) = spooled(endpoint, Path::new(folder), SyncPolicy::Never);
        if count == 0 {
            let flushed = link.shutdown(PATIENCE).await;
            assert_eq!(flushed, bridge_transport::Flushed::Everything);
            return;
        }
        let list: Vec<_> = (first..first + count)
            .map(|n| Message::durable(0, n))
            .collect();
        link.push_all(list).await.expect("the link is there");
        crate::say("waiting");
        tokio::time::sleep(PATIENCE).await;
    });
}

const QUICK: Duration = Duration::from_millis(20);
const CUTS: u32 = 200;
const KILLS: u32 = 10;
const WAITING: u32 = 1000;
