//! The one-frame adapter between a queue and smoltcp.
//!
//! smoltcp sees a device of `Medium::Ip` that has at most one packet to
//! receive ([`Phy::rx`]) and sends into the [`Outbox`]. The Ethernet header is
//! written here, with the peer's address of the flow at hand, and what left is
//! noted in the flow's [`Sent`] and in the frame's tag.

use std::collections::VecDeque;
use std::num::{NonZeroU16, NonZeroUsize};

use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, PacketMeta, RxToken, TxToken};
use smoltcp::time::Instant;
use wirepath_driver::trace::{self, Kind};
use wirepath_driver::{BURST_FRAMES, Frame, FramePool, Offload, Queue, SegmentTag, Spares};

use crate::MacAddr;
use crate::ether::{self, HEADER_LEN};
use crate::segment::{self, Sent};
use crate::stats::Counters;

/// Frames that may wait for the TX ring. Beyond that, smoltcp keeps its
/// segments, so that memory is bounded by the socket buffers.
const OUTBOX_FRAMES: usize = 4 * BURST_FRAMES;
/// The longest IP packet that a device is given to cut: what the field in its
/// header can say, and what a frame of 64 KiB holds.
const LONGEST_PACKET: usize = 64 * 1024 - 1 - HEADER_LEN;

/// Frames on their way to the TX ring.
pub(crate) struct Outbox {
    pub(crate) frames: VecDeque<Frame>,
    /// Frames that were ever put there.
    pub(crate) made: u64,
    /// smoltcp had a packet and was refused room for it.
    pub(crate) refused: bool,
    pool: FramePool,
    /// Received frames that were read.
    pub(crate) spares: Spares,
    mac: MacAddr,
    caps: DeviceCapabilities,
    /// Frames for segments that the device cuts, if it does, and one of them.
    long: Option<FramePool>,
    spare_long: Option<Frame>,
    /// Where a packet goes that there is no frame for.
    scratch: Vec<u8>,
}

impl Outbox {
    pub(crate) fn new(mac: MacAddr, queue: &dyn Queue) -> Outbox {
        let (info, pool) = (queue.info(), queue.pool().clone());
        let long = queue.long_segments().cloned();
        let ip_mtu = info.mtu.min(pool.slot_len() - HEADER_LEN);
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ip;
        caps.max_transmission_unit = ip_mtu;
        // Verified once, by `ip::classify`.
        caps.checksum.ipv4 = Checksum::Tx;
        caps.checksum.tcp = Checksum::Tx;
        let longest = long
            .is_some()
            .then_some(LONGEST_PACKET)
            .and_then(NonZeroUsize::new);
        if longest.is_some() {
            caps.checksum.tcp = Checksum::None;
        }
        // smoltcp drops IPv6 packets that are longer than the MTU.
        caps.segmentation.tcpv4 = longest;
        Outbox {
            frames: VecDeque::with_capacity(OUTBOX_FRAMES),
            made: 0,
            refused: false,
            spares: Spares::new(&pool),
            pool,
            mac,
            caps,
            long,
            spare_long: None,
            scratch: vec![0; longest.map_or(ip_mtu, NonZeroUsize::get)],
        }
    }

    /// Bytes of the largest IP packet.
    pub(crate) fn mtu(&self) -> usize {
        self.caps.max_transmission_unit
    }

    /// Whether another frame may wait.
    pub(crate) fn has_room(&self) -> bool {
        self.frames.len() < OUTBOX_FRAMES
    }

    #[inline]
    fn put(&mut self, frame: Frame) {
        self.made += 1;
        self.frames.push_back(frame);
    }

    fn take(&mut self) -> Option<Frame> {
        if !self.has_room() {
            return None;
        }
        self.spares.take().or_else(|| self.pool.take_tx())
    }

    /// A frame for a packet that fits the MTU, if there is one for a longer packet
    /// too: smoltcp asks before it says which it has.
    fn take_for_any(&mut self) -> Option<Frame> {
        if let Some(pool) = &self.long
            && self.spare_long.is_none()
        {
            self.spare_long = Some(pool.take_tx()?);
        }
        self.take()
    }

    /// A frame for a packet that the device cuts. `short` is not needed then.
    fn take_long(&mut self, short: Option<Frame>) -> Option<Frame> {
        if let Some(short) = short {
            self.spares.put(short);
        }
        self.spare_long.take()
    }

    /// A frame to fill with what came in elsewhere.
    pub(crate) fn blank(&mut self) -> Option<Frame> {
        self.spares.take().or_else(|| self.pool.take_rx())
    }

    /// Queues a whole frame that someone else built; false when there is no
    /// room for it.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> bool {
        let Some(mut frame) = self.take() else {
            return false;
        };
        let fits = frame.fill(bytes);
        if fits {
            self.put(frame);
        }
        fits
    }

    /// Queues a whole frame of `len` bytes, which `emit` writes; false when there
    /// is no room for it.
    pub(crate) fn push_with(&mut self, len: usize, emit: impl FnOnce(&mut [u8])) -> bool {
        let Some(mut frame) = self.take() else {
            return false;
        };
        frame.set_bounds(0, len);
        emit(&mut frame);
        self.put(frame);
        true
    }

    /// Queues an acknowledgment; false when there is no room for it.
    pub(crate) fn push_ack(&mut self, to: MacAddr, ack: &segment::Ack) -> bool {
        let Some(mut frame) = self.take() else {
            return false;
        };
        frame.set_bounds(0, HEADER_LEN + ack.len());
        let ethertype = segment::ethertype(ack.key.local.0);
        ether::write_header(&mut frame, to, self.mac, ethertype);
        ack.emit(&mut frame[HEADER_LEN..]);
        self.put(frame);
        true
    }
}

