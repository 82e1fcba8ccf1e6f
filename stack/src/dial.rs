//! Connections that we open: source address, next hop, port, and the wait for
//! the next hop's station.
//!
//! A port is searched from a keyed-hash start (RFC 6056 §3.3.3) in the dynamic
//! range (RFC 6335 §6), over 4-tuples that neither a connection nor TIME-WAIT
//! holds. The answer must come to the shard that asked, which is sure with one
//! queue.

use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::{IpEndpoint, IpListenEndpoint};
use wirepath_driver::Nanos;

use crate::conn::{Conn, Phase};
use crate::flow::{Entry, FlowKey};
use crate::neighbor::Resolution;
use crate::phy::{Line, Phy};
use crate::shard::{Shard, instant, timeouts};
use crate::syscall::DEFAULT_BUFFER;
use crate::{Errno, Fd, MacAddr, isn};

/// Dynamic ports (RFC 6335 §6).
const FIRST_PORT: u16 = 49_152;
/// How many of them there are.
const PORTS: u16 = 16_384;

impl Shard {
    /// Starts to connect.
    pub(crate) fn connect(&mut self, remote: SocketAddr, now: Nanos) -> Result<Fd, Errno> {
        if self.is_down {
            return Err(Errno::NetworkDown);
        }
        let (source, next_hop) = self.route(remote.ip())?;
        if remote.port() == 0 {
            return Err(Errno::AddrNotAvailable);
        }
        if !self.neighbors.usable(source) {
            return Err(Errno::AddrNotAvailable);
        }
        let key = self
            .free_key(source, remote)
            .ok_or(Errno::AddrNotAvailable)?;
        let socket = self
            .arena
            .socket(DEFAULT_BUFFER, DEFAULT_BUFFER)
            .map_err(|_| Errno::NoBuffers)?;
        let phase = Phase::Resolving { next_hop };
        let slot = self
            .slots
            .insert(|fd| Entry::Conn(Box::new(Conn::new(fd, key, phase, socket, now))))
            .ok_or(Errno::NoBuffers)?;
        self.counters.active_opens += 1;
        self.flows.insert(key, slot);
        let conn = self.slots.conn(slot).expect("it was just put there");
        let fd = conn.fd;
        conn.deadline = Some(now + timeouts::CONNECT);
        self.timers.arm(slot, now + timeouts::CONNECT);
        if !self.resolve(now, slot, next_hop) {
            self.resolving.push(slot);
        }
        Ok(fd)
    }

    /// Our address for talking to `remote`, and whom to send to.
    fn route(&self, remote: IpAddr) -> Result<(IpAddr, IpAddr), Errno> {
        let is_host = !remote.is_unspecified() && !remote.is_multicast();
        if !is_host || self.local.owns(remote) {
            return Err(Errno::AddrNotAvailable);
        }
        let from = |to: IpAddr| {
            let cidrs = self.local.cidrs.iter();
            let longest = cidrs.filter(|c| c.contains(to)).max_by_key(|c| c.prefix);
            longest.map(|c| c.addr)
        };
        if let Some(source) = from(remote) {
            return Ok((source, remote));
        }
        if let IpAddr::V6(addr) = remote
            && addr.is_unicast_link_local()
            && let Some(source) = self.local.link_local()
        {
            return Ok((source.into(), remote));
        }
        let gateway = self
            .gateways
            .iter()
            .find(|gateway| gateway.is_ipv4() == remote.is_ipv4())
            .ok_or(Errno::NetworkUnreachable)?;
        let source = from(*gateway).ok_or(Errno::NetworkUnreachable)?;
        Ok((source, *gateway))
    }

    /// A 4-tuple that nobody uses.
    fn free_key(&mut self, source: IpAddr, remote: SocketAddr) -> Option<FlowKey> {
        self.dials += 1;
        let start = self.secret.hash((source, remote, self.dials)) % u64::from(PORTS);
        let start = u16::try_from(start).expect("a remainder of 16,384");
        (0..PORTS)
            .map(|i| FlowKey {
                local: (source, FIRST_PORT + (start + i) % PORTS),
                remote: (remote.ip(), remote.port()),
            })
            .find(|key| !self.flows.contains_key(key) && !self.time_wait.contains(key))
    }

    /// Asks for the next hop's station; true when the question is settled.
    fn resolve(&mut self, now: Nanos, slot: u32, next_hop: IpAddr) -> bool {
        let (outbox, counters) = (&mut self.outbox, &mut self.counters);
        let resolution = self.neighbors.resolve(now, next_hop, &mut |frame| {
            counters.tx_no_frame += u64::from(!outbox.push(frame));
        });
        match resolution {
            Resolution::Known(mac) => self.send_syn(now, slot, mac),
            Resolution::Pending => return false,
            Resolution::Failed => {
                self.counters.neighbor_unreachable += 1;
                self.fail(slot, Errno::HostUnreachable);
                self.finish(slot);
            }
        }
        true
    }

    /// Looks again at connections that wait for their next hop.
    pub(crate) fn retry_resolving(&mut self, now: Nanos) {
        let mut waiting = std::mem::take(&mut self.resolving);
        waiting.retain(
            |&slot| match self.slots.conn(slot).map(|c| (c.phase, c.is_detached())) {
                Some((Phase::Resolving { next_hop }, false)) => !self.resolve(now, slot, next_hop),
                _ => false,
            },
        );
        self.resolving = waiting;
    }

    /// Opens the socket: its SYN leaves with the next flush.
    fn send_syn(&mut self, now: Nanos, slot: u32, mac: MacAddr) {
        let Some(conn) = self.slots.conn(slot) else {
            return;
        };
        conn.mac = mac;
        conn.phase = Phase::Connecting;
        conn.iss = self.secret.isn(conn.key, now);
        let local = IpListenEndpoint::from(conn.key.local_addr());
        let remote = IpEndpoint::from(conn.key.remote_addr());
        let mut phy = Phy {
            rx: None,
            outbox: &mut self.outbox,
            line: Line {
                mac,
                flow: conn.fd.raw(),
                written: (conn.iss, 0),
                window_shift: conn.window_shift,
                sent: &mut conn.sent,
            },
            counters: &mut self.counters,
        };
        let mut iface = isn::interface(&mut phy, conn.iss, instant(now));
        let socket = conn.socket.get_mut();
        if socket.connect(iface.context(), remote, local).is_err() {
            self.fail(slot, Errno::AddrNotAvailable);
            return self.finish(slot);
        }
        self.mark_dirty(slot);
    }
}
