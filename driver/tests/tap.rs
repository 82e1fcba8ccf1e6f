//! A real TAP and the kernel behind it, in a network namespace that ends with
//! the test.
//!
//! Each test runs itself again under `unshare`, in a user and network namespace
//! of its own, which needs no privileges where the system allows that.

use std::collections::VecDeque;
use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wirepath_driver::{Queue, Tap, TapError, TapOptions, clock};

const INSIDE: &str = "WIREPATH_TEST_INSIDE_NAMESPACE";
const OURS: &str = "02:00:00:00:00:02";

/// Runs `body` in namespaces of its own; says so when the machine refuses.
fn in_namespace(test: &str, body: fn()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "--"]);
        command
    };
    let allowed = unshare().args(["ip", "link", "show", "lo"]).output();
    let allowed = allowed.is_ok_and(|out| out.status.success());
    if !allowed || !std::path::Path::new("/dev/net/tun").exists() {
        eprintln!(
            "SKIPPED {test}: needs unshare(1), ip(8), user namespaces and /dev/net/tun on this machine"
        );
        return;
    }
    let status = unshare()
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed in its namespace");
}

#[track_caller]
fn ip(args: &str) {
    let output = Command::new("ip").args(args.split(' ')).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {args}: {words}");
}

fn up(tap: &Tap) {
    let name = tap.name();
    ip(&format!("address add 10.9.0.1/24 dev {name}"));
    ip(&format!("link set {name} up"));
    ip(&format!("neighbor add 10.9.0.2 lladdr {OURS} dev {name}"));
}

/// Receives until a frame ends with `payload`, sleeping on the fd.
fn receive(tap: &mut Tap, payload: &[u8]) -> Vec<u8> {
    let mut frames = Vec::new();
    loop {
        let fd = tap.wakeup().unwrap();
        let timeout = Timespec::try_from(Duration::from_secs(20)).unwrap();
        let ready = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).unwrap();
        assert_eq!(ready, 1, "no frame came");
        tap.rx_burst(clock::now(), &mut frames).unwrap();
        let found = frames.drain(..).find(|frame| frame.ends_with(payload));
        if let Some(frame) = found {
            return frame.to_vec();
        }
    }
}

fn send(tap: &mut Tap, bytes: &[u8], count: usize) {
    let make = |_| {
        let mut frame = tap.pool().take_tx().unwrap();
        assert!(frame.fill(bytes));
        frame
    };
    let mut frames: VecDeque<_> = (0..count).map(make).collect();
    while !frames.is_empty() {
        tap.tx_burst(clock::now(), &mut frames).unwrap();
        tap.kick(clock::now()).unwrap();
    }
}

/// The same UDP datagram back to its sender. Swapping addresses and ports
/// leaves the checksums right.
fn reply(request: &[u8]) -> Vec<u8> {
    let mut frame = request.to_vec();
    let mut swap = |a: usize, b: usize, len: usize| {
        for i in 0..len {
            frame.swap(a + i, b + i);
        }
    };
    swap(0, 6, 6);
    swap(26, 30, 4);
    swap(34, 36, 2);
    frame
}

#[test]
fn frames_go_both_ways() {
    in_namespace("frames_go_both_ways", || {
        let mut tap = Tap::open(&TapOptions::new("wp%d")).unwrap();
        assert_eq!((tap.name(), tap.info().mtu), ("wp0", 1500));
        up(&tap);
        let socket = UdpSocket::bind("10.9.0.1:5000").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        // The longest that an MTU of 1500 carries, and a short one.
        for len in [1472, 5] {
            let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
            socket.send_to(&payload, "10.9.0.2:6000").unwrap();
            let request = receive(&mut tap, &payload);
            assert_eq!(&request[12..14], [0x08, 0x00]);
            send(&mut tap, &reply(&request), 20);
            let mut buffer = [0; 2048];
            for _ in 0..20 {
                let (got, from) = socket.recv_from(&mut buffer).unwrap();
                assert_eq!(buffer[..got], payload);
                assert_eq!(from, "10.9.0.2:6000".parse().unwrap());
            }
        }
        let stats = tap.stats();
        assert_eq!(
            (stats.tx_frames, stats.tx_errors, stats.tx_down),
            (40, 0, 0)
        );
        assert!(stats.rx_frames >= 2 && stats.rx_bad_len == 0);
    });
}

