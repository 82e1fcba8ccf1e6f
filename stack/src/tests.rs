//! Two stacks, or a stack and hand-made segments, joined by a wire in memory
//! that remembers what crossed it. Time is virtual.

mod datagrams;
mod deferred;
mod device;
mod handshake;
mod hostile;
mod lagging;
mod names;
mod outgoing;
mod small_window;
mod steering;
mod streams;
mod wire_faults;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, TcpTimestampRepr,
};
use wirepath_driver::trace;
use wirepath_driver::{BURST_FRAMES, Frame, FramePool, Nanos, Queue, QueueInfo, RingStats};

use crate::ether::{self, HEADER_LEN};
use crate::ip::{self, Local, Packet, Segment, TcpFlags};
use crate::{Config, Errno, Event, Fd, ListenOptions, MacAddr, Ready, Stack};

const SERVER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const CLIENT_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const SERVER: &str = "10.0.0.1:80";
const SERVER_V6: &str = "[fd00::1]:80";

/// Whether a frame of a side is lost.
type Loss = Box<dyn FnMut(usize, &[u8]) -> bool + Send>;

struct WireState {
    /// Frames for each side.
    toward: [VecDeque<Vec<u8>>; 2],
    /// Frames that each side sent, lost ones too, since last taken.
    log: [Vec<Vec<u8>>; 2],
    loss: Loss,
    /// Whether a side's device is gone.
    broken: [bool; 2],
    /// Frames that each side may still send.
    room: [usize; 2],
    pools: [FramePool; 2],
}

/// The wire between two queues.
#[derive(Clone)]
struct Wire(Arc<Mutex<WireState>>);

/// One end of it.
struct End {
    wire: Wire,
    side: usize,
    info: QueueInfo,
    pool: FramePool,
    stats: RingStats,
}

impl Wire {
    fn new() -> Wire {
        let pool = || FramePool::new(2048, 2048, 256).unwrap();
        Wire(Arc::new(Mutex::new(WireState {
            toward: Default::default(),
            log: Default::default(),
            loss: Box::new(|_, _| false),
            broken: [false; 2],
            room: [usize::MAX; 2],
            pools: [pool(), pool()],
        })))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, WireState> {
        self.0.lock().unwrap()
    }

    fn end(&self, side: usize) -> Box<dyn Queue> {
        Box::new(End {
            wire: self.clone(),
            side,
            info: QueueInfo {
                name: format!("wire end {side}"),
                mtu: 1500,
                sees_nic_rx: false,
                sees_nic_done: false,
            },
            pool: self.state().pools[side].clone(),
            stats: RingStats::default(),
        })
    }

    /// What a side sent since last asked.
    fn sent(&self, side: usize) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.state().log[side])
    }

    fn is_quiet(&self) -> bool {
        self.state().toward.iter().all(VecDeque::is_empty)
    }

    fn lose(&self, loss: impl FnMut(usize, &[u8]) -> bool + Send + 'static) {
        self.state().loss = Box::new(loss);
    }
}

impl Queue for End {
    fn info(&self) -> &QueueInfo {
        &self.info
    }

    fn pool(&self) -> &FramePool {
        &self.pool
    }

