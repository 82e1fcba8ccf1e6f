//! A network interface, as the kernel describes it.
//!
//! By rtnetlink, and the number of its queues by ethtool's ioctl: both answer
//! for the network namespace of the calling thread, which sysfs does not (it
//! shows the one that it was mounted in).

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use super::filter::{FilterError, Mode};
use super::rtnetlink::{Attribute, FLAG_DUMP, Refusal, Rtnetlink, attributes, find, push, u32_at};

const RTM_SETLINK: u16 = 19;
const RTM_GETLINK: u16 = 18;
const RTM_GETADDR: u16 = 22;

/// Bytes of `struct ifinfomsg` and `struct ifaddrmsg`.
const LINK_HEADER: usize = 16;
const ADDR_HEADER: usize = 8;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_XDP: u16 = 43;

const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;
const IFLA_XDP_FLAGS: u16 = 3;
const IFLA_XDP_EXPECTED_FD: u16 = 8;
const XDP_ATTACHED_SKB: u8 = 2;

/// `NLA_F_NESTED` of linux/netlink.h: the attribute holds attributes.
const NESTED: u16 = 1 << 15;
/// `XDP_FLAGS_*` of linux/if_link.h: only where there is no program yet, and
/// only in place of the program named.
const XDP_IF_NONE: u32 = 1 << 0;
const XDP_REPLACE: u32 = 1 << 4;

/// No counters of statistics (`RTEXT_FILTER_SKIP_STATS`).
const SKIP_STATS: u32 = 1 << 3;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// `IFF_UP` of linux/if.h.
const UP: u32 = 1;

const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// An interface at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number in its network namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address; None if it is not Ethernet.
    pub mac: Option<[u8; 6]>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it is switched on.
    pub up: bool,
    /// The kernel's addresses on it, with the length of their prefix in bits.
    pub addrs: Vec<(IpAddr, u8)>,
    /// Receive queues that are in use. An AF_XDP socket binds to one of
    /// 0 to this less one.
    pub rx_queues: u32,
    /// XDP programs on it: where each runs, and its number.
    pub programs: Vec<(Mode, u32)>,
}

impl Interface {
    /// The interface of this name.
    ///
    /// # Errors
    /// [`FilterError::NoInterface`] if there is none, else what the kernel says.
    pub fn named(name: &str) -> Result<Interface, FilterError> {
        let index = index_of(name).map_err(|source| FilterError::NoInterface {
            interface: name.to_owned(),
            source,
        })?;
        Interface::numbered(index)
    }

    /// The interface of this number.
    ///
    /// # Errors
    /// As [`Interface::named`].
    pub fn numbered(index: u32) -> Result<Interface, FilterError> {
        describe(index).map_err(|source| match source.raw_os_error() {
            Some(libc::ENODEV | libc::ENXIO) => FilterError::NoInterface {
                interface: index.to_string(),
                source,
            },
            _ => FilterError::System {
                step: "read what the interface is",
                source,
            },
        })
    }
}

fn describe(index: u32) -> io::Result<Interface> {
    let kernel = Rtnetlink::open()?;
    let (flags, found) = link(&kernel, index)?;
    let text = |kind| find(&found, kind).map(|bytes| String::from_utf8_lossy(bytes));
    let number = |kind| find(&found, kind).and_then(|bytes| u32_at(bytes, 0));
    let name = text(IFLA_IFNAME).map(|name| name.trim_end_matches('\0').to_owned());
    let name = name.ok_or(io::ErrorKind::InvalidData)?;
    let listed = number(IFLA_NUM_RX_QUEUES).unwrap_or(1);
    Ok(Interface {
        index,
        mac: find(&found, IFLA_ADDRESS).and_then(|mac| mac.try_into().ok()),
        mtu: number(IFLA_MTU).unwrap_or(0),
        up: flags & UP != 0,
        addrs: addrs(&kernel, index)?,
        rx_queues: channels(&name).unwrap_or(listed).max(1),
        programs: programs_in(&found),
        name,
    })
}

/// The flags and attributes of a link.
fn link(kernel: &Rtnetlink, index: u32) -> io::Result<(u32, Vec<Attribute>)> {
    let mut body = vec![0; LINK_HEADER];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    push(&mut body, IFLA_EXT_MASK, &SKIP_STATS.to_ne_bytes());
    let answers = kernel.ask(RTM_GETLINK, 0, &body).map_err(|no| no.error)?;
    let answer = answers.first().ok_or(io::ErrorKind::InvalidData)?;
    let flags = u32_at(answer, 8).ok_or(io::ErrorKind::InvalidData)?;
    let rest = answer.get(LINK_HEADER..).unwrap_or_default();
    Ok((flags, attributes(rest)))
}

/// The kernel's addresses on the interface.
fn addrs(kernel: &Rtnetlink, index: u32) -> io::Result<Vec<(IpAddr, u8)>> {
    let answers = kernel
        .ask(RTM_GETADDR, FLAG_DUMP, &[0; ADDR_HEADER])
        .map_err(|no| no.error)?;
    let on_it = |answer: &&Vec<u8>| u32_at(answer, 4) == Some(index);
    Ok(answers
        .iter()
        .filter(on_it)
        .filter_map(|a| addr(a))
        .collect())
}

