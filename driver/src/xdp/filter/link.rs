//! Putting the program on an interface by a link.
//!
//! A link of XDP (Linux 5.9) is a descriptor: the kernel takes the program off
//! when the last one is closed, which it does for a process that dies. It also
//! refuses to take the place of another program, and lets none take ours.
//!
//! A link goes a moment after its process: whoever looks at it, `bpftool` or a
//! child that has not called exec yet, keeps it alive meanwhile. So a program in
//! the way is given [`PATIENCE`] to go, and a link of ours is detached before it
//! is closed.
//!
//! Rejected: attaching by netlink, which leaves the program on the interface
//! when the process is killed, redirecting into a map without sockets; and
//! libxdp's dispatcher, which runs several programs in turn but keeps them by
//! pins under /sys/fs/bpf that survive the process too.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::error::{FilterError, Holder, Occupant};
use super::sys;
use crate::xdp::{interface, processes};

/// `XDP_FLAGS_SKB_MODE` and `XDP_FLAGS_DRV_MODE` of linux/if_link.h.
const FLAG_GENERIC: u32 = 1 << 1;
const FLAG_DRIVER: u32 = 1 << 2;

/// How long a program in the way may take to go, and how often to look. A server
/// that is started again after it was killed finds its own last link gone.
const PATIENCE: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A program's hold on an interface; dropping it takes the program off.
#[derive(Debug)]
pub(super) struct Link(OwnedFd);

impl Drop for Link {
    fn drop(&mut self) {
        // Fails only where the interface is gone, and the program with it.
        let _ = sys::link_detach(self.0.as_fd());
    }
}

/// Where the program is to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver if it can, else in the kernel's generic place.
    #[default]
    Auto,
    /// In the driver, before the kernel makes a socket buffer of the frame.
    Driver,
    /// In the kernel, after that: slower, but with every interface.
    Generic,
}

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver («native»).
    Driver,
    /// In the kernel's generic place («skb mode»).
    Generic,
}

impl Mode {
    /// `XDP_FLAGS_*` of linux/if_link.h.
    pub(super) fn flags(self) -> u32 {
        match self {
            Mode::Driver => FLAG_DRIVER,
            Mode::Generic => FLAG_GENERIC,
        }
    }

    /// The word of `ip link set dev IFACE WORD off` (ip-link(8)).
    pub(super) fn off_word(self) -> &'static str {
        match self {
            Mode::Driver => "xdp",
            Mode::Generic => "xdpgeneric",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Driver => "driver",
            Mode::Generic => "generic",
        })
    }
}

/// How the program was attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Where it runs.
    pub mode: Mode,
    /// With [`AttachMode::Auto`], what kept it out of the driver.
    pub driver_refused: Option<String>,
}

/// A link, and how it was made.
pub(super) fn attach(
    prog: BorrowedFd<'_>,
    ifindex: u32,
    mode: AttachMode,
) -> Result<(Link, Attached), FilterError> {
    wait_until_free(ifindex)?;
    let refusal = match mode {
        AttachMode::Generic => None,
        AttachMode::Driver | AttachMode::Auto => match create(prog, ifindex, Mode::Driver) {
            Ok(link) => return Ok((link, attached(Mode::Driver, None))),
            Err(FilterError::Refused { reason, .. }) if mode == AttachMode::Auto => Some(reason),
            Err(error) => return Err(error),
        },
    };
    let link = create(prog, ifindex, Mode::Generic)?;
    Ok((link, attached(Mode::Generic, refusal)))
}

fn attached(mode: Mode, driver_refused: Option<String>) -> Attached {
    Attached {
        mode,
        driver_refused,
    }
}

fn create(prog: BorrowedFd<'_>, ifindex: u32, mode: Mode) -> Result<Link, FilterError> {
    let link = sys::link_create(prog, ifindex, mode.flags());
    link.map(Link).map_err(|e| explain(prog, ifindex, mode, e))
}

/// Waits until no program is on the interface. One whose link is just going
/// looks as if netlink had put it there: the link loses its number first.
fn wait_until_free(ifindex: u32) -> Result<(), FilterError> {
    let end = Instant::now() + PATIENCE;
    while !programs(ifindex)?.is_empty() {
        if Instant::now() < end {
            std::thread::sleep(LOOK_EVERY);
        } else if let Some(occupant) = occupant(ifindex)? {
            return Err(FilterError::Busy(Box::new(occupant)));
        }
    }
    Ok(())
}

/// What an error of `BPF_LINK_CREATE` means.
fn explain(prog: BorrowedFd<'_>, ifindex: u32, mode: Mode, source: io::Error) -> FilterError {
    let step = "attach the filter program";
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => FilterError::Permission { step, source },
        Some(libc::ENODEV) => no_interface(ifindex, source),
        Some(libc::EBUSY | libc::EEXIST) => match occupant(ifindex) {
            Ok(Some(occupant)) => FilterError::Busy(Box::new(occupant)),
            _ => refused(prog, ifindex, mode, source),
        },
        Some(libc::ENOSYS) => FilterError::Kernel { step, source },
        _ => refused(prog, ifindex, mode, source),
    }
}

fn refused(prog: BorrowedFd<'_>, ifindex: u32, mode: Mode, source: io::Error) -> FilterError {
    let words = interface::refusal_of(ifindex, prog, mode.flags());
    FilterError::Refused {
        interface: interface::name_of(ifindex),
        mode,
        reason: words.unwrap_or_else(|| source.to_string()),
        source,
    }
}

fn no_interface(ifindex: u32, source: io::Error) -> FilterError {
    FilterError::NoInterface {
        interface: interface::name_of(ifindex),
        source,
    }
}

/// The program that is on the interface, if there is one.
pub(in crate::xdp) fn occupant(ifindex: u32) -> Result<Option<Occupant>, FilterError> {
    Ok(programs(ifindex)?.first().map(|&(mode, id)| Occupant {
        interface: interface::name_of(ifindex),
        id,
        name: sys::prog_name(id).ok().filter(|name| !name.is_empty()),
        mode,
        holder: holder(id, ifindex),
    }))
}

fn programs(ifindex: u32) -> Result<Vec<(Mode, u32)>, FilterError> {
    interface::programs(ifindex).map_err(|e| match e.raw_os_error() {
        Some(libc::ENODEV | libc::ENXIO) => no_interface(ifindex, e),
        _ => FilterError::of("ask which programs the interface has", e),
    })
}

fn holder(id: u32, ifindex: u32) -> Holder {
    match sys::xdp_link_of(id, ifindex) {
        Ok(Some(link)) => Holder::Link {
            id: link,
            processes: processes::with_link(link),
        },
        Ok(None) => Holder::Netlink,
        Err(_) => Holder::Unknown,
    }
}
