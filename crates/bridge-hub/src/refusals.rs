//! What strangers are refused for, and can be again and again: told to the log, as long as that does
//! not happen all the time.

use std::net::SocketAddr;

use bridge_transport::Rarely;

/// Why somebody is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no place for a further connection.
    NoPlace(SocketAddr),
    /// The pairing token is of no machine.
    UnknownToken,
    /// The request is for this host.
    OtherHost(String),
    /// The request is from a page of this origin.
    OtherOrigin(String),
}

/// Counts the refusals of one listener.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    no_place: Rarely,
    unknown_token: Rarely,
    other_host: Rarely,
    other_origin: Rarely,
}

impl Refusals {
    pub(crate) fn tell(&mut self, refusal: &Refusal) {
        match refusal {
            Refusal::NoPlace(from) => {
                if let Some(refused) = self.no_place.count() {
                    tracing::warn!(%from, refused, "no place for a further connection");
                }
            }
            Refusal::UnknownToken => {
                if let Some(refused) = self.unknown_token.count() {
                    tracing::warn!(
                        refused,
                        "a bridge with an unknown pairing token was refused"
                    );
                }
            }
            Refusal::OtherHost(host) => {
                if let Some(refused) = self.other_host.count() {
                    tracing::warn!(host, refused, "request for another host refused");
                }
            }
            Refusal::OtherOrigin(origin) => {
                if let Some(refused) = self.other_origin.count() {
                    tracing::warn!(origin, refused, "request from another site refused");
                }
            }
        }
    }
}
