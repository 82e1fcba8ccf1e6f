//! What a driver says of its XDP, its queues and their interrupts, from the
//! `netdev` family of generic netlink (since Linux 6.3, queues since 6.8).
//!
//! Numbers from include/uapi/linux/netdev.h; a kernel that knows less answers
//! less. None of it needs a right.

use std::collections::BTreeMap;
use std::io;

use super::attribute::{Attribute, Attributes};
use super::generic::Family;
use crate::doctor::facts::{RxQueue, XdpFeatures};

const DEV_GET: u8 = 1;
const QUEUE_GET: u8 = 10;
const NAPI_GET: u8 = 11;

/// Questions about one interface.
pub struct Netdev {
    family: Family,
    index: u32,
}

impl Netdev {
    /// Asks about the interface with this index.
    ///
    /// # Errors
    /// As [`Family::open`].
    pub fn open(index: u32) -> io::Result<Netdev> {
        let family = Family::open("netdev")?;
        Ok(Netdev { family, index })
    }

    /// What the driver advertises.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn xdp_features(&mut self) -> io::Result<XdpFeatures> {
        const IFINDEX: u16 = 1;
        const XDP_FEATURES: u16 = 3;
        const XDP_ZC_MAX_SEGS: u16 = 4;
        let whom = Attribute::u32(IFINDEX, self.index);
        let answer = self.family.ask(DEV_GET, &[whom])?;
        let attributes = answer.attributes();
        let bits = attributes.uint(XDP_FEATURES);
        let bits = bits.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        let has = |bit: u32| bits >> bit & 1 == 1;
        Ok(XdpFeatures {
            basic: has(0),
            redirect: has(1),
            zero_copy: has(3),
            rx_sg: has(5),
            zero_copy_segments: attributes.u32(XDP_ZC_MAX_SEGS),
        })
    }

    /// The receive queues, with what is known of their interrupts.
    ///
    /// # Errors
    /// `Unsupported` before Linux 6.8.
    pub fn rx_queues(&mut self) -> io::Result<Vec<RxQueue>> {
        const ID: u16 = 1;
        const IFINDEX: u16 = 2;
        const TYPE: u16 = 3;
        const NAPI_ID: u16 = 4;
        const XSK: u16 = 7;
        const TYPE_RX: u32 = 0;
        let napis = self.napis()?;
        let whom = Attribute::u32(IFINDEX, self.index);
        let answers = self.family.dump(QUEUE_GET, &[whom])?;
        let mut queues: Vec<_> = answers
            .iter()
            .map(|answer| answer.attributes())
            .filter(|queue| queue.u32(TYPE) == Some(TYPE_RX))
            .map(|queue| {
                let napi = queue.u32(NAPI_ID).and_then(|id| napis.get(&id));
                RxQueue {
                    id: queue.u32(ID).unwrap_or(0),
                    has_xsk: queue.bytes(XSK).is_some(),
                    ..napi.cloned().unwrap_or_default()
                }
            })
            .collect();
        queues.sort_by_key(|queue| queue.id);
        Ok(queues)
    }

    /// What NAPI instances say of queues, by their ids.
    fn napis(&mut self) -> io::Result<BTreeMap<u32, RxQueue>> {
        const IFINDEX: u16 = 1;
        const ID: u16 = 2;
        let whom = Attribute::u32(IFINDEX, self.index);
        let answers = self.family.dump(NAPI_GET, &[whom])?;
        let attributes = answers.iter().map(|answer| answer.attributes());
        Ok(attributes
            .filter_map(|napi| Some((napi.u32(ID)?, queue_of(&napi))))
            .collect())
    }
}

fn queue_of(napi: &Attributes<'_>) -> RxQueue {
    const IRQ: u16 = 3;
    RxQueue {
        irq: napi.u32(IRQ),
        ..RxQueue::default()
    }
}
