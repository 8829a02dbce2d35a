//! Who has how much of something of which there is only so much: connections, bytes of bodies.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Whose share something is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Everybody on the Unix socket.
    Socket,
    /// An address of IPv4, or the network of one of IPv6: whoever has one of its addresses has them
    /// all, for a /64 is what a customer is given (RFC 6177).
    Address(IpAddr),
}

impl Peer {
    /// The peer of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = address.to_bits() & (u128::MAX << 64);
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
            address @ IpAddr::V4(_) => address,
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket => f.write_str("the socket"),
            Self::Address(address @ IpAddr::V4(_)) => address.fmt(f),
            Self::Address(network) => write!(f, "{network}/64"),
        }
    }
}

/// The shares of one thing. Pure.
#[derive(Debug, Clone)]
pub struct Shares {
    all: usize,
    each: usize,
    taken: usize,
    of: HashMap<Peer, usize>,
}

impl Shares {
    /// There is `all` of it, and one peer may have `each`.
    #[must_use]
    pub fn new(all: usize, each: usize) -> Self {
        Self { all, each, taken: 0, of: HashMap::new() }
    }

    /// Takes so much for a peer; false, and nothing taken, where there is not so much for it.
    pub fn take(&mut self, peer: Peer, much: usize) -> bool {
        let his = self.of.get(&peer).copied().unwrap_or_default();
        let fits =
            |taken: usize, most: usize| taken.checked_add(much).is_some_and(|sum| sum <= most);
        let fits = fits(self.taken, self.all) && fits(his, self.each);
        if fits && much > 0 {
            self.taken += much;
            self.of.insert(peer, his + much);
        }
        fits
    }

    /// Gives back what was taken.
    pub fn give(&mut self, peer: Peer, much: usize) {
        self.taken = self.taken.saturating_sub(much);
        if let Some(his) = self.of.get_mut(&peer) {
            *his = his.saturating_sub(much);
            if *his == 0 {
                self.of.remove(&peer);
            }
        }
    }

    /// How much is taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken
    }
}

/// Shares that go back by themselves.
#[derive(Debug, Clone)]
pub(super) struct Room(Arc<Mutex<Shares>>);

impl Room {
    pub fn new(shares: Shares) -> Self {
        Self(Arc::new(Mutex::new(shares)))
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So much for a peer, until it is dropped.
    pub fn take(&self, peer: Peer, much: usize) -> Option<Share> {
        let taken = self.shares().take(peer, much);
        taken.then(|| Share { room: self.clone(), peer, much })
    }
}

/// What a peer has.
#[derive(Debug)]
pub(super) struct Share {
    room: Room,
    peer: Peer,
    much: usize,
}

impl Share {
    /// Takes more; false, and nothing taken, where there is not so much.
    pub fn grow(&mut self, more: usize) -> bool {
        let taken = self.room.shares().take(self.peer, more);
        self.much += if taken { more } else { 0 };
        taken
    }

    pub fn much(&self) -> usize {
        self.much
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.room.shares().give(self.peer, self.much);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Peer {
        Peer::of(address.parse().unwrap())
    }

    #[test]
    fn one_peer_has_its_share_and_all_together_what_there_is() {
        let mut shares = Shares::new(10, 6);
        let (one, two) = (peer("192.0.2.1"), peer("192.0.2.2"));
        assert!(shares.take(one, 6) && !shares.take(one, 1));
        assert!(!shares.take(two, 5), "there are 4");
        assert!(shares.take(two, 4) && !shares.take(peer("192.0.2.3"), 1));
        assert!(shares.take(one, 0), "nothing is always to be had");
        shares.give(one, 6);
        assert!(shares.take(two, 2) && shares.taken() == 6);
        shares.give(two, 6);
        assert_eq!((shares.taken(), shares.of.len()), (0, 0), "nobody is remembered");
        assert!(!shares.take(one, usize::MAX) && shares.taken() == 0);
    }

    #[test]
    fn whoever_has_a_network_of_ipv6_is_one_peer() {
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:0:0:2"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
        assert_eq!(peer("2001:db8::7").to_string(), "2001:db8::/64");
    }

    #[test]
    fn a_share_goes_back_however_it_ends() {
        let room = Room::new(Shares::new(10, 10));
        let mut share = room.take(Peer::Socket, 0).unwrap();
        assert!(share.grow(7) && !share.grow(4) && share.much() == 7);
        assert!(room.take(Peer::Socket, 4).is_none());
        drop(share);
        assert!(room.take(Peer::Socket, 10).is_some());
    }
}
