//! What a stack has done, counted by cause.
//!
//! Plain numbers behind the shard's lock; [`crate::Stack::stats`] copies them.

use wirepath_driver::{RingFill, RingStats};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Counters of one shard, or their sum.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Counters {
            /// Calls `f` with each counter's name and value.
            pub fn each(&self, mut f: impl FnMut(&'static str, u64)) {
                $(f(stringify!($name), self.$name);)+
            }

            /// Adds another shard's.
            pub fn add(&mut self, other: &Counters) {
                $(self.$name += other.$name;)+
            }
        }
    };
}

counters! {
    /// Turns that took frames in.
    busy_turns,
    /// Segments that found their connection.
    tcp_segments_received,
    /// Segments that smoltcp wrote.
    tcp_segments_sent,
    /// Of these, the ones with data that had been sent before; window and
    /// keep-alive probes among them.
    tcp_retransmits,
    /// Connections that began with a peer's SYN.
    passive_opens,
    /// Connections that began with `connect`.
    active_opens,
    /// Handshakes completed, either way.
    established,
    /// Connections handed out by `accept`.
    accepted,
    /// SYNs dropped: a listener's handshakes under way were at their limit.
    syn_backlog_full,
    /// SYNs and final ACKs dropped: a listener's accept queue was full.
    accept_queue_full,
    /// SYNs dropped: no slot or no memory for another connection.
    syn_no_buffers,
    /// SYNs that smoltcp refused (malformed options).
    syn_malformed,
    /// Handshakes given up: the final ACK did not come.
    half_open_expired,
    /// Handshakes that the peer reset.
    half_open_reset,
    /// Connections that the peer reset.
    resets_received,
    /// Connections that we reset (abort, close with unread data, no answer).
    resets_sent,
    /// Connections ended because the peer did not answer.
    timed_out,
    /// Closed connections that waited too long for the peer's FIN or ACK.
    orphans_expired,
    /// Connections reset at close because too many closed ones linger.
    orphans_over_limit,
    /// Segments for no connection and no listener.
    no_flow,
    /// Resets sent for them.
    no_flow_resets,
    /// Answers (resets, unreachables, echoes) not sent, to keep to their rate.
    answers_rate_limited,
    /// SYNs and inexact resets on a live connection, answered with an ACK
    /// (RFC 5961).
    challenge_acks,
    /// Connections that entered TIME-WAIT.
    time_wait_entered,
    /// TIME-WAIT entries thrown out for newer ones.
    time_wait_evicted,
    /// TIME-WAIT entries ended by an acceptable SYN (RFC 6191).
    time_wait_reused,
    /// Segments in TIME-WAIT answered with an ACK.
    time_wait_acks,
    /// UDP datagrams taken into a socket's receive queue.
    udp_received,
    /// UDP datagrams sent, or queued for a next hop that is being asked for.
    udp_sent,
    /// UDP datagrams for a port that no socket has toward their sender.
    udp_no_port,
    /// UDP datagrams to a broadcast address or a group, which no socket takes.
    udp_to_group,
    /// UDP datagrams dropped: the socket's receive queue had its number of them.
    udp_queue_full,
    /// UDP datagrams dropped: the socket's receive queue had its bytes.
    udp_bytes_full,
    /// UDP datagrams of ours dropped: too many waited for their next hop.
    udp_unresolved_full,
    /// DNS queries sent, repeated ones too.
    dns_queries,
    /// DNS answers taken.
    dns_answers,
    /// Datagrams to a name lookup that were no answer to its question.
    dns_ignored,
    /// Name lookups that ended without an answer from any server.
    dns_failed,
    /// ICMP echo requests answered.
    echo_replies,
    /// ICMP errors that ended a `connect`, or failed a call on a datagram socket.
    icmp_errors,
    /// ICMP messages that ask for no answer and tell of no packet that is out.
    icmp_ignored,
    /// Connections and datagrams given up because their next hop did not answer.
    neighbor_unreachable,
    /// Frames that another shard's queue received and that were taken in here.
    handed_over,
    /// Frames of another shard's queue lost because the pool had none.
    stray_no_frame,
    /// Packets of ours lost because the pool had no frame or the outbox no room.
    tx_no_frame,
    /// Idle connections whose buffers' pages went back to the system.
    buffers_discarded,
    /// Connections ended by a panic of the TCP implementation, which is a bug.
    tcp_panics,
    /// Frames dropped before TCP, for the reasons listed beside.
    dropped,
}

/// What there is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Connections with a slot, in any state.
    pub connections: u64,
    /// Of these, those whose handshake is under way.
    pub half_open: u64,
    /// Of these, those closed by their user that still send or wait.
    pub orphans: u64,
    /// Of these, those whose peer has not acknowledged everything: a process that
    /// ends now cuts them off.
    pub delivering: u64,
    /// Closed flows in TIME-WAIT.
    pub time_wait: u64,
    /// UDP sockets.
    pub udp_sockets: u64,
    /// Name lookups.
    pub lookups: u64,
}

