//! The blocks of a capture file.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption, InterfaceTsResolution,
};
use pcap_file::pcapng::blocks::interface_statistics::{
    InterfaceStatisticsBlock, InterfaceStatisticsOption,
};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::blocks::unknown::UnknownBlock;
use pcap_file::pcapng::{Block, PcapNgBlock, PcapNgWriteError, PcapNgWriter};
use pcap_file::{DataLink, Endianness};

use super::{Captured, Direction};
use crate::clock::Nanos;

/// An enhanced packet block, and codes of its options (§4.3, §3.5).
const PACKET_BLOCK: u32 = 6;
const OPTION_END: u32 = 0;
const OPTION_COMMENT: u16 = 1;
const OPTION_FLAGS: u16 = 2;
const OPTION_DROP_COUNT: u16 = 4;

/// `epb_flags`: the direction is in the two low bits.
const FLAGS_INBOUND: u32 = 1;
const FLAGS_OUTBOUND: u32 = 2;

/// A decryption secrets block, and a TLS key log in it.
const SECRETS_BLOCK: u32 = 0x0000_000a;
const TLS_KEY_LOG: u32 = 0x544c_534b;

/// Bytes of a comment at most: an option's length has 16 bits.
const MOST_COMMENT: usize = 4096;

/// What a file says of one interface at its end.
pub(super) struct Counts {
    pub(super) since: Nanos,
    pub(super) seen: u64,
    pub(super) filtered: u64,
    pub(super) left_out: u64,
    pub(super) written: u64,
}

/// Writes blocks, and knows how many bytes there are.
pub(super) struct Blocks<W: Write> {
    writer: PcapNgWriter<Counting<W>>,
    wall_offset_ns: u64,
    /// The block of a frame, while it is put together.
    block: Vec<u8>,
}

struct Counting<W> {
    inner: W,
    bytes: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.inner.write(bytes)?;
        self.bytes += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn io_error(error: PcapNgWriteError) -> io::Error {
    match error {
        PcapNgWriteError::Io(error) => error,
        other => io::Error::other(other),
    }
}

impl<W: Write> Blocks<W> {
    /// Begins a section. `wall_offset_ns` makes wall-clock times of [`Nanos`].
    pub(super) fn begin(inner: W, wall_offset_ns: u64) -> io::Result<Blocks<W>> {
        let section = SectionHeaderBlock {
            endianness: Endianness::native(),
            options: vec![SectionHeaderOption::UserApplication(Cow::Borrowed(
                concat!("wirepath ", env!("CARGO_PKG_VERSION")),
            ))],
            ..SectionHeaderBlock::default()
        };
        let counting = Counting { inner, bytes: 0 };
        let writer = PcapNgWriter::with_section_header(counting, section).map_err(io_error)?;
        Ok(Blocks {
            writer,
            wall_offset_ns,
            block: Vec::new(),
        })
    }

    /// Bytes written.
    pub(super) fn bytes(&mut self) -> u64 {
        self.writer.get_mut().bytes
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.writer.get_mut().flush()
    }

    pub(super) fn into_inner(self) -> W {
        self.writer.into_inner().inner
    }

    fn put(&mut self, block: &Block<'_>) -> io::Result<()> {
        self.writer.write_block(block).map_err(io_error)?;
        Ok(())
    }

    fn wall(&self, at: Nanos) -> Duration {
        Duration::from_nanos(at.0.saturating_add(self.wall_offset_ns))
    }

