//! ARP and IPv6 neighbour discovery: answering for our addresses, asking for
//! others', noticing who else claims ours.
//!
//! RFC 826 and RFC 5227 for ARP; RFC 4861 and RFC 4862 for neighbour discovery;
//! RFC 3810 for the groups that a switch must let through to us. smoltcp's own
//! cache asks once a second for the whole interface, so that one silent peer
//! starves the others; here each has a timer of its own.
//!
//! The shard hands in what [`crate::ip::classify`] let pass, calls
//! [`Neighbors::poll`] when [`Neighbors::next_event`] is due, and gets whole
//! Ethernet frames to send through `out`. Flows that peers open do not look here:
//! they answer to the station that their SYN came from.

mod arp;
mod ndp;
mod own;
mod table;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

pub(crate) use arp::{ArpOp, ArpPacket};
use ndp::Listening;
pub(crate) use ndp::{NdpMessage, NdpPacket};
use own::{Own, Say};
use table::{Ask, Claim, Table};
use wirepath_driver::Nanos;

use crate::MacAddr;
use crate::ip::{Local, solicited_node};

/// Conflicts kept for whoever logs them.
const MAX_CONFLICTS: usize = 8;

/// Listener reports at start (RFC 3810 §9.1, the robustness variable).
const JOIN_REPORTS: u8 = 2;

/// When the first listener report is repeated: after the latest end of duplicate
/// address detection (1 s of delay, 1 s of waiting), so that it has our
/// link-local address as source (RFC 3590 §4, RFC 3810 §6.1).
const REPORT_AGAIN: Duration = Duration::from_millis(2500);

/// Where to send what is for a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// To this station.
    Known(MacAddr),
    /// Nowhere yet: it has been asked for.
    Pending,
    /// Nowhere: nobody answered.
    Failed,
}

/// Another station that claims an address of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// The address.
    pub addr: IpAddr,
    /// The station.
    pub mac: MacAddr,
}

/// Counts of what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NeighborStats {
    /// ARP packets taken in.
    pub arp_received: u64,
    /// Neighbour and listener discovery messages taken in.
    pub ndp_received: u64,
    /// Questions for our addresses answered, probes included.
    pub answered: u64,
    /// Announcements of our addresses sent, defences included.
    pub announced: u64,
    /// Questions for others' addresses sent.
    pub asked: u64,
    /// Neighbours that were asked for and found, or found elsewhere.
    pub learned: u64,
    /// Neighbours that did not answer.
    pub failed: u64,
    /// Claims that a known neighbour is elsewhere, each of which made us ask.
    pub contradictions: u64,
    /// Neighbours forgotten for others.
    pub evicted: u64,
    /// Claims of an address of ours.
    pub conflicts: u64,
    /// Addresses of ours that turned out to be another's.
    pub duplicates: u64,
    /// Listener reports sent.
    pub reports: u64,
    /// Packets that called for nothing.
    pub ignored: u64,
}

/// A small generator of spread, not of secrets (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The generator that `seed` starts.
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 for 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A time below `bound`.
    pub(crate) fn within(&mut self, bound: Duration) -> Duration {
        let bound = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.below(bound))
    }
}

/// A shard's view of its link.
#[derive(Debug)]
pub(crate) struct Neighbors {
    local: Local,
    own: Vec<Own>,
    table: Table,
    random: Random,
    /// When to report that we began to listen, and how often still.
    join: Option<(Nanos, u8)>,
    /// When to answer a listener query.
    answer: Option<Nanos>,
    conflicts: VecDeque<Conflict>,
    stats: NeighborStats,
}

type Out<'a> = dyn FnMut(&[u8]) + 'a;

impl Neighbors {
    /// Starts with nothing known; `seed` spreads delays. Our IPv6 addresses are
    /// checked for duplicates first, which takes up to two seconds from the first
    /// [`Neighbors::poll`].
    pub(crate) fn new(local: &Local, seed: u64) -> Neighbors {
        Neighbors::with_dad(local, seed, true)
    }

