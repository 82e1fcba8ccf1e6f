//! A user and network namespace of the demo's own, and the kernel's end of
//! the TAP in it.
//!
//! Entered before the process has a second thread: `unshare(CLONE_NEWUSER)`
//! is refused to a process with several (unshare(2)), and a thread that was
//! there before would stay in the old namespace.

use std::fs;
use std::io;
use std::net::IpAddr;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sched::CloneFlags;
use wirepath_stack::Cidr;

/// Why there is no namespace to run the demo in.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// unshare(2) said no.
    #[error("the kernel refused a user and network namespace ({0}); {hint}", hint = unshare_hint())]
    Unshare(io::Error),
    /// The map of users could not be written.
    #[error(
        "cannot write {file} in the new user namespace ({source}); a security module (AppArmor, SELinux) may restrict unprivileged user namespaces: on Ubuntu, `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0` allows them"
    )]
    Map {
        /// The file under /proc.
        file: &'static str,
        /// Why.
        source: io::Error,
    },
    /// rtnetlink said no.
    #[error(
        "cannot {what} in the new network namespace ({source}); a security module (AppArmor, SELinux) may take away its capabilities: on Ubuntu, `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0` allows them"
    )]
    Configure {
        /// What was asked of the kernel.
        what: String,
        /// Why.
        source: io::Error,
    },
}

/// The setting that forbids user namespaces on this machine, as far as it shows.
fn unshare_hint() -> &'static str {
    let is = |path: &str, value: &str| fs::read_to_string(path).is_ok_and(|s| s.trim() == value);
    if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "allow them with `sudo sysctl kernel.unprivileged_userns_clone=1`"
    } else if is("/proc/sys/user/max_user_namespaces", "0") {
        "allow them with `sudo sysctl user.max_user_namespaces=10000`"
    } else if is(
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
    ) {
        "allow them with `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
    } else {
        "a container's seccomp profile often does so: run the demo outside of it, or as root"
    }
}

/// Moves the process, which has one thread, into namespaces of its own.
///
/// Root that may not make a user namespace takes a network namespace alone.
pub fn enter() -> Result<(), NamespaceError> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    match nix::sched::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET) {
        Ok(()) => map_users(uid.as_raw(), gid.as_raw()),
        Err(first) => nix::sched::unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|_| NamespaceError::Unshare(first.into())),
    }
}

/// Makes the user root of the namespace (user_namespaces(7)).
fn map_users(uid: u32, gid: u32) -> Result<(), NamespaceError> {
    let write = |file: &'static str, text: String| {
        fs::write(file, text).map_err(|source| NamespaceError::Map { file, source })
    };
    write("/proc/self/setgroups", "deny".into())?;
    write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// The kernel's configuration of the network namespace that the process is in.
pub struct Rtnetlink(Socket);

impl Rtnetlink {
    /// Opens an rtnetlink(7) socket.
    pub fn open() -> Result<Rtnetlink, NamespaceError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(Rtnetlink(socket))
        };
        open().map_err(|source| configure_error("open an rtnetlink socket", source))
    }

    /// `ip link set NAME up`.
    pub fn set_up(&self, index: u32) -> Result<(), NamespaceError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.ask(RouteNetlinkMessage::SetLink(message), 0)
            .map_err(|source| configure_error("bring the TAP up", source))
    }

    /// `ip addr add CIDR dev NAME nodad`.
    pub fn add_addr(&self, index: u32, cidr: Cidr) -> Result<(), NamespaceError> {
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.header.prefix_len = cidr.prefix;
        message.header.family = match cidr.addr {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        // Nobody else is on this link: the address can be used at once.
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes = vec![
            AddressAttribute::Local(cidr.addr),
            AddressAttribute::Address(cidr.addr),
            AddressAttribute::Flags(AddressFlags::Nodad),
        ];
        self.ask(
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
        .map_err(|source| configure_error(&format!("give the TAP {cidr}"), source))
    }

    /// Sends one request and waits for the kernel's verdict.
    fn ask(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.0.send(&bytes, 0)?;
        let (reply, _) = self.0.recv_from_full()?;
        let reply =
            NetlinkMessage::<RouteNetlinkMessage>::deserialize(&reply).map_err(io::Error::other)?;
        match reply.payload {
            NetlinkPayload::Error(verdict) if verdict.code.is_none() => Ok(()),
            NetlinkPayload::Error(verdict) => Err(verdict.to_io()),
            other => Err(io::Error::other(format!(
                "an answer that was not asked for: {other:?}"
            ))),
        }
    }
}

fn configure_error(what: &str, source: io::Error) -> NamespaceError {
    NamespaceError::Configure {
        what: what.to_owned(),
        source,
    }
}

/// The index of the interface `name`.
pub fn index_of(name: &str) -> Result<u32, NamespaceError> {
    rustix::net::netdevice::name_to_index(socket_for_ioctl()?, name)
        .map_err(|e| configure_error(&format!("find the interface {name}"), e.into()))
}

fn socket_for_ioctl() -> Result<rustix::fd::OwnedFd, NamespaceError> {
    use rustix::net::{AddressFamily, SocketType, socket};
    socket(AddressFamily::UNIX, SocketType::DGRAM, None)
        .map_err(|e| configure_error("open a socket", e.into()))
}
