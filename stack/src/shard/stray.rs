//! Frames that came to another queue than their flow's.
//!
//! A device steers frames to queues by a hash that nobody asked us about: the
//! answers to a connection that we open or to a query that we send come to any of
//! them, so do ICMP errors, and what neighbours say of themselves comes to one,
//! though each shard has its table. So a shard does not answer at once what it
//! does not know: after its turn, and with no lock held, [`crate::Stack::poll`]
//! offers the frame to each other shard, and only when none knows it is it
//! answered. What neighbours say is offered to all.
//!
//! A shared directory of all flows would find the shard with one look, at the
//! price of a lock for every flow that begins or ends; that is for the day when
//! most frames come to the wrong queue.

use wirepath_driver::{Nanos, Offload, trace};

use super::Shard;
use crate::icmp;
use crate::ip::{self, Packet};
use crate::neighbor::{ArpOp, NdpMessage};
use crate::segment;
use crate::syscall::Event;

/// Frames that a shard offers to others after one turn, at most; what is more is
/// answered at once. Bounds what a flood to closed ports costs.
const MAX_STRAYS: usize = 64;

/// A frame that another shard may know.
pub(crate) struct Stray {
    frame: Vec<u8>,
    /// All shards are to hear of it; else the one that knows it.
    pub(crate) is_for_all: bool,
}

/// The strays of a shard.
pub(super) struct Strays {
    /// There are other shards to ask, and this frame has not come from one.
    may_ask: bool,
    waiting: Vec<Stray>,
}

impl Strays {
    pub(super) fn new() -> Strays {
        Strays {
            may_ask: false,
            waiting: Vec::new(),
        }
    }
}

impl Shard {
    /// From now on what it does not know is offered to others.
    pub(crate) fn has_siblings(&mut self) {
        self.strays.may_ask = true;
    }

    /// Keeps a frame that is not known here for others to look at. False: there
    /// is nobody to ask, or too much was asked already.
    pub(super) fn ask_others(&mut self, frame: &[u8]) -> bool {
        self.keep(frame, false)
    }

    /// Keeps what a neighbour says for the others.
    pub(super) fn tell_others(&mut self, frame: &[u8], packet: &Packet) {
        let is_said = match packet {
            Packet::Arp(packet) => packet.op == ArpOp::Reply,
            Packet::Ndp(packet) => matches!(packet.message, NdpMessage::Advert { .. }),
            _ => false,
        };
        if is_said {
            self.keep(frame, true);
        }
    }

    fn keep(&mut self, frame: &[u8], is_for_all: bool) -> bool {
        let has_room = self.strays.may_ask && self.strays.waiting.len() < MAX_STRAYS;
        if has_room {
            let frame = frame.to_vec();
            self.strays.waiting.push(Stray { frame, is_for_all });
        }
        has_room
    }

    pub(crate) fn take_strays(&mut self) -> Vec<Stray> {
        std::mem::take(&mut self.strays.waiting)
    }

    /// Takes in a frame of another queue, if it is known here; sends what follows
    /// from it, since this shard's turn may be far.
    pub(crate) fn adopt(&mut self, now: Nanos, stray: &Stray, events: &mut Vec<Event>) -> bool {
        let packet = ip::classify(&self.local, &stray.frame, true);
        let is_known = packet.is_ok_and(|p| stray.is_for_all || self.knows(&p, &stray.frame));
        if is_known {
            self.counters.handed_over += u64::from(!stray.is_for_all);
            self.take_stray(now, stray);
            self.run_neighbors(now);
            self.tell(events);
            self.flush(now);
        }
        is_known
    }

    /// Answers what no shard knows.
    pub(crate) fn refuse_stray(&mut self, now: Nanos, stray: &Stray) {
        self.take_stray(now, stray);
        self.transmit(now);
    }

    fn take_stray(&mut self, now: Nanos, stray: &Stray) {
        let Some(mut frame) = self.outbox.blank() else {
            self.counters.stray_no_frame += 1;
            return;
        };
        segment::set_timestamp_clock(now, self.timestamp_origin);
        if frame.fill(&stray.frame) {
            frame.meta.polled_at = now;
            frame.meta.stamp = trace::stamp();
            // It was verified where it came in.
            frame.meta.offload = Offload::CHECKSUM_VALID;
            self.strays.may_ask = false;
            self.fates.from_other_shards += 1;
            self.take_frame(now, &frame);
            self.strays.may_ask = true;
        }
        self.outbox.spares.put(frame);
    }

    fn knows(&self, packet: &Packet, frame: &[u8]) -> bool {
        let has_port = |(addr, port)| self.bound.find(addr, port).is_some();
        match packet {
            Packet::Tcp(segment) => {
                let key = segment.key();
                self.flows.contains_key(&key) || self.time_wait.contains(&key)
            }
            Packet::Udp(datagram) => has_port((datagram.dst, datagram.dst_port)),
            Packet::Icmp(packet) => {
                let said = icmp::unreachable(packet, frame);
                said.is_some_and(|said| match said.seq {
                    Some(_) => self.flows.contains_key(&said.flow),
                    None => has_port(said.flow.local),
                })
            }
            Packet::Arp(_) | Packet::Ndp(_) => false,
        }
    }
}