    /// As [`Neighbors::new`], and without duplicate address detection unless
    /// `dad`, as is right on a link with nobody else to choose addresses.
    pub(crate) fn with_dad(local: &Local, seed: u64, dad: bool) -> Neighbors {
        let mut own: Vec<Own> = Vec::new();
        let configured = local.cidrs.iter().map(|cidr| cidr.addr);
        for addr in configured.chain(local.link_local().map(IpAddr::V6)) {
            if own.iter().all(|other| other.addr != addr) {
                own.push(Own::new(addr, dad && addr.is_ipv6()));
            }
        }
        if local.is_shared {
            own.iter_mut().for_each(Own::settle);
        }
        let has_groups = local.link_local().is_some();
        Neighbors {
            local: local.clone(),
            own,
            table: Table::new(),
            random: Random::new(seed),
            join: has_groups.then_some((Nanos::ZERO, JOIN_REPORTS)),
            answer: None,
            conflicts: VecDeque::new(),
            stats: NeighborStats::default(),
        }
    }

    /// What happened so far.
    pub(crate) fn stats(&self) -> NeighborStats {
        self.stats
    }

    /// Whether `addr` is ours and known to be only ours: nothing may be sent from
    /// or taken for a tentative address (RFC 4862 §5.4).
    pub(crate) fn usable(&self, addr: IpAddr) -> bool {
        let own = self.own.iter().find(|own| own.addr == addr);
        own.is_some_and(Own::is_usable)
    }

    /// The oldest conflict not yet taken; at most one for each address in ten
    /// seconds is kept.
    pub(crate) fn take_conflict(&mut self) -> Option<Conflict> {
        self.conflicts.pop_front()
    }

    /// When [`Neighbors::poll`] has something to do.
    pub(crate) fn next_event(&self) -> Option<Nanos> {
        let own = self.own.iter().filter_map(Own::due);
        let join = self.join.map(|(due, _)| due);
        own.chain(join)
            .chain(self.answer)
            .chain(self.table.next_due())
            .min()
    }

    /// Does what is due: announcements, probes, reports, asking again.
    pub(crate) fn poll(&mut self, now: Nanos, out: &mut Out<'_>) {
        // The group comes first, so that the answer to a probe gets through.
        if let Some((_, left)) = self.join.filter(|(due, _)| *due <= now) {
            self.join = (left > 1).then_some((now + REPORT_AGAIN, left - 1));
            self.send_report(Listening::Newly, out);
        }
        if self.answer.is_some_and(|due| due <= now) {
            self.answer = None;
            self.send_report(Listening::Still, out);
        }
        for at in 0..self.own.len() {
            match self.own[at].poll(now, &mut self.random) {
                Some(Say::Announce) => self.announce(self.own[at].addr, out),
                Some(Say::Probe) => self.probe(self.own[at].addr, out),
                None => {}
            }
        }
        let (local, own) = (&self.local, &self.own);
        self.table.poll(now, &mut self.stats, &mut |ask, stats| {
            send_ask(local, own, ask, stats, out);
        });
    }

    /// Where to send what is for `next_hop`, an address on the link; asks if need
    /// be. Pending ends with what [`Neighbors::on_arp`] and [`Neighbors::on_ndp`]
    /// return, or with [`Resolution::Failed`] about three seconds later.
    pub(crate) fn resolve(
        &mut self,
        now: Nanos,
        next_hop: IpAddr,
        out: &mut Out<'_>,
    ) -> Resolution {
        if next_hop.is_multicast() || next_hop.is_unspecified() || self.local.owns(next_hop) {
            return Resolution::Failed;
        }
        let (random, stats) = (&mut self.random, &mut self.stats);
        let (resolution, ask) = self.table.resolve(now, next_hop, random, stats);
        if let Some(ask) = ask {
            send_ask(&self.local, &self.own, ask, &mut self.stats, out);
        }
        resolution
    }

