//! Errors of the calls in [`crate::syscall`], named as POSIX names them.

use std::io;

/// Why a call failed. Converts to [`io::Error`] with the matching kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Errno {
    /// `EAGAIN`: nothing to do now; wait for readiness.
    #[error("the call would block")]
    WouldBlock,
    /// `EBADF`: the fd was closed, or never was.
    #[error("the descriptor is closed")]
    BadFd,
    /// `EINVAL`: the call does not fit the descriptor or its state.
    #[error("the call does not fit this descriptor")]
    Invalid,
    /// `ECONNRESET`: the peer reset the connection.
    #[error("connection reset by peer")]
    ConnectionReset,
    /// `ECONNREFUSED`: the peer answered the SYN with a reset, or the SYN or a
    /// datagram with «port unreachable».
    #[error("connection refused")]
    ConnectionRefused,
    /// `ECONNABORTED`: the connection was aborted on this side.
    #[error("connection aborted")]
    ConnectionAborted,
    /// `ENOTCONN`: not connected, or not yet.
    #[error("not connected")]
    NotConnected,
    /// `EPIPE`: the write side is shut down.
    #[error("the sending side is closed")]
    BrokenPipe,
    /// `ETIMEDOUT`: the peer did not answer.
    #[error("connection timed out")]
    TimedOut,
    /// `EADDRINUSE`: another listener holds the address.
    #[error("address already in use")]
    AddrInUse,
    /// `EADDRNOTAVAIL`: not an address of this stack, or no free port.
    #[error("address is not one of this stack")]
    AddrNotAvailable,
    /// `ENETUNREACH`: no prefix and no gateway covers the address.
    #[error("no route to that network")]
    NetworkUnreachable,
    /// `EHOSTUNREACH`: the neighbour did not answer, or a router says so.
    #[error("no route to host")]
    HostUnreachable,
    /// `ENOBUFS`: out of buffers, slots or ports.
    #[error("out of buffers")]
    NoBuffers,
    /// `ENETDOWN`: the device is gone.
    #[error("the device is gone")]
    NetworkDown,
    /// `EMSGSIZE`: the datagram does not fit the device's MTU.
    #[error("the datagram is longer than the device's MTU allows")]
    MessageSize,
    /// `EACCES`: datagrams to broadcast addresses and groups are not sent.
    #[error("sending to a broadcast address or a group is not supported")]
    AccessDenied,
    /// `EOPNOTSUPP`: the host has the stack's addresses too, and would get the
    /// answers to what the stack asks.
    #[error("not while the addresses are shared with the host, which would get the answers")]
    NotSupported,
    /// `EAI_NONAME`: there is no such name, or it has no address of the kind.
    #[error("no such host")]
    NameNotFound,
    /// `EAI_FAIL`: the name servers cannot or will not say.
    #[error("the name servers failed to answer")]
    NameServerFailed,
    /// `EAI_SYSTEM`: the stack was given no name server to ask.
    #[error("no name server is configured")]
    NoNameServer,
}

impl Errno {
    /// The matching kind of [`io::Error`].
    pub fn kind(self) -> io::ErrorKind {
        use io::ErrorKind as K;
        match self {
            Errno::WouldBlock => K::WouldBlock,
            Errno::BadFd | Errno::Invalid => K::InvalidInput,
            Errno::ConnectionReset => K::ConnectionReset,
            Errno::ConnectionRefused => K::ConnectionRefused,
            Errno::ConnectionAborted => K::ConnectionAborted,
            Errno::NotConnected => K::NotConnected,
            Errno::BrokenPipe => K::BrokenPipe,
            Errno::TimedOut => K::TimedOut,
            Errno::AddrInUse => K::AddrInUse,
            Errno::AddrNotAvailable => K::AddrNotAvailable,
            Errno::NetworkUnreachable => K::NetworkUnreachable,
            Errno::HostUnreachable => K::HostUnreachable,
            Errno::NoBuffers => K::OutOfMemory,
            Errno::NetworkDown => K::NetworkDown,
            Errno::MessageSize => K::InvalidInput,
            Errno::AccessDenied => K::PermissionDenied,
            Errno::NameNotFound => K::NotFound,
            Errno::NameServerFailed => K::Other,
            Errno::NoNameServer | Errno::NotSupported => K::Unsupported,
        }
    }
}

impl From<Errno> for io::Error {
    fn from(e: Errno) -> io::Error {
        // A would-block is no failure and happens often: no allocation for it.
        match e {
            Errno::WouldBlock => io::ErrorKind::WouldBlock.into(),
            e => io::Error::new(e.kind(), e),
        }
    }
}
