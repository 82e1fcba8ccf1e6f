//! The ledger: each frame that a shard took in ends in one fate, and each that
//! it made is in one place.

/// What became of a received frame that was not dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Fate {
    /// A segment of a connection.
    Connection,
    /// A segment of a flow in TIME-WAIT.
    TimeWait,
    /// A SYN that a listener took, or had no room for.
    Listener,
    /// A segment of nobody.
    NoConnection,
    /// A segment of nobody here, which the other shards were asked about.
    Offered,
    /// A UDP datagram.
    Datagram,
    /// ICMP or ICMPv6.
    Icmp,
    /// ARP.
    Arp,
    /// Neighbour or listener discovery.
    Ndp,
}

const NAMES: [&str; 9] = [
    "to_connection",
    "to_time_wait",
    "to_listener",
    "to_no_connection",
    "to_other_shards",
    "to_datagrams",
    "to_icmp",
    "to_arp",
    "to_ndp",
];

/// Frames by fate.
#[derive(Debug, Default)]
pub(super) struct Fates {
    counts: [u64; NAMES.len()],
    /// Frames that other shards handed over, beside those of the ring.
    pub(super) from_other_shards: u64,
    /// Frames of ours that went into the TX ring.
    pub(super) to_ring: u64,
    /// Frames of ours that were lost with the device.
    pub(super) lost_with_device: u64,
}

impl Fates {
    #[inline]
    pub(super) fn count(&mut self, fate: Fate) {
        self.counts[fate as usize] += 1;
    }

    pub(super) fn named(&self) -> Vec<(&'static str, u64)> {
        NAMES.into_iter().zip(self.counts).collect()
    }
}
