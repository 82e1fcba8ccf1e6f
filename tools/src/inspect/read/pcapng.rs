//! pcapng: blocks that each say their own length (draft-ietf-opsawg-pcapng).
//!
//! Because of that length one bad block costs that block and not the rest of the
//! file. A parser that stops at the first thing it does not like (a comment that
//! is no UTF-8, an interface's option that runs over its block) is of no use for
//! a file that somebody sent because it is strange; so the fields are read here
//! one by one, and a field that is wrong is a complaint.

use super::bytes::Order;
use super::window::Window;
use super::{Complaints, Interface, MAX_PACKET_BYTES, Meta, Notes};

/// Block types (§4 of the draft, §11.1 for those that are registered elsewhere).
mod block {
    pub const SECTION_HEADER: u32 = 0x0a0d_0d0a;
    pub const INTERFACE: u32 = 1;
    pub const PACKET_OBSOLETE: u32 = 2;
    pub const SIMPLE_PACKET: u32 = 3;
    pub const STATISTICS: u32 = 5;
    pub const ENHANCED_PACKET: u32 = 6;
    pub const SECRETS: u32 = 10;
}

/// Option codes (§3.5, §4.2, §4.3, §4.6).
mod option {
    pub const END: u16 = 0;
    pub const COMMENT: u16 = 1;
    pub const IF_NAME: u16 = 2;
    pub const IF_TSRESOL: u16 = 9;
    pub const IF_TSOFFSET: u16 = 14;
    pub const EPB_FLAGS: u16 = 2;
    pub const ISB_IFRECV: u16 = 4;
    pub const ISB_IFDROP: u16 = 5;
    pub const ISB_OSDROP: u16 = 7;
}

/// The byte order of a section, as its header writes it.
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// Type, length, and the length again at the end.
const AROUND_BYTES: u32 = 12;
/// A block other than a packet is read up to here; what is longer is stepped
/// over.
const MAX_BLOCK_BYTES: u32 = 1 << 20;
/// Interfaces of a file that are told apart. A file of nothing but interface
/// blocks would otherwise be held whole.
const MAX_INTERFACES: usize = 65_536;

/// Whether a file begins like this.
pub(super) fn is_it(start: &[u8]) -> bool {
    start.starts_with(&block::SECTION_HEADER.to_be_bytes())
}

/// Where the reader is.
#[derive(Debug)]
pub(super) struct Layout {
    order: Order,
    /// The first interface of this section, among those of the file.
    first_interface: usize,
}

/// A block's header, as far as it is sane.
struct Head {
    kind: u32,
    /// Of the whole block.
    len: u32,
}

/// What a block turned out to be.
enum Block {
    Packet(Meta),
    Other,
    End,
}

impl Layout {
    pub fn new() -> Layout {
        Layout {
            order: Order::Little,
            first_interface: 0,
        }
    }

    /// The next packet's place, the window left at its first byte. None at the
    /// end, or where it cannot go on.
    pub fn next(&mut self, window: &mut Window, notes: &mut Notes) -> Option<Meta> {
        loop {
            match self.block(window, notes) {
                Block::Packet(meta) => return Some(meta),
                Block::Other => {}
                Block::End => return None,
            }
        }
    }

    fn block(&mut self, window: &mut Window, notes: &mut Notes) -> Block {
        let Some(head) = self.head(window, &mut notes.complaints) else {
            return Block::End;
        };
        match head.kind {
            block::ENHANCED_PACKET | block::PACKET_OBSOLETE | block::SIMPLE_PACKET => {
                self.packet(&head, window, notes)
            }
            _ => self.other(&head, window, notes),
        }
    }

    /// Reads type and length; of a section's header its byte order first.
    fn head(&mut self, window: &mut Window, complaints: &mut Complaints) -> Option<Head> {
        let at = window.offset();
        let start = window.at_least(12);
        if start.is_empty() {
            return None;
        }
        if start.len() < 12 {
            complaints.add(
                at,
                format!(
                    "the file ends within a block's header, after {} bytes",
                    start.len()
                ),
            );
            return None;
        }
        if is_it(start) {
            match order_of_section(start) {
                Some(order) => self.order = order,
                None => {
                    complaints.add(
                        at,
                        "a section's byte order mark is none; what follows cannot be read".into(),
                    );
                    return None;
                }
            }
        }
        let head = Head {
            kind: self.order.u32_at(start, 0),
            len: self.order.u32_at(start, 4),
        };
        if head.len < AROUND_BYTES || !head.len.is_multiple_of(4) {
            complaints.add(at, format!("a block of type {:#x} says that it is {} bytes long, which no block can be; what follows cannot be found", head.kind, head.len));
            return None;
        }
        Some(head)
    }

