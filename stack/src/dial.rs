//! Connections that we open: the 4-tuple, and the wait for the next hop's station.
//!
//! [`crate::route`] says from which address and to whom, [`crate::port`] from
//! which port. A next hop that does not answer ends the connect after three
//! seconds, a host that does not after [`timeouts::CONNECT`]; a reset and an ICMP
//! error about the SYN end it at once. Answers that come to another queue are
//! handed over (`shard/stray.rs`).

use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::{IpEndpoint, IpListenEndpoint};
use wirepath_driver::{Nanos, trace};

use crate::conn::{Conn, Phase};
use crate::flow::{Entry, FlowKey};
use crate::neighbor::Resolution;
use crate::phy::{Line, Phy};
use crate::route::Route;
use crate::shard::{Shard, instant, timeouts};
use crate::syscall::DEFAULT_BUFFER;
use crate::{Errno, Fd, MacAddr, isn};

impl Shard {
    /// Starts to connect.
    pub(crate) fn connect(&mut self, remote: SocketAddr, now: Nanos) -> Result<Fd, Errno> {
        if self.is_down {
            return Err(Errno::NetworkDown);
        }
        let Route { source, next_hop } = self.route(remote.ip(), None)?;
        if remote.port() == 0 {
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
        if trace::enabled() {
            self.trace_open(slot);
        }
        let conn = self.slots.conn(slot).expect("it was just put there");
        let fd = conn.fd;
        conn.deadline = Some(now + timeouts::CONNECT);
        self.timers.arm(slot, now + timeouts::CONNECT);
        if !self.resolve(now, slot, next_hop) {
            self.resolving.push(slot);
        }
        Ok(fd)
    }

    /// A 4-tuple that nobody uses: neither a connection nor TIME-WAIT.
    fn free_key(&mut self, source: IpAddr, remote: SocketAddr) -> Option<FlowKey> {
        let key = |port| FlowKey {
            local: (source, port),
            remote: (remote.ip(), remote.port()),
        };
        let (flows, time_wait) = (&self.flows, &self.time_wait);
        let is_free = |port| !flows.contains_key(&key(port)) && !time_wait.contains(&key(port));
        let port = self.ports.toward(&self.secret, (source, remote), is_free);
        port.map(key)
    }

    /// Asks for the next hop's station; true when the question is settled.
    fn resolve(&mut self, now: Nanos, slot: u32, next_hop: IpAddr) -> bool {
        match self.ask_neighbor(now, next_hop) {
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
