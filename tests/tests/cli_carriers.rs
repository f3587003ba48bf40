//! Carriers as a person meets them: a hub that hears lines, and what `doctor` says of the ways to
//! a hub.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use std::net::SocketAddr;

use bridge_testkit::home::{Home, Running};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

/// A hub at work.
async fn hub(home: &Home, listen: &str, options: &[&str]) -> Running {
    let serve = ["hub", "serve", "--listen", listen];
    let hub = Running::start(home.ctrlnode(&[&serve[..], options].concat()));
    hub.line(|line| line.contains("/login?code=")).await;
    hub
}

/// Pairs this home's machine with its hub: at the address that is printed, or this one.
async fn paired(home: &Home, url: Option<&str>) {
    let made = home.run(&["hub", "token", "create", "laptop"], "").await;
    assert_eq!(made.code, Some(0), "{made:?}");
    let mut words = made.stderr.split_whitespace();
    let printed = words.find(|word| word.starts_with("ws://"));
    let url = url.or(printed).unwrap();
    let work = home.workspace().display().to_string();
    let setup = ["setup", "--token-stdin", "--workspace", &work, "--url", url];
    let done = home.run(&setup, &made.stdout).await;
    assert_eq!(done.code, Some(0), "{done:?}");
}

/// A bridge at work, which has done a task.
async fn bridge(home: &Home) -> Running {
    let bridge = Running::start(home.ctrlnode(&[]));
    bridge.line(|line| line.contains("connected")).await;
    let run = ["task", "run", "--agent", "demo", "#demo fast"];
    loop {
        let done = home.run(&run, "").await;
        if done.code == Some(0) {
            return bridge;
        }
        // The hub may not have heard yet which agents there are.
        assert_ne!(done.code, Some(3), "{done:?}");
    }
}

/// Which carriers `doctor` says get through, and which do not.
async fn carriers(home: &Home) -> (Vec<String>, Vec<String>) {
    let done = home.run(&["doctor", "--json"], "").await;
    assert_eq!(done.code, Some(0), "{done:?}");
    let report: Value = serde_json::from_str(&done.stdout).unwrap();
    let plane = &report["plane"];
    assert_eq!(plane["reachable"], true, "{plane}");
    let all = plane["carriers"].as_array().unwrap().iter();
    let (through, not): (Vec<&Value>, Vec<&Value>) = all.partition(|one| one["reaches"] == true);
    assert!(through.iter().all(|one| one["millis"].is_u64()), "{plane}");
    assert!(not.iter().all(|one| one["what"].is_string()), "{plane}");
    let names = |all: Vec<&Value>| -> Vec<String> {
        let name = |one: &Value| one["carrier"].as_str().unwrap().to_owned();
        all.into_iter().map(name).collect()
    };
    (names(through), names(not))
}

/// The line of `doctor` that names the carriers, without the times.
async fn told(home: &Home) -> String {
    let done = home.run(&["doctor"], "").await;
    let mut lines = done.stdout.lines().map(str::trim);
    let line = lines.find(|line| line.starts_with("by ") && line.ends_with(" ms)"));
    let line = line.unwrap_or_else(|| panic!("{done:?}"));
    let words: Vec<&str> = line
        .trim_start_matches("by ")
        .split(", ")
        .map(|one| one.split(' ').next().unwrap())
        .collect();
    words.join(" ")
}

#[tokio::test]
async fn a_machine_pairs_and_works_over_lines() {
    let home = Home::new();
    let mut hub = hub(&home, "127.0.0.1:0", &["--lines", "127.0.0.1:0"]).await;
    let line = hub.line(|line| line.contains("speak lines")).await;
    let (_, url) = line.split_once("setup --url ").unwrap();
    let (url, _) = url.split_once('`').unwrap();
    assert!(url.starts_with("tcp://127.0.0.1:"), "{line}");
    paired(&home, Some(url)).await;
    assert_eq!(
        carriers(&home).await,
        (vec!["lines".to_owned()], Vec::new())
    );
    assert_eq!(told(&home).await, "lines");
    let mut bridge = bridge(&home).await;
    let listed = home.run(&["hub", "token", "list"], "").await;
    assert!(listed.stdout.contains("on line"), "{listed:?}");
    assert_eq!(bridge.terminate().await, Some(0));
    assert_eq!(hub.terminate().await, Some(0));
}

#[tokio::test]
async fn doctor_names_every_carrier_that_gets_through_to_a_hub() {
    let home = Home::new();
    let mut hub = hub(&home, "127.0.0.1:0", &[]).await;
    paired(&home, None).await;
    let (through, not) = carriers(&home).await;
    assert_eq!(through, ["websocket", "hybrid", "sse", "poll"]);
    assert_eq!(not, Vec::<String>::new());
    assert_eq!(told(&home).await, "websocket hybrid sse poll");
    assert_eq!(hub.terminate().await, Some(0));
}

#[tokio::test]
async fn behind_a_proxy_without_upgrades_doctor_names_what_is_left_and_a_bridge_works_by_it() {
    let home = Home::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = free.local_addr().unwrap();
    drop(free);
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", proxy.local_addr().unwrap());
    let proxy = tokio::spawn(without_upgrades(proxy, listen));
    let mut hub = hub(&home, &listen.to_string(), &["--public-origin", &origin]).await;
    paired(&home, None).await;
    let (through, not) = carriers(&home).await;
    assert_eq!(through, ["sse", "poll"]);
    assert_eq!(not, ["websocket", "hybrid"]);
    assert_eq!(told(&home).await, "sse poll");
    let mut bridge = bridge(&home).await;
    assert_eq!(bridge.terminate().await, Some(0));
    assert_eq!(hub.terminate().await, Some(0));
    proxy.abort();
}

/// Leads to a hub, and answers every upgrade itself.
async fn without_upgrades(listener: TcpListener, hub: SocketAddr) {
    loop {
        let (near, _) = listener.accept().await.unwrap();
        tokio::spawn(pass(near, hub));
    }
}

async fn pass(mut near: TcpStream, hub: SocketAddr) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(near.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&head).to_lowercase();
    if text.contains("upgrade: websocket") {
        let answer = "HTTP/1.1 426 No\r\nContent-Length: 2\r\n\r\nno";
        return near.write_all(answer.as_bytes()).await;
    }
    let mut far = TcpStream::connect(hub).await?;
    far.write_all(&head).await?;
    copy_bidirectional(&mut near, &mut far).await?;
    Ok(())
}
