//! Turns the world into inputs of the machine and its actions into the world.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::{
    carrier::Carrier,
    config::Endpoint,
    handle::Handle,
    inbound::Inbox,
    payload::Payload,
    state::{LinkState, Phase},
};

pub(crate) fn spawn<P: Payload>(
    endpoint: Endpoint,
    carrier: Arc<dyn Carrier>,
) -> (Handle<P>, Inbox) {
    drop(carrier);
    let (requests, _) = mpsc::channel(1);
    let state = LinkState {
        phase: Phase::Dialing,
        since: tokio::time::Instant::now().into_std(),
        attempt: 0,
        next_retry: None,
        last_error: None,
        round_trip: None,
        extended: false,
    };
    let greeting = Arc::new(watch::Sender::new(endpoint.greeting));
    let (_, receiver) = mpsc::unbounded_channel();
    (
        Handle {
            requests,
            greeting,
            state: watch::channel(state).1,
        },
        Inbox { receiver },
    )
}
