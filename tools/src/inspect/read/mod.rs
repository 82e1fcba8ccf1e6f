//! Reads captures: pcap and pcapng, of either byte order, plain or packed, from
//! a file or a pipe, however large.
//!
//! A [`Reader`] hands out one [`Record`] at a time and holds no more than a
//! window of the file. What is wrong with a file is a complaint with its place,
//! not an end: everything that can still be read is. Used by `wirepath inspect`
//! and `wirepath replay`, and fuzzed (`tools/fuzz`).
//!
//! [`pcap_file`] is used for what captures say of themselves (the names of link
//! types) and by our writer. Its readers are not used here: they end at the
//! first block that they cannot parse.

use std::path::Path;

use indicatif::ProgressBar;
use pcap_file::DataLink;
use serde::Serialize;

use crate::failure::Failure;

mod bytes;
mod pcap;
mod pcapng;
mod source;
#[cfg(test)]
mod tests;
mod window;

pub use source::Packing;
use source::Source;
use window::Window;

/// The largest packet: that of libpcap's largest snap length.
const MAX_PACKET_BYTES: u32 = 262_144;
/// Complaints that are kept word for word; the others are counted.
const MAX_COMPLAINTS: usize = 20;
/// Options behind a packet that are read at most; our own are below 1 KiB.
const MAX_OPTIONS_BYTES: u32 = 1 << 20;

/// Which way a packet went, as its capture says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// To the machine that captured.
    In,
    /// From it.
    Out,
}

/// A packet of a file.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its number in the file, from 1.
    pub number: u64,
    /// When it was captured, in nanoseconds since 1970-01-01 UTC. A record
    /// without a time (a simple packet block) has that of the one before.
    pub at_ns: i64,
    /// Whether that is its own time.
    pub is_timed: bool,
    /// Its interface: an index of [`Reader::interfaces`].
    pub interface: u32,
    /// Its interface's link type (<https://www.tcpdump.org/linktypes.html>).
    pub link: u32,
    /// How long it was on the wire, in bytes.
    pub original: u32,
    /// What was captured of it.
    pub data: &'a [u8],
    /// What the capture says of it, bytes as they stand in the file.
    pub comment: Option<&'a [u8]>,
    /// Which way it went, if the capture says so.
    pub way: Option<Way>,
}

/// An interface that packets were captured on.
#[derive(Clone, Debug, Serialize)]
pub struct Interface {
    /// Its name, if the file says it.
    pub name: Option<String>,
    /// Its link type's number.
    pub link: u32,
    /// At most so many bytes of a packet were kept; 0 is no limit.
    pub snap_len: u32,
    /// Packets that it received, if the file says so.
    pub received: Option<u64>,
    /// Packets that it lost for want of room.
    pub dropped_by_device: Option<u64>,
    /// Packets that the capturing system lost.
    pub dropped_by_system: Option<u64>,
    #[serde(skip)]
    clock: Clock,
}

impl Interface {
    fn new(link: u32, snap_len: u32) -> Interface {
        Interface {
            name: None,
            link,
            snap_len,
            received: None,
            dropped_by_device: None,
            dropped_by_system: None,
            clock: Clock::default(),
        }
    }

    fn classic(link: u32, snap_len: u32, has_ns: bool) -> Interface {
        let mut interface = Interface::new(link, snap_len);
        interface.clock.set_resolution(if has_ns { 9 } else { 6 });
        interface
    }

    /// The link type's name, as libpcap has it, or its number.
    pub fn link_name(&self) -> String {
        match DataLink::from(self.link) {
            DataLink::Unknown(number) => format!("link type {number}"),
            known => format!("{known:?}"),
        }
    }

    /// Whether its times are finer than microseconds.
    pub fn has_nanoseconds(&self) -> bool {
        self.clock.units_per_s > 1_000_000
    }
}

/// How an interface's times are written (draft-ietf-opsawg-pcapng §4.2,
/// `if_tsresol` and `if_tsoffset`).
#[derive(Clone, Copy, Debug)]
struct Clock {
    units_per_s: u64,
    offset_s: i64,
}

