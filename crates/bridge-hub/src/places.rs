//! Who may hold a connection: whoever has shown a token, and a few strangers for as long as there is
//! room for them. Pure.
//!
//! ```text
//!            arrive              shows a token
//!  nobody ───────────► stranger ───────────────► guest
//!                         │ too many: the oldest stranger goes     goes by itself
//!                         ▼
//!                        out
//! ```
//!
//! A stranger who waits takes nothing from one who comes after: of a thousand half-sent requests the
//! oldest make room for the browser or bridge that sends its own at once.

use std::{
    collections::{HashSet, VecDeque},
    net::IpAddr,
};

/// The place of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PlaceId(u64);

/// What becomes of a newcomer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It has a place; another one may have to go for it.
    Taken {
        place: PlaceId,
        put_out: Option<PlaceId>,
    },
    /// All places are taken by guests.
    Full,
}

/// All places.
#[derive(Debug, Default)]
pub(crate) struct Places {
    last: u64,
    /// Oldest first.
    strangers: VecDeque<(PlaceId, IpAddr)>,
    guests: HashSet<PlaceId>,
}

impl Places {
    /// Somebody connects.
    pub(crate) fn arrive(&mut self, from: IpAddr) -> Arrival {
        let from = from.to_canonical();
        let same = |(_, address): &&(PlaceId, IpAddr)| *address == from;
        let crowd = !from.is_loopback() && self.strangers.iter().filter(same).count() >= OF_ONE;
        let all = self.strangers.len() + self.guests.len() >= ALL;
        let put_out = if crowd {
            self.strangers.iter().position(|(_, it)| *it == from)
        } else if all || self.strangers.len() >= STRANGERS {
            if self.strangers.is_empty() {
                return Arrival::Full;
            }
            Some(0)
        } else {
            None
        };
        let put_out = put_out.and_then(|at| self.strangers.remove(at));
        self.last += 1;
        let place = PlaceId(self.last);
        self.strangers.push_back((place, from));
        Arrival::Taken {
            place,
            put_out: put_out.map(|(place, _)| place),
        }
    }

    /// Whether nobody is here.
    pub(crate) fn is_empty(&self) -> bool {
        self.strangers.is_empty() && self.guests.is_empty()
    }

    /// It has shown a token that is good.
    pub(crate) fn welcome(&mut self, place: PlaceId) {
        let found = self.strangers.iter().position(|(it, _)| *it == place);
        if let Some((place, _)) = found.and_then(|at| self.strangers.remove(at)) {
            self.guests.insert(place);
        }
    }

    /// Its connection is gone.
    pub(crate) fn leave(&mut self, place: PlaceId) {
        self.guests.remove(&place);
        self.strangers.retain(|(it, _)| *it != place);
    }
}

/// Connections altogether; half of the files a process may usually have open.
const ALL: usize = 512;
/// Connections that have shown nothing yet.
const STRANGERS: usize = 128;
/// Those of one address. Through loopback a proxy may bring everybody.
const OF_ONE: usize = 32;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn far(n: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, n))
    }

    fn taken(arrival: Arrival) -> (PlaceId, Option<PlaceId>) {
        match arrival {
            Arrival::Taken { place, put_out } => (place, put_out),
            Arrival::Full => panic!("full"),
        }
    }

    #[test]
    fn a_flood_of_strangers_pushes_out_its_oldest_and_never_a_guest() {
        let mut places = Places::default();
        let (guest, _) = taken(places.arrive(HERE));
        places.welcome(guest);
        let (first, _) = taken(places.arrive(HERE));
        for n in 1..5000 {
            let (_, put_out) = taken(places.arrive(HERE));
            assert_ne!(put_out, Some(guest));
            assert_eq!(put_out.is_some(), n >= STRANGERS, "{n}");
            if n == STRANGERS {
                assert_eq!(put_out, Some(first));
            }
        }
        assert_eq!(places.guests.len(), 1);
        assert_eq!(places.strangers.len(), STRANGERS);
    }

    #[test]
    fn one_address_cannot_take_the_places_of_the_others() {
        let mut places = Places::default();
        let (other, _) = taken(places.arrive(far(1)));
        let mapped = IpAddr::V6(Ipv4Addr::new(192, 0, 2, 2).to_ipv6_mapped());
        for n in 0..200 {
            let from = if n % 2 == 0 { far(2) } else { mapped };
            let (_, put_out) = taken(places.arrive(from));
            assert_ne!(put_out, Some(other));
            assert_eq!(put_out.is_some(), n >= OF_ONE, "{n}");
        }
    }

    #[test]
    fn guests_fill_the_house_and_make_room_when_they_go() {
        let mut places = Places::default();
        let mut guests = Vec::new();
        for _ in 0..ALL {
            let (guest, put_out) = taken(places.arrive(far(1)));
            assert_eq!(put_out, None);
            places.welcome(guest);
            guests.push(guest);
        }
        assert_eq!(places.arrive(far(1)), Arrival::Full);
        places.leave(guests[7]);
        let (stranger, _) = taken(places.arrive(far(1)));
        let (_, put_out) = taken(places.arrive(far(2)));
        assert_eq!(put_out, Some(stranger));
    }

    #[test]
    fn who_was_put_out_is_not_welcomed_any_more() {
        let mut places = Places::default();
        let (first, _) = taken(places.arrive(HERE));
        for _ in 0..STRANGERS {
            places.arrive(HERE);
        }
        places.welcome(first);
        places.leave(first);
        assert!(places.guests.is_empty());
    }
}
