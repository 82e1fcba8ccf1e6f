//! The classic format: a header of 24 bytes, then records of 16 bytes and a
//! packet each (draft-ietf-opsawg-pcap §4, §5).
//!
//! Nothing in it marks where a record begins, so after a length that cannot be
//! there is no way on: what was read so far stands, and the rest is named.

use super::bytes::Order;
use super::window::Window;
use super::{Complaints, Interface, MAX_PACKET_BYTES, Meta};

const HEADER_BYTES: usize = 24;
const RECORD_BYTES: usize = 16;
/// Of a file of Alexey Kuznetzov's patched libpcap, which has an interface's
/// index, a protocol and a packet type behind each record's header.
const PATCHED_RECORD_BYTES: usize = 24;

/// How the records of a file are written.
#[derive(Debug)]
pub(super) struct Layout {
    order: Order,
    /// Nanoseconds of one unit of a time's second half.
    unit_ns: i64,
    record_bytes: usize,
    snap_len: u32,
}

/// What a file's first four bytes say, if they are of this format.
fn magic(start: &[u8]) -> Option<(Order, i64, usize)> {
    let magic: [u8; 4] = start.get(..4)?.try_into().ok()?;
    let of = |order: Order| match order.u32(magic) {
        0xa1b2_c3d4 => Some((order, 1_000, RECORD_BYTES)),
        0xa1b2_3c4d => Some((order, 1, RECORD_BYTES)),
        0xa1b2_cd34 => Some((order, 1_000, PATCHED_RECORD_BYTES)),
        _ => None,
    };
    of(Order::Little).or_else(|| of(Order::Big))
}

/// Whether a file begins like this.
pub(super) fn is_it(start: &[u8]) -> bool {
    magic(start).is_some()
}

impl Layout {
    /// Reads the header. The interface that all its packets are of.
    pub fn begin(window: &mut Window) -> Result<(Layout, Interface), String> {
        let start = window.at_least(HEADER_BYTES);
        let Some((order, unit_ns, record_bytes)) = magic(start) else {
            return Err("it is no pcap file".to_string());
        };
        if start.len() < HEADER_BYTES {
            return Err(format!(
                "it ends within its header, after {} of {HEADER_BYTES} bytes",
                start.len()
            ));
        }
        let snap_len = order.u32_at(start, 16);
        // The upper bits hold the length of a frame check sequence (§4).
        let link = order.u32_at(start, 20) & 0xffff;
        window.consume(HEADER_BYTES);
        let layout = Layout {
            order,
            unit_ns,
            record_bytes,
            snap_len,
        };
        Ok((layout, Interface::classic(link, snap_len, unit_ns == 1)))
    }

    /// The next record's header, the window left at the packet's first byte.
    /// None at the end, or where it cannot go on.
    pub fn next(&mut self, window: &mut Window, complaints: &mut Complaints) -> Option<Meta> {
        let at = window.offset();
        let head = window.at_least(self.record_bytes);
        if head.is_empty() {
            return None;
        }
        if head.len() < self.record_bytes {
            complaints.add(
                at,
                format!(
                    "the file ends within a record's header, after {} of {} bytes",
                    head.len(),
                    self.record_bytes
                ),
            );
            return None;
        }
        let seconds = i64::from(self.order.u32_at(head, 0));
        let fraction = i64::from(self.order.u32_at(head, 4));
        let captured = self.order.u32_at(head, 8);
        let original = self.order.u32_at(head, 12);
        if captured > MAX_PACKET_BYTES {
            complaints.add(at, format!("a record says that it holds {captured} bytes, more than a packet has ({MAX_PACKET_BYTES}); what follows cannot be found"));
            return None;
        }
        window.consume(self.record_bytes);
        self.doubt(at, captured, original, complaints);
        Some(Meta {
            offset: at,
            interface: 0,
            at_ns: Some(seconds * 1_000_000_000 + fraction * self.unit_ns),
            captured,
            original: original.max(captured),
            behind: 0,
        })
    }

    fn doubt(&self, at: u64, captured: u32, original: u32, complaints: &mut Complaints) {
        if captured > original {
            complaints.add(
                at,
                format!(
                    "a record says that {captured} bytes of a packet of {original} were captured"
                ),
            );
        } else if self.snap_len != 0 && captured > self.snap_len {
            complaints.add(
                at,
                format!(
                    "a record holds {captured} bytes, more than the file's snap length of {}",
                    self.snap_len
                ),
            );
        }
    }
}