    /// Takes in an ARP packet. Returns a neighbour that was pending and is known
    /// now.
    pub(crate) fn on_arp(
        &mut self,
        now: Nanos,
        packet: &ArpPacket,
        out: &mut Out<'_>,
    ) -> Option<IpAddr> {
        self.stats.arp_received += 1;
        let (sender, target) = (packet.sender_ip.into(), packet.target_ip.into());
        if !packet.sender_mac.is_station() || packet.sender_mac == self.local.mac {
            self.stats.ignored += 1;
            return None;
        }
        if self.local.owns(sender) {
            self.on_conflict(now, sender, packet.sender_mac, out);
            return None;
        }
        let for_us = self.usable(target);
        if for_us && packet.op == ArpOp::Request {
            self.stats.answered += 1;
            let reply = ArpPacket {
                op: ArpOp::Reply,
                sender_mac: self.local.mac,
                sender_ip: packet.target_ip,
                target_mac: packet.sender_mac,
                target_ip: packet.sender_ip,
            };
            out(&reply.to_frame(packet.sender_mac));
        }
        let is_announcement = packet.sender_ip == packet.target_ip;
        if !self.is_on_link(sender) || !(for_us || is_announcement) {
            self.stats.ignored += 1;
            return None;
        }
        let claim = Claim {
            addr: sender,
            mac: Some(packet.sender_mac),
            solicited: for_us && packet.op == ArpOp::Reply,
            overrides: true,
            may_insert: for_us && packet.op == ArpOp::Request,
        };
        self.on_claim(now, claim, out)
    }

    /// Takes in a neighbour or listener discovery message. Returns a neighbour
    /// that was pending and is known now.
    pub(crate) fn on_ndp(
        &mut self,
        now: Nanos,
        packet: &NdpPacket,
        out: &mut Out<'_>,
    ) -> Option<IpAddr> {
        self.stats.ndp_received += 1;
        match packet.message {
            NdpMessage::Solicit { target, source_mac } => {
                self.on_solicit(now, packet, target, source_mac, out)
            }
            NdpMessage::Advert { target, .. } if self.local.owns(target.into()) => {
                self.on_conflict(now, target.into(), packet.src_mac, out);
                None
            }
            NdpMessage::Advert {
                target,
                target_mac,
                solicited,
                overrides,
            } => {
                let claim = Claim {
                    addr: target.into(),
                    mac: target_mac,
                    solicited,
                    overrides,
                    may_insert: false,
                };
                self.on_claim(now, claim, out)
            }
            NdpMessage::Query { group, max_delay } => {
                self.on_query(now, group, max_delay);
                None
            }
        }
    }

    /// RFC 4861 §7.2.3, §7.2.4; RFC 4862 §5.4.3.
    fn on_solicit(
        &mut self,
        now: Nanos,
        packet: &NdpPacket,
        target: Ipv6Addr,
        source_mac: Option<MacAddr>,
        out: &mut Out<'_>,
    ) -> Option<IpAddr> {
        let is_probe = packet.src.is_unspecified();
        if !self.usable(target.into()) {
            match is_probe && self.local.owns(target.into()) {
                true => self.on_conflict(now, target.into(), packet.src_mac, out),
                false => self.stats.ignored += 1,
            }
            return None;
        }
        self.stats.answered += 1;
        // An answer takes the way that the question came, unless the asker says
        // better: no need to ask where it is.
        let back = (source_mac.unwrap_or(packet.src_mac), packet.src);
        let to = (!is_probe).then_some(back);
        out(&ndp::advert_frame(self.local.mac, target, to));
        let src = IpAddr::from(packet.src);
        if source_mac.is_none() || !self.is_on_link(src) {
            return None;
        }
        let claim = Claim {
            addr: src,
            mac: source_mac,
            solicited: false,
            overrides: true,
            may_insert: true,
        };
        self.on_claim(now, claim, out)
    }

    /// RFC 3810 §6.2.
    fn on_query(&mut self, now: Nanos, group: Ipv6Addr, max_delay: Duration) {
        let is_ours = || {
            self.local
                .ipv6_addrs()
                .any(|own| solicited_node(own) == group)
        };
        if !group.is_unspecified() && !is_ours() {
            self.stats.ignored += 1;
            return;
        }
        let due = now + self.random.within(max_delay);
        self.answer = Some(self.answer.map_or(due, |pending| pending.min(due)));
    }

    fn on_claim(&mut self, now: Nanos, claim: Claim, out: &mut Out<'_>) -> Option<IpAddr> {
        let (random, stats) = (&mut self.random, &mut self.stats);
        let (resolved, ask) = self.table.claim(now, claim, random, stats);
        if let Some(ask) = ask {
            send_ask(&self.local, &self.own, ask, &mut self.stats, out);
        }
        resolved.then_some(claim.addr)
    }

