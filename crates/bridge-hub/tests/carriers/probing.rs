//! A bridge behind a network that lets not everything through finds its way to a real hub.

use bridge_transport::{CarrierKind, Endpoint, Greeting, Phase};
use serde_json::json;
use tokio::{net::TcpListener, sync::mpsc};

use crate::{
    meddling::{Meddling, Upgrades, meddle},
    paired::Paired,
    support::{Bridge, soon},
};

/// A bridge that went its way through such a network, and what the network saw of that.
struct Tried {
    _paired: Paired,
    bridge: Bridge,
    seen: mpsc::UnboundedReceiver<String>,
}

async fn tried(meddling: Meddling, token: Option<&str>) -> Tried {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let origin = format!("http://{address}");
    let paired = Paired::with(|config| config.public_origins.push(origin)).await;
    let seen = meddle(listener, paired.running.address(), meddling);
    let handshake = json!({
        "action": "handshake", "version": "v1.0.0", "agents": [], "providers": ["demo"],
    });
    let endpoint = Endpoint::new(&format!("http://{address}/ws/bridge"))
        .unwrap()
        .bearer(token.unwrap_or_else(|| paired.pairing.expose()))
        .unwrap()
        .offer_extension(true)
        .greeting(Greeting {
            frames: vec![handshake.to_string().into()],
            ..Greeting::default()
        });
    assert_eq!(endpoint.carriers, CarrierKind::of_http());
    Tried {
        _paired: paired,
        bridge: Bridge::start(endpoint),
        seen,
    }
}

impl Tried {
    /// The first line of a request that has this in it; gives all before it as well.
    async fn saw(&mut self, wanted: &str) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let line = soon(self.seen.recv()).await.unwrap();
            let found = line.contains(wanted);
            all.push(line);
            if found {
                return all;
            }
        }
    }
}

#[tokio::test]
async fn where_upgrades_are_refused_events_are_read() {
    for upgrades in [
        Upgrades::Status(426),
        Upgrades::Status(400),
        Upgrades::Status(404),
        Upgrades::Status(502),
        Upgrades::Status(403),
        Upgrades::HungUp,
        Upgrades::Ignored,
    ] {
        let mut tried = tried(
            Meddling {
                upgrades,
                keeps_events: false,
            },
            None,
        )
        .await;
        tried.bridge.expect("sync_demo_agents").await;
        let seen = tried.saw("/events").await;
        assert_eq!(seen[0], "GET /ws/bridge HTTP/1.1", "{upgrades:?}");
        assert_eq!(seen[1], "POST /ws/bridge/link HTTP/1.1", "{upgrades:?}");
    }
}

#[tokio::test]
async fn where_events_are_kept_back_too_polls_get_through() {
    let meddling = Meddling {
        upgrades: Upgrades::Status(400),
        keeps_events: true,
    };
    let mut tried = tried(meddling, None).await;
    tried.bridge.expect("sync_demo_agents").await;
    tried.saw("?after=0").await;
    let last = tried.saw("GET /ws/bridge/link/").await;
    assert!(!last[last.len() - 1].contains("/events"), "{last:?}");
}

#[tokio::test]
async fn a_token_that_is_refused_on_the_way_back_is_known_as_refused() {
    let meddling = Meddling {
        upgrades: Upgrades::Status(426),
        keeps_events: false,
    };
    let tried = tried(meddling, Some("wrong")).await;
    let state = tried
        .bridge
        .until(|state| state.phase == Phase::AuthRequired)
        .await;
    assert!(state.last_error.unwrap().contains("401"));
}
