//! Making the AF_XDP socket of a queue.

use std::error::Error;
use std::io;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use xsk_rs::config::{BindFlags, LibxdpFlags, SocketConfig};
use xsk_rs::socket::{RxQueue, Socket, TxQueue};
use xsk_rs::{CompQueue, FillQueue, Umem};

use super::error::{self, Place};
use super::options::{BindMode, Shape, XdpOptions};
use super::{XdpError, sys, umem};

/// How often, and after what time, to ask again for a queue that is taken. The
/// kernel lets go of a closed socket's queue only some milliseconds later, on a
/// worker thread (`xp_release_deferred` of net/xdp/xsk_buff_pool.c), so a server
/// that starts again at once may meet its own past.
const TRIES: u32 = 100;
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// The four rings of a socket. The socket closes when all are gone.
pub(super) struct Rings {
    pub(super) rx: RxQueue,
    pub(super) tx: TxQueue,
    pub(super) fill: FillQueue,
    pub(super) comp: CompQueue,
}

impl Rings {
    pub(super) fn socket(&self) -> sys::Socket {
        sys::Socket(self.rx.fd().as_raw_fd())
    }
}

/// Binds a socket over `umem` to a queue.
///
/// # Errors
/// What the kernel says, explained.
pub(super) fn bind(
    options: &XdpOptions,
    shape: Shape,
    umem: &Umem,
    place: &Place<'_>,
) -> Result<Rings, XdpError> {
    let config = config(options, shape)?;
    let name = options.interface.parse().map_err(error::invalid)?;
    let mut tries = 0;
    let (tx, rx, own) = loop {
        // SAFETY: the UMEM's frames are reached through its pool alone, whose
        // module says why none is touched by two.
        match unsafe { Socket::new(config, umem, &name, place.queue) } {
            Ok(rings) => break rings,
            Err(error) => {
                let errno = errno_of(&error);
                tries += 1;
                if errno.raw_os_error() != Some(libc::EBUSY) || tries == TRIES {
                    return Err(error::of_bind(errno, place, options.bind));
                }
                thread::sleep(BETWEEN_TRIES);
            }
        }
    };
    let (fill, comp) = own.ok_or(XdpError::System {
        step: "find the fill and completion rings of a socket that does not share its UMEM",
        source: io::ErrorKind::NotFound.into(),
    })?;
    let rings = Rings { rx, tx, fill, comp };
    configure(options, rings.socket(), place)?;
    Ok(rings)
}

fn config(options: &XdpOptions, shape: Shape) -> Result<SocketConfig, XdpError> {
    let ring = umem::ring_len(shape.ring_len_frames)?;
    let mode = match options.bind {
        BindMode::Auto => BindFlags::empty(),
        BindMode::Copy => BindFlags::XDP_COPY,
        BindMode::ZeroCopy => BindFlags::XDP_ZEROCOPY,
    };
    Ok(SocketConfig::builder()
        .rx_queue_size(ring)
        .tx_queue_size(ring)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .bind_flags(mode | BindFlags::XDP_USE_NEED_WAKEUP)
        .build())
}

fn configure(options: &XdpOptions, socket: sys::Socket, place: &Place<'_>) -> Result<(), XdpError> {
    // Kernels before 6.17 do without.
    let _ = socket.set_tx_budget(options.ring_len_frames);
    if let Some(poll) = options.busy_poll {
        socket
            .set_busy_poll(poll.usecs, poll.budget)
            .map_err(|source| error::of_busy_poll(source, place, poll))?;
    }
    Ok(())
}

/// What the kernel said, which xsk-rs keeps as the source of its own error.
pub(super) fn errno_of(error: &dyn Error) -> io::Error {
    let cause = error.source().and_then(|e| e.downcast_ref::<io::Error>());
    match cause.and_then(io::Error::raw_os_error) {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::other(error.to_string()),
    }
}
