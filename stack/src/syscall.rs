//! What a runtime may ask of the stack: the kernel boundary.
//!
//! Nothing here blocks: a call that cannot go on returns
//! [`Errno::WouldBlock`] and the caller parks until [`Stack::poll`] reports
//! the descriptor ready. Names and error kinds are those of POSIX. Readiness
//! is edge-triggered (`EPOLLET`): spurious events are allowed, lost ones are
//! not.
//!
//! Egress is deferred. A call that gives TCP something to send marks its
//! connection dirty in its shard; the caller remembers the shard and calls
//! [`Stack::flush`] before it sleeps.

mod datagram;
mod flows;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

pub use datagram::{Family, UdpOptions};
pub use flows::FlowView;
use wirepath_driver::{Nanos, Queue};

use crate::buffer::MAX_BUFFER;
use crate::isn::Given;
use crate::shard::{Shard, Stray};
use crate::stats::Stats;
use crate::{Cidr, Errno, Fd, MacAddr};

/// What a stack is made of.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Its addresses, each with the prefix of its network. Every frame is
    /// compared with them, so a handful.
    pub addrs: Vec<Cidr>,
    /// Its Ethernet address; the same on every queue.
    pub mac: MacAddr,
    /// Next hop for what no prefix covers, at most one for each family. One of
    /// IPv6 may be a link-local address.
    pub gateways: Vec<IpAddr>,
    /// Whom to ask for the addresses of names, three at most, in their order.
    pub name_servers: Vec<SocketAddr>,
    /// The addresses, and the Ethernet address, are those of the host, which
    /// gives us the frames of some ports (AF_XDP beside the kernel's stack): it
    /// answers ARP, neighbour discovery and ICMP for them, and makes sure of
    /// them. Connections are accepted; what we would open or look up ourselves
    /// is refused with [`Errno::NotSupported`], because the host would get the
    /// answers, and so are UDP sockets.
    pub shared_addrs: bool,
    /// For a replay: numbers and keys from a capture instead of the system's
    /// random ones.
    pub given: Option<Given>,
}

/// Bytes of a socket buffer unless set: the largest window that needs no scaling
/// (RFC 7323 §2.2), since smoltcp rounds scaled windows so that their edge moves
/// back, and drops what the peer had sent up to it.
pub(crate) const DEFAULT_BUFFER: usize = 65_535;

/// Name servers of a stack, at most (`resolv.conf(5)`'s `MAXNS`).
const MAX_NAME_SERVERS: usize = 3;

impl Config {
    /// A stack with these addresses and this Ethernet address.
    pub fn new(mac: MacAddr, addrs: Vec<Cidr>) -> Config {
        Config {
            addrs,
            mac,
            gateways: Vec::new(),
            name_servers: Vec::new(),
            shared_addrs: false,
            given: None,
        }
    }
}

impl Config {
    fn check(&self) -> Result<(), ConfigError> {
        if !self.mac.is_station() {
            return Err(ConfigError::BadMac(self.mac));
        }
        if let Some(cidr) = self.addrs.iter().find(|cidr| !cidr.is_host()) {
            return Err(ConfigError::BadAddr(*cidr));
        }
        if let Some(gateway) = self.gateways.iter().find(|g| !self.is_on_link(**g)) {
            return Err(ConfigError::BadGateway(*gateway));
        }
        if self.name_servers.len() > MAX_NAME_SERVERS {
            return Err(ConfigError::NameServers(self.name_servers.len()));
        }
        let is_server =
            |s: &SocketAddr| !s.ip().is_unspecified() && !s.ip().is_multicast() && s.port() != 0;
        match self.name_servers.iter().find(|server| !is_server(server)) {
            Some(server) => Err(ConfigError::BadNameServer(*server)),
            None => Ok(()),
        }
    }

    /// Whether a gateway can be a neighbour.
    fn is_on_link(&self, gateway: IpAddr) -> bool {
        let is_link_local = matches!(gateway, IpAddr::V6(g) if g.is_unicast_link_local());
        let has_ipv6 = self.addrs.iter().any(|cidr| cidr.addr.is_ipv6());
        (is_link_local && has_ipv6) || self.addrs.iter().any(|cidr| cidr.contains(gateway))
    }
}