    fn rx_burst(&mut self, now: Nanos, frames: &mut Vec<Frame>) -> io::Result<usize> {
        let mut wire = self.wire.state();
        if wire.broken[self.side] {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut taken = 0;
        while taken < BURST_FRAMES
            && let Some(bytes) = wire.toward[self.side].pop_front()
        {
            let mut frame = self.pool.take_rx().expect("the test's pool is large");
            assert!(frame.fill(&bytes));
            frame.meta.polled_at = now;
            frame.meta.stamp = trace::stamp_if_enabled();
            frames.push(frame);
            taken += 1;
        }
        self.stats.rx_frames += taken as u64;
        Ok(taken)
    }

    fn tx_burst(&mut self, _: Nanos, frames: &mut VecDeque<Frame>) -> io::Result<usize> {
        let mut wire = self.wire.state();
        let mut taken = 0;
        while taken < BURST_FRAMES && wire.room[self.side] > 0 && !frames.is_empty() {
            let frame = frames.pop_front().unwrap();
            trace::departed(&frame.meta, frame.len(), trace::stamp_if_enabled());
            let bytes = frame.to_vec();
            wire.room[self.side] -= 1;
            if !(wire.loss)(self.side, &bytes) {
                wire.toward[1 - self.side].push_back(bytes.clone());
            }
            wire.log[self.side].push(bytes);
            taken += 1;
        }
        self.stats.tx_frames += taken as u64;
        Ok(taken)
    }

    fn kick(&mut self, _: Nanos) -> io::Result<()> {
        self.stats.kicks += 1;
        Ok(())
    }

    fn reclaim(&mut self, _: Nanos) -> usize {
        0
    }

    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn stats(&self) -> RingStats {
        self.stats
    }
}

/// A server, a client, the wire and the time.
struct Net {
    wire: Wire,
    server: Stack,
    client: Stack,
    now: Nanos,
    /// Events of each side since last taken.
    events: [Vec<Event>; 2],
}

impl Drop for Net {
    /// Whatever happened, each frame has one fate.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for stack in [&self.server, &self.client] {
            for shard in stack.stats().shards {
                let ledger = &shard.ledger;
                assert_eq!(ledger.unaccounted_rx(), 0, "{ledger:?}");
                assert_eq!(ledger.unaccounted_tx(), 0, "{ledger:?}");
            }
        }
    }
}

impl Net {
    /// Both are up and their addresses usable.
    fn new() -> Net {
        Net::with_name_servers(&[])
    }

    fn with_name_servers(names: &[&str]) -> Net {
        let wire = Wire::new();
        let stack = |mac, addrs: [&str; 2], side| {
            let addrs = addrs.iter().map(|a| a.parse().unwrap()).collect();
            let mut config = Config::new(mac, addrs);
            config.name_servers = names.iter().map(|s| s.parse().unwrap()).collect();
            Stack::new(config, vec![wire.end(side)]).unwrap()
        };
        let mut net = Net {
            server: stack(SERVER_MAC, ["10.0.0.1/24", "fd00::1/64"], 0),
            client: stack(CLIENT_MAC, ["10.0.0.2/24", "fd00::2/64"], 1),
            wire,
            now: Nanos(1_000_000_000_000),
            events: Default::default(),
        };
        net.advance(Duration::from_secs(5));
        net.wire.sent(0);
        net.wire.sent(1);
        net
    }

    fn side(&self, side: usize) -> &Stack {
        [&self.server, &self.client][side]
    }

    fn poll(&mut self, side: usize) {
        let now = self.now;
        let mut events = std::mem::take(&mut self.events[side]);
        self.side(side).poll(0, now, 64, &mut events);
        self.events[side] = events;
    }

    fn flush(&mut self, side: usize) {
        self.side(side).flush(0, self.now);
    }

    /// Moves frames until none moves.
    fn settle(&mut self) {
        for _ in 0..100_000 {
            for side in [0, 1] {
                self.poll(side);
                self.flush(side);
            }
            if self.wire.is_quiet() {
                return;
            }
        }
        panic!("the wire never fell quiet");
    }

