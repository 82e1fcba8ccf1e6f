//! Real AF_XDP sockets on a veth pair, in a network namespace that ends with the
//! test.
//!
//! Each test runs itself again under `unshare --net`. It needs root, for BPF is
//! not to be had in a user namespace.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io::{self, Write};
use std::process::Command;

use nix::errno::Errno;
use wirepath_driver::xdp::{
    AttachMode, BindMode, FilterError, Mode, Monitor, Rules, Xdp, XdpError, XdpOptions, XdpQueue,
    XdpStats,
};
use wirepath_driver::{BURST_FRAMES, Frame, FramePool, Queue, clock};

mod veth;

use veth::{
    OURS, PEER, Peer, datagram, filled, ip, on_a_veth, open, options, receive, send, wait_until,
};

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
fn frames_of_another_pool_are_copied_and_what_is_no_frame_is_counted() {
    on_a_veth(
        "frames_of_another_pool_are_copied_and_what_is_no_frame_is_counted",
        || {
            let (mut queue, monitor) = open(&options());
            let other = FramePool::new(8, 4096, 0).unwrap();
            let foreign = filled(&other, &datagram(b"foreign"));
            let too_long = filled(&other, &[0; 1793]);
            let too_short = filled(queue.pool(), &[0; 13]);
            let peer = Peer::new();
            send(&mut queue, [too_short, too_long, foreign].into());
            peer.await_frame(b"foreign");
            assert_eq!(other.free(), 8, "its own pool has it back");
            let stats = queue.stats();
            assert_eq!((stats.tx_frames, stats.tx_errors), (1, 2));
            queue.give_back(other.take_tx());
            assert_eq!(other.free(), 8);
            let last = settled(&mut queue, &monitor, &mut Vec::new());
            assert_eq!(last.queues[0].completed, 1);
        },
    );
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
        let holder = format!("process {} ", std::process::id());
        assert!(second.to_string().contains(&holder), "{second}");
        drop(first);
        open(&options());
    });
}

fn fds() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// KiB that this process has mapped (proc_pid_status(5)).
fn mapped_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.expect("a number of KiB").parse().unwrap()
}

/// Kinds and numbers of the programs, maps and links that this process has open
/// (proc_pid_fdinfo(5)).
fn bpf_objects() -> BTreeSet<(&'static str, String)> {
    const KINDS: [(&str, &str); 3] = [
        ("prog_id:", "prog"),
        ("map_id:", "map"),
        ("link_id:", "link"),
    ];
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc/self/fdinfo").unwrap() {
        // The folder's own descriptor is listed, and gone.
        let text = fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
        for line in text.lines() {
            let of = |(key, kind)| Some((kind, line.strip_prefix(key)?.trim().to_owned()));
            found.extend(KINDS.into_iter().filter_map(of));
        }
    }
    found
}

fn lives(kind: &str, id: &str) -> bool {
    let mut bpftool = Command::new("bpftool");
    let told = bpftool.args([kind, "show", "id", id]).output();
    told.expect("bpftool is installed").status.success()
}

#[test]
fn opening_and_closing_leaves_nothing_behind() {
    on_a_veth("opening_and_closing_leaves_nothing_behind", || {
        drop(open(&options()));
        let (fds_before, kib_before) = (fds(), mapped_kib());
        let mut made = BTreeSet::new();
        for _ in 0..100 {
            let (queue, monitor) = open(&options());
            made.extend(bpf_objects());
            drop(queue);
            monitor.read();
        }
        assert_eq!(fds(), fds_before);
        let one_umem_kib = 4096 * 2;
        assert!(mapped_kib() < kib_before + one_umem_kib);
        assert!(!ip("-d link show wp0").contains("xdp"));
        assert!(made.len() >= 300, "a program, a map and a link each");
        // The kernel frees them a little later.
        wait_until("they are gone", || {
            made.retain(|(kind, id)| lives(kind, id));
            made.is_empty()
        });
    });
}

