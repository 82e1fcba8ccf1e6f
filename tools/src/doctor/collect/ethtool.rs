//! What `ethtool` shows, from the `ethtool` family of generic netlink.
//!
//! Numbers from include/uapi/linux/ethtool_netlink.h; since Linux 5.6, the
//! indirection table since 6.2. None of it needs a right.

use std::collections::BTreeMap;
use std::io;

use super::attribute::{Attribute, Attributes, each};
use super::generic::{Family, Generic};
use crate::doctor::facts::{Channels, Feature, Rings};

const FEATURES_GET: u8 = 11;
const PRIVFLAGS_GET: u8 = 13;
const RINGS_GET: u8 = 15;
const CHANNELS_GET: u8 = 17;
const RSS_GET: u8 = 38;

/// The first attribute of each of these questions: whom it is about.
const HEADER: u16 = 1;
const HEADER_DEV_INDEX: u16 = 1;

const BITSET_NOMASK: u16 = 1;
const BITSET_BITS: u16 = 3;
const BITSET_BIT_NAME: u16 = 2;
const BITSET_BIT_VALUE: u16 = 3;

/// Questions about one interface.
pub struct Ethtool {
    family: Family,
    index: u32,
}

impl Ethtool {
    /// Asks about the interface with this index.
    ///
    /// # Errors
    /// As [`Family::open`].
    pub fn open(index: u32) -> io::Result<Ethtool> {
        let family = Family::open("ethtool")?;
        Ok(Ethtool { family, index })
    }

    fn ask(&mut self, command: u8) -> io::Result<Generic> {
        let whom = Attribute::u32(HEADER_DEV_INDEX, self.index);
        self.family
            .ask(command, &[Attribute::nest(HEADER, &[whom])])
    }

    /// `ethtool -k`.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn features(&mut self) -> io::Result<BTreeMap<String, Feature>> {
        const HW: u16 = 2;
        const ACTIVE: u16 = 4;
        const NOCHANGE: u16 = 5;
        let answer = self.ask(FEATURES_GET)?;
        let attributes = answer.attributes();
        let names = |kind| bit_names(&attributes, kind);
        let (changeable, active, never) = (names(HW), names(ACTIVE), names(NOCHANGE));
        // `HW` has those that may be changed; one that is only active is fixed.
        let all = [&changeable, &active, &never].into_iter().flatten();
        Ok(all
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, _)| {
                let on = is_set(&active, name);
                let fixed = !is_set(&changeable, name) || is_set(&never, name);
                (name.clone(), Feature { on, fixed })
            })
            .collect())
    }

    /// `ethtool --show-priv-flags`.
    ///
    /// # Errors
    /// `Unsupported` where the driver has none.
    pub fn private_flags(&mut self) -> io::Result<BTreeMap<String, bool>> {
        const FLAGS: u16 = 2;
        let answer = self.ask(PRIVFLAGS_GET)?;
        Ok(bit_names(&answer.attributes(), FLAGS))
    }

    /// `ethtool -g`.
    ///
    /// # Errors
    /// `Unsupported` where the driver has none.
    pub fn rings(&mut self) -> io::Result<Rings> {
        let answer = self.ask(RINGS_GET)?;
        let number = numbers(&answer);
        Ok(Rings {
            rx: number(6),
            rx_max: number(2),
            tx: number(9),
            tx_max: number(5),
        })
    }

    /// `ethtool -l`.
    ///
    /// # Errors
    /// `Unsupported` where the driver has one channel and cannot tell.
    pub fn channels(&mut self) -> io::Result<Channels> {
        let answer = self.ask(CHANNELS_GET)?;
        let number = numbers(&answer);
        Ok(Channels {
            combined: number(9),
            rx: number(6),
            tx: number(7),
            combined_max: number(5),
            rx_max: number(2),
            tx_max: number(3),
        })
    }

    /// The indirection table of `ethtool -x`; empty where the driver has none.
    ///
    /// # Errors
    /// `Unsupported` where the driver does not spread.
    pub fn rss_table(&mut self) -> io::Result<Vec<u32>> {
        const INDIR: u16 = 4;
        let answer = self.ask(RSS_GET)?;
        let attributes = answer.attributes();
        let bytes = attributes.bytes(INDIR).unwrap_or_default();
        let (entries, _) = bytes.as_chunks();
        Ok(entries.iter().map(|e| u32::from_ne_bytes(*e)).collect())
    }
}

fn numbers(answer: &Generic) -> impl Fn(u16) -> u32 {
    let attributes = answer.attributes();
    move |kind| attributes.u32(kind).unwrap_or(0)
}

/// The bits of a verbose bitset, and whether each is set: one that has no mask
/// lists those that are, another says it of each (ethtool-netlink.rst, «Bit
/// sets»).
fn bit_names(attributes: &Attributes<'_>, kind: u16) -> BTreeMap<String, bool> {
    let Some(set) = attributes.nest(kind) else {
        return BTreeMap::new();
    };
    let lists_set_ones = set.bytes(BITSET_NOMASK).is_some();
    each(set.bytes(BITSET_BITS).unwrap_or_default())
        .filter_map(|(_, bit)| {
            let bit = Attributes::parse(bit);
            let is_set = lists_set_ones || bit.bytes(BITSET_BIT_VALUE).is_some();
            Some((bit.text(BITSET_BIT_NAME)?, is_set))
        })
        .collect()
}

fn is_set(bits: &BTreeMap<String, bool>, name: &str) -> bool {
    bits.get(name).is_some_and(|set| *set)
}