    /// Lets time pass, from timer to timer.
    fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        for _ in 0..1_000_000 {
            self.settle();
            let next = [0, 1]
                .into_iter()
                .filter_map(|s| self.side(s).next_event(0));
            match next.min().filter(|at| *at < end) {
                Some(at) => self.now = at.max(self.now + Duration::from_micros(10)),
                None => {
                    self.now = end;
                    self.settle();
                    return;
                }
            }
        }
        panic!("timers never end");
    }

    fn take_events(&mut self, side: usize) -> Vec<Event> {
        std::mem::take(&mut self.events[side])
    }

    /// What was told of a descriptor since last taken.
    fn told(&mut self, side: usize, fd: Fd) -> Ready {
        let events = self.take_events(side);
        let of_fd = events.iter().filter(|e| e.fd == fd);
        of_fd.fold(Ready::empty(), |all, e| all | e.ready)
    }

    #[track_caller]
    fn listen(&self, options: &ListenOptions) -> Fd {
        let fd = self
            .server
            .listen("0.0.0.0:80".parse().unwrap(), options)
            .unwrap()[0];
        assert_eq!(self.server.register(fd, 1), Ok(Ready::empty()));
        fd
    }

    /// A listener and a connection to it: (listener, server's end, client's).
    #[track_caller]
    fn connected(&mut self) -> (Fd, Fd, Fd) {
        self.connected_to(SERVER, &ListenOptions::default())
    }

    #[track_caller]
    fn connected_to(&mut self, addr: &str, options: &ListenOptions) -> (Fd, Fd, Fd) {
        let listener = self.listen(options);
        let client = self.dial(addr);
        let (server, _) = self.server.accept(listener, self.now).unwrap();
        assert_eq!(self.client.connect_result(client), Ok(()));
        self.server.register(server, 2).unwrap();
        self.client.register(client, 3).unwrap();
        (listener, server, client)
    }

    #[track_caller]
    fn dial(&mut self, addr: &str) -> Fd {
        let fd = self
            .client
            .connect(0, addr.parse().unwrap(), self.now)
            .unwrap();
        self.client.register(fd, 3).unwrap();
        self.settle();
        fd
    }

    fn read(&self, side: usize, fd: Fd, max: usize) -> Result<Vec<u8>, Errno> {
        let mut buf = vec![0; max];
        let n = self.side(side).read(fd, &mut buf, self.now)?;
        buf.truncate(n);
        Ok(buf)
    }

    fn write(&self, side: usize, fd: Fd, bytes: &[u8]) -> Result<usize, Errno> {
        self.side(side).write(fd, bytes, self.now)
    }

    #[track_caller]
    fn state(&self, side: usize, fd: Fd) -> &'static str {
        self.side(side).flow_info(fd).unwrap().state
    }

    #[track_caller]
    fn count(&self, side: usize, name: &str) -> u64 {
        self.side(side).stats().get(name).unwrap()
    }
}

/// The TCP segments among frames, as `who` would classify them.
fn segments(who: (MacAddr, &str), frames: &[Vec<u8>]) -> Vec<Segment> {
    let local = Local {
        mac: who.0,
        cidrs: vec![who.1.parse().unwrap()],
        is_shared: false,
    };
    let segment = |frame: &Vec<u8>| match ip::classify(&local, frame, false) {
        Ok(Packet::Tcp(segment)) => Some(segment),
        _ => None,
    };
    frames.iter().filter_map(segment).collect()
}

/// A peer made of hand-written segments, at the client's end of the wire.
struct Raw {
    local: SocketAddr,
    remote: SocketAddr,
    mac: MacAddr,
}

impl Raw {
    fn new(port: u16) -> Raw {
        Raw {
            local: SocketAddr::new(IpAddr::from([10, 0, 0, 9]), port),
            remote: SERVER.parse().unwrap(),
            mac: MacAddr([2, 0, 0, 0, 0, 9]),
        }
    }