/// Why a stack could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// An address that a host cannot have in its network ([`Cidr::is_host`]).
    #[error("{0} is not an address that a host can have in its network")]
    BadAddr(Cidr),
    /// A gateway that no prefix covers.
    #[error("the gateway {0} is in none of the stack's networks")]
    BadGateway(IpAddr),
    /// More name servers than a lookup asks.
    #[error("a stack asks at most 3 name servers, not {0}")]
    NameServers(usize),
    /// A name server that is no host or has no port.
    #[error("{0} is not the address and port of a name server")]
    BadNameServer(SocketAddr),
    /// An Ethernet address that a station cannot have.
    #[error("{0} is not the Ethernet address of a station")]
    BadMac(MacAddr),
    /// No queue, or more than 255.
    #[error("a stack has 1 to 255 queues, not {0}")]
    Queues(usize),
}

/// Options of a listener; every connection that it accepts has them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListenOptions {
    /// Connections whose handshake is under way, at most.
    pub syn_backlog: usize,
    /// Established connections that wait to be accepted, at most (`listen(2)`).
    pub backlog: usize,
    /// Receive buffer, bytes.
    pub recv_buffer: usize,
    /// Send buffer, bytes.
    pub send_buffer: usize,
}

impl ListenOptions {
    /// The options with buffers of a length that TCP can use.
    fn bounded(&self) -> ListenOptions {
        ListenOptions {
            recv_buffer: self.recv_buffer.clamp(1, MAX_BUFFER),
            send_buffer: self.send_buffer.clamp(1, MAX_BUFFER),
            ..self.clone()
        }
    }
}

impl Default for ListenOptions {
    /// 1,024 handshakes under way, 4,096 connections to accept (Linux's
    /// `SOMAXCONN`), 65,535 bytes for each direction.
    fn default() -> ListenOptions {
        ListenOptions {
            syn_backlog: 1024,
            backlog: 4096,
            recv_buffer: DEFAULT_BUFFER,
            send_buffer: DEFAULT_BUFFER,
        }
    }
}

bitflags::bitflags! {
    /// What became of a descriptor.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Ready: u8 {
        /// Bytes, an end of stream, an error, or (listener) a connection to
        /// accept.
        const READ = 1;
        /// Room in the send buffer again, established (after `connect`), or
        /// an error.
        const WRITE = 2;
        /// The peer is gone (reset, timed out): both directions.
        const HANGUP = 4;
        /// Comes with `READ`: the stream from the peer has ended, behind the
        /// bytes that are there. A read that takes them all shows nothing of
        /// it, and it is told once.
        const END = 8;
        /// Comes with `READ`, of descriptors of the kernel: a read that took
        /// less than it had room for may have left something, as it ends at
        /// urgent data.
        const MORE = 16;
    }
}

impl Ready {
    /// READ, or nothing.
    pub(crate) fn read_if(is_ready: bool) -> Ready {
        if is_ready {
            Ready::READ
        } else {
            Ready::empty()
        }
    }
}

/// One readiness edge.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The descriptor, which tells a stale event by its generation.
    pub fd: Fd,
    /// The word given to [`Stack::register`].
    pub token: u64,
    /// What became of it.
    pub ready: Ready,
}

/// What a turn did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turn {
    /// Frames taken in.
    pub frames: usize,
    /// Frames that left (handed to the ring).
    pub sent: usize,
    /// The budget ended before the ring was empty: turn again soon.
    pub more: bool,
    /// Frames were offered to other shards, whose [`Stack::next_event`] may be
    /// nearer now.
    pub others: bool,
}

/// A connection as it is now, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowInfo {
    /// Our address.
    pub local: SocketAddr,
    /// The peer's.
    pub peer: SocketAddr,
    /// The station that its frames go to.
    pub peer_mac: MacAddr,
    /// The state's name in RFC 9293: `ESTABLISHED`, …
    pub state: &'static str,
    /// Bytes that wait to be read.
    pub recv_queue: usize,
    /// Bytes that the receive buffer holds at most.
    pub recv_buffer: usize,
    /// Bytes that are not acknowledged yet.
    pub send_queue: usize,
    /// Bytes that the send buffer holds at most.
    pub send_buffer: usize,
    /// Bytes read so far.
    pub bytes_read: u64,
    /// Bytes written so far.
    pub bytes_written: u64,
}

