//! What became of each frame that the filter saw, counted by the program and
//! read without a privilege.
//!
//! The counters are one value of an array map that the program reaches by its
//! address and this process through a read-only mapping: after the mapping was
//! made, reading costs no call and no capability. Each CPU has a row of its
//! own, and the kernel runs at most one XDP program on a CPU at a time (NAPI
//! polls with softirqs off), so counting needs no atomic instruction.
//!
//! Rejected: a per-CPU map, which only bpf(2) can read, so that statistics
//! would need CAP_BPF for the life of the process; one row with atomic
//! additions, which makes every queue's CPU fight for the same cache line.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::sys::{self, Action};

/// Every frame that the filter saw ends in one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Fate {
    /// To our socket: ARP from or for an address of ours.
    RedirectArp,
    /// To our socket: a neighbour solicitation or advertisement whose target is
    /// an address of ours.
    RedirectNdp,
    /// To our socket: ICMP or ICMPv6 for an address of ours.
    RedirectIcmp,
    /// To our socket: TCP.
    RedirectTcp,
    /// To our socket: UDP.
    RedirectUdp,
    /// Dropped: a fragment for an address of ours that is not the first, so
    /// that nobody could say which port it is for.
    DropFragment,
    /// To the kernel: it was ours, but its queue has no socket.
    PassNoSocket,
    /// To the kernel: it ends before what the rule must read.
    PassShort,
    /// To the kernel: it has a VLAN tag.
    PassVlan,
    /// To the kernel: not IP, and not ARP that is looked into.
    PassEthertype,
    /// To the kernel: an IP version or header length that cannot be.
    PassVersion,
    /// To the kernel: for another address.
    PassAddress,
    /// To the kernel: a protocol that is not ours.
    PassProtocol,
    /// To the kernel: a port that is not ours.
    PassPort,
    /// To the kernel: a fragment, where the address is shared.
    PassFragment,
    /// To the kernel: IPv6 extension headers that cannot be walked to the end.
    PassHeaders,
}

impl Fate {
    /// All of them, in the order of their values.
    pub const ALL: [Fate; 16] = [
        Fate::RedirectArp,
        Fate::RedirectNdp,
        Fate::RedirectIcmp,
        Fate::RedirectTcp,
        Fate::RedirectUdp,
        Fate::DropFragment,
        Fate::PassNoSocket,
        Fate::PassShort,
        Fate::PassVlan,
        Fate::PassEthertype,
        Fate::PassVersion,
        Fate::PassAddress,
        Fate::PassProtocol,
        Fate::PassPort,
        Fate::PassFragment,
        Fate::PassHeaders,
    ];

    /// Its name in statistics.
    pub fn name(self) -> &'static str {
        match self {
            Fate::RedirectArp => "redirect_arp",
            Fate::RedirectNdp => "redirect_ndp",
            Fate::RedirectIcmp => "redirect_icmp",
            Fate::RedirectTcp => "redirect_tcp",
            Fate::RedirectUdp => "redirect_udp",
            Fate::DropFragment => "drop_fragment",
            Fate::PassNoSocket => "pass_no_socket",
            Fate::PassShort => "pass_short",
            Fate::PassVlan => "pass_vlan",
            Fate::PassEthertype => "pass_ethertype",
            Fate::PassVersion => "pass_version",
            Fate::PassAddress => "pass_address",
            Fate::PassProtocol => "pass_protocol",
            Fate::PassPort => "pass_port",
            Fate::PassFragment => "pass_fragment",
            Fate::PassHeaders => "pass_headers",
        }
    }

    /// What the program returns for it.
    pub fn action(self) -> Action {
        match self {
            fate if fate <= Fate::RedirectUdp => Action::Redirect,
            Fate::DropFragment => Action::Drop,
            _ => Action::Pass,
        }
    }
}

const FATES: usize = Fate::ALL.len();

/// Bytes of a CPU's row: two cache lines, so that no two CPUs share one.
pub(super) const ROW: usize = FATES * size_of::<u64>();
const _: () = assert!(
    ROW == 128,
    "rows are found by a shift, and fill cache lines"
);

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts([u64; FATES]);

impl Verdicts {
    /// Frames that ended so.
    pub fn of(&self, fate: Fate) -> u64 {
        self.0[fate as usize]
    }

