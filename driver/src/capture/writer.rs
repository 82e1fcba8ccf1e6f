//! The capture's writer thread: records off the queue, blocks into the file.

use std::borrow::Cow;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption, InterfaceTsResolution,
};
use pcap_file::pcapng::blocks::interface_statistics::{
    InterfaceStatisticsBlock, InterfaceStatisticsOption,
};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::{PcapNgBlock, PcapNgWriteError, PcapNgWriter};
use pcap_file::{DataLink, Endianness};

use super::{Direction, Interface, Record, Shared};
use crate::clock::{self, Nanos};

/// How long a frame waits at most before it is in the file, give or take a
/// scheduling delay: what someone who follows the file sees.
const FLUSH_EVERY: Duration = Duration::from_millis(100);

/// Bytes gathered before a write.
const BUFFER: usize = 256 << 10;

/// `epb_flags` of pcapng: the direction is in the two low bits.
const FLAGS_INBOUND: u32 = 1;
const FLAGS_OUTBOUND: u32 = 2;

/// Writes until the capture is closed. After an error it writes no more, but
/// goes on taking records off the queue and counting them.
pub(super) fn run(shared: &Shared, sink: Box<dyn Write + Send>) -> io::Result<()> {
    let result = match start(sink) {
        Ok(writer) => {
            let mut file = Blocks::new(shared, writer);
            file.run().inspect_err(|_| file.leave_out_unflushed())
        }
        Err(error) => Err(error),
    }
    .map_err(io_error);
    if result.is_err() {
        shared.failed.store(true, Ordering::Relaxed);
        while !shared.closed.load(Ordering::Acquire) {
            discard(shared);
            std::thread::park_timeout(FLUSH_EVERY);
        }
        discard(shared);
    }
    result
}

fn start(sink: Box<dyn Write + Send>) -> Result<PcapNgWriter<Sink>, PcapNgWriteError> {
    let section = SectionHeaderBlock {
        endianness: Endianness::native(),
        options: vec![SectionHeaderOption::UserApplication(Cow::Borrowed(
            concat!("wirepath ", env!("CARGO_PKG_VERSION")),
        ))],
        ..SectionHeaderBlock::default()
    };
    PcapNgWriter::with_section_header(BufWriter::with_capacity(BUFFER, sink), section)
}

/// What waits will not be written any more: it is left out.
fn discard(shared: &Shared) {
    let interfaces = shared.interfaces().clone();
    while let Some(record) = shared.records.pop() {
        interfaces[record.interface as usize]
            .left_out
            .fetch_add(1, Ordering::Relaxed);
        release(shared, record);
    }
}

fn release(shared: &Shared, record: Record) {
    shared
        .waiting_bytes
        .fetch_sub(record.bytes.len(), Ordering::Relaxed);
    shared.give_back(record.bytes);
}

fn io_error(error: PcapNgWriteError) -> io::Error {
    match error {
        PcapNgWriteError::Io(error) => error,
        other => io::Error::other(other),
    }
}

type Sink = BufWriter<Box<dyn Write + Send>>;

struct Blocks<'a> {
    shared: &'a Shared,
    writer: PcapNgWriter<Sink>,
    /// Interfaces whose description is in the file, each with the frames and
    /// their bytes that were written since the last flush.
    described: Vec<(Arc<Interface>, u64, u64)>,
    flushed: Instant,
    dirty: bool,
}