    /// A block that is no packet: what it says is noted, and it is stepped over.
    fn other(&mut self, head: &Head, window: &mut Window, notes: &mut Notes) -> Block {
        let at = window.offset();
        if head.len > MAX_BLOCK_BYTES {
            let (kind, len) = (head.kind, head.len);
            notes.complaints.add(
                at,
                format!("a block of type {kind:#x} with {len} bytes is stepped over"),
            );
            return step_over(head.len, at, window, notes);
        }
        let whole = window.at_least(head.len as usize);
        if whole.len() < head.len as usize {
            notes.complaints.add(
                at,
                format!(
                    "the file ends within a block of type {:#x}, after {} of {} bytes",
                    head.kind,
                    whole.len(),
                    head.len
                ),
            );
            return Block::End;
        }
        let body = &whole[8..head.len as usize - 4];
        match head.kind {
            block::SECTION_HEADER => {
                self.first_interface = notes.interfaces.len();
                notes.sections += 1;
            }
            block::INTERFACE => self.interface(at, body, notes),
            block::STATISTICS => self.statistics(at, body, notes),
            block::SECRETS => notes.secrets += 1,
            _ => notes.other_blocks += 1,
        }
        let again = self.order.u32_at(whole, head.len as usize - 4);
        if again != head.len {
            notes.complaints.add(
                at,
                format!(
                    "a block of {} bytes says at its end that it has {again}",
                    head.len
                ),
            );
        }
        window.consume(head.len as usize);
        Block::Other
    }

    fn interface(&mut self, at: u64, body: &[u8], notes: &mut Notes) {
        if body.len() < 8 {
            notes.complaints.add(
                at,
                format!(
                    "an interface block of {} bytes has no link type",
                    body.len()
                ),
            );
            return;
        }
        if notes.interfaces.len() == MAX_INTERFACES {
            notes.complaints.add(
                at,
                format!("more than {MAX_INTERFACES} interfaces; packets of this one are left out"),
            );
            return;
        }
        let link = u32::from(self.order.u16_at(body, 0));
        let mut interface = Interface::new(link, self.order.u32_at(body, 4));
        for entry in self.options(at, &body[8..], &mut notes.complaints) {
            match (entry.code, entry.value) {
                (option::IF_NAME, name) => interface.name = Some(text(name)),
                (option::IF_TSRESOL, [resolution, ..]) => {
                    interface.clock.set_resolution(*resolution);
                }
                (option::IF_TSOFFSET, value) => {
                    if let Ok(bytes) = <[u8; 8]>::try_from(value) {
                        interface.clock.offset_s = self.order.u64(bytes).cast_signed();
                    }
                }
                _ => {}
            }
        }
        notes.interfaces.push(interface);
    }

    fn statistics(&mut self, at: u64, body: &[u8], notes: &mut Notes) {
        if body.len() < 12 {
            notes
                .complaints
                .add(at, format!("a statistics block of {} bytes", body.len()));
            return;
        }
        let number = self.order.u32_at(body, 0);
        let options = self.options(at, &body[12..], &mut notes.complaints);
        let Some(interface) = notes
            .interfaces
            .get_mut(self.first_interface + number as usize)
        else {
            notes.complaints.add(
                at,
                format!("statistics of interface {number}, which the file does not have"),
            );
            return;
        };
        for entry in options {
            let Ok(bytes) = <[u8; 8]>::try_from(entry.value) else {
                continue;
            };
            let count = Some(self.order.u64(bytes));
            match entry.code {
                option::ISB_IFRECV => interface.received = count,
                option::ISB_IFDROP => interface.dropped_by_device = count,
                option::ISB_OSDROP => interface.dropped_by_system = count,
                _ => {}
            }
        }
    }