#[test]
fn what_was_under_way_at_the_end_is_told() {
    on_a_veth("what_was_under_way_at_the_end_is_told", || {
        let (mut queue, monitor) = open(&options());
        let peer = Peer::new();
        (0..5).for_each(|_| peer.send(&datagram(b"unread")));
        wait_until("five come", || monitor.read().verdicts.redirected() == 5);
        let three = (0..3).map(|_| filled(queue.pool(), &datagram(b"unsent")));
        let mut three: VecDeque<Frame> = three.collect();
        assert_eq!(queue.tx_burst(clock::now(), &mut three).unwrap(), 3);
        drop(queue);
        let stats = monitor.read();
        assert_eq!(stats.unaccounted(), 0, "{stats:?}");
        let last = stats.queues[0];
        assert_eq!((last.received, last.occupancy.rx), (0, 5));
        assert_eq!((last.queued, last.in_flight()), (3, 3));
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
        let (mut queue, monitor) = open(&options());
        let peer = Peer::new();
        ip("link set wp0 down");
        let mut frames = VecDeque::from([filled(queue.pool(), &datagram(b"patient"))]);
        queue.tx_burst(clock::now(), &mut frames).unwrap();
        queue.kick(clock::now()).unwrap();
        queue.rx_burst(clock::now(), &mut Vec::new()).unwrap();
        queue.arm();
        assert_eq!(monitor.read().queues[0].link_down, 1);
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
        for _ in 0..2 {
            queue.rx_burst(clock::now(), &mut Vec::new()).unwrap_err();
            queue.tx_burst(clock::now(), &mut frames).unwrap_err();
        }
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
fn frames_over_the_mtu_are_lost_alone() {
    on_a_veth("frames_over_the_mtu_are_lost_alone", || {
        for attach in [AttachMode::Driver, AttachMode::Generic] {
            let (mut queue, monitor) = open(&XdpOptions {
                attach,
                ..options()
            });
            ip("link set wp1 mtu 3000");
            let peer = Peer::new();
            // A veth lets a VLAN tag's length more pass than the MTU.
            let over = peer.offer(&datagram(&[1; 1500 + 4 + 1 - 28]));
            assert_eq!(over, Err(Errno::ENOBUFS));
            peer.send(&datagram(&[2; 1500 - 28]));
            assert!(receive(&mut queue, 1)[0].ends_with(&[2]));
            ip("link set wp1 mtu 1500");
            let frame = |bytes| filled(queue.pool(), &datagram(bytes));
            let both = VecDeque::from([frame(&[3; 1600]), frame(b"short")]);
            send(&mut queue, both);
            peer.await_frame(b"short");
            let stats = settled(&mut queue, &monitor, &mut Vec::new());
            assert_eq!(stats.verdicts.redirected(), 1);
            assert_eq!(stats.queues[0].completed, 2);
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

/// Huge pages of 2 MiB that nobody has taken.
fn free_huge_pages() -> u32 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("HugePages_Free:"));
    line.map_or(0, |count| count.trim().parse().unwrap())
}

#[test]
fn huge_pages_are_used_where_there_are_enough() {
    on_a_veth("huge_pages_are_used_where_there_are_enough", || {
        let free = free_huge_pages();
        let with = |frames| XdpOptions {
            huge_pages: true,
            frames,
            ..options()
        };
        // One page more than there are.
        let refused = Xdp::open(&with((free + 1) * 1024)).unwrap_err();
        assert!(matches!(refused, XdpError::HugePages { .. }), "{refused}");
        if free == 0 {
            let _ = writeln!(
                io::stderr(),
                "no huge pages are free; only their lack was tried"
            );
            return;
        }
        let (mut queue, _) = open(&with(100));
        assert_eq!(queue.pool().slots(), 1024, "whole pages");
        Peer::new().send(&datagram(b"huge"));
        assert!(receive(&mut queue, 1)[0].ends_with(b"huge"));
        assert_eq!(free_huge_pages(), free - 1);
    });
}