    /// A segment as a frame.
    fn frame(&self, control: TcpControl, seq: u32, ack: Option<u32>, more: More<'_>) -> Vec<u8> {
        let tcp = TcpRepr {
            src_port: self.local.port(),
            dst_port: self.remote.port(),
            control,
            seq_number: TcpSeqNumber(seq.cast_signed()),
            ack_number: ack.map(|ack| TcpSeqNumber(ack.cast_signed())),
            window_len: more.window,
            window_scale: None,
            max_seg_size: (control == TcpControl::Syn).then_some(1460),
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: more
                .timestamp
                .map(|(val, ecr)| TcpTimestampRepr::new(val, ecr)),
            payload: more.payload,
        };
        let (src, dst) = (self.local.ip().into(), self.remote.ip().into());
        let ip = IpRepr::new(src, dst, IpProtocol::Tcp, tcp.buffer_len(), 64);
        let checksums = ChecksumCapabilities::default();
        let mut frame = vec![0; HEADER_LEN + ip.buffer_len()];
        ether::write_header(&mut frame, SERVER_MAC, self.mac, ether::IPV4);
        ip.emit(&mut frame[HEADER_LEN..], &checksums);
        let at = HEADER_LEN + ip.header_len();
        tcp.emit(
            &mut TcpPacket::new_unchecked(&mut frame[at..]),
            &src,
            &dst,
            &checksums,
        );
        frame
    }
}

/// What a segment has besides the numbers.
#[derive(Clone, Copy)]
struct More<'a> {
    window: u16,
    timestamp: Option<(u32, u32)>,
    payload: &'a [u8],
}

const PLAIN: More<'_> = More {
    window: 60_000,
    timestamp: None,
    payload: &[],
};

impl Net {
    /// Puts a frame on the server's side of the wire and lets it act.
    fn inject(&mut self, frame: Vec<u8>) -> Vec<Segment> {
        self.wire.sent(0);
        self.wire.state().toward[0].push_back(frame);
        self.poll(0);
        self.flush(0);
        self.wire.state().toward[1].clear();
        segments(
            (MacAddr([2, 0, 0, 0, 0, 9]), "10.0.0.9/24"),
            &self.wire.sent(0),
        )
    }

    /// Completes a handshake of a raw peer; returns the server's next sequence
    /// number. The peer's is 1,001.
    fn raw_handshake(&mut self, raw: &Raw, timestamp: Option<(u32, u32)>) -> u32 {
        let more = More { timestamp, ..PLAIN };
        let syn_ack = self.inject(raw.frame(TcpControl::Syn, 1_000, None, more));
        assert_eq!(syn_ack.len(), 1);
        assert_eq!(syn_ack[0].flags, TcpFlags::SYN | TcpFlags::ACK);
        assert_eq!(syn_ack[0].ack, 1_001);
        let next = syn_ack[0].seq.wrapping_add(1);
        self.inject(raw.frame(TcpControl::None, 1_001, Some(next), more));
        next
    }
}

/// Moves `data` from one side to the other; the reader reads only when told.
#[track_caller]
fn transfer(net: &mut Net, from: (usize, Fd), to: (usize, Fd), data: &[u8], chunk: usize) {
    let (mut written, mut got) = (0, Vec::new());
    net.side(from.0).register(from.1, 8).unwrap();
    net.side(to.0).register(to.1, 9).unwrap();
    let (mut may_write, mut may_read) = (true, true);
    for _ in 0..1_000_000 {
        while may_write && written < data.len() {
            let end = data.len().min(written + chunk);
            match net.write(from.0, from.1, &data[written..end]) {
                Ok(n) => written += n,
                Err(Errno::WouldBlock) => may_write = false,
                Err(e) => panic!("{e}"),
            }
        }
        while may_read {
            match net.read(to.0, to.1, chunk) {
                Ok(bytes) => got.extend(bytes),
                Err(Errno::WouldBlock) => may_read = false,
                Err(e) => panic!("{e}"),
            }
        }
        if got.len() == data.len() {
            break;
        }
        net.settle();
        may_write |= net.told(from.0, from.1).contains(Ready::WRITE);
        may_read |= net.told(to.0, to.1).contains(Ready::READ);
    }
    assert!(got == data, "{} of {} bytes", got.len(), data.len());
}

/// Bytes that tell where in the stream they are.
fn pattern(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|i| (i % 251) as u8).collect()
}

/// A small generator for schedules; the seed is in every failure's message.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound
    }
}
