//! The XDP program that takes from a NIC's queues what is ours and leaves the
//! rest to the kernel.
//!
//! [`Filter::load`] writes the program for one set of [`Rules`] and hands it to
//! the kernel with bpf(2); [`Filter::attach`] puts it on an interface;
//! [`Filter::set_socket`] says which AF_XDP socket takes a queue's frames. The
//! device above calls these in this order, and drops the filter last.
//!
//! # The rule
//!
//! The first line that fits decides. «Ours» is an address of [`Rules::addrs`];
//! «our port» is any port where there is no list. *own* is
//! [`Deployment::Own`], *shared* [`Deployment::Shared`].
//!
//! | The frame | own | shared | counted as |
//! |---|---|---|---|
//! | has an 802.1Q or 802.1ad tag | kernel | kernel | `pass_vlan` |
//! | ARP whose sender or target is ours | **us** | kernel | `redirect_arp`, `pass_address` |
//! | other ARP for IPv4 on Ethernet | kernel | kernel | `pass_address` |
//! | other ARP, or neither IPv4 nor IPv6 | kernel | kernel | `pass_ethertype` |
//! | of a family in which we have no address | kernel | kernel | `pass_address` |
//! | wrong version, or IPv4 header under 20 bytes | kernel | kernel | `pass_version` |
//! | neighbour solicitation or advertisement, target ours | **us** | kernel | `redirect_ndp` |
//! | destination not ours | kernel | kernel | `pass_address` |
//! | a fragment other than the first | dropped | kernel | `drop_fragment`, `pass_fragment` |
//! | a first fragment | as if whole | kernel | `pass_fragment` |
//! | over 6 IPv6 extension headers, or a route not at its end | kernel | kernel | `pass_headers` |
//! | ICMP, or ICMPv6 over IPv6 | **us** | kernel | `redirect_icmp`, `pass_protocol` |
//! | TCP or UDP to our port | **us** | **us** | `redirect_tcp`, `redirect_udp` |
//! | TCP or UDP to another port | kernel | kernel | `pass_port` |
//! | another protocol, IPsec among them | kernel | kernel | `pass_protocol` |
//!
//! A frame that ends before what its line must read is the kernel's, as
//! `pass_short`. What is ours on a queue without a socket goes to the kernel as
//! `pass_no_socket`. So every frame is counted once, and the counters say what
//! became of it.
//!
//! * A later fragment names no port. With an address of our own nobody else
//!   could want it, and our stack puts no fragments together, so it is dropped
//!   where that is cheapest; a shared address's fragments are the kernel's, all
//!   of them, so that it can put together those of its own ports.
//! * Lengths within the headers are not compared with the frame's, and no
//!   checksum is looked at: the stack does that, and counts it.
//! * A NIC that takes VLAN tags off (`ethtool -k`: rx-vlan-offload) does so
//!   before the program runs, which then sees an untagged frame. On an interface
//!   that carries tagged traffic for our addresses it must be switched off.
//!
//! # Capabilities
//!
//! CAP_BPF and CAP_NET_ADMIN for maps and programs; and CAP_PERFMON, without
//! which the verifier guards against speculation by refusing pointers that move
//! by what a frame says, such as the length of its IP header. All of it is for
//! loading and attaching; counting, reading the counters and taking the program
//! off need nothing.
//!
//! # Rejected
//!
//! * Reading behind a variable header by `bpf_xdp_load_bytes`, which would do
//!   without CAP_PERFMON: it came with Linux 5.18, and several kernels that are
//!   in service for years to come are older.
//! * libxdp's own program for AF_XDP takes every frame of the queue, SSH
//!   included.
//! * A program in C: the build, or the machine, would need clang and an ELF
//!   loader for two hundred instructions. The price is that the verifier's log
//!   speaks of instructions, so an error quotes its end.
//! * Rules in maps, to change them at run time: nothing changes them, and what
//!   is constant in the program cannot be changed under the server by anybody.
//! * Copies of a frame for both us and the kernel (router advertisements, ARP
//!   that everybody could learn from): XDP gives a frame to one.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

mod asm;
mod error;
mod link;
mod program;
mod rules;
mod sys;
mod verdicts;

#[cfg(test)]
pub(super) mod tests;

pub use error::{FilterError, Holder, Occupant};
pub(super) use link::occupant;
pub use link::{AttachMode, Attached, Mode};
pub use rules::{ADDRS_MAX, Deployment, PORTS_MAX, Rules, RulesFault};
pub use verdicts::{Counters, Fate, Verdicts};

/// The program's name, as `bpftool prog` and `ip -d link` show it.
const NAME: &str = "wirepath_filter";

/// Bytes of the verifier's log that are kept for an error.
const LOG_BYTES: usize = 1 << 20;

/// What the verifier says to one without CAP_PERFMON of pointers that move by
/// what is in the frame or by the number of the CPU.
const FOR_THE_TRUSTED: [&str; 2] = ["prohibited for !root", "unsupported alu operation"];

/// How often a load is tried that signals interrupt.
const LOADS_MAX: u32 = 32;

/// Lines of that log that the error quotes.
const LOG_LINES: usize = 12;

