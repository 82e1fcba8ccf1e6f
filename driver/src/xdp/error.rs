//! Why queues could not be opened, in words that say what to do.

use std::fmt::Display;
use std::io;
use std::ops::RangeInclusive;

use xsk_rs::umem::UmemCreateError;

use super::bind::errno_of;
use super::filter::{FilterError, Occupant};
use super::groups::GroupsError;
use super::options::{BindMode, BusyPoll, Shape};
use super::reserve::ReserveError;
use crate::frame::PoolError;

/// Why queues of an interface could not be opened. The text says what failed,
/// why, and what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum XdpError {
    /// The interface, or the program on it.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A port of a shared address.
    #[error(transparent)]
    Reserve(#[from] ReserveError),
    /// What the card must let through for an address of our own.
    #[error(transparent)]
    Groups(#[from] GroupsError),
    /// The frame pool.
    #[error(transparent)]
    Pool(PoolError),
    /// Queues that the interface does not have.
    #[error(
        "{interface} has {has} receive queue(s), numbered from 0, and not {}-{}; name those that it has with --queues, or give it more with 'sudo ethtool -L {interface} combined N' ('ethtool -l {interface}' shows how many it can have)",
        asked.start(), asked.end()
    )]
    Queues {
        /// The interface.
        interface: String,
        /// Queues asked for.
        asked: RangeInclusive<u32>,
        /// Receive queues that it has.
        has: u32,
    },
    /// A ring length that the kernel does not take.
    #[error(
        "a ring of {0} frames cannot be made; --ring-len is a power of two up to 32768, such as 2048"
    )]
    RingLen(u32),
    /// A number of frames that makes no sense.
    #[error("a queue cannot have {0} frames; give --frames from 8 to 2097152, such as 4096")]
    Frames(u32),
    /// A slot length that the kernel does not take.
    #[error("frames of {0} bytes cannot be had; --frame-len is 2048 or 4096")]
    FrameLen(u32),
    /// Frames of the interface do not fit a slot.
    #[error(
        "the MTU of {interface} is {mtu} bytes, and a frame of {frame_len} bytes has room for {most}; lower it with 'sudo ip link set {interface} mtu {most}', or take --frame-len 4096, which fits 3822 (frames over several buffers are not used)"
    )]
    Mtu {
        /// The interface.
        interface: String,
        /// Its MTU, in bytes.
        mtu: u32,
        /// Bytes of a slot.
        frame_len: u32,
        /// The largest MTU that fits, in bytes.
        most: usize,
    },
    /// This process may not make an AF_XDP socket, or not bind it.
    #[error(
        "cannot {step}: not permitted; run as root, or with CAP_NET_RAW, CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON ('sudo setcap cap_net_raw,cap_net_admin,cap_bpf,cap_perfmon+ep FILE', or AmbientCapabilities= in the unit)"
    )]
    Permission {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel has no AF_XDP.
    #[error(
        "this kernel has no AF_XDP sockets; Wirepath needs CONFIG_XDP_SOCKETS ('zgrep XDP_SOCKETS /proc/config.gz' shows it) and Linux 5.9 or newer"
    )]
    NoXdpSockets {
        /// What the kernel said.
        source: io::Error,
    },
    /// Another socket has the queue.
    #[error(
        "queue {queue} of {interface} is taken by another AF_XDP socket; {whose}",
        whose = whose(interface, occupant.as_deref())
    )]
    Busy {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// The program on the interface, which is most likely of the process
        /// that has the queue.
        occupant: Option<Box<Occupant>>,
        /// What the kernel said.
        source: io::Error,
    },
    /// The driver cannot do what was asked for.
    #[error(
        "queue {queue} of {interface} cannot be bound in zero-copy mode: its driver does not offer it (veth, TAP and most virtual devices do not), or not as it is set up now ({source}); use --bind copy, or --bind auto and see what it gives; 'wirepath doctor {interface}' says what its driver wants"
    )]
    NoZeroCopy {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The driver refuses AF_XDP at all.
    #[error(
        "queue {queue} of {interface} cannot be bound: its driver has no AF_XDP, not even by copying; 'wirepath doctor {interface}' says what it has"
    )]
    Unsupported {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel finds something wrong with the request.
    #[error(
        "queue {queue} of {interface} was refused (EINVAL): the queue is not one of the card's now, or its driver wants something else first (virtio_net: as many transmit queues again for XDP, 'sudo ethtool -L {interface} combined N' with fewer, and no guest offloads; mlx5: an MTU that fits, no LRO); 'wirepath doctor {interface}' looks for the reason"
    )]
    Invalid {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The interface is down.
    #[error("{interface} is down; bring it up with 'sudo ip link set {interface} up'")]
    Down {
        /// The interface.
        interface: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The interface is gone.
    #[error("{interface} is gone; 'ip -br link' lists the interfaces that are there")]
    Gone {
        /// The interface.
        interface: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The limit of locked memory.
    #[error(
        "{kib} KiB of frames for each queue are over the limit of locked memory; raise it with 'ulimit -l unlimited' (LimitMEMLOCK=infinity in the unit), give CAP_IPC_LOCK, or take fewer with --frames"
    )]
    LockedMemory {
        /// The UMEM of one queue.
        kib: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is no memory.
    #[error(
        "no memory for {kib} KiB of frames and their rings for each queue; take fewer with --frames and --ring-len, or raise the memory limit of the cgroup (memory.max)"
    )]
    Memory {
        /// The UMEM of one queue.
        kib: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// There are too few huge pages.
    #[error(
        "{kib} KiB of frames for each queue take {pages} free huge pages of 2 MiB, and there are fewer; provide them with 'sudo sysctl vm.nr_hugepages={pages}' (for each queue; 'grep Huge /proc/meminfo' shows what is free), or leave --huge-pages out"
    )]
    HugePages {
        /// The UMEM of one queue.
        kib: u64,
        /// Huge pages that it takes.
        pages: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// Busy polling could not be turned on.
    #[error(
        "cannot turn on busy polling ({usecs} µs, budget {budget}) for queue {queue} of {interface}; it needs Linux 5.11 (SO_PREFER_BUSY_POLL), and CAP_NET_ADMIN for a budget above 64 or more time than net.core.busy_read: leave --busy-poll out, or lower it"
    )]
    BusyPoll {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// Microseconds asked for.
        usecs: u32,
        /// Budget asked for.
        budget: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// A step failed that should not on a healthy machine.
    #[error("cannot {step}; check the limits of open files and memory")]
    System {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The queue that something was done to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) interface: &'a str,
    pub(super) queue: u32,
    /// Bytes of its UMEM.
    pub(super) bytes: u64,
}