impl<'a> Blocks<'a> {
    fn new(shared: &'a Shared, writer: PcapNgWriter<Sink>) -> Blocks<'a> {
        Blocks {
            shared,
            writer,
            described: Vec::new(),
            flushed: Instant::now(),
            // The section header is in the buffer.
            dirty: true,
        }
    }

    fn run(&mut self) -> Result<(), PcapNgWriteError> {
        loop {
            // Read first: what was pushed before closing is then drained.
            let closed = self.shared.closed.load(Ordering::Acquire);
            self.describe()?;
            self.drain(closed)?;
            if closed {
                break;
            }
            self.flush()?;
            std::thread::park_timeout(FLUSH_EVERY);
        }
        self.flush()?;
        self.statistics()?;
        self.dirty = true;
        self.flush()
    }

    /// Writes what waits. With the capture closed that is at most what the
    /// queue holds, whatever is still pushed.
    fn drain(&mut self, closed: bool) -> Result<(), PcapNgWriteError> {
        let mut left = match closed {
            true => self.shared.records.capacity(),
            false => usize::MAX,
        };
        while left > 0
            && let Some(record) = self.shared.records.pop()
        {
            left -= 1;
            if record.interface as usize >= self.described.len() {
                self.describe()?;
            }
            let written = self.write(&record);
            if written.is_err() {
                let (interface, ..) = &self.described[record.interface as usize];
                interface.left_out.fetch_add(1, Ordering::Relaxed);
            }
            release(self.shared, record);
            written?;
            if self.flushed.elapsed() >= FLUSH_EVERY {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), PcapNgWriteError> {
        self.flushed = Instant::now();
        if std::mem::take(&mut self.dirty) {
            self.writer.get_mut().flush()?;
        }
        for (interface, frames, bytes) in &mut self.described {
            let add = |to: &AtomicU64, n: &mut u64| {
                to.fetch_add(std::mem::take(n), Ordering::Relaxed);
            };
            add(&interface.written, frames);
            add(&interface.written_bytes, bytes);
        }
        Ok(())
    }

    /// After an error: what was written since the last flush may not be in the
    /// file.
    fn leave_out_unflushed(&mut self) {
        for (interface, frames, _) in &self.described {
            interface.left_out.fetch_add(*frames, Ordering::Relaxed);
        }
    }

    fn wall(&self, at: Nanos) -> Duration {
        Duration::from_nanos(at.0.saturating_add(self.shared.wall_offset_ns))
    }

    /// Describes the interfaces that were added since the last time.
    fn describe(&mut self) -> Result<(), PcapNgWriteError> {
        let all = self.shared.interfaces().clone();
        for interface in all.into_iter().skip(self.described.len()) {
            let block = InterfaceDescriptionBlock {
                linktype: DataLink::ETHERNET,
                snaplen: u32::try_from(self.shared.snap_len).unwrap_or(u32::MAX),
                options: vec![
                    InterfaceDescriptionOption::IfName(Cow::Borrowed(&interface.name)),
                    InterfaceDescriptionOption::IfTsResol(InterfaceTsResolution::NANO),
                ],
            };
            self.writer.write_block(&block.into_block())?;
            self.dirty = true;
            self.described.push((interface, 0, 0));
        }
        Ok(())
    }

    fn write(&mut self, record: &Record) -> Result<(), PcapNgWriteError> {
        let flags = match record.direction {
            Direction::In => FLAGS_INBOUND,
            Direction::Out => FLAGS_OUTBOUND,
        };
        let mut options = vec![EnhancedPacketOption::Flags(flags)];
        if record.left_out_before > 0 {
            options.push(EnhancedPacketOption::DropCount(record.left_out_before));
        }
        let block = EnhancedPacketBlock {
            interface_id: record.interface,
            timestamp: self.wall(record.at),
            original_len: u32::try_from(record.original_len).unwrap_or(u32::MAX),
            data: Cow::Borrowed(&record.bytes),
            options,
        };
        self.writer.write_block(&block.into_block())?;
        self.dirty = true;
        let (_, frames, bytes) = &mut self.described[record.interface as usize];
        *frames += 1;
        *bytes += record.bytes.len() as u64;
        Ok(())
    }

    /// The counts of each interface. `isb_ifdrop` is what Wireshark shows as
    /// dropped: frames that crossed the queue and are not in the file.
    fn statistics(&mut self) -> Result<(), PcapNgWriteError> {
        let now = self.wall(clock::now());
        for (number, (interface, ..)) in (0u32..).zip(&self.described) {
            let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let block = InterfaceStatisticsBlock {
                interface_id: number,
                timestamp: now,
                options: vec![
                    InterfaceStatisticsOption::IsbStartTime(self.wall(interface.since)),
                    InterfaceStatisticsOption::IsbEndTime(now),
                    InterfaceStatisticsOption::IsbIfRecv(get(&interface.seen)),
                    InterfaceStatisticsOption::IsbIfDrop(get(&interface.left_out)),
                    InterfaceStatisticsOption::IsbUsrDeliv(get(&interface.written)),
                ],
            };
            self.writer.write_block(&block.into_block())?;
        }
        Ok(())
    }
}
