//! The writer's thread: from lanes to pcapng blocks.

use std::borrow::Cow;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption, InterfaceTsResolution,
};
use pcap_file::pcapng::blocks::interface_statistics::{
    InterfaceStatisticsBlock, InterfaceStatisticsOption,
};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, Endianness};

use super::{Direction, Lane, Packet, Shared};
use crate::clock::{self, Nanos};

/// How long what is written may stay in memory while frames keep coming.
const FLUSH_EVERY: Duration = Duration::from_millis(200);
/// Frames of one lane that are written before the others are looked at.
const TURN_FRAMES: usize = 256;
/// `epb_flags`: direction, bits 0 and 1.
const FLAG_INBOUND: u32 = 1;
const FLAG_OUTBOUND: u32 = 2;

type Sink = BufWriter<Box<dyn Write + Send>>;

/// Writes until told to stop, and says how many frames are in the file.
pub(super) fn run(
    sink: Box<dyn Write + Send>,
    shared: &Shared,
    wall_offset_ns: u64,
) -> (u64, io::Result<()>) {
    let mut writer = Writer {
        known: Vec::new(),
        written: 0,
        flushed: 0,
        wall_offset_ns,
    };
    let outcome = writer.run(BufWriter::with_capacity(1 << 18, sink), shared);
    (writer.flushed, outcome)
}

struct Writer {
    /// The lanes that have an interface block, in the blocks' order.
    known: Vec<Arc<Lane>>,
    written: u64,
    /// Of those, the ones that the sink has taken.
    flushed: u64,
    wall_offset_ns: u64,
}

impl Writer {
    fn run(&mut self, sink: Sink, shared: &Shared) -> io::Result<()> {
        let section = SectionHeaderBlock {
            endianness: Endianness::native(),
            options: vec![
                SectionHeaderOption::OS("Linux".into()),
                SectionHeaderOption::UserApplication(
                    concat!("Wirepath ", env!("CARGO_PKG_VERSION")).into(),
                ),
            ],
            ..SectionHeaderBlock::default()
        };
        let mut file =
            PcapNgWriter::with_section_header(sink, section).map_err(io::Error::other)?;
        let mut flushed_at = Instant::now();
        loop {
            // Before the look at the lanes: what crossed before the stop is written.
            let is_last = shared.stop.load(Ordering::Acquire);
            self.add_interfaces(&mut file, shared)?;
            let wrote = self.write_waiting(&mut file)?;
            if wrote == 0 || flushed_at.elapsed() >= FLUSH_EVERY {
                file.get_mut().flush()?;
                self.flushed = self.written;
                flushed_at = Instant::now();
            }
            if wrote == 0 && is_last {
                break;
            }
            if wrote == 0 {
                std::thread::park();
            }
        }
        self.write_statistics(&mut file)?;
        file.into_inner().flush()
    }

    /// Describes the queues that were wrapped since the last look.
    fn add_interfaces(&mut self, file: &mut PcapNgWriter<Sink>, shared: &Shared) -> io::Result<()> {
        let new: Vec<_> = shared
            .lanes()
            .iter()
            .skip(self.known.len())
            .cloned()
            .collect();
        for lane in new {
            let snap_len = u32::try_from(lane.snap_len).unwrap_or(u32::MAX);
            let mut block = InterfaceDescriptionBlock::new(DataLink::ETHERNET, snap_len);
            block.options = vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(&lane.name)),
                InterfaceDescriptionOption::IfTsResol(InterfaceTsResolution::NANO),
            ];
            file.write_pcapng_block(block).map_err(io::Error::other)?;
            self.known.push(lane);
        }
        Ok(())
    }

    /// Writes what waits in the lanes, a bounded number of frames of each.
    fn write_waiting(&mut self, file: &mut PcapNgWriter<Sink>) -> io::Result<usize> {
        let mut wrote = 0;
        for (interface, lane) in self.known.iter().enumerate() {
            for packet in std::iter::from_fn(|| lane.copies.pop()).take(TURN_FRAMES) {
                let block = self.packet_block(interface, &packet);
                let outcome = file.write_pcapng_block(block).map_err(io::Error::other);
                lane.restock(packet);
                outcome?;
                wrote += 1;
            }
        }
        self.written += wrote as u64;
        Ok(wrote)
    }

    fn packet_block<'a>(&self, interface: usize, packet: &'a Packet) -> EnhancedPacketBlock<'a> {
        let flags = match packet.direction {
            Direction::Received => FLAG_INBOUND,
            Direction::Sent => FLAG_OUTBOUND,
        };
        EnhancedPacketBlock {
            interface_id: u32::try_from(interface).expect("a machine has fewer queues"),
            timestamp: self.wall_time(packet.at),
            original_len: u32::try_from(packet.original_len).expect("a frame is at most 64 KiB"),
            data: Cow::Borrowed(&packet.bytes),
            options: vec![EnhancedPacketOption::Flags(flags)],
        }
    }

    fn write_statistics(&self, file: &mut PcapNgWriter<Sink>) -> io::Result<()> {
        for (interface, lane) in self.known.iter().enumerate() {
            let block = InterfaceStatisticsBlock {
                interface_id: u32::try_from(interface).expect("a machine has fewer queues"),
                timestamp: self.wall_time(clock::now()),
                options: vec![
                    InterfaceStatisticsOption::IsbIfRecv(lane.crossed.load(Ordering::Relaxed)),
                    InterfaceStatisticsOption::IsbOsDrop(lane.left_out.load(Ordering::Relaxed)),
                ],
            };
            file.write_pcapng_block(block).map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn wall_time(&self, at: Nanos) -> Duration {
        Duration::from_nanos(at.0.saturating_add(self.wall_offset_ns))
    }
}