/// What a descriptor is now, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketInfo {
    /// A connection.
    Flow(FlowInfo),
    /// One shard's part of a listener.
    Listener {
        /// The address as it was asked for.
        local: SocketAddr,
        /// Connections that wait to be accepted.
        queued: usize,
        /// The most that may.
        backlog: usize,
        /// Connections whose handshake is under way.
        half_open: usize,
    },
    /// One shard's part of a UDP socket.
    Udp {
        /// Its address; unspecified when it was bound so and is not connected.
        local: SocketAddr,
        /// The peer, once connected.
        peer: Option<SocketAddr>,
        /// Bytes that wait to be received.
        recv_queue: usize,
    },
    /// A name lookup.
    Lookup {
        /// The name server that was asked last and has not answered.
        server: Option<SocketAddr>,
    },
}

/// Which side of a connection to shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// No more reading: what still arrives is discarded.
    Read,
    /// No more writing: a FIN follows what is buffered.
    Write,
    /// Both.
    Both,
}

/// A shard behind its lock, and what can be known of it without.
struct ShardCell {
    shard: Mutex<Shard>,
    /// A flush that found the lock held leaves its time here, for the holder
    /// to serve after unlocking; 0 for none.
    pending: AtomicU64,
    /// Whether the shard has anything to send.
    has_egress: AtomicBool,
    /// When a turn is due; `u64::MAX` for never.
    next_event: AtomicU64,
}

impl ShardCell {
    fn new(shard: Shard) -> ShardCell {
        let cell = ShardCell {
            shard: Mutex::new(shard),
            pending: AtomicU64::new(0),
            has_egress: AtomicBool::new(false),
            next_event: AtomicU64::new(u64::MAX),
        };
        cell.with(|_| ());
        cell
    }

    /// Runs `f` under the lock, then a flush that somebody wanted meanwhile.
    fn with<R>(&self, f: impl FnOnce(&mut Shard) -> R) -> R {
        // After a panic in the shard its connections may be inconsistent, which
        // the checks on their slots bear; memory never is.
        let shard = self.shard.lock().unwrap_or_else(PoisonError::into_inner);
        let result = self.run(shard, f);
        self.serve_pending();
        result
    }

    /// As [`ShardCell::with`], for what moves no timer but by the flush that
    /// must follow.
    fn with_data<R>(&self, f: impl FnOnce(&mut Shard) -> R) -> R {
        let mut shard = self.shard.lock().unwrap_or_else(PoisonError::into_inner);
        let result = f(&mut shard);
        self.has_egress.store(shard.has_egress(), Ordering::Relaxed);
        drop(shard);
        self.serve_pending();
        result
    }

    /// Runs `f` and unlocks.
    fn run<R>(&self, mut shard: MutexGuard<'_, Shard>, f: impl FnOnce(&mut Shard) -> R) -> R {
        let result = f(&mut shard);
        self.has_egress.store(shard.has_egress(), Ordering::Relaxed);
        let next = shard.next_event().unwrap_or(Nanos::MAX);
        self.next_event.store(next.0, Ordering::Relaxed);
        result
    }