impl Default for Clock {
    /// Microseconds, unless the file says otherwise.
    fn default() -> Clock {
        Clock {
            units_per_s: 1_000_000,
            offset_s: 0,
        }
    }
}

impl Clock {
    /// `resolution`: a negative power of ten, or with its upper bit of two. One
    /// that 64 bits cannot count leaves microseconds.
    fn set_resolution(&mut self, resolution: u8) {
        let power = u32::from(resolution & 0x7f);
        let units = match resolution & 0x80 {
            0 => 10_u64.checked_pow(power),
            _ => 2_u64.checked_pow(power),
        };
        self.units_per_s = units.unwrap_or(1_000_000);
    }

    /// None if 64 bits of nanoseconds cannot say it (after the year 2262).
    fn ns(&self, units: u64) -> Option<i64> {
        let seconds = i64::try_from(units / self.units_per_s).ok()?;
        let rest = u128::from(units % self.units_per_s) * 1_000_000_000;
        let rest = i64::try_from(rest / u128::from(self.units_per_s)).ok()?;
        let seconds = seconds.checked_add(self.offset_s)?;
        seconds.checked_mul(1_000_000_000)?.checked_add(rest)
    }
}

/// What is wrong at a place of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Complaint {
    /// Where: a byte offset in the file, unpacked.
    pub offset: u64,
    /// What.
    pub what: String,
}

/// What is wrong with a file: the first [`MAX_COMPLAINTS`], and how many.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Complaints {
    /// The first of them.
    pub first: Vec<Complaint>,
    /// How many there are.
    pub count: u64,
}

impl Complaints {
    fn add(&mut self, offset: u64, what: String) {
        self.count += 1;
        if self.first.len() < MAX_COMPLAINTS {
            self.first.push(Complaint { offset, what });
        }
    }
}

/// What a file says besides its packets.
#[derive(Debug, Default)]
struct Notes {
    interfaces: Vec<Interface>,
    complaints: Complaints,
    sections: u64,
    secrets: u64,
    other_blocks: u64,
}

/// Where a packet is, before its bytes are looked at.
#[derive(Debug)]
struct Meta {
    offset: u64,
    interface: u32,
    at_ns: Option<i64>,
    captured: u32,
    original: u32,
    /// Bytes of its block behind it.
    behind: u32,
}

#[derive(Debug)]
enum Layout {
    Pcap(pcap::Layout),
    Pcapng(pcapng::Layout),
}

/// Reads a capture forward.
pub struct Reader {
    window: Window,
    layout: Layout,
    notes: Notes,
    packing: Packing,
    bar: ProgressBar,
    number: u64,
    /// The last packet's time.
    at_ns: i64,
    /// Bytes that the last packet and its block still have in the window.
    left: u64,
}

impl Reader {
    /// Opens a file, `-` for standard input. A bar on stderr shows how far a
    /// large one is read.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is no capture.
    pub fn open(path: &Path) -> Result<Reader, Failure> {
        Reader::of(source::open(path)?)
            .map_err(|why| Failure::refused(format!("{}: {why}", path.display())))
    }

