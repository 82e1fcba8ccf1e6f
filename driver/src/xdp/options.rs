//! What can be asked for, and whether it can be had.

use std::ops::RangeInclusive;

use super::filter::{AttachMode, Rules};
use super::groups::Mac;
use super::interface::Interface;
use super::{XdpError, umem};
use crate::ring::{ETHERNET_HEADER, VLAN_TAG};

/// Descriptors of a ring at most: beyond that a ring only adds delay.
const RING_LEN_MAX: u32 = 1 << 15;
/// Slots of a UMEM at most (8 GiB of 4 KiB).
const FRAMES_MAX: u32 = 1 << 21;
/// Queues at most: as many shards as a stack has.
const QUEUES_MAX: u32 = 255;

/// How the kernel is to bring frames into the UMEM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BindMode {
    /// As the driver can: zero-copy where it has it.
    #[default]
    Auto,
    /// The kernel copies (`XDP_COPY`). Every driver can.
    Copy,
    /// The card itself (`XDP_ZEROCOPY`), or not at all.
    ZeroCopy,
}

/// Busy polling: the queue's owner drives the card's NAPI poll by its calls,
/// and interrupts stay off (Documentation/networking/napi.rst).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusyPoll {
    /// `SO_BUSY_POLL`: microseconds that a call may poll for.
    pub usecs: u32,
    /// `SO_BUSY_POLL_BUDGET`: packets of one poll at most. More than 64 takes
    /// CAP_NET_ADMIN.
    pub budget: u32,
}

/// How to open queues of an interface.
#[derive(Clone, Debug)]
pub struct XdpOptions {
    /// The interface's name.
    pub interface: String,
    /// Numbers of the queues, each of which becomes one [`super::XdpQueue`].
    pub queues: RangeInclusive<u32>,
    /// Where the program is to run.
    pub attach: AttachMode,
    /// How frames are to come into the UMEM.
    pub bind: BindMode,
    /// Slots of each queue's UMEM.
    pub frames: u32,
    /// Bytes of a slot, 2048 or 4096; None takes the least that the MTU fits.
    pub frame_len: Option<u32>,
    /// Descriptors of each of the four rings, a power of two.
    pub ring_len_frames: u32,
    /// Busy polling, when wanted.
    pub busy_poll: Option<BusyPoll>,
    /// Whether the UMEM is to be of huge pages (2 MiB each, which have to be
    /// there: `vm.nr_hugepages`).
    pub huge_pages: bool,
    /// Which frames are ours.
    pub rules: Rules,
    /// The Ethernet address that the stack answers with where it is not the
    /// interface's, so that the card lets it through.
    pub mac: Option<Mac>,
}

impl XdpOptions {
    /// Queue 0 of `interface` with what suits most: 4096 frames, rings of 2048.
    pub fn new(interface: impl Into<String>, rules: Rules) -> XdpOptions {
        XdpOptions {
            interface: interface.into(),
            queues: 0..=0,
            attach: AttachMode::Auto,
            bind: BindMode::Auto,
            frames: 4096,
            frame_len: None,
            ring_len_frames: 2048,
            busy_poll: None,
            huge_pages: false,
            rules,
            mac: None,
        }
    }

    /// The sizes, if they make sense together and fit the interface.
    pub(super) fn shape(&self, interface: &Interface) -> Result<Shape, XdpError> {
        self.check_queues(interface)?;
        let ring = self.ring_len_frames;
        if !ring.is_power_of_two() || ring > RING_LEN_MAX {
            return Err(XdpError::RingLen(ring));
        }
        let frame_len = self.frame_len_for(interface)?;
        let frames = self.frames_for(frame_len)?;
        Ok(Shape {
            frames,
            frame_len,
            ring_len_frames: ring,
        })
    }

    fn check_queues(&self, interface: &Interface) -> Result<(), XdpError> {
        let (first, last) = (*self.queues.start(), *self.queues.end());
        if first > last || last - first >= QUEUES_MAX || last >= interface.rx_queues {
            return Err(XdpError::Queues {
                interface: interface.name.clone(),
                asked: self.queues.clone(),
                has: interface.rx_queues,
            });
        }
        Ok(())
    }

    fn frame_len_for(&self, interface: &Interface) -> Result<u32, XdpError> {
        let longest = interface.mtu as usize + ETHERNET_HEADER + VLAN_TAG;
        let fits = |len: &u32| umem::usable(*len) >= longest;
        let refused = |frame_len| XdpError::Mtu {
            interface: interface.name.clone(),
            mtu: interface.mtu,
            frame_len,
            most: umem::usable(frame_len) - ETHERNET_HEADER - VLAN_TAG,
        };
        match self.frame_len {
            None => {
                let found = umem::FRAME_LENS.into_iter().find(fits);
                found.ok_or_else(|| refused(umem::FRAME_LENS[1]))
            }
            Some(len) if !umem::FRAME_LENS.contains(&len) => Err(XdpError::FrameLen(len)),
            Some(len) if fits(&len) => Ok(len),
            Some(len) => Err(refused(len)),
        }
    }

    /// Huge pages come whole, so the UMEM is rounded up to them.
    fn frames_for(&self, frame_len: u32) -> Result<u32, XdpError> {
        let frames = self.frames;
        if !(8..=FRAMES_MAX).contains(&frames) {
            return Err(XdpError::Frames(frames));
        }
        let whole = if self.huge_pages {
            umem::HUGE_PAGE / frame_len
        } else {
            1
        };
        Ok(frames.next_multiple_of(whole))
    }
}

/// Sizes of each queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Slots of the UMEM.
    pub frames: u32,
    /// Bytes of a slot.
    pub frame_len: u32,
    /// Descriptors of each ring.
    pub ring_len_frames: u32,
}