    /// Runs `f` when the lock is free.
    fn try_with<R>(&self, f: impl FnOnce(&mut Shard) -> R) -> Option<R> {
        match self.shard.try_lock() {
            Ok(shard) => Some(self.run(shard, f)),
            Err(TryLockError::Poisoned(shard)) => Some(self.run(shard.into_inner(), f)),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Serves flushes whose callers found the lock held.
    ///
    /// A holder unlocks and then looks at the mark; whoever leaves a mark then
    /// tries the lock again. With a fence between the two steps on either side
    /// at least one of them sees the other. The mark is taken only under the
    /// lock, so one who fails to get it leaves it to the holder. Each round
    /// serves a flush that another thread wanted since the round before, and no
    /// thread wants a second one without something new to send.
    fn serve_pending(&self) {
        loop {
            fence(Ordering::SeqCst);
            if self.pending.load(Ordering::Relaxed) == 0 {
                return;
            }
            let served = self.try_with(|shard| match self.pending.swap(0, Ordering::Relaxed) {
                0 => 0,
                now => shard.flush(Nanos(now)),
            });
            if served.is_none() {
                return;
            }
        }
    }

    fn flush(&self, now: Nanos) -> usize {
        if !self.has_egress.load(Ordering::Relaxed) {
            return 0;
        }
        let sent = match self.try_with(|shard| shard.flush(now)) {
            Some(sent) => sent,
            None => {
                self.pending.store(now.0.max(1), Ordering::Release);
                0
            }
        };
        self.serve_pending();
        sent
    }
}

/// A userspace network stack. Clones share it.
#[derive(Clone)]
pub struct Stack {
    shards: Arc<[ShardCell]>,
}

impl Stack {
    /// A stack over these queues, one shard each (255 at most).
    ///
    /// # Errors
    /// [`ConfigError`]: an address, gateway or Ethernet address that a host
    /// cannot have, or no queue.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "a stack's configuration is given up to it"
    )]
    pub fn new(config: Config, queues: Vec<Box<dyn Queue>>) -> Result<Stack, ConfigError> {
        config.check()?;
        if queues.is_empty() || queues.len() > 255 {
            return Err(ConfigError::Queues(queues.len()));
        }
        let has_siblings = queues.len() > 1;
        let shard = |(index, queue)| {
            let mut shard = Shard::new(index, &config, queue);
            if has_siblings {
                shard.has_siblings();
            }
            ShardCell::new(shard)
        };
        let shards = (0..).zip(queues).map(shard).collect();
        Ok(Stack { shards })
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Runs `f` in the shard of a descriptor.
    fn of<R>(&self, fd: Fd, f: impl FnOnce(&mut Shard) -> Result<R, Errno>) -> Result<R, Errno> {
        self.shards.get(fd.shard()).ok_or(Errno::BadFd)?.with(f)
    }

    /// Reads or writes in the shard of a descriptor.
    fn data_of<R>(
        &self,
        fd: Fd,
        f: impl FnOnce(&mut Shard) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let cell = self.shards.get(fd.shard()).ok_or(Errno::BadFd)?;
        cell.with_data(f)
    }

    /// One turn of a shard: takes frames off the ring (about `budget`, in whole
    /// bursts), runs timers, and appends readiness edges to `events` after the
    /// last ingress. Sends nothing that the goroutines about to be woken may
    /// still add to: call [`Stack::flush`] after they ran, and before sleeping
    /// in any case.
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn poll(&self, shard: usize, now: Nanos, budget: usize, events: &mut Vec<Event>) -> Turn {
        let (mut turn, strays) = self.shards[shard].with(|shard| {
            let turn = shard.turn(now, budget, events);
            (turn, shard.take_strays())
        });
        turn.others = !strays.is_empty();
        for stray in strays {
            self.hand_over(shard, &stray, now, events);
        }
        turn
    }

    /// Offers a frame to the shards on whose queue it did not come, one lock at a
    /// time, and has it answered where it came when none knows it.
    fn hand_over(&self, from: usize, stray: &Stray, now: Nanos, events: &mut Vec<Event>) {
        let mut is_known = false;
        for (_, cell) in (0..).zip(self.shards.iter()).filter(|(at, _)| *at != from) {
            is_known |= cell.with(|shard| shard.adopt(now, stray, events));
            if is_known && !stray.is_for_all {
                return;
            }
        }
        if !stray.is_for_all {
            self.shards[from].with(|shard| shard.refuse_stray(now, stray));
        }
    }

    /// Sends what the shard's dirty connections have to send, kicks the ring
    /// once, and says how many frames went into it. Costs one load when there is
    /// nothing to send. When another thread holds the shard's lock a mark is
    /// left that the holder serves.
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn flush(&self, shard: usize, now: Nanos) -> usize {
        self.shards[shard].flush(now)
    }

    /// The shard's earliest timer or queue event; in the past when a turn is
    /// due now. Costs one load.
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn next_event(&self, shard: usize) -> Option<Nanos> {
        let next = Nanos(self.shards[shard].next_event.load(Ordering::Relaxed));
        (next != Nanos::MAX).then_some(next)
    }

    /// [`Queue::arm`]: called before sleeping; true: do not sleep.
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn arm(&self, shard: usize) -> bool {
        self.shards[shard].with(|shard| shard.queue().arm())
    }

    /// A duplicate of the fd to sleep on ([`Queue::wakeup`]), made once at
    /// set-up. None for a queue that has to be polled, or when the process is
    /// out of descriptors.
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn wakeup(&self, shard: usize) -> Option<OwnedFd> {
        self.shards[shard].with(|shard| shard.queue().wakeup()?.try_clone_to_owned().ok())
    }

    /// Listens on every shard: one descriptor for each, in their order
    /// (`SO_REUSEPORT`'s shape). Port 0 takes a free port. An unspecified
    /// address, of either family, means all addresses of both, as Go's `:80`
    /// does.
    ///
    /// # Errors
    /// [`Errno::AddrInUse`], [`Errno::AddrNotAvailable`] for an address that is
    /// not the stack's or when no port is free, [`Errno::NoBuffers`].
    pub fn listen(&self, addr: SocketAddr, options: &ListenOptions) -> Result<Vec<Fd>, Errno> {
        let options = options.bounded();
        let owned = |shard: &mut Shard| addr.ip().is_unspecified() || shard.owns(addr.ip());
        if !self.shards[0].with(owned) {
            return Err(Errno::AddrNotAvailable);
        }
        let addr = match addr.port() {
            0 => self.free_port(addr.ip()).ok_or(Errno::AddrNotAvailable)?,
            _ => addr,
        };
        let mut fds = Vec::with_capacity(self.shards.len());
        for cell in self.shards.iter() {
            match cell.with(|shard| shard.listen(addr, &options)) {
                Ok(fd) => fds.push(fd),
                Err(error) => {
                    for fd in fds {
                        let _ = self.close(fd, Nanos::ZERO);
                    }
                    return Err(error);
                }
            }
        }
        Ok(fds)
    }

    /// A dynamic port on which nobody listens, searched from the top so that
    /// connections we open, which start at random, seldom meet it.
    fn free_port(&self, addr: IpAddr) -> Option<SocketAddr> {
        (49_152..=u16::MAX)
            .rev()
            .map(|port| SocketAddr::new(addr, port))
            .find(|addr| !self.shards[0].with(|shard| shard.listens_on(*addr)))
    }

    /// The oldest connection of a listener's accept queue, with its peer.
    ///
    /// # Errors
    /// [`Errno::WouldBlock`], [`Errno::BadFd`], [`Errno::Invalid`] for a
    /// descriptor that is not a listener, [`Errno::NetworkDown`] when the device
    /// is gone and nobody is left in the queue.
    pub fn accept(&self, listener: Fd, now: Nanos) -> Result<(Fd, SocketAddr), Errno> {
        let _ = now;
        self.of(listener, |shard| shard.accept(listener))
    }

    /// Starts to connect; WRITE readiness tells of its end, `connect_result`
    /// how. The SYN leaves with the next flush.
    ///
    /// # Errors
    /// [`Errno::NetworkUnreachable`], [`Errno::AddrNotAvailable`] (no free port,
    /// one of our own addresses, or ours not usable yet), [`Errno::NoBuffers`],
    /// [`Errno::NetworkDown`].
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn connect(&self, shard: usize, remote: SocketAddr, now: Nanos) -> Result<Fd, Errno> {
        self.shards[shard].with(|shard| shard.connect(remote, now))
    }

    /// Ok when established; [`Errno::WouldBlock`] while under way.
    ///
    /// # Errors
    /// Why it failed: [`Errno::ConnectionRefused`], [`Errno::TimedOut`],
    /// [`Errno::HostUnreachable`], [`Errno::NetworkDown`].
    pub fn connect_result(&self, fd: Fd) -> Result<(), Errno> {
        self.of(fd, |shard| shard.connect_result(fd))
    }

    /// Registers the word that events of `fd` carry, and returns what is ready
    /// now: there will be no event for that.
    ///
    /// # Errors
    /// [`Errno::BadFd`].
    pub fn register(&self, fd: Fd, token: u64) -> Result<Ready, Errno> {
        self.of(fd, |shard| shard.register(fd, token))
    }

    /// Copies received bytes out; 0 is the end of the stream. Bytes that came
    /// before a reset are given out before its error.
    ///
    /// # Errors
    /// [`Errno::WouldBlock`], [`Errno::NotConnected`], [`Errno::BadFd`], or how
    /// the connection failed.
    pub fn read(&self, fd: Fd, buf: &mut [u8], now: Nanos) -> Result<usize, Errno> {
        let _ = now;
        self.data_of(fd, |shard| shard.read(fd, buf))
    }

    /// Copies bytes into the send buffer, as many as fit. After a short count
    /// or [`Errno::WouldBlock`] a WRITE edge tells when a third of the buffer is
    /// free.
    ///
    /// # Errors
    /// [`Errno::WouldBlock`], [`Errno::BrokenPipe`] after the write side was
    /// shut down, [`Errno::BadFd`], or how the connection failed.
    pub fn write(&self, fd: Fd, buf: &[u8], now: Nanos) -> Result<usize, Errno> {
        self.data_of(fd, |shard| shard.write(fd, buf, now))
    }

    /// Shuts down one side or both.
    ///
    /// # Errors
    /// [`Errno::NotConnected`], [`Errno::BadFd`], [`Errno::Invalid`].
    pub fn shutdown(&self, fd: Fd, how: Shutdown, now: Nanos) -> Result<(), Errno> {
        let _ = now;
        self.of(fd, |shard| shard.shutdown(fd, how))
    }

    /// Orderly close: the fd is gone at once, what is buffered is still sent,
    /// then FIN. With unread received data: RST, as Linux does (RFC 1122
    /// §4.2.2.13). A listener's close resets the connections that nobody
    /// accepted.
    ///
    /// # Errors
    /// [`Errno::BadFd`].
    pub fn close(&self, fd: Fd, now: Nanos) -> Result<(), Errno> {
        self.of(fd, |shard| shard.close(fd, now))
    }

    /// Close with a RST (`SO_LINGER` 0 and close).
    ///
    /// # Errors
    /// [`Errno::BadFd`].
    pub fn abort(&self, fd: Fd, now: Nanos) -> Result<(), Errno> {
        self.of(fd, |shard| shard.abort(fd, now))
    }

    /// Probes a connection on which nothing came for `interval` (a second at
    /// least), and again in such intervals; nine probes without an answer end
    /// it with [`Errno::TimedOut`]. None turns it off.
    ///
    /// # Errors
    /// [`Errno::BadFd`], [`Errno::Invalid`].
    pub fn set_keepalive(&self, fd: Fd, interval: Option<Duration>) -> Result<(), Errno> {
        self.of(fd, |shard| shard.set_keepalive(fd, interval))
    }

    /// Our address; a listener's, and a UDP socket's that is not connected, as it
    /// was asked for.
    ///
    /// # Errors
    /// [`Errno::BadFd`].
    pub fn local_addr(&self, fd: Fd) -> Result<SocketAddr, Errno> {
        self.of(fd, |shard| shard.local_addr(fd))
    }

    /// The peer's address.
    ///
    /// # Errors
    /// [`Errno::BadFd`], [`Errno::Invalid`] for a listener,
    /// [`Errno::NotConnected`] for a UDP socket without one.
    pub fn peer_addr(&self, fd: Fd) -> Result<SocketAddr, Errno> {
        self.of(fd, |shard| shard.peer_addr(fd))
    }

    /// Bytes in the socket buffers now: (receive, send). A UDP socket keeps nothing
    /// to send.
    ///
    /// # Errors
    /// [`Errno::BadFd`], [`Errno::Invalid`] for a listener or a lookup.
    pub fn queued(&self, fd: Fd) -> Result<(usize, usize), Errno> {
        self.of(fd, |shard| shard.queued(fd))
    }

    /// The connection as it is now.
    ///
    /// # Errors
    /// [`Errno::BadFd`], [`Errno::Invalid`] for a listener.
    pub fn flow_info(&self, fd: Fd) -> Result<FlowInfo, Errno> {
        self.of(fd, |shard| shard.flow_info(fd))
    }

    /// What a descriptor is now; None when its shard is locked at the moment, so
    /// that one who tells of a process that is stuck does not get stuck too.
    ///
    /// # Errors
    /// [`Errno::BadFd`].
    pub fn try_socket_info(&self, fd: Fd) -> Option<Result<SocketInfo, Errno>> {
        let Some(cell) = self.shards.get(fd.shard()) else {
            return Some(Err(Errno::BadFd));
        };
        let info = cell.try_with(|shard| shard.socket_info(fd));
        cell.serve_pending();
        info
    }

    /// Addresses of ours that another station was seen to claim, with the
    /// station, since asked last; a few at most.
    pub fn conflicts(&self) -> Vec<(IpAddr, MacAddr)> {
        let shards = self.shards.iter();
        shards
            .flat_map(|cell| cell.with(Shard::conflicts))
            .collect()
    }

    /// What the stack has done so far, and what there is now.
    pub fn stats(&self) -> Stats {
        let shards = self.shards.iter();
        Stats {
            shards: shards
                .map(|cell| cell.with(|shard| shard.stats()))
                .collect(),
        }
    }
}
