//! AF_XDP: the rings of a network card's queues, shared with the kernel.
//!
//! * [`filter`] is the program in the kernel that takes from the card's queues
//!   what is ours and leaves the rest to the kernel.
//! * [`groups`] has the card let through what is for an address of our own, and
//!   [`reserve`] keeps the ports of a shared one from everybody else.
//! * [`bind`](self) makes an AF_XDP socket for each queue, over a UMEM of its own
//!   whose slots are the frames of the queue's [`FramePool`](crate::FramePool).
//!   A received frame is read, and a frame to send is written, where the kernel
//!   has it.
//! * [`XdpQueue`] is the device towards the stack.
//! * [`Monitor`] reads what they count, from any thread, without a capability.
//!
//! # Lifetimes
//! Sockets are bound first, then put into the program's map, and the program is
//! attached last, so that no frame is taken that nobody would receive. What ends
//! goes the other way round: a queue's rings, its socket, its UMEM when the last
//! frame is gone, and the program when the last queue is. The kernel does the
//! same for a process that is killed: the program hangs on a descriptor.
//!
//! # What is not used
//! Frames in several buffers (`XDP_USE_SG`): what the stack reads is one slice,
//! and a server's segments fit a buffer; an interface whose MTU does not fit is
//! refused. UMEMs shared by queues: a shard would have to lock its pool against
//! the others. libxdp's own program and its dispatcher: the first takes every
//! frame, the second stays on the interface when the process dies.
//!
//! Kernel behaviour: Documentation/networking/af_xdp.rst, net/xdp/xsk.c and
//! linux/if_xdp.h.

use std::io;
use std::ops::RangeInclusive;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::frame::PoolError;

mod bind;
mod error;
pub mod filter;
pub mod groups;
pub mod interface;
mod lent;
mod options;
mod processes;
mod queue;
pub mod reserve;
mod rtnetlink;
mod stats;
mod sys;
mod umem;

pub use error::XdpError;
pub use filter::{AttachMode, Attached, Deployment, Filter, FilterError, Mode, Rules, Verdicts};
pub use groups::{Groups, GroupsError, Mac};
pub use interface::Interface;
pub use options::{BindMode, BusyPoll, Shape, XdpOptions};
pub use queue::XdpQueue;
pub use reserve::{ReserveError, Reserved};
pub use stats::{KernelStats, Monitor, Occupancy, QueueStats, XdpStats};

/// Queues of an interface with our program on it.
#[derive(Debug)]
pub struct Xdp {
    info: XdpInfo,
    queues: Vec<XdpQueue>,
    monitor: Monitor,
}

/// What was asked for, and what the kernel gave.
#[derive(Clone, Debug)]
pub struct XdpInfo {
    /// The interface as it was when opened.
    pub interface: Interface,
    /// The queues.
    pub queues: RangeInclusive<u32>,
    /// Where the program runs.
    pub attached: Attached,
    /// For each queue, whether the card writes to and reads from the UMEM
    /// itself (`XDP_OPTIONS_ZEROCOPY`), rather than the kernel by copying.
    pub zero_copy: Vec<bool>,
    /// Sizes as they were taken.
    pub shape: Shape,
}

impl Xdp {
    /// Opens the queues, and has the program take what is ours from them.
    ///
    /// # Errors
    /// See [`XdpError`], which says what to do. Nothing is left behind.
    pub fn open(options: &XdpOptions) -> Result<Xdp, XdpError> {
        let interface = Interface::named(&options.interface)?;
        check_up(&interface)?;
        let shape = options.shape(&interface)?;
        let last = *options.queues.end();
        let mut held = Held::take(options, &interface, last + 1)?;
        let mut opened = Vec::new();
        for queue in options.queues.clone() {
            let queue = queue::open(options, &interface, shape, queue);
            opened.push(queue.map_err(|error| name_holder(error, interface.index))?);
        }
        for (number, queue) in options.queues.clone().zip(&opened) {
            queue.with_socket(|fd: BorrowedFd<'_>| held.filter.set_socket(number, fd))?;
        }
        let attached = held.filter.attach(interface.index, options.attach)?;
        let counters = held.filter.counters();
        let monitor = Monitor::new(counters, opened.iter().map(XdpQueue::shared));
        let held = Arc::new(held);
        opened.iter_mut().for_each(|q| q.keep(held.clone()));
        let info = XdpInfo {
            queues: options.queues.clone(),
            zero_copy: opened.iter().map(XdpQueue::is_zero_copy).collect(),
            interface,
            attached,
            shape,
        };
        Ok(Xdp {
            info,
            queues: opened,
            monitor,
        })
    }

    /// What was asked for, and what the kernel gave.
    pub fn info(&self) -> &XdpInfo {
        &self.info
    }

    /// Reads what the queues and the program count, as long as they live.
    pub fn monitor(&self) -> Monitor {
        self.monitor.clone()
    }

    /// The queues, in the order of their numbers. The program stays on the
    /// interface until the last of them is dropped.
    pub fn into_queues(self) -> Vec<XdpQueue> {
        self.queues
    }
}

/// Adds who has the interface, as its program tells, to a refusal for that.
fn name_holder(mut error: XdpError, ifindex: u32) -> XdpError {
    if let XdpError::Busy { occupant, .. } = &mut error {
        *occupant = filter::occupant(ifindex).ok().flatten().map(Box::new);
    }
    error
}

/// The kernel binds to an interface that is down, and nothing would come.
fn check_up(interface: &Interface) -> Result<(), XdpError> {
    if interface.up {
        return Ok(());
    }
    Err(XdpError::Down {
        interface: interface.name.clone(),
        source: io::Error::from_raw_os_error(libc::ENETDOWN),
    })
}

/// What all queues of an interface live by. Its parts end in this order: as
/// long as the program takes frames, the ports are ours and the card lets the
/// frames through.
#[derive(Debug)]
struct Held {
    filter: Filter,
    _ports: Reserved,
    _groups: Groups,
}

impl Held {
    fn take(options: &XdpOptions, interface: &Interface, queues: u32) -> Result<Held, XdpError> {
        let rules = &options.rules;
        let filter = Filter::load(rules, queues)?;
        let ports = Reserved::bind(rules, interface.index)?;
        let groups = Groups::join(interface, options.mac, rules)?;
        Ok(Held {
            filter,
            _ports: ports,
            _groups: groups,
        })
    }
}

impl From<PoolError> for XdpError {
    fn from(error: PoolError) -> XdpError {
        XdpError::Pool(error)
    }
}
