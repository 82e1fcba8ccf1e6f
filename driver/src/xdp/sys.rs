//! The few calls on an AF_XDP socket that xsk-rs does not make, or makes without
//! telling what the kernel said.

use std::io;
use std::os::fd::RawFd;

/// `SO_PREFER_BUSY_POLL` and `SO_BUSY_POLL_BUDGET` of asm-generic/socket.h.
const SO_PREFER_BUSY_POLL: libc::c_int = 69;
const SO_BUSY_POLL_BUDGET: libc::c_int = 70;

/// `XDP_MAX_TX_SKB_BUDGET` of linux/if_xdp.h (Linux 6.17).
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// `XDP_OPTIONS_ZEROCOPY` of linux/if_xdp.h.
const XDP_OPTIONS_ZEROCOPY: u32 = 1;

/// An open AF_XDP socket, owned by xsk-rs. Whoever holds this holds a ring of it
/// too, which keeps it open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Socket(pub(super) RawFd);

/// `struct xdp_statistics` of linux/if_xdp.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Statistics {
    pub(super) rx_dropped: u64,
    pub(super) rx_invalid_descs: u64,
    pub(super) tx_invalid_descs: u64,
    pub(super) rx_ring_full: u64,
    pub(super) rx_fill_ring_empty_descs: u64,
    pub(super) tx_ring_empty_descs: u64,
}

impl Socket {
    /// Has the kernel look at the TX ring. Fails with `EAGAIN` when it left
    /// some of it for the next call.
    pub(super) fn kick_tx(self) -> io::Result<()> {
        // SAFETY: no memory is passed.
        let sent = unsafe {
            libc::sendto(
                self.0,
                std::ptr::null(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null(),
                0,
            )
        };
        done(sent)
    }

    /// Has the kernel look at the fill ring, and with busy polling at the card.
    pub(super) fn kick_rx(self) -> io::Result<()> {
        let nothing = std::ptr::null_mut();
        // SAFETY: no memory is passed.
        let got = unsafe {
            libc::recvfrom(
                self.0,
                nothing,
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
        done(got)
    }

    /// The error that the socket was left with, if any (`SO_ERROR`).
    pub(super) fn take_error(self) -> io::Result<()> {
        let mut errno: libc::c_int = 0;
        self.get(libc::SOL_SOCKET, libc::SO_ERROR, &mut errno)?;
        match errno {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// `XDP_STATISTICS`.
    pub(super) fn statistics(self) -> io::Result<Statistics> {
        let mut statistics = Statistics::default();
        self.get(libc::SOL_XDP, libc::XDP_STATISTICS, &mut statistics)?;
        Ok(statistics)
    }

    /// Whether the card reaches into the UMEM itself.
    pub(super) fn is_zero_copy(self) -> io::Result<bool> {
        let mut flags = 0_u32;
        self.get(libc::SOL_XDP, libc::XDP_OPTIONS, &mut flags)?;
        Ok(flags & XDP_OPTIONS_ZEROCOPY != 0)
    }

    /// Lets one call send up to `frames` where the kernel copies, rather than 32.
    pub(super) fn set_tx_budget(self, frames: u32) -> io::Result<()> {
        self.set(libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, frames)
    }

    /// Turns busy polling on.
    pub(super) fn set_busy_poll(self, usecs: u32, budget: u32) -> io::Result<()> {
        for (name, value) in [
            (SO_PREFER_BUSY_POLL, 1),
            (libc::SO_BUSY_POLL, usecs),
            (SO_BUSY_POLL_BUDGET, budget),
        ] {
            self.set(libc::SOL_SOCKET, name, value)?;
        }
        Ok(())
    }

    fn set(self, level: libc::c_int, name: libc::c_int, value: u32) -> io::Result<()> {
        let value = libc::c_int::try_from(value).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: the kernel reads one int, which outlives the call.
        let result = unsafe {
            libc::setsockopt(
                self.0,
                level,
                name,
                (&raw const value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        done(result as isize)
    }

    /// Reads an option whose value is a `T`, of which any bytes make a value.
    fn get<T: Plain>(self, level: libc::c_int, name: libc::c_int, value: &mut T) -> io::Result<()> {
        let mut len = size_of::<T>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes to `value`, for whose
        // type any bytes do.
        let result = unsafe {
            libc::getsockopt(
                self.0,
                level,
                name,
                std::ptr::from_mut(value).cast(),
                &mut len,
            )
        };
        done(result as isize)
    }
}

/// Types of integers alone, without padding.
trait Plain {}
impl Plain for u32 {}
impl Plain for libc::c_int {}
impl Plain for Statistics {}

fn done(result: isize) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
