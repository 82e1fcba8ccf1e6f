//! Segments that we send, seen from outside smoltcp.
//!
//! smoltcp keeps a connection's sequence numbers to itself. What it writes on
//! the wire tells them: [`Sent::parse`] reads the header of each outgoing
//! segment, which is what the trace, TIME-WAIT and challenge ACKs need.
//! [`Ack`] is the one segment that we write without smoltcp.
//!
//! The timestamp clock (RFC 7323 §5.4) is here too: smoltcp asks a plain
//! function for it, so the time of the turn is left in a thread-local.

use std::cell::Cell;
use std::net::IpAddr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, TcpTimestampRepr,
};
use wirepath_driver::Nanos;

use crate::flow::FlowKey;
use crate::rtt::Tally;

thread_local! {
    static TIMESTAMP: Cell<u32> = const { Cell::new(0) };
    static TURN: Cell<Nanos> = const { Cell::new(Nanos::ZERO) };
}

/// Sets the timestamp clock of this thread: milliseconds, offset by `origin`
/// so that it does not tell how long the machine is up.
pub(crate) fn set_timestamp_clock(now: Nanos, origin: u32) {
    let millis = now.0 / 1_000_000;
    TIMESTAMP.with(|t| t.set((millis as u32).wrapping_add(origin)));
    TURN.with(|t| t.set(now));
}

/// The time of the turn that this thread is in.
pub(crate) fn turn_time() -> Nanos {
    TURN.with(Cell::get)
}

/// The timestamp clock, as smoltcp asks for it.
pub(crate) fn timestamp_clock() -> u32 {
    TIMESTAMP.with(Cell::get)
}

/// FIN, SYN and RST of the header's flags (RFC 9293 §3.1).
pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;

/// The last segment of a flow that left, by its header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Sequence number.
    pub(crate) seq: u32,
    /// Acknowledgment number.
    pub(crate) ack: u32,
    /// Window as on the wire.
    pub(crate) window: u16,
    /// Control bits.
    pub(crate) flags: u8,
    /// Bytes of data.
    pub(crate) len: u32,
    /// The sequence number after all that has left so far (SND.NXT of RFC 9293).
    pub(crate) furthest: u32,
    /// It begins before that: it went out once more, or a probe did.
    pub(crate) is_again: bool,
    /// Timestamp value and echo, when the connection has the option.
    pub(crate) timestamp: Option<(u32, u32)>,
    /// The window scale announced, on a SYN.
    pub(crate) window_scale: Option<u8>,
    /// What it and those before it amount to.
    pub(crate) tally: Tally,
}

/// Where the TCP header of an IP packet begins; None when it is not TCP.
fn tcp_start(packet: &[u8]) -> Option<usize> {
    match packet.first()? >> 4 {
        4 if packet.get(9) == Some(&6) => Some(usize::from(packet[0] & 0xf) * 4),
        6 if packet.get(6) == Some(&6) => Some(40),
        _ => None,
    }
}

/// Puts the sum of the pseudo-header (RFC 9293 §3.1) into the checksum field of
/// a TCP segment, for a device that adds the rest. False: it is not TCP.
pub(crate) fn sum_pseudo_header(packet: &mut [u8]) -> bool {
    let Some(tcp) = tcp_start(packet) else {
        return false;
    };
    let addresses = match packet[0] >> 4 {
        4 => &packet[12..20],
        _ => &packet[8..40],
    };
    let words = addresses.as_chunks::<2>().0.iter();
    let sum: u32 = words.map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    // Both are less than 64 KiB, so what is carried twice is 1 at most.
    let sum = sum + 6 + (packet.len() - tcp) as u32;
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = ((sum & 0xffff) + (sum >> 16)) as u16;
    packet[tcp + 16..tcp + 18].copy_from_slice(&sum.to_be_bytes());
    true
}

/// Announces a scaled window one unit smaller than smoltcp wrote it.
///
/// smoltcp rounds a window down to whole units, so its right edge may move back
/// by less than a unit when an odd number of bytes comes in, and it drops what
/// lies beyond (RFC 7323 §2.4 has the receiver keep to the edge announced). A
/// peer that was told one unit less never sends that far. The window of a SYN is
/// not scaled.
pub(crate) fn hold_back_window(packet: &mut [u8]) {
    let Some(tcp) = tcp_start(packet) else {
        return;
    };
    let Some(header) = packet
        .get_mut(tcp..)
        .and_then(<[u8]>::first_chunk_mut::<20>)
    else {
        return;
    };
    let window = u16::from_be_bytes([header[14], header[15]]);
    if window == 0 || header[13] & SYN != 0 {
        return;
    }
    header[14..16].copy_from_slice(&(window - 1).to_be_bytes());
    // RFC 1624: one less in the header is one more in the checksum.
    let (sum, carry) = u16::from_be_bytes([header[16], header[17]]).overflowing_add(1);
    header[16..18].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
}

