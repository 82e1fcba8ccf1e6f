//! Opening and closing AF_XDP queues in one process, a hundred times: what a
//! process holds of the kernel does not grow.
//!
//! A test binary of its own, since open files and mappings are the process's.
#![cfg(feature = "xdp")]

use std::fs;

use wirepath_driver::Queue;
use wirepath_driver::xdp::{AttachMode, BindMode, Rules, Xdp, XdpOptions};
use wirepath_tests::lab::SERVER_END;
use wirepath_tests::wait::wait_until;
use wirepath_tests::{Device, Lab};

/// What this process holds.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    /// Open files, of which BPF objects and sockets are some.
    files: usize,
    /// Mappings that are of rings and of UMEMs: those of no file but a socket,
    /// an anonymous inode or a huge page.
    rings: usize,
}

fn held() -> Held {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let is_ring = |line: &&str| {
        ["socket:", "anon_inode:"]
            .iter()
            .any(|kind| line.contains(kind))
    };
    Held {
        files: fs::read_dir("/proc/self/fd").unwrap().count(),
        rings: maps.lines().filter(is_ring).count(),
    }
}

/// Pages of all processes that the kernel keeps where they are, as those of a
/// UMEM are (`pin_user_pages`).
fn pinned_pages() -> i64 {
    let all = fs::read_to_string("/proc/vmstat").unwrap();
    let of = |name: &str| -> i64 {
        let line = all.lines().find_map(|line| line.strip_prefix(name));
        line.expect("Linux counts them").trim().parse().unwrap()
    };
    of("nr_foll_pin_acquired") - of("nr_foll_pin_released")
}

#[test]
fn a_hundred_opened_queues_leave_nothing() {
    for (device, attach) in [
        (Device::XdpNative, AttachMode::Driver),
        (Device::XdpGeneric, AttachMode::Generic),
    ] {
        let name = "a_hundred_opened_queues_leave_nothing";
        let Some(lab) = Lab::with_queues(device, name, 2) else {
            return;
        };
        let addr = "10.0.0.2".parse().unwrap();
        let mut options = XdpOptions::new(SERVER_END, Rules::own([addr]));
        options.attach = attach;
        options.bind = BindMode::Copy;
        options.queues = 0..=1;
        let cycle = || {
            let xdp = Xdp::open(&options).unwrap();
            let monitor = xdp.monitor();
            let queues = xdp.into_queues();
            assert_eq!(queues.len(), 2);
            assert!(queues.iter().all(|queue| queue.wakeup().is_some()));
            assert_eq!(monitor.read().queues.len(), 2);
        };
        lab.server_net().enter(|| {
            cycle();
            let (before, pages) = (held(), pinned_pages());
            for _ in 0..100 {
                cycle();
            }
            assert_eq!(held(), before);
            // A socket's memory is let go by the kernel's worker. The pages of
            // a hundred UMEMs are many more than anybody else's.
            let umem = i64::from(options.frames) * 2048 / 4096;
            wait_until("pinned pages to go", || pinned_pages() < pages + 10 * umem);
        });
    }
}
