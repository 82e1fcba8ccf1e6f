//! Real AF_XDP sockets on a veth pair, in a network namespace that ends with the
//! test.
//!
//! Each test runs itself again under `unshare --net`. It needs root, for BPF is
//! not to be had in a user namespace.

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
use wirepath_driver::xdp::{
    AttachMode, BindMode, FilterError, Mode, Monitor, Rules, Xdp, XdpError, XdpOptions, XdpQueue,
    XdpStats,
};
use wirepath_driver::{BURST_FRAMES, Frame, FramePool, Queue, clock};

const INSIDE: &str = "WIREPATH_TEST_INSIDE_NAMESPACE";
/// The queue's interface, and the other end of its cable.
const OURS: &str = "wp0";
const PEER: &str = "wp1";
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs `body` in a network namespace with the veth pair; says so when the
/// machine refuses.
fn on_a_veth(test: &str, body: fn()) {
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
fn ip(args: &str) -> String {
    let output = Command::new("ip").args(args.split(' ')).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {args}: {words}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn options() -> XdpOptions {
    XdpOptions::new(OURS, Rules::own(["10.9.0.2".parse().unwrap()]))
}

#[track_caller]
fn open(options: &XdpOptions) -> (XdpQueue, Monitor) {
    let xdp = Xdp::open(options).unwrap_or_else(|e| panic!("{e}"));
    let monitor = xdp.monitor();
    (xdp.into_queues().pop().expect("one queue"), monitor)
}

/// A UDP datagram to 10.9.0.2 in a frame, `payload` behind 42 bytes of headers.
fn datagram(payload: &[u8]) -> Vec<u8> {
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
struct Peer {
    socket: OwnedFd,
    at: LinkAddr,
}

impl Peer {
    fn new() -> Peer {
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

    fn send(&self, frame: &[u8]) {
        let fd = self.socket.as_raw_fd();
        let sent = sendto(fd, frame, &self.at, MsgFlags::empty());
        assert_eq!(sent, Ok(frame.len()));
    }

    /// Whether a frame arrived that ends with `payload`.
    #[track_caller]
    fn await_frame(&self, payload: &[u8]) {
        let mut buffer = [0; 4096];
        wait_until("a frame arrives at the peer", || {
            let got = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty());
            got.is_ok_and(|len| buffer[..len].ends_with(payload))
        });
    }
}

/// Receives until `count` frames came, sleeping on the fd.
#[track_caller]
fn receive(queue: &mut XdpQueue, count: usize) -> Vec<Frame> {
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

fn filled(pool: &FramePool, bytes: &[u8]) -> Frame {
    let mut frame = pool.take_tx().expect("the pool has frames");
    assert!(frame.fill(bytes));
    frame
}

/// Sends all of `frames`, however often it takes.
#[track_caller]
fn send(queue: &mut XdpQueue, mut frames: VecDeque<Frame>) {
    wait_until("the ring takes all", || {
        queue.tx_burst(clock::now(), &mut frames).unwrap();
        queue.kick(clock::now()).unwrap();
        queue.reclaim(clock::now());
        frames.is_empty()
    });
}

fn both_ways(attach: AttachMode, want: Mode) {
    let xdp = Xdp::open(&XdpOptions {
        attach,
        ..options()
    })
    .unwrap();
    assert_eq!(xdp.info().attached.mode, want);
    assert_eq!(xdp.info().zero_copy, [false]);
    let mut queue = xdp.into_queues().pop().unwrap();
    let peer = Peer::new();

    peer.send(&datagram(b"hither"));
    let frames = receive(&mut queue, 1);
    assert_eq!(frames[0][..], datagram(b"hither")[..]);
    assert!(frames[0].meta.polled_at.0 > 0 && frames[0].meta.rx_at.is_none());

    // What came in goes out again from where it is; a frame that begins later in
    // its slot is moved.
    let mut late = queue.pool().take_tx().unwrap();
    let bytes = datagram(b"late");
    late.set_bounds(100, bytes.len());
    late.copy_from_slice(&bytes);
    let ours = filled(queue.pool(), &datagram(b"thither"));
    send(&mut queue, frames.into_iter().chain([late, ours]).collect());
    for payload in [&b"hither"[..], b"late", b"thither"] {
        peer.await_frame(payload);
    }
    wait_until("all come back", || {
        queue.reclaim(clock::now());
        let out = u32::from(queue.pool().slots() != 4096);
        out == 0 && queue.stats().tx_frames == 3
    });
}

#[test]
fn frames_go_both_ways_in_the_driver() {
    on_a_veth("frames_go_both_ways_in_the_driver", || {
        both_ways(AttachMode::Auto, Mode::Driver);
    });
}

#[test]
fn frames_go_both_ways_in_generic_mode() {
    on_a_veth("frames_go_both_ways_in_generic_mode", || {
        both_ways(AttachMode::Generic, Mode::Generic);
    });
}

/// The counters once no frame is on its way.
#[track_caller]
fn settled(queue: &mut XdpQueue, monitor: &Monitor, frames: &mut Vec<Frame>) -> XdpStats {
    wait_until("the sums agree", || {
        queue.rx_burst(clock::now(), frames).unwrap();
        queue.reclaim(clock::now());
        queue.arm();
        let stats = monitor.read();
        stats.unaccounted() == 0 && stats.queues[0].in_flight() == 0
    });
    monitor.read()
}

#[test]
fn every_frame_has_one_fate_when_the_fill_ring_runs_dry() {
    on_a_veth(
        "every_frame_has_one_fate_when_the_fill_ring_runs_dry",
        || {
            for attach in [AttachMode::Driver, AttachMode::Generic] {
                let (mut queue, monitor) = open(&XdpOptions {
                    attach,
                    frames: 16,
                    ring_len_frames: 16,
                    ..options()
                });
                let peer = Peer::new();
                for _ in 0..100 {
                    peer.send(&datagram(b"many"));
                }
                let mut frames = Vec::new();
                let stats = settled(&mut queue, &monitor, &mut frames);
                assert_eq!(stats.verdicts.redirected(), 100);
                let kernel = stats.queues[0].kernel;
                assert!(
                    kernel.rx_dropped > 0 && kernel.rx_ring_full == 0,
                    "{kernel:?}"
                );
                assert_eq!(queue.stats().rx_frames, frames.len() as u64);
                // With slots to lend again, it goes on.
                drop(frames);
                queue.rx_burst(clock::now(), &mut Vec::new()).unwrap();
                peer.send(&datagram(b"again"));
                assert!(receive(&mut queue, 1)[0].ends_with(b"again"));
            }
        },
    );
}

#[test]
fn a_full_ring_takes_what_fits_and_the_rest_later() {
    on_a_veth("a_full_ring_takes_what_fits_and_the_rest_later", || {
        let (mut queue, monitor) = open(&XdpOptions {
            frames: 512,
            ring_len_frames: 16,
            ..options()
        });
        let peer = Peer::new();
        let frame = |n: u8| filled(queue.pool(), &datagram(&[n; 30]));
        let mut frames: VecDeque<Frame> = (0..200).map(frame).collect();
        let taken = queue.tx_burst(clock::now(), &mut frames).unwrap();
        assert_eq!((taken, frames.len()), (16, 184));
        assert_eq!(queue.stats().tx_ring_full, 1);
        assert_eq!(queue.tx_burst(clock::now(), &mut frames).unwrap(), 0);
        queue.kick(clock::now()).unwrap();
        send(&mut queue, frames);
        peer.await_frame(&[199; 30]);
        let stats = settled(&mut queue, &monitor, &mut Vec::new());
        assert_eq!(
            (stats.queues[0].queued, stats.queues[0].completed),
            (200, 200)
        );
    });
}

#[test]
fn a_burst_is_sent_by_one_kick() {
    on_a_veth("a_burst_is_sent_by_one_kick", || {
        let (mut queue, monitor) = open(&options());
        // More than the kernel sends in one call.
        let frames = (0..BURST_FRAMES).map(|_| filled(queue.pool(), &datagram(b"burst")));
        let mut frames: VecDeque<Frame> = frames.collect();
        queue.tx_burst(clock::now(), &mut frames).unwrap();
        queue.kick(clock::now()).unwrap();
        assert_eq!(queue.stats().kicks, 1);
        queue.kick(clock::now()).unwrap();
        assert_eq!(queue.stats().kicks, 1, "nothing new to tell of");
        let stats = settled(&mut queue, &monitor, &mut Vec::new());
        assert_eq!(stats.queues[0].completed, BURST_FRAMES as u64);
        assert_eq!(queue.next_event(), None);
    });
}

#[test]
fn a_frame_does_the_same_work_again() {
    on_a_veth("a_frame_does_the_same_work_again", || {
        let (mut queue, monitor) = open(&options());
        let frame = filled(queue.pool(), &datagram(b"sent"));
        let sent = frame.as_ptr();
        send(&mut queue, [frame].into());
        settled(&mut queue, &monitor, &mut Vec::new());
        let mut frames = vec![queue.pool().take_rx().expect("the pool has frames")];
        queue.exchange(&mut frames);
        let to_send: Vec<_> = frames.iter().map(|frame| frame.as_ptr()).collect();
        assert_eq!(to_send, [sent]);
    });
}

#[test]
fn what_cannot_be_had_is_refused_with_the_mend() {
    on_a_veth("what_cannot_be_had_is_refused_with_the_mend", || {
        let refused = |change: fn(&mut XdpOptions)| {
            let mut options = options();
            change(&mut options);
            Xdp::open(&options).expect_err("it cannot be had")
        };
        type Change = fn(&mut XdpOptions);
        let table: [(Change, &str); 6] = [
            (|o| o.bind = BindMode::ZeroCopy, "--bind copy"),
            (|o| o.queues = 1..=1, "ethtool -L wp0"),
            (|o| o.ring_len_frames = 100, "power of two"),
            (|o| o.frames = 4, "--frames"),
            (|o| o.frame_len = Some(1024), "2048 or 4096"),
            (|o| o.interface = "nosuch0".into(), "ip -br link"),
        ];
        for (change, mend) in table {
            let text = refused(change).to_string();
            assert!(text.contains(mend), "{text}");
        }
        ip("link set wp0 mtu 3000");
        let text = refused(|o| o.frame_len = Some(2048)).to_string();
        assert!(text.contains("mtu 1774"), "{text}");
        assert!(Xdp::open(&options()).is_ok(), "frames of 4096 fit");
        ip("link set wp1 mtu 9000");
        ip("link set wp0 mtu 9000");
        assert!(matches!(refused(|_| {}), XdpError::Mtu { mtu: 9000, .. }));
    });
}

#[test]
fn a_queue_and_an_interface_have_one_user() {
    on_a_veth("a_queue_and_an_interface_have_one_user", || {
        let first = open(&options());
        let second = Xdp::open(&options()).unwrap_err();
        let is_said = matches!(
            second,
            XdpError::Busy { .. } | XdpError::Filter(FilterError::Busy(_))
        );
        assert!(is_said, "{second}");
        drop(first);
        open(&options());
    });
}

fn fds() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn opening_and_closing_leaves_nothing_behind() {
    on_a_veth("opening_and_closing_leaves_nothing_behind", || {
        let small = XdpOptions {
            frames: 64,
            ring_len_frames: 64,
            ..options()
        };
        open(&small);
        let before = fds();
        for _ in 0..100 {
            let (queue, monitor) = open(&small);
            drop(queue);
            monitor.read();
        }
        assert_eq!(fds(), before);
        assert!(!ip("-d link show wp0").contains("xdp"));
    });
}

#[test]
fn frames_and_counters_may_outlive_their_queue() {
    on_a_veth("frames_and_counters_may_outlive_their_queue", || {
        let (mut queue, monitor) = open(&options());
        Peer::new().send(&datagram(b"kept"));
        let frames = receive(&mut queue, 1);
        let pool = queue.pool().clone();
        drop(queue);
        assert!(!ip("-d link show wp0").contains("xdp"), "the program left");
        assert!(frames[0].ends_with(b"kept"));
        drop(frames);
        // What the kernel had is never handed out again.
        assert!(pool.free() < pool.slots());
        assert_eq!(monitor.read().queues[0].received, 1);
        assert_eq!(monitor.read().unaccounted(), 0);
    });
}

#[test]
fn an_interface_may_go_down_and_up_but_not_away() {
    on_a_veth("an_interface_may_go_down_and_up_but_not_away", || {
        let (mut queue, _) = open(&options());
        let peer = Peer::new();
        ip("link set wp0 down");
        let mut frames = VecDeque::from([filled(queue.pool(), &datagram(b"patient"))]);
        queue.tx_burst(clock::now(), &mut frames).unwrap();
        queue.kick(clock::now()).unwrap();
        queue.rx_burst(clock::now(), &mut Vec::new()).unwrap();
        ip("link set wp0 up");
        wait_until("the frame leaves", || {
            queue.rx_burst(clock::now(), &mut Vec::new()).unwrap();
            queue.next_event().is_none()
        });
        peer.await_frame(b"patient");
        peer.send(&datagram(b"back"));
        assert!(receive(&mut queue, 1)[0].ends_with(b"back"));

        ip("link del wp0");
        let mut told = None;
        wait_until("the queue tells", || {
            told = queue.rx_burst(clock::now(), &mut Vec::new()).err();
            told.is_some()
        });
        let text = told.expect("just seen").to_string();
        assert!(text.contains("wp0 is gone"), "{text}");
    });
}

#[test]
fn frames_of_the_largest_mtu_fit() {
    on_a_veth("frames_of_the_largest_mtu_fit", || {
        for (mtu, frame_len) in [(1774, 2048), (3822, 4096)] {
            for end in [PEER, OURS] {
                ip(&format!("link set {end} mtu {mtu}"));
            }
            let (mut queue, monitor) = open(&options());
            let peer = Peer::new();
            let payload = vec![7; mtu - 28];
            peer.send(&datagram(&payload));
            let frames = receive(&mut queue, 1);
            assert_eq!(frames[0].len(), mtu + 14, "{frame_len}");
            assert_eq!(queue.pool().slot_len(), frame_len - 256);
            send(&mut queue, frames.into());
            peer.await_frame(&payload);
            settled(&mut queue, &monitor, &mut Vec::new());
        }
    });
}

#[test]
fn a_busy_polled_queue_receives_without_its_fd() {
    on_a_veth("a_busy_polled_queue_receives_without_its_fd", || {
        let (mut queue, _) = open(&XdpOptions {
            busy_poll: Some(wirepath_driver::xdp::BusyPoll {
                usecs: 20,
                budget: 64,
            }),
            ..options()
        });
        Peer::new().send(&datagram(b"polled"));
        let mut frames = Vec::new();
        wait_until("the frame comes", || {
            queue.rx_burst(clock::now(), &mut frames).unwrap();
            !frames.is_empty()
        });
        assert!(frames[0].ends_with(b"polled"));
    });
}

#[test]
fn an_address_of_our_own_has_its_groups_while_a_queue_lives() {
    on_a_veth(
        "an_address_of_our_own_has_its_groups_while_a_queue_lives",
        || {
            let joined = || ip("maddr show dev wp0");
            let group = "33:33:ff:00:00:02";
            let mut options = options();
            options.rules = Rules::own(["fd00::2".parse().unwrap()]);
            options.mac = Some([2, 0, 0, 0, 0, 9]);
            let (queue, _) = open(&options);
            assert!(joined().contains(group), "{}", joined());
            drop(queue);
            wait_until("the group is left", || !joined().contains(group));
        },
    );
}

#[test]
fn a_shared_port_is_ours_while_a_queue_lives() {
    on_a_veth("a_shared_port_is_ours_while_a_queue_lives", || {
        ip("addr add 10.9.0.2/24 dev wp0");
        let bind = || std::net::TcpListener::bind("10.9.0.2:80");
        let mut options = options();
        options.rules = Rules::shared(["10.9.0.2".parse().unwrap()], [80]);
        let server = bind().unwrap();
        let refused = Xdp::open(&options).expect_err("the port is taken");
        assert!(matches!(refused, XdpError::Reserve(_)), "{refused}");
        drop(server);
        let (queue, _) = open(&options);
        assert_eq!(bind().unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(queue);
        bind().unwrap();
    });
}
