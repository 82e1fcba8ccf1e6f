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
        "cannot {step}: not permitted; run as root, or give the program its capabilities with 'sudo setcap cap_bpf,cap_perfmon,cap_net_admin,cap_net_raw+ep FILE' (before Linux 5.8: cap_sys_admin; before Linux 5.11 the limit of locked memory counts too: 'ulimit -l unlimited'); a container needs them from its runtime (--cap-add BPF --cap-add PERFMON --cap-add NET_ADMIN --cap-add NET_RAW)"
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
        "the kernel's verifier refused the filter program, which it does without CAP_PERFMON (it guards pointers against speculation for those who lack it): run as root or add that to the capabilities; else please report it with the output of 'uname -r' and this end of its log:\n{log}"
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
        hint = hint(interface, *mode, reason)
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
            Some(libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP | libc::E2BIG) => {
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
    /// Its name, where it has one and we may ask (CAP_SYS_ADMIN).
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
    /// The kernel tells only those who have CAP_SYS_ADMIN.
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
            _ if self.is_dispatcher() => format!(
                "It is the dispatcher of libxdp, which stays when the process that loaded it ends, because it is pinned under /sys/fs/bpf/xdp; 'sudo xdp-loader status {interface}' shows what it carries, and 'sudo xdp-loader unload {interface} --all' takes it off"
            ),
            Holder::Link { processes, .. } if !processes.is_empty() => {
                "End that process, or serve on another interface".to_owned()
            }
            Holder::Link { id: link, .. } => format!(
                "It may be pinned: 'sudo bpftool -f link show id {link}' says where; remove the pin, or take the program off with 'sudo bpftool link detach id {link}'"
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
            Holder::Unknown => f.write_str("holder unknown (root is told more)"),
        }
    }
}

/// What helps against a refusal, by the words of the driver.
fn hint(interface: &str, mode: Mode, reason: &str) -> String {
    let generic = match mode {
        Mode::Driver => "; or take generic mode, which every interface has (--attach generic)",
        Mode::Generic => "",
    };
    mend(interface, reason) + generic
}

/// What drivers complain of, and the command that ends it. The words are those
/// of veth, virtio_net, mlx5, i40e, ice, ixgbe, igb, bnxt and ena.
fn mend(interface: &str, reason: &str) -> String {
    let text = reason.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["mtu", "frags", "too large"]) {
        format!(
            "; lower the MTU with 'sudo ip link set dev {interface} mtu 1500' (of a veth, the peer's)"
        )
    } else if has(&["gro_hw", "csum"]) {
        format!(
            "; switch the host's offloads off with 'sudo ethtool -K {interface} rx-gro-hw off', or start the virtual machine with guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off on its virtio-net device"
        )
    } else if has(&["lro", "gro", "tso", "offload", "header-split", "hds"]) {
        format!(
            "; switch what merges frames off with 'sudo ethtool -K {interface} lro off rx-gro-hw off'"
        )
    } else if has(&["queue", "channel", "ring"]) {
        format!(
            "; a program needs queues of its own to send with: lower the number with 'sudo ethtool -L {interface} combined N' ('ethtool -l {interface}' shows what there is; of a veth, as many rx here as tx at the peer)"
        )
    } else {
        format!("; 'wirepath doctor {interface}' looks for the reason")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(mode: Mode, reason: &str) -> String {
        let source = io::Error::from_raw_os_error(libc::EOPNOTSUPP);
        let error = FilterError::Refused {
            interface: "eth0".into(),
            mode,
            reason: reason.into(),
            source,
        };
        error.to_string()
    }

    #[test]
    fn a_refusal_names_its_mend() {
        let table = [
            ("Peer MTU is too large to set XDP", "mtu 1500"),
            (
                "MTU too large for linear frames and XDP prog does not support frags",
                "mtu 1500",
            ),
            (
                "Can't set XDP while host is implementing GRO_HW/CSUM, disable GRO_HW/CSUM first",
                "guest_csum=off",
            ),
            ("XDP is not allowed with LRO", "lro off"),
            (
                "XDP expects number of rx queues not less than peer tx queues",
                "ethtool -L eth0",
            ),
            ("Too few free TX rings available", "ethtool -L eth0"),
            (
                "Operation not supported (os error 95)",
                "wirepath doctor eth0",
            ),
        ];
        for (reason, mend) in table {
            let text = refused(Mode::Driver, reason);
            assert!(
                text.starts_with("eth0 takes no XDP program in driver mode: "),
                "{text}"
            );
            assert!(text.contains(reason) && text.contains(mend), "{text}");
            assert!(text.ends_with("(--attach generic)"), "{text}");
            assert!(
                !refused(Mode::Generic, reason).contains("--attach"),
                "{reason}"
            );
        }
    }

    fn occupant(name: &str, holder: Holder) -> String {
        let occupant = Occupant {
            interface: "eth0".into(),
            id: 7,
            name: Some(name.into()),
            mode: Mode::Generic,
            holder,
        };
        FilterError::Busy(Box::new(occupant)).to_string()
    }

    #[test]
    fn an_occupant_is_named_with_what_can_be_done() {
        let link = |processes| Holder::Link { id: 9, processes };
        let table = [
            (
                "fw",
                Holder::Netlink,
                "sudo ip link set dev eth0 xdpgeneric off",
            ),
            ("fw", Holder::Unknown, "bpftool prog show id 7"),
            ("fw", link(vec![(42, "fwd".into())]), "process 42 (fwd)"),
            ("fw", link(vec![]), "sudo bpftool link detach id 9"),
            (
                "xdp_dispatcher",
                Holder::Netlink,
                "sudo xdp-loader unload eth0 --all",
            ),
            (
                "xdp_dispatcher",
                link(vec![]),
                "sudo xdp-loader unload eth0 --all",
            ),
        ];
        for (name, holder, want) in table {
            let text = occupant(name, holder);
            let start =
                format!("eth0 has an XDP program already: id 7, name {name}, generic mode, ");
            assert!(text.starts_with(&start), "{text}");
            assert!(
                text.contains("not replaced") && text.contains(want),
                "{text}"
            );
        }
    }

    #[test]
    fn numbers_of_bpf_become_what_they_mean() {
        let of = |errno| FilterError::of("x", io::Error::from_raw_os_error(errno));
        assert!(matches!(of(libc::EPERM), FilterError::Permission { .. }));
        assert!(matches!(of(libc::ENOMEM), FilterError::Memory { .. }));
        assert!(matches!(of(libc::ENOSYS), FilterError::Kernel { .. }));
        assert!(matches!(of(libc::E2BIG), FilterError::Kernel { .. }));
        assert!(matches!(of(libc::EMFILE), FilterError::System { .. }));
    }
}