/// Whose packets pass through the adapter.
pub(crate) struct Line<'a> {
    /// The peer's station.
    pub(crate) mac: MacAddr,
    /// The flow, 0 for none.
    pub(crate) flow: u64,
    /// The end of what was written to the connection: its sequence number and
    /// its offset in the stream.
    pub(crate) written: (u32, u64),
    /// The shift of the windows that smoltcp announces.
    pub(crate) window_shift: u8,
    /// The last segment that left.
    pub(crate) sent: &'a mut Sent,
}

/// A device with one packet to receive at most.
pub(crate) struct Phy<'a> {
    pub(crate) rx: Option<&'a [u8]>,
    pub(crate) outbox: &'a mut Outbox,
    pub(crate) line: Line<'a>,
    pub(crate) counters: &'a mut Counters,
}

/// The packet that came in.
pub(crate) struct Rx<'a>(&'a [u8]);

impl RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Room for one packet to send.
pub(crate) struct Tx<'b, 'a> {
    frame: Option<Frame>,
    /// Bytes of data in each segment that the device is to cut; 0: none.
    segment_len: u16,
    phy: &'b mut Phy<'a>,
}

impl TxToken for Tx<'_, '_> {
    fn set_meta(&mut self, meta: PacketMeta) {
        self.segment_len = meta.segmentation_offload_size.map_or(0, NonZeroU16::get);
    }

    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let outbox = &mut *self.phy.outbox;
        let frame = match self.segment_len {
            0 => self.frame.or_else(|| outbox.take()),
            _ => outbox.take_long(self.frame),
        };
        let Some(mut frame) = frame else {
            // An answer to what just came in, which smoltcp cannot take back:
            // lost, as on the wire.
            self.phy.counters.tx_no_frame += 1;
            return f(&mut outbox.scratch[..len]);
        };
        frame.set_bounds(0, HEADER_LEN + len);
        let result = f(&mut frame[HEADER_LEN..]);
        let is_v6 = frame[HEADER_LEN] >> 4 == 6;
        let ethertype = if is_v6 { ether::IPV6 } else { ether::IPV4 };
        ether::write_header(&mut frame, self.phy.line.mac, outbox.mac, ethertype);
        if self.phy.line.window_shift > 0 {
            segment::hold_back_window(&mut frame[HEADER_LEN..]);
        }
        self.phy.line.note(&mut frame, self.phy.counters);
        if outbox.long.is_some() && segment::sum_pseudo_header(&mut frame[HEADER_LEN..]) {
            frame.meta.offload = Offload::CHECKSUM_PARTIAL;
            frame.meta.segment_len = self.segment_len;
        }
        outbox.put(frame);
        result
    }
}

impl Line<'_> {
    /// Notes a segment that leaves.
    fn note(&mut self, frame: &mut Frame, counters: &mut Counters) {
        let Some(mut sent) = Sent::parse(&frame[HEADER_LEN..]) else {
            return;
        };
        let (end_seq, end_offset) = self.written;
        let before_end = end_seq.wrapping_sub(sent.seq).cast_signed();
        let offset = end_offset.saturating_add_signed(-i64::from(before_end));
        frame.meta.tag = SegmentTag {
            flow: self.flow,
            offset,
            len: sent.len,
        };
        counters.tcp_segments_sent += 1;
        // No segment is without flags: none went before.
        let is_first = self.sent.flags == 0;
        let has_length = sent.next() != sent.seq;
        sent.furthest = sent.next();
        if !is_first && segment::after(self.sent.furthest, sent.seq) {
            sent.is_again = has_length;
            counters.tcp_retransmits += u64::from(sent.len > 0);
            if segment::after(self.sent.furthest, sent.furthest) {
                sent.furthest = self.sent.furthest;
            }
        }
        sent.tally = self.sent.tally.with(&sent, segment::turn_time());
        *self.sent = sent;
        if trace::enabled() {
            frame.meta.stamp = trace::stamp();
            self.trace(&sent, offset, frame);
        }
    }

    /// What is out of the ordinary about a segment; the queue tells of it as a
    /// whole once it has left.
    #[inline]
    fn trace(&self, sent: &Sent, offset: u64, frame: &Frame) {
        let event = |kind| trace::Event::new(frame.meta.stamp, kind, self.flow);
        if sent.is_again && sent.len > 0 {
            let event = event(Kind::TcpRetransmit).frame(frame.len());
            trace::emit(event.bytes(offset, sent.len as usize));
        }
        if sent.flags & segment::RST != 0 {
            trace::emit(event(Kind::TcpReset).bytes(offset, 1));
        }
    }
}

impl<'a> Device for Phy<'a> {
    type RxToken<'b>
        = Rx<'a>
    where
        Self: 'b;
    type TxToken<'b>
        = Tx<'b, 'a>
    where
        Self: 'b;

    fn receive(&mut self, _: Instant) -> Option<(Rx<'a>, Tx<'_, 'a>)> {
        let packet = self.rx.take()?;
        let tx = Tx {
            frame: None,
            segment_len: 0,
            phy: self,
        };
        Some((Rx(packet), tx))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_, 'a>> {
        let frame = self.outbox.take_for_any();
        self.outbox.refused |= frame.is_none();
        frame.map(|frame| Tx {
            frame: Some(frame),
            segment_len: 0,
            phy: self,
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.outbox.caps.clone()
    }
}