#[test]
fn what_the_kernel_refuses_is_counted_or_told() {
    in_namespace("what_the_kernel_refuses_is_counted_or_told", || {
        let mut tap = Tap::open(&TapOptions::new("wp0")).unwrap();
        let frame = [0x88; 60];
        send(&mut tap, &frame, 3);
        assert_eq!(tap.stats().tx_down, 3, "the interface is not up yet");
        assert_eq!(tap.rx_burst(clock::now(), &mut Vec::new()).unwrap(), 0);
        up(&tap);
        send(&mut tap, &frame[..13], 2);
        send(&mut tap, &frame, 1);
        let stats = tap.stats();
        assert_eq!((stats.tx_errors, stats.tx_frames), (2, 1));
        // Some are kept for the next reads.
        let kept = tap.pool().slots() - tap.pool().free();
        assert!(
            (1..=64).contains(&kept),
            "{kept} frames are not in the pool"
        );

        ip("link delete wp0");
        assert!(tap.rx_burst(clock::now(), &mut Vec::new()).is_err());
        let mut frames = VecDeque::new();
        let mut lost = tap.pool().take_tx().unwrap();
        assert!(lost.fill(&frame));
        frames.push_back(lost);
        tap.tx_burst(clock::now(), &mut frames).unwrap();
        assert!(tap.kick(clock::now()).is_err());
    });
}

#[test]
fn opening_says_what_is_in_the_way() {
    in_namespace("opening_says_what_is_in_the_way", || {
        let options = TapOptions {
            mtu: Some(9000),
            ..TapOptions::new("wp0")
        };
        let tap = Tap::open(&options).unwrap();
        assert_eq!(tap.info().mtu, 9000);
        assert!(tap.pool().slot_len() > 9018);
        let refused = |options: &TapOptions| Tap::open(options).unwrap_err();
        assert!(matches!(refused(&options), TapError::Busy { .. }));
        let lo = refused(&TapOptions::new("lo"));
        assert!(matches!(lo, TapError::NotATap { .. }), "{lo}");
        let mtu = TapOptions {
            mtu: Some(70_000),
            ..TapOptions::new("wp1")
        };
        assert!(matches!(refused(&mtu), TapError::Mtu { mtu: 70_000, .. }));
        drop(tap);
        // A persistent device keeps its MTU and is taken as it is.
        ip("tuntap add dev wp0 mode tap");
        ip("link set wp0 mtu 1280");
        let tap = Tap::open(&TapOptions::new("wp0")).unwrap();
        assert_eq!(tap.info().mtu, 1280);
    });
}

#[test]
fn a_flow_stays_on_the_queue_that_answers_it() {
    in_namespace("a_flow_stays_on_the_queue_that_answers_it", || {
        let mut taps = Tap::open_queues(&TapOptions::new("wp%d"), 2).unwrap();
        let names: Vec<_> = taps.iter().map(|tap| tap.info().name.clone()).collect();
        assert_eq!(names, ["tap wp0 queue 0", "tap wp0 queue 1"]);
        up(&taps[0]);
        let mut used = [0, 0];
        for flow in 0..32_u8 {
            let socket = UdpSocket::bind("10.9.0.1:0").unwrap();
            socket.connect("10.9.0.2:6000").unwrap();
            socket.send(&[flow, 1]).unwrap();
            let (at, request) = receive_on_any(&mut taps, &[flow, 1]);
            used[at] += 1;
            // The other queue answers, and has the flow from then on.
            send(&mut taps[1 - at], &reply(&request), 1);
            socket.recv(&mut [0; 8]).unwrap();
            socket.send(&[flow, 2]).unwrap();
            assert_eq!(receive_on_any(&mut taps, &[flow, 2]).0, 1 - at);
        }
        assert!(used[0] > 0 && used[1] > 0, "{used:?}");
    });
}

/// Receives until a frame ends with `payload`, and says on which queue.
fn receive_on_any(taps: &mut [Tap], payload: &[u8]) -> (usize, Vec<u8>) {
    let mut frames = Vec::new();
    loop {
        let fds: Vec<_> = taps.iter().map(|tap| tap.wakeup().unwrap()).collect();
        let mut polled: Vec<_> = fds
            .iter()
            .map(|fd| PollFd::new(fd, PollFlags::IN))
            .collect();
        let timeout = Timespec::try_from(Duration::from_secs(20)).unwrap();
        assert!(
            poll(&mut polled, Some(&timeout)).unwrap() > 0,
            "no frame came"
        );
        for (at, tap) in taps.iter_mut().enumerate() {
            tap.rx_burst(clock::now(), &mut frames).unwrap();
            let found = frames.drain(..).find(|frame| frame.ends_with(payload));
            if let Some(frame) = found {
                return (at, frame.to_vec());
            }
        }
    }
}

#[test]
fn a_device_of_one_queue_is_refused_for_several() {
    in_namespace("a_device_of_one_queue_is_refused_for_several", || {
        ip("tuntap add dev wp0 mode tap");
        let refused = Tap::open_queues(&TapOptions::new("wp0"), 2).unwrap_err();
        assert!(matches!(refused, TapError::NotMultiQueue { .. }));
        assert!(refused.to_string().contains("multi_queue user $USER"));
        ip("link delete wp0");
        ip("tuntap add dev wp0 mode tap multi_queue");
        assert_eq!(
            Tap::open_queues(&TapOptions::new("wp0"), 3).unwrap().len(),
            3
        );
        let refused = Tap::open(&TapOptions::new("wp0")).unwrap_err();
        assert!(matches!(refused, TapError::NotATap { .. }), "{refused}");
    });
}
