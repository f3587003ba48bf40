//! Under which addresses a hub is reached: by programs of its machine, and by everybody else.

use std::net::{IpAddr, SocketAddr};

use url::{Host, Url};

/// The addresses of one hub, as origins without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reach {
    local: String,
    public: Option<String>,
}

impl Reach {
    /// Of a hub that listens here and was told these public origins; the first one is shown.
    pub(crate) fn of(address: SocketAddr, public: &[String]) -> Self {
        Self::new(
            &format!("http://{address}"),
            public.first().map(String::as_str),
        )
    }

    /// Of a hub that was found.
    pub(crate) fn new(local: &str, public: Option<&str>) -> Self {
        let origin = |text: &str| text.trim().trim_end_matches('/').to_owned();
        Self {
            local: origin(local),
            public: public.map(origin),
        }
    }

    /// Where programs of the hub's own machine find it.
    pub(crate) fn local(&self) -> &str {
        &self.local
    }

    /// What was said to be its address for others.
    pub(crate) fn public(&self) -> Option<&str> {
        self.public.as_deref()
    }

    /// What a person opens.
    pub(crate) fn page(&self, path: &str) -> String {
        let origin = self.public.as_ref().unwrap_or(&self.local);
        format!("{origin}{path}")
    }

    /// What a machine is paired with.
    pub(crate) fn door(&self) -> String {
        let page = self.page("/ws/bridge");
        match page.split_once("://") {
            Some(("https", rest)) => format!("wss://{rest}"),
            Some((_, rest)) => format!("ws://{rest}"),
            None => page,
        }
    }

    /// What to know before [`Reach::door`] is used on another machine, where there is something.
    pub(crate) fn limits(&self) -> Option<&'static str> {
        let url = Url::parse(&self.page("")).ok()?;
        let address: Option<IpAddr> = match url.host()? {
            Host::Domain(name) => (name == "localhost").then_some([127, 0, 0, 1].into()),
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
        };
        if address.is_some_and(|address| address.is_loopback()) {
            return Some(
                "Only the hub's own machine reaches this address. For others, put HTTPS in front\n  \
                 of the hub and start it with --public-origin https://…, or let it --listen on a\n  \
                 private network.",
            );
        }
        if address.is_some_and(|address| address.is_unspecified()) {
            return Some("Other machines use an address of the hub's machine instead of this one.");
        }
        (url.scheme() == "http").then_some(
            "It is not encrypted: the other machine needs CTRLNODE_ALLOW_PLAIN=1, for a network\n  \
             that encrypts by itself.",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(public: &[&str]) -> Reach {
        let public: Vec<String> = public.iter().map(|&origin| origin.to_owned()).collect();
        Reach::of("127.0.0.1:7433".parse().unwrap(), &public)
    }

    #[test]
    fn the_public_origin_is_what_people_and_machines_are_told() {
        let reach = reach(&["https://hub.example.org/", "http://box"]);
        assert_eq!(reach.door(), "wss://hub.example.org/ws/bridge");
        assert_eq!(reach.page("/login"), "https://hub.example.org/login");
        assert_eq!(reach.local(), "http://127.0.0.1:7433");
        assert_eq!(reach.limits(), None);
    }

    #[test]
    fn an_address_others_cannot_use_says_so() {
        let here = reach(&[]);
        assert_eq!(here.door(), "ws://127.0.0.1:7433/ws/bridge");
        assert!(here.limits().unwrap().contains("--public-origin"));
        let everywhere = Reach::of("0.0.0.0:1".parse().unwrap(), &[]);
        assert!(everywhere.limits().unwrap().contains("instead of this one"));
        let private = reach(&["http://box:7433"]);
        assert!(private.limits().unwrap().contains("CTRLNODE_ALLOW_PLAIN"));
    }
}