/// What one shard has done.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ShardStats {
    /// The queue's name.
    pub queue: String,
    /// The queue's rings.
    pub ring: RingStats,
    /// The shard's counters.
    pub counters: Counters,
    /// What there is now.
    pub gauges: Gauges,
    /// What happened with ARP and neighbour discovery.
    pub neighbors: Vec<(&'static str, u64)>,
    /// Frames dropped before TCP, by cause.
    pub drops: Vec<(&'static str, u64)>,
    /// Where each frame went.
    pub ledger: Ledger,
    /// Bytes of the largest IP packet.
    pub mtu: usize,
    /// Whether the device tells when a frame came into its ring.
    pub sees_nic_rx: bool,
    /// Whether it tells the TX ring, the kick and the completion apart.
    pub sees_nic_done: bool,
    /// How full the device's rings are, where it shows them.
    pub rings: Vec<RingFill>,
    /// Frames of the queue's pool, and the free ones of them.
    pub pool: (u32, u32),
}

/// Where each frame of a shard went: what came in, and what it made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Frames that the queue handed up.
    pub from_ring: u64,
    /// Frames that other shards handed over.
    pub from_other_shards: u64,
    /// What became of them, unless dropped.
    pub fates: Vec<(&'static str, u64)>,
    /// Dropped, for the causes in [`ShardStats::drops`].
    pub dropped: u64,
    /// Frames that the shard made.
    pub made: u64,
    /// Of these, taken by the TX ring.
    pub to_ring: u64,
    /// Of these, waiting for room in the ring.
    pub waiting: u64,
    /// Of these, lost with the device.
    pub lost_with_device: u64,
}

impl Ledger {
    /// Frames that came in and have no fate: 0, or a bug.
    pub fn unaccounted_rx(&self) -> i64 {
        let fates: u64 = self.fates.iter().map(|(_, count)| count).sum();
        let came = self.from_ring + self.from_other_shards;
        came.cast_signed() - (fates + self.dropped).cast_signed()
    }

    /// Frames that were made and are nowhere: 0, or a bug.
    pub fn unaccounted_tx(&self) -> i64 {
        let places = self.to_ring + self.waiting + self.lost_with_device;
        self.made.cast_signed() - places.cast_signed()
    }

    /// Calls `f` with each number's name and value.
    pub fn each(&self, mut f: impl FnMut(&'static str, u64)) {
        f("from_ring", self.from_ring);
        f("from_other_shards", self.from_other_shards);
        self.fates.iter().for_each(|(name, count)| f(name, *count));
        f("dropped", self.dropped);
        f("made", self.made);
        f("to_ring", self.to_ring);
        f("waiting", self.waiting);
        f("lost_with_device", self.lost_with_device);
    }
}

impl ShardStats {
    /// Calls `f` with each number's name and value: rings, counters, gauges,
    /// neighbours, drops.
    pub fn each(&self, mut f: impl FnMut(&'static str, u64)) {
        let ring = &self.ring;
        f("rx_frames", ring.rx_frames);
        f("rx_bytes", ring.rx_bytes);
        f("rx_no_frame", ring.rx_no_frame);
        f("rx_bad_len", ring.rx_bad_len);
        f("tx_frames", ring.tx_frames);
        f("tx_bytes", ring.tx_bytes);
        f("tx_errors", ring.tx_errors);
        f("tx_ring_full", ring.tx_ring_full);
        f("kicks", ring.kicks);
        self.counters.each(&mut f);
        f("connections", self.gauges.connections);
        f("half_open", self.gauges.half_open);
        f("orphans", self.gauges.orphans);
        f("delivering", self.gauges.delivering);
        f("time_wait", self.gauges.time_wait);
        f("udp_sockets", self.gauges.udp_sockets);
        f("lookups", self.gauges.lookups);
        for (name, count) in self.neighbors.iter().chain(&self.drops) {
            f(name, *count);
        }
    }
}

/// What a stack has done: [`crate::Stack::stats`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Each shard by itself.
    pub shards: Vec<ShardStats>,
}

impl Stats {
    /// Calls `f` with each number's name and its sum over the shards.
    pub fn each(&self, mut f: impl FnMut(&'static str, u64)) {
        let mut sums: Vec<(&'static str, u64)> = Vec::new();
        for shard in &self.shards {
            let mut at = 0;
            // Every shard names the same numbers in the same order.
            shard.each(|name, value| {
                match sums.get_mut(at) {
                    Some((_, sum)) => *sum += value,
                    None => sums.push((name, value)),
                }
                at += 1;
            });
        }
        for (name, sum) in sums {
            f(name, sum);
        }
    }

    /// The sum of the number called `name`; None when there is none.
    pub fn get(&self, name: &str) -> Option<u64> {
        let mut found = None;
        self.each(|n, value| {
            if n == name {
                found = Some(value);
            }
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_keep_their_names() {
        let mut a = ShardStats::default();
        a.counters.accepted = 2;
        a.drops = vec![("vlan", 1)];
        let stats = Stats {
            shards: vec![a.clone(), a],
        };
        assert_eq!(stats.get("accepted"), Some(4));
        assert_eq!(stats.get("vlan"), Some(2));
        assert_eq!(stats.get("nothing"), None);
    }
}