impl Shape {
    /// Bytes of a queue's UMEM.
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.frames) * u64::from(self.frame_len)
    }
}

/// What xsk-rs finds wrong with what was checked before.
pub(super) fn invalid(error: impl Display) -> XdpError {
    XdpError::System {
        step: "describe the UMEM or the socket",
        source: io::Error::new(io::ErrorKind::InvalidInput, error.to_string()),
    }
}

/// What an error of mapping the UMEM, or of registering it, means.
pub(super) fn of_umem(error: &UmemCreateError, shape: Shape, huge_pages: bool) -> XdpError {
    of_umem_errno(errno_of(error), shape, huge_pages)
}

fn of_umem_errno(source: io::Error, shape: Shape, huge_pages: bool) -> XdpError {
    let kib = shape.bytes() / 1024;
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => XdpError::Permission {
            step: "make an AF_XDP socket",
            source,
        },
        Some(libc::EAFNOSUPPORT | libc::ESOCKTNOSUPPORT | libc::EPROTONOSUPPORT) => {
            XdpError::NoXdpSockets { source }
        }
        Some(libc::ENOMEM) if huge_pages => XdpError::HugePages {
            kib,
            pages: shape.bytes() / u64::from(super::umem::HUGE_PAGE),
            source,
        },
        Some(libc::ENOBUFS) => XdpError::LockedMemory { kib, source },
        Some(libc::ENOMEM) => XdpError::Memory { kib, source },
        _ => XdpError::System {
            step: "register the UMEM",
            source,
        },
    }
}

/// What binding in zero-copy mode can fail of before the driver is asked
/// (`xp_assign_dev` of net/xdp/xsk_buff_pool.c). Any other number is the
/// driver's: virtio_net says ENOENT where it has big packets without mergeable
/// buffers, EPERM where the card does not do its own DMA, and EINVAL for a
/// queue that XDP has not got a transmit queue for; i40e, ice and mlx5 say
/// EINVAL or EOPNOTSUPP for sizes and MTUs. Asked for `auto`, the kernel copies
/// instead.
const OF_THE_KERNEL: [i32; 6] = [
    libc::EBUSY,
    libc::ENETDOWN,
    libc::ENODEV,
    libc::ENXIO,
    libc::ENOBUFS,
    libc::ENOMEM,
];

/// Who has a queue, as far as the program on the interface tells. The sockets
/// themselves are listed by few kernels (`CONFIG_XDP_SOCKETS_DIAG`).
fn whose(interface: &str, occupant: Option<&Occupant>) -> String {
    match occupant {
        // Another queue would not help: one program has the whole interface.
        Some(occupant) => occupant.to_string(),
        None => format!(
            "'sudo ss --xdp -p' or 'wirepath doctor {interface}' shows whose: end that process, or take another queue with --queues"
        ),
    }
}

