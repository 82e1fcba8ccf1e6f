//! Opening the device, with tun-tap or as one queue of several, and the few
//! questions to the kernel that go by name.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

use rustix::fs::{Mode as Permissions, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tun_tap::{Iface, Mode};

use super::error::{NameFault, TapError};

/// Bytes of a name at most: IFNAMSIZ of linux/if.h less the terminator.
const NAME_MAX: usize = libc::IFNAMSIZ - 1;

/// Opens the plain TAP without blocking reads and writes; its fd and real name.
pub(super) fn open(name: &str) -> Result<(OwnedFd, String), TapError> {
    checked(name)?;
    let iface = Iface::without_packet_info(name, Mode::Tap).map_err(|e| explain(name, e))?;
    let real = iface.name().to_owned();
    // SAFETY: the descriptor was just given up by its only owner.
    let fd = unsafe { OwnedFd::from_raw_fd(iface.into_raw_fd()) };
    rustix::io::ioctl_fionbio(&fd, true).map_err(|e| system(&real, "make non-blocking the", e))?;
    Ok((fd, real))
}

/// As [`open`], with a header before each frame (see [`super::vnet`]).
pub(super) fn open_with_header(name: &str) -> Result<(OwnedFd, String), TapError> {
    open_own(name, 0, |e| explain(name, e))
}

/// As [`open_with_header`], one more queue of a TAP that has several, `queues` in
/// all.
pub(super) fn open_queue(name: &str, queues: u32) -> Result<(OwnedFd, String), TapError> {
    let why = |e| explain_queue(name, queues, e);
    open_own(name, libc::IFF_MULTI_QUEUE, why)
}

fn open_own(
    name: &str,
    flag: libc::c_int,
    why: impl Fn(io::Error) -> TapError,
) -> Result<(OwnedFd, String), TapError> {
    checked(name)?;
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::open("/dev/net/tun", flags, Permissions::empty())
        .map_err(|e| explain(name, e.into()))?;
    let mut request = request(name);
    let kind = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | flag;
    request.ifr_ifru.ifru_flags = kind as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq.
    if unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF as libc::Ioctl, &mut request) } != 0 {
        return Err(why(io::Error::last_os_error()));
    }
    let real = request.ifr_name.iter().map(|c| *c as u8);
    let real: Vec<u8> = real.take_while(|byte| *byte != 0).collect();
    Ok((fd, String::from_utf8_lossy(&real).into_owned()))
}

fn checked(name: &str) -> Result<(), TapError> {
    check_name(name).map_err(|fault| TapError::Name {
        name: name.escape_debug().to_string(),
        fault,
    })
}

/// What an error of TUNSETIFF with `IFF_MULTI_QUEUE` means.
fn explain_queue(name: &str, queues: u32, source: io::Error) -> TapError {
    match source.raw_os_error() {
        // `MAX_TAP_QUEUES` of drivers/net/tun.c are in use.
        Some(libc::E2BIG) => TapError::Queues {
            name: name.to_owned(),
            queues,
            source,
        },
        Some(libc::EINVAL) => TapError::NotMultiQueue {
            name: name.to_owned(),
            source,
        },
        _ => explain(name, source),
    }
}

/// What the kernel accepts (`dev_valid_name` and `dev_alloc_name` in
/// net/core/dev.c), checked first because tun-tap cuts a long name short and
/// ends it at a NUL.
pub(super) fn check_name(name: &str) -> Result<(), NameFault> {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if name.is_empty() {
        return Err(NameFault::Empty);
    }
    if name.len() > NAME_MAX {
        return Err(NameFault::TooLong);
    }
    if let Some(c) = name.chars().find(|c| bad(*c)) {
        return Err(NameFault::Character(c));
    }
    let patterns = name.matches("%d").count();
    if patterns > 1 || name.matches('%').count() != patterns {
        return Err(NameFault::Pattern);
    }
    if name == "." || name == ".." {
        return Err(NameFault::Dots);
    }
    Ok(())
}

/// What an error of open(2) on /dev/net/tun or of TUNSETIFF means.
pub(super) fn explain(name: &str, source: io::Error) -> TapError {
    let name = name.to_owned();
    match source.raw_os_error() {
        Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => TapError::NoDriver { name, source },
        Some(libc::EPERM | libc::EACCES) => TapError::Permission { name, source },
        Some(libc::EBUSY) => TapError::Busy { name, source },
        Some(libc::EINVAL) => TapError::NotATap { name, source },
        _ => TapError::System {
            name,
            step: "open",
            source,
        },
    }
}

fn system(name: &str, step: &'static str, source: impl Into<io::Error>) -> TapError {
    TapError::System {
        name: name.to_owned(),
        step,
        source: source.into(),
    }
}

/// The device's MTU in bytes (netdevice(7), SIOCGIFMTU). Asked of a socket and
/// not of sysfs, which shows the network namespace that it was mounted in.
pub(super) fn mtu(name: &str) -> Result<usize, TapError> {
    let mut request = request(name);
    ioctl(libc::SIOCGIFMTU, &mut request).map_err(|e| system(name, "read the MTU of", e))?;
    // SAFETY: SIOCGIFMTU filled this member of the union.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    Ok(usize::try_from(mtu).unwrap_or(0))
}

pub(super) fn set_mtu(name: &str, mtu: usize) -> Result<(), TapError> {
    let mut request = request(name);
    request.ifr_ifru.ifru_mtu = libc::c_int::try_from(mtu).unwrap_or(libc::c_int::MAX);
    ioctl(libc::SIOCSIFMTU, &mut request).map_err(|source| TapError::Mtu {
        name: name.to_owned(),
        mtu,
        source,
    })
}

fn request(name: &str) -> libc::ifreq {
    // SAFETY: all-zero bytes are a valid ifreq: integers and arrays of them.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().take(NAME_MAX).zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

fn ioctl(number: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: the requests used here read and write one ifreq.
    match unsafe { libc::ioctl(socket.as_raw_fd(), number, request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