impl Sent {
    /// Reads the IP packet that smoltcp wrote; None when it is not TCP.
    pub(crate) fn parse(packet: &[u8]) -> Option<Sent> {
        let tcp = packet.get(tcp_start(packet)?..)?;
        let header = tcp.first_chunk::<20>()?;
        let word = |at: usize| {
            u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let header_len = usize::from(header[12] >> 4) * 4;
        let mut sent = Sent {
            seq: word(4),
            ack: word(8),
            window: u16::from_be_bytes([header[14], header[15]]),
            flags: header[13],
            len: u32::try_from(tcp.len().checked_sub(header_len)?).ok()?,
            furthest: 0,
            is_again: false,
            timestamp: None,
            window_scale: None,
            tally: Tally::default(),
        };
        sent.parse_options(tcp.get(20..header_len)?);
        Some(sent)
    }

    fn parse_options(&mut self, mut options: &[u8]) {
        loop {
            options = match *options {
                [] | [0, ..] => return,
                [1, ref rest @ ..] => rest,
                [8, 10, a, b, c, d, e, f, g, h, ref rest @ ..] => {
                    let echo = u32::from_be_bytes([e, f, g, h]);
                    self.timestamp = Some((u32::from_be_bytes([a, b, c, d]), echo));
                    rest
                }
                [3, 3, shift, ref rest @ ..] => {
                    self.window_scale = Some(shift);
                    rest
                }
                [_, len, ..] if len >= 2 => match options.get(usize::from(len)..) {
                    Some(rest) => rest,
                    None => return,
                },
                _ => return,
            };
        }
    }

    /// The sequence number after the segment.
    pub(crate) fn next(&self) -> u32 {
        let controls = u32::from(self.flags & SYN != 0) + u32::from(self.flags & FIN != 0);
        self.seq.wrapping_add(self.len).wrapping_add(controls)
    }
}

/// An acknowledgment without data, written without smoltcp.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ack {
    pub(crate) key: FlowKey,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) window: u16,
    /// The peer's last timestamp, when the connection has the option.
    pub(crate) echo: Option<u32>,
}

impl Ack {
    fn reprs(&self) -> (IpRepr, TcpRepr<'static>) {
        let tcp = TcpRepr {
            src_port: self.key.local.1,
            dst_port: self.key.remote.1,
            control: TcpControl::None,
            seq_number: TcpSeqNumber(self.seq.cast_signed()),
            ack_number: Some(TcpSeqNumber(self.ack.cast_signed())),
            window_len: self.window,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: self
                .echo
                .map(|echo| TcpTimestampRepr::new(timestamp_clock(), echo)),
            payload: &[],
        };
        let (src, dst) = (self.key.local.0.into(), self.key.remote.0.into());
        let ip = IpRepr::new(src, dst, IpProtocol::Tcp, tcp.buffer_len(), 64);
        (ip, tcp)
    }

    /// Bytes of the IP packet.
    pub(crate) fn len(&self) -> usize {
        self.reprs().0.buffer_len()
    }

    /// Writes the IP packet.
    pub(crate) fn emit(&self, buf: &mut [u8]) {
        let checksums = ChecksumCapabilities::default();
        let (ip, tcp) = self.reprs();
        ip.emit(&mut *buf, &checksums);
        let mut packet = TcpPacket::new_unchecked(&mut buf[ip.header_len()..]);
        tcp.emit(&mut packet, &ip.src_addr(), &ip.dst_addr(), &checksums);
    }
}

/// Whether `a` comes after `b` in sequence space.
pub(crate) fn after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

/// EtherType of an address's family.
pub(crate) fn ethertype(addr: IpAddr) -> u16 {
    match addr {
        IpAddr::V4(_) => crate::ether::IPV4,
        IpAddr::V6(_) => crate::ether::IPV6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for (local, remote) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            for echo in [None, Some(77)] {
                set_timestamp_clock(Nanos(5_000_000), 100);
                let ack = Ack {
                    key: FlowKey {
                        local: (local.parse().unwrap(), 80),
                        remote: (remote.parse().unwrap(), 4000),
                    },
                    seq: 0xffff_fff0,
                    ack: 9,
                    window: 512,
                    echo,
                };
                let mut bytes = vec![0xaa; ack.len()];
                ack.emit(&mut bytes);
                let sent = Sent::parse(&bytes).unwrap();
                assert_eq!((sent.seq, sent.ack), (0xffff_fff0, 9));
                assert_eq!((sent.window, sent.flags, sent.len), (512, 0x10, 0));
                assert_eq!(sent.timestamp, echo.map(|echo| (105, echo)));
            }
        }
    }

    #[test]
    fn order_wraps() {
        assert!(after(1, u32::MAX) && !after(u32::MAX, 1) && !after(5, 5));
    }
}