/// The filter program with its maps, loaded; on an interface from
/// [`Filter::attach`] on. Dropping it takes the program off.
#[derive(Debug)]
pub struct Filter {
    /// Dropped first: no frame is redirected any more when the maps go.
    link: Option<link::Link>,
    prog: OwnedFd,
    sockets: OwnedFd,
    queues: u32,
    counters: Counters,
}

impl Filter {
    /// Makes the maps and loads the program of `rules`. `queues` is one more
    /// than the highest queue that [`Filter::set_socket`] will name.
    ///
    /// # Errors
    /// See [`FilterError`].
    pub fn load(rules: &Rules, queues: u32) -> Result<Filter, FilterError> {
        rules.check()?;
        if queues == 0 {
            return Err(FilterError::NoQueue { queue: 0, queues });
        }
        let counters =
            Counters::create().map_err(|e| FilterError::of("make the map of verdicts", e))?;
        let sockets = sys::map_create(sys::MAP_TYPE_XSKMAP, 4, queues, 0, "wp_sockets")
            .map_err(|e| FilterError::of("make the map of sockets", e))?;
        let maps = program::Maps {
            sockets: sockets.as_fd(),
            counters: counters.map(),
            cpus: counters.cpus(),
        };
        let insns = program::emit(rules, maps)
            .map_err(|e| FilterError::of("write the filter program", io::Error::other(e)))?;
        let prog = load(&insns)?;
        Ok(Filter {
            link: None,
            prog,
            sockets,
            queues,
            counters,
        })
    }

    /// From now on, what is ours on `queue` goes to `socket`, which is bound to
    /// that queue. The socket's end empties the slot; frames then pass.
    ///
    /// # Errors
    /// If there is no such queue, or the kernel does not take the socket.
    pub fn set_socket(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), FilterError> {
        self.check_queue(queue)?;
        sys::map_update(self.sockets.as_fd(), queue, socket.as_raw_fd() as u32)
            .map_err(|e| FilterError::of("give the filter a socket", e))
    }

    /// From now on, what is ours on `queue` passes to the kernel.
    ///
    /// # Errors
    /// If there is no such queue. A slot that is empty already is no error.
    pub fn clear_socket(&self, queue: u32) -> Result<(), FilterError> {
        self.check_queue(queue)?;
        match sys::map_delete(self.sockets.as_fd(), queue) {
            Err(e) if e.raw_os_error() != Some(libc::ENOENT) => {
                Err(FilterError::of("take a socket from the filter", e))
            }
            _ => Ok(()),
        }
    }

    fn check_queue(&self, queue: u32) -> Result<(), FilterError> {
        if queue < self.queues {
            return Ok(());
        }
        Err(FilterError::NoQueue {
            queue,
            queues: self.queues,
        })
    }

    /// Puts the program on the interface with this number. It stays until the
    /// filter is dropped or the process ends. What was on another interface
    /// comes off.
    ///
    /// # Errors
    /// See [`FilterError`]; nothing on the interface was changed then.
    pub fn attach(&mut self, ifindex: u32, mode: AttachMode) -> Result<Attached, FilterError> {
        self.detach();
        let (link, attached) = link::attach(self.prog.as_fd(), ifindex, mode)?;
        self.link = Some(link);
        Ok(attached)
    }

    /// Takes the program off its interface.
    pub fn detach(&mut self) {
        self.link = None;
    }

    /// The counters now.
    pub fn verdicts(&self) -> Verdicts {
        self.counters.read()
    }

    /// A handle to the counters that outlives the filter and needs no
    /// privilege.
    pub fn counters(&self) -> Counters {
        self.counters.clone()
    }
}

/// Loads the program; asks for the verifier's log only when it said no, since
/// writing it takes longer than verifying.
fn load(insns: &[asm::Insn]) -> Result<OwnedFd, FilterError> {
    let step = "load the filter program";
    let first = match uninterrupted(|| sys::prog_load(insns, NAME, None)) {
        Ok(prog) => return Ok(prog),
        Err(error) => error,
    };
    let mut log = vec![0; LOG_BYTES];
    let source = match uninterrupted(|| sys::prog_load(insns, NAME, Some(&mut log))) {
        Ok(prog) => return Ok(prog),
        Err(error) => error,
    };
    let refused = matches!(source.raw_os_error(), Some(libc::EINVAL | libc::EACCES));
    let log = last_lines(&log);
    if FOR_THE_TRUSTED.iter().any(|words| log.contains(words)) {
        return Err(FilterError::Permission { step, source });
    }
    if log.is_empty() || !refused {
        return Err(FilterError::of(step, first));
    }
    Err(FilterError::Verifier { log, source })
}

/// The verifier gives up with `EAGAIN` when a signal comes for the thread.
fn uninterrupted<T>(mut load: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..LOADS_MAX {
        match load() {
            Err(e) if e.raw_os_error() == Some(libc::EAGAIN) => {}
            result => return result,
        }
    }
    load()
}

/// The end of what the verifier wrote, which says why it refused.
fn last_lines(log: &[u8]) -> String {
    let len = log.iter().position(|b| *b == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..len]);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}
