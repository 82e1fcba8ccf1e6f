//! Why the filter could not be made or attached, in words that say what to do.

use std::fmt;
use std::io;

use super::link::Mode;
use super::rules::RulesFault;

/// Why the filter could not be made or attached. The text says what failed,
/// why, and what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// The rules cannot be meant.
    #[error(transparent)]
    Rules(#[from] RulesFault),
    /// This process may not use BPF.
    #[error(
        "cannot {step}: not permitted; run as root, or give the program its capabilities with 'sudo setcap cap_bpf,cap_net_admin,cap_net_raw+ep FILE' (before Linux 5.8: cap_sys_admin; before Linux 5.11 the limit of locked memory counts too: 'ulimit -l unlimited'); a container needs them from its runtime (--cap-add BPF --cap-add NET_ADMIN --cap-add NET_RAW)"
    )]
    Permission {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is no memory for it, or none that may be locked.
    #[error(
        "cannot {step}: no memory for it; before Linux 5.11 the limit of locked memory is the usual reason ('ulimit -l unlimited', or LimitMEMLOCK=infinity in the unit), after that the memory limit of the cgroup (memory.max)"
    )]
    Memory {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel has no such thing.
    #[error(
        "cannot {step}: this kernel cannot; Wirepath needs Linux 5.9 or newer with CONFIG_BPF_SYSCALL and CONFIG_XDP_SOCKETS ('uname -r', 'zgrep -E \"BPF_SYSCALL|XDP_SOCKETS\" /proc/config.gz')"
    )]
    Kernel {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The verifier did not accept the program.
    #[error(
        "the kernel's verifier refused the filter program; please report it with the output of 'uname -r' and this end of its log:\n{log}"
    )]
    Verifier {
        /// The last lines of what the verifier wrote.
        log: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A queue's number is not one that the filter was made for.
    #[error("queue {queue} is beyond the {queues} that the filter was made for")]
    NoQueue {
        /// The queue asked for.
        queue: u32,
        /// How many the filter has.
        queues: u32,
    },
    /// There is no such interface.
    #[error(
        "no interface {interface} in this network namespace; 'ip -br link' lists those that are"
    )]
    NoInterface {
        /// Its name, or else its number.
        interface: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another program is on the interface.
    #[error("{0}")]
    Busy(Box<Occupant>),
    /// The interface, or its driver, does not take a program in this mode.
    #[error(
        "{interface} takes no XDP program in {mode} mode: {reason}{hint}",
        hint = hint(*mode, reason)
    )]
    Refused {
        /// The interface.
        interface: String,
        /// The mode asked for.
        mode: Mode,
        /// What the kernel, or its driver, says of it.
        reason: String,
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

impl FilterError {
    /// What an error of bpf(2) while making maps and programs means.
    pub(super) fn of(step: &'static str, source: io::Error) -> FilterError {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => FilterError::Permission { step, source },
            Some(libc::ENOMEM) => FilterError::Memory { step, source },
            Some(libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP) => {
                FilterError::Kernel { step, source }
            }
            _ => FilterError::System { step, source },
        }
    }
}

/// The program that is on an interface already, as far as the kernel tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occupant {
    /// The interface.
    pub interface: String,
    /// The program's number (`bpftool prog show id`).
    pub id: u32,
    /// Its name, where it has one and we may ask.
    pub name: Option<String>,
    /// Where it runs.
    pub mode: Mode,
    /// What keeps it there.
    pub holder: Holder,
}

/// What keeps a program on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A link, and with it the processes that have it open, or a pin.
    Link {
        /// The link's number (`bpftool link show id`).
        id: u32,
        /// Processes that have it open: number and name.
        processes: Vec<(u32, String)>,
    },
    /// Nobody: it was put there by netlink and stays until somebody takes it
    /// away.
    Netlink,
    /// The kernel does not tell us.
    Unknown,
}

impl fmt::Display for Occupant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Occupant {
            interface,
            id,
            mode,
            ..
        } = self;
        write!(f, "{interface} has an XDP program already: id {id}")?;
        if let Some(name) = &self.name {
            write!(f, ", name {name}")?;
        }
        write!(f, ", {mode} mode, {}", self.holder)?;
        write!(f, "; it is not replaced. {}", self.mend())
    }
}

impl Occupant {
    /// What to do about it.
    fn mend(&self) -> String {
        let Occupant { interface, id, .. } = self;
        let off = self.mode.off_word();
        match &self.holder {
            Holder::Link { processes, .. } if !processes.is_empty() => {
                "End that process, or serve on another interface".to_owned()
            }
            Holder::Link { id: link, .. } => format!(
                "Find who pinned it with 'sudo bpftool link show id {link}' and remove the pin, or take it off with 'sudo bpftool link detach id {link}'"
            ),
            _ if self.is_dispatcher() => format!(
                "It is the dispatcher of libxdp, which outlives the process that loaded it because it is pinned under /sys/fs/bpf/xdp; 'sudo xdp-loader status {interface}' shows what it carries, and 'sudo xdp-loader unload {interface} --all' takes it off"
            ),
            _ => format!(
                "See what it is with 'sudo bpftool prog show id {id}'; if nobody needs it, take it off with 'sudo ip link set dev {interface} {off} off'"
            ),
        }
    }

    /// Whether libxdp made it: its dispatcher has this name.
    fn is_dispatcher(&self) -> bool {
        self.name.as_deref() == Some("xdp_dispatcher")
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Link { id, processes } => {
                write!(f, "held by link {id}")?;
                match processes.as_slice() {
                    [] => f.write_str(", which no process that we can see has open"),
                    [(pid, name), ..] => write!(f, " of process {pid} ({name})"),
                }
            }
            Holder::Netlink => f.write_str("put there by netlink, so that no process holds it"),
            Holder::Unknown => f.write_str("holder unknown"),
        }
    }
}

/// What helps against a refusal, by the words of the driver.
fn hint(mode: Mode, reason: &str) -> String {
    let text = reason.to_ascii_lowercase();
    let has = |word: &str| text.contains(word);
    let mend = if has("mtu") {
        "; lower it with 'sudo ip link set dev IFACE mtu 1500'"
    } else if has("lro") || has("gro_hw") || has("hw gro") {
        "; switch it off with 'sudo ethtool -K IFACE lro off rx-gro-hw off'"
    } else if has("guest") || has("tso") || has("csum") || has("offload") {
        "; switch the offload off with 'sudo ethtool -K IFACE lro off gro off tso off' (virtio-net: guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off on the hypervisor)"
    } else if has("queue") || has("channel") || has("ring") {
        "; free queues for XDP with 'sudo ethtool -L IFACE combined N' (half of what there is, or fewer; see 'ethtool -l IFACE')"
    } else {
        ""
    };
    match mode {
        Mode::Driver => {
            format!("{mend}; or take generic mode, which every interface has (--attach generic)")
        }
        Mode::Generic => mend.to_owned(),
    }
}