    /// Calls `f` with the name and value of every counter, in a fixed order.
    pub fn each(&self, mut f: impl FnMut(&'static str, u64)) {
        for fate in Fate::ALL {
            f(fate.name(), self.of(fate));
        }
    }

    /// Frames that the program saw.
    pub fn frames(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Frames that the program handed to our sockets. Each was either put into
    /// an RX ring or is counted as dropped by its socket (`XDP_STATISTICS`).
    pub fn redirected(&self) -> u64 {
        self.with(Action::Redirect)
    }

    /// Frames that the kernel got.
    pub fn passed(&self) -> u64 {
        self.with(Action::Pass)
    }

    /// Frames that went nowhere.
    pub fn dropped(&self) -> u64 {
        self.with(Action::Drop)
    }

    fn with(&self, action: Action) -> u64 {
        let fates = Fate::ALL.into_iter().filter(|fate| fate.action() == action);
        fates.map(|fate| self.of(fate)).sum()
    }
}

/// The counters of one loaded filter. Clones read the same ones, from any
/// thread, also after the filter is gone.
#[derive(Clone, Debug)]
pub struct Counters(Arc<Mapping>);

#[derive(Debug)]
struct Mapping {
    map: OwnedFd,
    /// `cpus` rows of [`ROW`] bytes, readable until drop.
    rows: NonNull<AtomicU64>,
    cpus: u32,
}

// SAFETY: `rows` is memory that this process only reads, through atomics, and
// that stays mapped until the one owner drops it.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Counters {
    /// A map with a row for each CPU that the machine can have, mapped here.
    pub(super) fn create() -> io::Result<Counters> {
        let cpus = possible_cpus()?;
        let len = cpus as usize * ROW;
        let value_size = u32::try_from(len).map_err(io::Error::other)?;
        let map = sys::map_create(
            sys::MAP_TYPE_ARRAY,
            value_size,
            1,
            sys::MAP_MMAPABLE,
            "wp_verdicts",
        )?;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let memory = unsafe {
            mmap(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ,
                MapFlags::SHARED,
                &map,
                0,
            )?
        };
        let rows = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Counters(Arc::new(Mapping { map, rows, cpus })))
    }

    /// The map, for the program.
    pub(super) fn map(&self) -> BorrowedFd<'_> {
        self.0.map.as_fd()
    }

    /// How many rows it has.
    pub(super) fn cpus(&self) -> u32 {
        self.0.cpus
    }

    /// The sums over all CPUs. Counters that change meanwhile are taken one by
    /// one, so two of them may be a few frames apart.
    pub fn read(&self) -> Verdicts {
        let mut sums = [0; FATES];
        for row in self.0.rows().chunks_exact(FATES) {
            for (sum, cell) in sums.iter_mut().zip(row) {
                *sum += cell.load(Ordering::Relaxed);
            }
        }
        Verdicts(sums)
    }
}

impl Mapping {
    fn rows(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is that long, page-aligned, and lives as long as
        // self; others change it, which atomics allow.
        unsafe { std::slice::from_raw_parts(self.rows.as_ptr(), self.cpus as usize * FATES) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by Counters::create with this length, and no reference
        // into it outlives self.
        let result = unsafe { munmap(self.rows.as_ptr().cast(), self.cpus as usize * ROW) };
        debug_assert!(result.is_ok(), "the mapping is whole");
    }
}

/// One more than the highest number of a CPU (sysfs-devices-system-cpu).
fn possible_cpus() -> io::Result<u32> {
    let list = fs::read_to_string("/sys/devices/system/cpu/possible")?;
    count_cpus(&list).ok_or_else(|| io::Error::other(format!("'{list}' is no list of CPUs")))
}

/// The end of a list such as `0-3,8-11`, plus one.
fn count_cpus(list: &str) -> Option<u32> {
    let last = list.trim().rsplit([',', '-']).next()?;
    last.parse::<u32>().ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_cpus_gives_their_number() {
        let table = [
            ("0\n", Some(1)),
            ("0-1\n", Some(2)),
            ("0-3,8-11\n", Some(12)),
            ("0,5", Some(6)),
            ("", None),
            ("x", None),
        ];
        for (list, want) in table {
            assert_eq!(count_cpus(list), want, "{list:?}");
        }
    }

    #[test]
    fn each_fate_stands_at_its_own_place_and_has_its_own_name() {
        let mut names = Vec::new();
        for (place, fate) in Fate::ALL.into_iter().enumerate() {
            assert_eq!(fate as usize, place);
            names.push(fate.name());
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FATES);
    }

    #[test]
    fn sums_go_by_what_the_program_returned() {
        let mut verdicts = Verdicts::default();
        for (place, counter) in verdicts.0.iter_mut().enumerate() {
            *counter = 1 << place;
        }
        assert_eq!(verdicts.redirected(), 0b1_1111);
        assert_eq!(verdicts.dropped(), 0b10_0000);
        assert_eq!(verdicts.passed(), 0xffc0);
        assert_eq!(verdicts.frames(), 0xffff);
    }
}