    /// Another station has, or says that it has, an address of ours.
    fn on_conflict(&mut self, now: Nanos, addr: IpAddr, mac: MacAddr, out: &mut Out<'_>) {
        let Some(own) = self.own.iter_mut().find(|own| own.addr == addr) else {
            return;
        };
        if own.is_given_up() {
            self.stats.ignored += 1;
            return;
        }
        self.stats.conflicts += 1;
        if own.is_tentative() {
            own.give_up();
            self.stats.duplicates += 1;
        } else if own.defend(now) {
            self.announce(addr, out);
        } else {
            return;
        }
        if self.conflicts.len() < MAX_CONFLICTS {
            self.conflicts.push_back(Conflict { addr, mac });
        }
    }

    /// Whether `addr` can be a neighbour.
    fn is_on_link(&self, addr: IpAddr) -> bool {
        let is_link_local = matches!(addr, IpAddr::V6(addr) if addr.is_unicast_link_local());
        let in_a_network = || self.local.cidrs.iter().any(|cidr| cidr.contains(addr));
        !addr.is_unspecified() && (is_link_local || in_a_network())
    }

    fn announce(&mut self, addr: IpAddr, out: &mut Out<'_>) {
        self.stats.announced += 1;
        match addr {
            IpAddr::V4(addr) => out(&arp_request(self.local.mac, addr, addr, None)),
            IpAddr::V6(addr) => out(&ndp::advert_frame(self.local.mac, addr, None)),
        }
    }

    fn probe(&self, addr: IpAddr, out: &mut Out<'_>) {
        let (mac, nobody) = (self.local.mac, Ipv6Addr::UNSPECIFIED);
        if let IpAddr::V6(addr) = addr {
            out(&ndp::solicit_frame(mac, nobody, addr, None));
        }
    }

    fn send_report(&mut self, listening: Listening, out: &mut Out<'_>) {
        let mut groups: Vec<Ipv6Addr> = self.local.ipv6_addrs().map(solicited_node).collect();
        groups.sort_unstable();
        groups.dedup();
        let src = self.local.link_local();
        let src = src.filter(|addr| self.usable((*addr).into()));
        let src = src.unwrap_or(Ipv6Addr::UNSPECIFIED);
        self.stats.reports += 1;
        out(&ndp::report_frame(self.local.mac, src, &groups, listening));
    }
}

/// Puts a question on the link, from the address of ours that is nearest to the
/// one asked for. While none is usable the ask is lost, and repeated in time.
fn send_ask(local: &Local, own: &[Own], ask: Ask, stats: &mut NeighborStats, out: &mut Out<'_>) {
    let usable = |addr: IpAddr| own.iter().any(|own| own.addr == addr && own.is_usable());
    let in_network = local.cidrs.iter().filter(|cidr| cidr.contains(ask.addr));
    let of_family = local.cidrs.iter();
    let of_family = of_family.filter(|cidr| cidr.addr.is_ipv4() == ask.addr.is_ipv4());
    let mut nearest = in_network.chain(of_family).map(|cidr| cidr.addr);
    let link_local = local.link_local().map(IpAddr::V6);
    let src = match ask.addr {
        IpAddr::V6(addr) if addr.is_unicast_link_local() => link_local.filter(|addr| usable(*addr)),
        _ => nearest.find(|addr| usable(*addr)),
    };
    match (src, ask.addr) {
        (Some(IpAddr::V4(src)), IpAddr::V4(addr)) => {
            out(&arp_request(local.mac, src, addr, ask.of));
        }
        (Some(IpAddr::V6(src)), IpAddr::V6(addr)) => {
            out(&ndp::solicit_frame(local.mac, src, addr, ask.of));
        }
        _ => return,
    }
    stats.asked += 1;
}

/// A request for `target`, to one station or to all. With `src` as target it is
/// an announcement (RFC 5227 §2.3).
fn arp_request(mac: MacAddr, src: Ipv4Addr, target: Ipv4Addr, of: Option<MacAddr>) -> [u8; 60] {
    let request = ArpPacket {
        op: ArpOp::Request,
        sender_mac: mac,
        sender_ip: src,
        target_mac: MacAddr([0; 6]),
        target_ip: target,
    };
    request.to_frame(of.unwrap_or(MacAddr::BROADCAST))
}