    fn packet(&mut self, head: &Head, window: &mut Window, notes: &mut Notes) -> Block {
        let at = window.offset();
        let fixed: u32 = match head.kind {
            block::SIMPLE_PACKET => 12,
            _ => 28,
        };
        if head.len < fixed + 4 {
            notes.complaints.add(
                at,
                format!(
                    "a packet block of {} bytes has no room for its header",
                    head.len
                ),
            );
            return step_over(head.len, at, window, notes);
        }
        let start = window.at_least(fixed as usize);
        if start.len() < fixed as usize {
            notes.complaints.add(
                at,
                format!(
                    "the file ends within a packet block, after {} of {} bytes",
                    start.len(),
                    head.len
                ),
            );
            return Block::End;
        }
        let mut meta = match self.packet_head(head, start, notes) {
            Ok(meta) => meta,
            Err(wrong) => {
                notes.complaints.add(at, wrong);
                return step_over(head.len, at, window, notes);
            }
        };
        let room = head.len - fixed - 4;
        if meta.captured > room || meta.captured > MAX_PACKET_BYTES {
            notes.complaints.add(
                at,
                format!(
                    "a packet block of {} bytes says that it holds {} bytes of a packet",
                    head.len, meta.captured
                ),
            );
            return step_over(head.len, at, window, notes);
        }
        meta.offset = at;
        meta.behind = room - meta.captured + 4;
        window.consume(fixed as usize);
        Block::Packet(meta)
    }

    /// What stands before the packet's bytes.
    fn packet_head(&self, head: &Head, start: &[u8], notes: &Notes) -> Result<Meta, String> {
        let order = self.order;
        let number = match head.kind {
            block::ENHANCED_PACKET => order.u32_at(start, 8),
            block::PACKET_OBSOLETE => u32::from(order.u16_at(start, 8)),
            _ => 0,
        };
        let index = self.first_interface + number as usize;
        let Some(interface) = notes.interfaces.get(index) else {
            return Err(format!(
                "a packet of interface {number}, which the file does not describe"
            ));
        };
        let (at_ns, captured, original) = match head.kind {
            block::SIMPLE_PACKET => {
                let original = order.u32_at(start, 8);
                let room = head.len - 16;
                let snapped = match interface.snap_len {
                    0 => original,
                    snap_len => original.min(snap_len),
                };
                (None, snapped.min(room), original)
            }
            _ => (
                interface.clock.ns(order.halves_at(start, 12)),
                order.u32_at(start, 20),
                order.u32_at(start, 24),
            ),
        };
        Ok(Meta {
            offset: 0,
            interface: u32::try_from(index).expect("at most MAX_INTERFACES"),
            at_ns,
            captured,
            original: original.max(captured),
            behind: 0,
        })
    }

    /// What stands behind a packet's bytes: its comment and its direction.
    pub fn packet_options<'a>(
        &self,
        at: u64,
        behind: &'a [u8],
        complaints: &mut Complaints,
    ) -> PacketOptions<'a> {
        let mut found = PacketOptions::default();
        if behind.len() < 8 {
            return found;
        }
        for entry in self.options(at, &behind[..behind.len() - 4], complaints) {
            match (entry.code, entry.value) {
                (option::COMMENT, comment) => found.comment = Some(comment),
                (option::EPB_FLAGS, value) if value.len() >= 4 => {
                    found.direction = (self.order.u32_at(value, 0) & 3) as u8;
                }
                _ => {}
            }
        }
        found
    }

    fn options<'a>(&self, at: u64, bytes: &'a [u8], complaints: &mut Complaints) -> Vec<Entry<'a>> {
        let mut found = Vec::new();
        let mut rest = bytes;
        while rest.len() >= 4 {
            let code = self.order.u16_at(rest, 0);
            let len = usize::from(self.order.u16_at(rest, 2));
            if code == option::END {
                break;
            }
            let Some(value) = rest[4..].get(..len) else {
                complaints.add(
                    at,
                    format!(
                        "option {code} of a block says that it has {len} bytes, {} are left",
                        rest.len() - 4
                    ),
                );
                break;
            };
            found.push(Entry { code, value });
            rest = rest.get(4 + len.next_multiple_of(4)..).unwrap_or_default();
        }
        found
    }
}

/// An option of a block.
struct Entry<'a> {
    code: u16,
    value: &'a [u8],
}

/// What a packet block says besides the packet.
#[derive(Default)]
pub(super) struct PacketOptions<'a> {
    pub comment: Option<&'a [u8]>,
    /// 0 unknown, 1 received, 2 sent (§4.3.1).
    pub direction: u8,
}

fn order_of_section(start: &[u8]) -> Option<Order> {
    [Order::Little, Order::Big]
        .into_iter()
        .find(|order| order.u32_at(start, 8) == BYTE_ORDER_MAGIC)
}

fn step_over(len: u32, at: u64, window: &mut Window, notes: &mut Notes) -> Block {
    let skipped = window.skip(u64::from(len));
    if skipped == u64::from(len) {
        return Block::Other;
    }
    notes.complaints.add(
        at,
        format!("the file ends within a block, after {skipped} of {len} bytes"),
    );
    Block::End
}

/// Words of a file that somebody else wrote.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .trim_end_matches('\0')
        .to_string()
}