    /// Describes the next interface.
    pub(super) fn interface(&mut self, name: &str, snap_len: usize) -> io::Result<()> {
        let block = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: u32::try_from(snap_len).unwrap_or(u32::MAX),
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(name)),
                InterfaceDescriptionOption::IfTsResol(InterfaceTsResolution::NANO),
            ],
        };
        self.put(&block.into_block())
    }

    /// A frame, before which `left_out` of its interface were: an enhanced packet
    /// block (§4.3), put together here since that is what a capture does most.
    pub(super) fn frame(&mut self, frame: &Captured, left_out: u64) -> io::Result<()> {
        let at = frame.at.0.saturating_add(self.wall_offset_ns);
        let block = &mut self.block;
        block.clear();
        put_word(block, PACKET_BLOCK);
        put_word(block, 0);
        put_word(block, frame.interface);
        put_word(block, (at >> 32) as u32);
        put_word(block, at as u32);
        put_word(block, saturated(frame.bytes.len()));
        put_word(block, saturated(frame.original_len));
        block.extend_from_slice(&frame.bytes);
        pad(block);
        let flags = match frame.direction {
            Direction::In => FLAGS_INBOUND,
            Direction::Out => FLAGS_OUTBOUND,
        };
        put_option(block, OPTION_FLAGS, &flags.to_ne_bytes());
        if left_out > 0 {
            put_option(block, OPTION_DROP_COUNT, &left_out.to_ne_bytes());
        }
        if !frame.comment.is_empty() {
            put_option(block, OPTION_COMMENT, cut(&frame.comment).as_bytes());
        }
        put_word(block, OPTION_END);
        let len = saturated(block.len() + 4);
        put_word(block, len);
        block[4..8].copy_from_slice(&len.to_ne_bytes());
        self.writer.get_mut().write_all(block)
    }

    /// Lines of a TLS key log.
    pub(super) fn secrets(&mut self, lines: &[u8]) -> io::Result<()> {
        let len = u32::try_from(lines.len()).map_err(io::Error::other)?;
        let mut value = Vec::with_capacity(8 + lines.len() + 3);
        value.extend_from_slice(&TLS_KEY_LOG.to_ne_bytes());
        value.extend_from_slice(&len.to_ne_bytes());
        value.extend_from_slice(lines);
        value.resize(value.len().next_multiple_of(4), 0);
        // The type, two lengths, and the value.
        let length = u32::try_from(12 + value.len()).map_err(io::Error::other)?;
        let block = UnknownBlock {
            type_: SECRETS_BLOCK,
            length,
            value: Cow::Owned(value),
        };
        self.put(&block.into_block())
    }

    /// The counts of an interface. `isb_ifdrop` is what Wireshark shows as
    /// dropped: frames that crossed the queue and are not in the file.
    pub(super) fn statistics(
        &mut self,
        number: u32,
        now: Nanos,
        counts: &Counts,
    ) -> io::Result<()> {
        let block = InterfaceStatisticsBlock {
            interface_id: number,
            timestamp: self.wall(now),
            options: vec![
                InterfaceStatisticsOption::IsbStartTime(self.wall(counts.since)),
                InterfaceStatisticsOption::IsbEndTime(self.wall(now)),
                InterfaceStatisticsOption::IsbIfRecv(counts.seen),
                InterfaceStatisticsOption::IsbIfDrop(counts.left_out),
                InterfaceStatisticsOption::IsbFilterAccept(
                    counts.seen.saturating_sub(counts.filtered),
                ),
                InterfaceStatisticsOption::IsbUsrDeliv(counts.written),
            ],
        };
        self.put(&block.into_block())
    }
}

fn saturated(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// In the order of bytes of the machine, as the section header says.
fn put_word(block: &mut Vec<u8>, word: u32) {
    block.extend_from_slice(&word.to_ne_bytes());
}

/// Everything in a block begins at a multiple of four bytes (§3.1).
fn pad(block: &mut Vec<u8>) {
    block.resize(block.len().next_multiple_of(4), 0);
}

fn put_option(block: &mut Vec<u8>, code: u16, value: &[u8]) {
    let len = u16::try_from(value.len()).expect("options of a frame are short");
    block.extend_from_slice(&code.to_ne_bytes());
    block.extend_from_slice(&len.to_ne_bytes());
    block.extend_from_slice(value);
    pad(block);
}

/// A comment that fits an option, cut between characters.
fn cut(comment: &str) -> &str {
    &comment[..comment.floor_char_boundary(MOST_COMMENT)]
}
