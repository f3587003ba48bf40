//! The daemon dials out and never listens: the socket table of a running process says so.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use std::{collections::BTreeSet, fs};

use bridge_testkit::{
    fake_plane::{FakePlane, Manners},
    home::Home,
    wire,
};

#[tokio::test]
async fn a_running_bridge_has_no_listening_socket() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::extended()).await);
    let mut bridge = home.bridge(&plane.url());
    plane.heard(|frame| frame["action"] == "handshake").await;
    plane.sync(&["demo"]).await;
    plane
        .send(&wire::dispatch("t", "r", "demo", "#demo slow 600"))
        .await;
    plane.says("t", "Step 1").await;
    let own = sockets_of(bridge.pid());
    assert!(!own.is_empty(), "not even the link has a socket");
    let listening: Vec<u64> = own.intersection(&listening()).copied().collect();
    assert!(listening.is_empty(), "{listening:?} of {own:?} listen");
    assert_eq!(bridge.terminate().await, Some(0));
}

/// Inodes of the sockets a process holds.
fn sockets_of(pid: u32) -> BTreeSet<u64> {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links = links.filter_map(|link| fs::read_link(link.ok()?.path()).ok());
    let inodes = links.filter_map(|link| {
        let text = link
            .to_str()?
            .strip_prefix("socket:[")?
            .strip_suffix(']')?
            .to_owned();
        text.parse().ok()
    });
    inodes.collect()
}

/// Inodes of all sockets of this network that listen for TCP, or are open for any UDP.
fn listening() -> BTreeSet<u64> {
    let rows = |table: &str| fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
    let of = |table: &str, state: &str| -> Vec<u64> {
        let rows = rows(table);
        let rows = rows
            .lines()
            .skip(1)
            .map(|row| row.split_whitespace().collect::<Vec<_>>());
        rows.filter(|row| row.get(3) == Some(&state))
            .filter_map(|row| row.get(9)?.parse().ok())
            .collect()
    };
    let (listen, unconnected) = ("0A", "07");
    let mut all = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        all.extend(of(table, listen));
    }
    for table in ["udp", "udp6"] {
        all.extend(of(table, unconnected));
    }
    all
}