/// What an error of binding a socket to a queue means.
pub(super) fn of_bind(source: io::Error, place: &Place<'_>, mode: BindMode) -> XdpError {
    let (interface, queue) = (place.interface.to_owned(), place.queue);
    let kib = place.bytes / 1024;
    match source.raw_os_error() {
        Some(errno) if mode == BindMode::ZeroCopy && !OF_THE_KERNEL.contains(&errno) => {
            XdpError::NoZeroCopy {
                interface,
                queue,
                source,
            }
        }
        Some(libc::EPERM | libc::EACCES) => XdpError::Permission {
            step: "bind an AF_XDP socket",
            source,
        },
        Some(libc::EBUSY) => XdpError::Busy {
            interface,
            queue,
            occupant: None,
            source,
        },
        Some(libc::EOPNOTSUPP) => XdpError::Unsupported {
            interface,
            queue,
            source,
        },
        Some(libc::EINVAL) => XdpError::Invalid {
            interface,
            queue,
            source,
        },
        Some(libc::ENETDOWN) => XdpError::Down { interface, source },
        Some(libc::ENODEV | libc::ENXIO) => XdpError::Gone { interface, source },
        Some(libc::ENOBUFS) => XdpError::LockedMemory { kib, source },
        Some(libc::ENOMEM) => XdpError::Memory { kib, source },
        _ => XdpError::System {
            step: "bind an AF_XDP socket",
            source,
        },
    }
}

/// What an error of turning on busy polling means.
pub(super) fn of_busy_poll(source: io::Error, place: &Place<'_>, poll: BusyPoll) -> XdpError {
    XdpError::BusyPoll {
        interface: place.interface.to_owned(),
        queue: place.queue,
        usecs: poll.usecs,
        budget: poll.budget,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::super::filter::{Holder, Mode};
    use super::*;

    const PLACE: Place<'_> = Place {
        interface: "eth0",
        queue: 3,
        bytes: 8 << 20,
    };

    fn errno(number: i32) -> io::Error {
        io::Error::from_raw_os_error(number)
    }

    #[test]
    fn each_refusal_of_a_queue_says_what_to_do() {
        let table = [
            (libc::EPERM, BindMode::Auto, "CAP_NET_RAW"),
            (libc::EACCES, BindMode::Auto, "AmbientCapabilities"),
            (libc::EBUSY, BindMode::Auto, "ss --xdp -p"),
            (libc::EOPNOTSUPP, BindMode::ZeroCopy, "--bind copy"),
            (libc::EINVAL, BindMode::ZeroCopy, "driver wants"),
            (libc::ENOENT, BindMode::ZeroCopy, "--bind copy"),
            (libc::EPERM, BindMode::ZeroCopy, "zero-copy mode"),
            (libc::EBUSY, BindMode::ZeroCopy, "ss --xdp -p"),
            (libc::ENETDOWN, BindMode::ZeroCopy, "ip link set eth0 up"),
            (libc::EOPNOTSUPP, BindMode::Copy, "not even by copying"),
            (libc::EOPNOTSUPP, BindMode::Auto, "wirepath doctor eth0"),
            (libc::EINVAL, BindMode::Auto, "ethtool -L eth0 combined"),
            (libc::ENETDOWN, BindMode::Auto, "ip link set eth0 up"),
            (libc::ENODEV, BindMode::Auto, "ip -br link"),
            (libc::ENXIO, BindMode::Auto, "ip -br link"),
            (libc::ENOBUFS, BindMode::Auto, "ulimit -l unlimited"),
            (libc::ENOMEM, BindMode::Auto, "8192 KiB"),
            (libc::EIO, BindMode::Auto, "limits of open files"),
        ];
        for (number, mode, mend) in table {
            let error = of_bind(errno(number), &PLACE, mode);
            let text = error.to_string();
            assert!(text.contains(mend), "{number}: {text}");
            let cause = std::error::Error::source(&error).expect("what the kernel said");
            assert_eq!(cause.to_string(), errno(number).to_string());
        }
    }

    #[test]
    fn a_queue_that_is_taken_names_the_program_beside_it() {
        let occupant = Occupant {
            interface: "eth0".to_owned(),
            id: 7,
            name: Some("fw".to_owned()),
            mode: Mode::Driver,
            holder: Holder::Link {
                id: 9,
                processes: vec![(42, "fwd".to_owned())],
            },
        };
        let text = whose("eth0", Some(&occupant));
        assert!(text.contains("process 42 (fwd)"), "{text}");
    }

    #[test]
    fn each_refusal_of_a_umem_says_what_to_do() {
        let shape = Shape {
            frames: 4096,
            frame_len: 2048,
            ring_len_frames: 2048,
        };
        let table = [
            (libc::EPERM, false, "CAP_NET_RAW"),
            (libc::EAFNOSUPPORT, false, "CONFIG_XDP_SOCKETS"),
            (libc::ENOMEM, true, "sysctl vm.nr_hugepages=4"),
            (libc::ENOMEM, false, "memory.max"),
            (libc::ENOBUFS, false, "LimitMEMLOCK"),
            (libc::EIO, false, "register the UMEM"),
        ];
        for (number, huge_pages, mend) in table {
            let text = of_umem_errno(errno(number), shape, huge_pages).to_string();
            assert!(text.contains(mend), "{number}: {text}");
        }
    }

    #[test]
    fn busy_polling_that_is_refused_names_its_limits() {
        let poll = BusyPoll {
            usecs: 20,
            budget: 256,
        };
        let text = of_busy_poll(errno(libc::EPERM), &PLACE, poll).to_string();
        assert!(text.contains("budget above 64"), "{text}");
        assert!(text.contains("20 µs, budget 256"), "{text}");
    }
}
