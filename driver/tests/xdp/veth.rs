//! A veth pair in a network namespace of its own, frames for it, and its other end.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wirepath_driver::xdp::{Monitor, Rules, Xdp, XdpOptions, XdpQueue};
use wirepath_driver::{Frame, FramePool, Queue, clock};

const INSIDE: &str = "WIREPATH_TEST_INSIDE_NAMESPACE";
/// The queue's interface, and the other end of its cable.
pub const OURS: &str = "wp0";
pub const PEER: &str = "wp1";
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs `body` in a network namespace with the veth pair; says so when the
/// machine refuses.
pub fn on_a_veth(test: &str, body: fn()) {
    if std::env::var_os(INSIDE).is_some() {
        ip(&format!("link add {OURS} type veth peer name {PEER}"));
        for end in [OURS, PEER] {
            fs::write(format!("/proc/sys/net/ipv6/conf/{end}/disable_ipv6"), "1").unwrap();
            ip(&format!("link set {end} up"));
        }
        return body();
    }
    if !rustix::process::geteuid().is_root() {
        assert!(
            std::env::var_os("WIREPATH_REQUIRE_LAB").is_none_or(|v| v != "1"),
            "WIREPATH_REQUIRE_LAB=1, and AF_XDP on a veth needs root"
        );
        let _ = writeln!(io::stderr(), "SKIPPED {test}: AF_XDP on a veth needs root");
        return;
    }
    let status = Command::new("unshare")
        .arg("--net")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed in its namespace");
}

#[track_caller]
pub fn ip(args: &str) -> String {
    let output = Command::new("ip").args(args.split(' ')).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {args}: {words}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn options() -> XdpOptions {
    XdpOptions::new(OURS, Rules::own(["10.9.0.2".parse().unwrap()]))
}

#[track_caller]
pub fn open(options: &XdpOptions) -> (XdpQueue, Monitor) {
    let xdp = Xdp::open(options).unwrap_or_else(|e| panic!("{e}"));
    let monitor = xdp.monitor();
    (xdp.into_queues().pop().expect("one queue"), monitor)
}

/// A UDP datagram to 10.9.0.2 in a frame, `payload` behind 42 bytes of headers.
pub fn datagram(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1, 0x08, 0x00]);
    let total = u16::try_from(28 + payload.len()).unwrap().to_be_bytes();
    frame.extend([0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend([10, 9, 0, 1, 10, 9, 0, 2]);
    let len = u16::try_from(8 + payload.len()).unwrap().to_be_bytes();
    frame.extend([0x30, 0x39, 0, 80, len[0], len[1], 0, 0]);
    frame.extend(payload);
    frame
}

/// The kernel's side of the cable: frames as they are (packet(7)).
pub struct Peer {
    socket: OwnedFd,
    at: LinkAddr,
}

impl Peer {
    pub fn new() -> Peer {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            flags,
            SockProtocol::EthAll,
        );
        let at = getifaddrs().unwrap().find_map(|entry| {
            let is_peer = entry.interface_name == PEER;
            entry.address?.as_link_addr().filter(|_| is_peer).copied()
        });
        Peer {
            socket: socket.unwrap(),
            at: at.expect("the veth is there"),
        }
    }

    pub fn send(&self, frame: &[u8]) {
        assert_eq!(self.offer(frame), Ok(frame.len()));
    }

    /// Sends a frame that the cable may refuse.
    pub fn offer(&self, frame: &[u8]) -> nix::Result<usize> {
        sendto(self.socket.as_raw_fd(), frame, &self.at, MsgFlags::empty())
    }

    /// Whether a frame arrived that ends with `payload`.
    #[track_caller]
    pub fn await_frame(&self, payload: &[u8]) {
        let mut buffer = [0; 4096];
        wait_until("a frame arrives at the peer", || {
            let got = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty());
            got.is_ok_and(|len| buffer[..len].ends_with(payload))
        });
    }
}

/// Receives until `count` frames came, sleeping on the fd.
#[track_caller]
pub fn receive(queue: &mut XdpQueue, count: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    wait_until("frames come in", || {
        queue.rx_burst(clock::now(), &mut frames).unwrap();
        if frames.len() < count && !queue.arm() {
            let fd = queue.wakeup().expect("a socket");
            let second = Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            };
            poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&second)).unwrap();
        }
        frames.len() >= count
    });
    frames
}

pub fn filled(pool: &FramePool, bytes: &[u8]) -> Frame {
    let mut frame = pool.take_tx().expect("the pool has frames");
    assert!(frame.fill(bytes));
    frame
}

/// Sends all of `frames`, however often it takes.
#[track_caller]
pub fn send(queue: &mut XdpQueue, mut frames: VecDeque<Frame>) {
    wait_until("the ring takes all", || {
        queue.tx_burst(clock::now(), &mut frames).unwrap();
        queue.kick(clock::now()).unwrap();
        queue.reclaim(clock::now());
        frames.is_empty()
    });
}
