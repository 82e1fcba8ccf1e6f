//! Initial sequence numbers: a keyed hash of the 4-tuple plus a clock
//! (RFC 6528), so that no one off the path can guess them.
//!
//! smoltcp draws the number from a generator inside [`Interface`] that anyone
//! who sees a few outputs can run forwards. Its only input is a seed, and the
//! generator can be run backwards: [`interface`] makes a throw-away interface
//! (about 20 ns) whose next draw is the number that we want. Only the one
//! segment or call that makes smoltcp draw goes through it.
//!
//! This leans on `smoltcp/src/rand.rs` and on the draw that `Interface::new`
//! makes for IPv4 identifiers, both private. smoltcp is pinned, and a test
//! below and one on the wire guard it.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;

use siphasher::sip::SipHasher24;
use smoltcp::iface::{Config, Interface};
use smoltcp::phy::Device;
use smoltcp::time::Instant;
use smoltcp::wire::HardwareAddress;
use wirepath_driver::Nanos;

/// Multiplier and increment of smoltcp's generator (`rand.rs`).
const M: u64 = 0xbb2e_fcec_3c39_611d;
const A: u64 = 0x7590_ef39;
/// `M * M_INVERSE == 1` modulo 2^64.
const M_INVERSE: u64 = inverse(M);

/// Inverse of an odd number modulo 2^64 by Newton's iteration, which doubles
/// the number of right bits each time (5 to begin with).
const fn inverse(m: u64) -> u64 {
    let mut x = m.wrapping_mul(3) ^ 2;
    let mut i = 0;
    while i < 4 {
        x = x.wrapping_mul(2u64.wrapping_sub(m.wrapping_mul(x)));
        i += 1;
    }
    x
}

/// What a stack takes from a capture instead of the dice, so that the peers'
/// captured acknowledgements fit what it sends, and that two runs send the same
/// bytes. Whoever knows it can forge segments: for replays only, never for a
/// stack that others reach.
#[derive(Clone)]
pub struct Given {
    /// The key of all that a shard derives in a way that peers must not foresee.
    pub key: [u8; 16],
    /// The initial sequence number of a connection that a peer opens; `None`
    /// leaves it to the keyed hash.
    pub isn: Arc<IsnOf>,
}

/// From our address, the peer's, and the sequence number of its SYN, to the
/// initial sequence number that we take.
pub type IsnOf = dyn Fn(SocketAddr, SocketAddr, u32) -> Option<u32> + Send + Sync;

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given").finish_non_exhaustive()
    }
}

/// The key of all that a shard derives in a way that peers must not foresee.
pub(crate) struct Secret(SipHasher24);

impl Secret {
    /// A key from the system's random numbers.
    pub(crate) fn random() -> Secret {
        let mut key = [0; 16];
        let mut filled = 0;
        while filled < key.len() {
            // Fails only when interrupted while the system has not gathered
            // its first entropy, and then works when asked again.
            let flags = rustix::rand::GetRandomFlags::empty();
            filled += rustix::rand::getrandom(&mut key[filled..], flags).unwrap_or(0);
        }
        Secret(SipHasher24::new_with_key(&key))
    }

    /// A key that was given, else from the system's random numbers.
    pub(crate) fn given_or_random(given: Option<&Given>) -> Secret {
        given.map_or_else(Secret::random, |given| {
            Secret(SipHasher24::new_with_key(&given.key))
        })
    }

    /// The keyed hash of a value.
    pub(crate) fn hash(&self, value: impl Hash) -> u64 {
        let mut hasher = self.0;
        value.hash(&mut hasher);
        hasher.finish()
    }

    /// The initial sequence number of a connection that begins now: a clock
    /// that counts in 4 µs, offset by a keyed hash of the 4-tuple (RFC 6528 §3).
    pub(crate) fn isn(&self, flow: impl Hash, now: Nanos) -> u32 {
        let clock = now.0 / 4_000;
        (clock as u32).wrapping_add(self.hash(flow) as u32)
    }
}

/// One draw: the generator's next state and its output.
fn draw(state: u64) -> (u64, u32) {
    let state = state.wrapping_mul(M).wrapping_add(A);
    (state, (state >> (29 - (state >> 61))) as u32)
}

/// The state before a draw that left `state`.
fn undraw(state: u64) -> u64 {
    state.wrapping_sub(A).wrapping_mul(M_INVERSE)
}

/// The seed with which an interface's first draw after `Interface::new` is
/// `wanted`.
fn seed(wanted: u32) -> u64 {
    // With the top three bits of a state zero, the output is its bits 29 to 60
    // and the low 29 bits are free. `Interface::new` draws until it gets an
    // IPv4 identifier that is not zero: a state whose predecessor gives zero is
    // passed over, so that this is exactly one draw.
    (0..1u64 << 29)
        .map(|free| undraw(u64::from(wanted) << 29 | free))
        .find(|before| {
            let (_, n) = draw(undraw(*before));
            (n ^ n >> 16) as u16 != 0
        })
        .map(undraw)
        .expect("one identifier in 65,536 is zero, not 2^29 in a row")
}

/// An interface that takes any address as its own: what is ours was decided
/// before a packet gets here ([`crate::ip`]).
pub(crate) fn interface(device: &mut impl Device, wanted: u32, now: Instant) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed(wanted);
    let mut interface = Interface::new(config, device, now);
    interface.set_any_ip(true);
    interface
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_wanted_number_on_its_second_draw() {
        assert_eq!(M.wrapping_mul(M_INVERSE), 1);
        for wanted in [0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX, 0xdead_beef] {
            let (state, identifier) = draw(seed(wanted));
            assert_ne!((identifier ^ identifier >> 16) as u16, 0);
            assert_eq!(draw(state).1, wanted);
        }
    }

    #[test]
    fn the_number_reaches_the_wire() {
        use smoltcp::phy::{Loopback, Medium, RxToken};
        use smoltcp::wire::{Ipv4Packet, TcpPacket};
        for wanted in [1, 0x8000_0000, 0xdead_beef] {
            let mut device = Loopback::new(Medium::Ip);
            let mut iface = interface(&mut device, wanted, Instant::ZERO);
            let mut socket = crate::buffer::Arena::new().socket(4096, 4096).unwrap();
            let to = (std::net::Ipv4Addr::new(10, 0, 0, 2), 80);
            let from = (std::net::Ipv4Addr::new(10, 0, 0, 1), 50_000);
            let opened = socket.get_mut().connect(iface.context(), to, from);
            opened.unwrap();
            iface.poll_egress(Instant::ZERO, &mut device, socket.set_mut());
            let (rx, _) = device.receive(Instant::ZERO).unwrap();
            let seq = rx.consume(|bytes| {
                let ip = Ipv4Packet::new_checked(bytes).unwrap();
                TcpPacket::new_checked(ip.payload()).unwrap().seq_number()
            });
            assert_eq!(seq.0.cast_unsigned(), wanted);
        }
    }

    #[test]
    fn numbers_grow_with_the_clock_and_differ_by_flow_and_key() {
        let secret = Secret::random();
        let at = |flow: u32, us: u64| secret.isn(flow, Nanos(us * 1_000));
        assert_eq!(at(1, 4_000).wrapping_sub(at(1, 0)), 1_000);
        assert_ne!(at(1, 0), at(2, 0));
        assert_ne!(at(1, 0), Secret::random().isn(1u32, Nanos(0)));
    }
}
