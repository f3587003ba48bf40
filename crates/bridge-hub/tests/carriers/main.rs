//! Every carrier against a real hub: the same promises for all of them. The name of a test that
//! fails begins with the name of the carrier.

#![expect(clippy::unwrap_used, reason = "tests say by failing what is wrong")]

mod cutting;
mod gateway;
mod limited;
mod links;
mod meddling;
#[path = "../paired/mod.rs"]
mod paired;
mod probing;
mod promises;
mod support;

macro_rules! promises {
    ($kind:ident; $($promise:ident,)*) => {$(
        #[tokio::test]
        async fn $promise() {
            promises::$promise(CarrierKind::$kind).await;
        }
    )*};
}

/// The promises, once for each carrier.
macro_rules! kept_by {
    ($($carrier:ident: $kind:ident,)*) => {$(
        mod $carrier {
            use bridge_transport::CarrierKind;

            use crate::promises;

            promises!($kind;
                a_greeting_goes_first_and_frames_keep_their_order,
                a_large_message_arrives_whole_in_both_directions,
                nothing_is_lost_or_doubled_when_connections_are_cut_again_and_again,
                a_ping_comes_back,
                a_peer_that_takes_nothing_holds_up_and_loses_nothing,
                a_bridge_that_reads_nothing_misses_nothing,
                a_shutdown_sends_what_waits_and_says_good_bye,
                a_refused_token_is_known_as_one,
                a_revoked_token_ends_the_connection_with_its_code,
                a_newer_connection_takes_over,
                a_frame_of_any_text_arrives_as_it_is,
                a_hub_that_stops_says_so,
            );
        }
    )*};
}

kept_by! {
    websocket: WebSocket,
    hybrid: Hybrid,
    sse: Sse,
    poll: LongPoll,
    lines: Lines,
}