/// One address. On a link with two ends, IPv4's `IFA_ADDRESS` is the peer's,
/// and `IFA_LOCAL` ours; IPv6 has the latter only there.
fn addr(answer: &[u8]) -> Option<(IpAddr, u8)> {
    let prefix = *answer.get(1)?;
    let found = attributes(answer.get(ADDR_HEADER..)?);
    let bytes = find(&found, IFA_LOCAL).or_else(|| find(&found, IFA_ADDRESS))?;
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4.or(v6).ok().map(|addr| (addr, prefix))
}

/// The XDP programs on an interface: where each runs, and its number.
pub(super) fn programs(index: u32) -> io::Result<Vec<(Mode, u32)>> {
    let (_, found) = link(&Rtnetlink::open()?, index)?;
    Ok(programs_in(&found))
}

/// Linux 4.19 and later name the program of each mode; the one number that
/// older ones give goes by the mode beside it.
fn programs_in(link: &[Attribute]) -> Vec<(Mode, u32)> {
    let xdp = attributes(find(link, IFLA_XDP).unwrap_or_default());
    let id = |kind| find(&xdp, kind).and_then(|bytes| u32_at(bytes, 0));
    let by_mode = [
        (Mode::Driver, id(IFLA_XDP_DRV_PROG_ID)),
        (Mode::Generic, id(IFLA_XDP_SKB_PROG_ID)),
    ];
    let mut programs: Vec<_> = by_mode
        .into_iter()
        .filter_map(|(mode, id)| id.map(|id| (mode, id)))
        .collect();
    if let (true, Some(id)) = (programs.is_empty(), id(IFLA_XDP_PROG_ID)) {
        let generic = find(&xdp, IFLA_XDP_ATTACHED) == Some(&[XDP_ATTACHED_SKB]);
        let mode = if generic { Mode::Generic } else { Mode::Driver };
        programs.push((mode, id));
    }
    programs.retain(|(_, id)| *id != 0);
    programs
}

/// Why the interface does not take a program in this mode, in the words of its
/// driver. A link's refusal is a number alone (`BPF_LINK_CREATE` has no place
/// for words), so the same is asked by netlink, which has. Should it be granted
/// there, it is undone at once, and there are no words.
pub(super) fn refusal_of(index: u32, prog: BorrowedFd<'_>, flags: u32) -> Option<String> {
    match put(index, prog, flags) {
        Err(no) => no.words.filter(|words| !words.is_empty()),
        Ok(()) => {
            // Nothing more can be done for it; the caller reports a refusal.
            let _ = take(index, prog, flags);
            None
        }
    }
}

/// Puts a program on an interface that has none. It stays until it is taken
/// off, whatever becomes of this process.
pub(super) fn put(index: u32, prog: BorrowedFd<'_>, flags: u32) -> Result<(), Refusal> {
    let fd = prog.as_raw_fd().cast_unsigned();
    let xdp = [(IFLA_XDP_FD, fd), (IFLA_XDP_FLAGS, flags | XDP_IF_NONE)];
    let body = set_xdp(index, &xdp);
    Rtnetlink::open()?.ask(RTM_SETLINK, 0, &body).map(drop)
}

/// Takes this program, and no other, off the interface.
pub(super) fn take(index: u32, prog: BorrowedFd<'_>, flags: u32) -> Result<(), Refusal> {
    let none = (-1_i32).cast_unsigned();
    let xdp = [
        (IFLA_XDP_FD, none),
        (IFLA_XDP_FLAGS, flags | XDP_REPLACE),
        (IFLA_XDP_EXPECTED_FD, prog.as_raw_fd().cast_unsigned()),
    ];
    let body = set_xdp(index, &xdp);
    Rtnetlink::open()?.ask(RTM_SETLINK, 0, &body).map(drop)
}

/// `ip link set` of XDP attributes.
fn set_xdp(index: u32, xdp: &[(u16, u32)]) -> Vec<u8> {
    let mut nested = Vec::new();
    for (kind, value) in xdp {
        push(&mut nested, *kind, &value.to_ne_bytes());
    }
    let mut body = vec![0; LINK_HEADER];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    push(&mut body, IFLA_XDP | NESTED, &nested);
    body
}

/// The interface's name, or its number where there is no such interface any
/// more: for messages.
pub(super) fn name_of(index: u32) -> String {
    let socket = socket();
    let name = socket.and_then(|socket| Ok(netdevice::index_to_name(socket, index)?));
    name.unwrap_or_else(|_| index.to_string())
}

fn index_of(name: &str) -> io::Result<u32> {
    Ok(netdevice::name_to_index(socket()?, name)?)
}

fn socket() -> io::Result<rustix::fd::OwnedFd> {
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    );
    Ok(socket?)
}

/// `struct ethtool_channels` of linux/ethtool.h.
#[repr(C)]
#[derive(Default)]
struct Channels {
    cmd: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx_count: u32,
    tx_count: u32,
    other_count: u32,
    combined_count: u32,
}

/// Receive queues in use, where the driver tells (`ethtool -l`).
fn channels(name: &str) -> Option<u32> {
    let mut channels = Channels {
        cmd: ETHTOOL_GCHANNELS,
        ..Channels::default()
    };
    let socket = socket().ok()?;
    // SAFETY: all-zero bytes are a valid ifreq: integers and arrays of them.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().take(room).zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = std::ptr::from_mut(&mut channels).cast();
    // SAFETY: SIOCETHTOOL reads the ifreq, and ETHTOOL_GCHANNELS writes the one
    // struct that its pointer names, which lives over the call.
    let result = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCETHTOOL as libc::Ioctl,
            &raw mut request,
        )
    };
    let count = channels.rx_count.saturating_add(channels.combined_count);
    (result == 0 && count > 0).then_some(count)
}
