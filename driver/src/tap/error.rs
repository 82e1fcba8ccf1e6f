//! Why a TAP could not be opened, in words that say what to do.

use std::fmt;
use std::io;

use crate::frame::PoolError;

/// Why a TAP could not be opened. The text says what failed, why, and what to
/// do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TapError {
    /// The name cannot be one of a network device.
    #[error("'{name}' cannot name a TAP: {fault}; use up to 15 letters and digits, such as wp0")]
    Name {
        /// The name asked for, with what cannot be printed escaped.
        name: String,
        /// What is wrong with it.
        fault: NameFault,
    },
    /// The kernel has no TUN/TAP driver, or its device node is missing.
    #[error(
        "cannot open TAP {name}: /dev/net/tun is missing; load the driver with 'sudo modprobe tun', or in a container pass the device through (--device /dev/net/tun)"
    )]
    NoDriver {
        /// The name asked for.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// This process may not make or use the device.
    #[error(
        "cannot open TAP {name}: not permitted; give it to yourself with 'sudo ip tuntap add dev {name} mode tap user $USER', or run as root or with CAP_NET_ADMIN (and /dev/net/tun must be readable and writable)"
    )]
    Permission {
        /// The name asked for.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another process holds the device.
    #[error(
        "cannot open TAP {name}: another process holds it; end that process (ip -d link show {name} says more), or take another name"
    )]
    Busy {
        /// The name asked for.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The name is that of another kind of device.
    #[error(
        "cannot open TAP {name}: a device of that name exists and is not a TAP with a single queue; take another name, or make it anew with 'sudo ip link delete {name}' and 'sudo ip tuntap add dev {name} mode tap user $USER'"
    )]
    NotATap {
        /// The name asked for.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The device is not one for several queues.
    #[error(
        "cannot open several queues of TAP {name}: a device of that name exists and is not a TAP with several queues; take another name, or make it anew with 'sudo ip link delete {name}' and 'sudo ip tuntap add dev {name} mode tap multi_queue user $USER'"
    )]
    NotMultiQueue {
        /// The name asked for.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// More queues than a TAP can have.
    #[error(
        "cannot open {queues} queues of TAP {name}: it has no more; a TAP has 256 at most, over all processes"
    )]
    Queues {
        /// The name asked for.
        name: String,
        /// Queues asked for.
        queues: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The MTU asked for was refused.
    #[error(
        "cannot set the MTU of TAP {name} to {mtu}; as root, 'ip link set {name} mtu {mtu}' does it, from 68 to 65521 bytes"
    )]
    Mtu {
        /// The device.
        name: String,
        /// The MTU asked for, in bytes.
        mtu: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// A step failed that should not on a healthy machine.
    #[error("cannot {step} TAP {name}; check the limits of open files and memory")]
    System {
        /// The device.
        name: String,
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The frame pool could not be made.
    #[error(transparent)]
    Pool(#[from] PoolError),
}

/// What is wrong with a device name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameFault {
    /// No name.
    Empty,
    /// Longer than 15 bytes (IFNAMSIZ less the terminator).
    TooLong,
    /// A byte that the kernel, or a shell, cannot have in a name.
    Character(char),
    /// A `%` other than one `%d`.
    Pattern,
    /// `.` or `..`, which would be folders in sysfs.
    Dots,
}

impl fmt::Display for NameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameFault::Empty => f.write_str("it is empty"),
            NameFault::TooLong => f.write_str("it is longer than 15 bytes"),
            NameFault::Character(c) => write!(f, "it contains {c:?}"),
            NameFault::Pattern => f.write_str("a % can only be part of one %d"),
            NameFault::Dots => f.write_str("it is a folder's name"),
        }
    }
}