    /// Reads what a program has in memory.
    ///
    /// # Errors
    ///
    /// It is no capture: in words.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Reader, String> {
        let raw = Box::new(std::io::Cursor::new(bytes));
        let source = source::of(raw, ProgressBar::hidden()).map_err(|err| err.to_string())?;
        Reader::of(source)
    }

    fn of(source: Source) -> Result<Reader, String> {
        let mut window = Window::new(source.bytes);
        let mut notes = Notes::default();
        let start = window.at_least(4).to_vec();
        let layout = if pcap::is_it(&start) {
            let (layout, interface) = pcap::Layout::begin(&mut window)?;
            notes.interfaces.push(interface);
            Layout::Pcap(layout)
        } else if pcapng::is_it(&start) {
            Layout::Pcapng(pcapng::Layout::new())
        } else {
            return Err(no_capture(&start, window.take_error()));
        };
        Ok(Reader {
            window,
            layout,
            notes,
            packing: source.packing,
            bar: source.bar,
            number: 0,
            at_ns: 0,
            left: 0,
        })
    }

    /// The next packet; None at the end of what can be read.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Record<'_>> {
        self.window.skip(std::mem::take(&mut self.left));
        let meta = match &mut self.layout {
            Layout::Pcap(layout) => layout.next(&mut self.window, &mut self.notes.complaints),
            Layout::Pcapng(layout) => layout.next(&mut self.window, &mut self.notes),
        };
        match meta {
            Some(meta) => self.record(&meta),
            None => {
                self.finish();
                None
            }
        }
    }

    /// Hands out a packet whose first byte is the window's.
    fn record(&mut self, meta: &Meta) -> Option<Record<'_>> {
        let captured = meta.captured as usize;
        let options = match meta.behind {
            len if len <= MAX_OPTIONS_BYTES => len as usize,
            _ => 0,
        };
        let seen = self.window.at_least(captured + options);
        if seen.len() < captured {
            let what = format!(
                "the file ends within a packet, after {} of {captured} bytes",
                seen.len()
            );
            self.notes.complaints.add(meta.offset, what);
            self.finish();
            return None;
        }
        self.left = u64::from(meta.captured) + u64::from(meta.behind);
        self.number += 1;
        self.at_ns = meta.at_ns.unwrap_or(self.at_ns);
        let seen = self.window.seen();
        // A block's data is padded to four bytes.
        let behind = seen
            .get(captured.next_multiple_of(4)..captured + options)
            .unwrap_or_default();
        let said = match &self.layout {
            Layout::Pcapng(layout) if behind.len() > 4 => {
                layout.packet_options(meta.offset, behind, &mut self.notes.complaints)
            }
            _ => pcapng::PacketOptions::default(),
        };
        Some(Record {
            number: self.number,
            at_ns: self.at_ns,
            is_timed: meta.at_ns.is_some(),
            interface: meta.interface,
            link: self.notes.interfaces[meta.interface as usize].link,
            original: meta.original,
            data: &seen[..captured],
            comment: said.comment,
            way: match said.direction {
                1 => Some(Way::In),
                2 => Some(Way::Out),
                _ => None,
            },
        })
    }

    fn finish(&mut self) {
        self.bar.finish_and_clear();
        if let Some(err) = self.window.take_error() {
            let packed = self
                .packing
                .name()
                .map_or(String::new(), |name| format!(" ({name})"));
            let what = format!("no more can be read{packed}: {err}");
            self.notes.complaints.add(self.window.offset(), what);
        }
    }

    /// The interfaces, so far.
    pub fn interfaces(&self) -> &[Interface] {
        &self.notes.interfaces
    }

    /// What is wrong with the file, so far.
    pub fn complaints(&self) -> &Complaints {
        &self.notes.complaints
    }

    /// The format, as a person calls it.
    pub fn format(&self) -> String {
        let layout = match self.layout {
            Layout::Pcap(_) => "pcap",
            Layout::Pcapng(_) => "pcapng",
        };
        match self.packing.name() {
            Some(packing) => format!("{layout}, {packing}"),
            None => layout.to_string(),
        }
    }

    /// Blocks with the secrets of TLS connections, so far.
    pub fn secrets(&self) -> u64 {
        self.notes.secrets
    }
}

/// What a file is that is no capture.
fn no_capture(start: &[u8], error: Option<std::io::Error>) -> String {
    let what = match (error, start) {
        (Some(err), _) => return format!("cannot be read: {err}"),
        (None, []) => "it is empty".to_string(),
        (None, [b'w', b'i', b'r', b'e', ..]) => {
            return "this is a recording of the flight recorder; `wirepath trace FILE` reads it"
                .into();
        }
        (None, bytes) => format!("it begins with {bytes:02x?}"),
    };
    format!("no capture: {what}; pcap and pcapng are read, also packed with gzip or zstd")
}
