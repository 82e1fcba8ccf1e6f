//! The frames that a NIC would hand up for a captured IP packet.
//!
//! A capture on the sender's machine shows packets before the card has finished
//! them: checksums that are only the sum of the pseudo-header, and segments
//! longer than a frame. A NIC at the other end would have seen neither.

use etherparse::checksum::Sum16BitWords;

use crate::inspect::packet::{Net, protocol};

/// The client's side of the cable and the server's.
pub const CLIENT_MAC: [u8; 6] = [0x02, 0x77, 0x70, 0, 0, 0x01];
/// As above.
pub const SERVER_MAC: [u8; 6] = [0x02, 0x77, 0x70, 0, 0, 0x02];

/// Link type of Ethernet.
pub const ETHERNET: u32 = 1;
/// Where a TCP header has its fields (RFC 9293 §3.1).
const SEQ: usize = 4;
const ACK: usize = 8;
const WINDOW: usize = 14;
const FLAGS: usize = 13;
const CHECKSUM: usize = 16;
/// FIN, PSH and CWR: of a long segment's parts only the last, or the first, has
/// them.
const LAST_ONLY: u8 = 0x09;
const FIRST_ONLY: u8 = 0x80;

/// Where in an IP packet its TCP header is, and where its data.
struct Places {
    tcp: usize,
    data: usize,
}

/// The frames, none longer than `mtu` bytes behind its header.
pub fn of(packet: &[u8], mtu: usize) -> Vec<Vec<u8>> {
    let packet = &packet[..total_len(packet).min(packet.len())];
    let Some(places) = places(packet) else {
        return vec![frame(packet)];
    };
    if packet.len() > mtu && mtu > places.data {
        return split(packet, &places, mtu);
    }
    let mut frame = frame(packet);
    complete(&mut frame[14..], &places);
    vec![frame]
}

fn frame(packet: &[u8]) -> Vec<u8> {
    let kind: [u8; 2] = match packet.first().map(|first| first >> 4) {
        Some(6) => [0x86, 0xdd],
        _ => [0x08, 0x00],
    };
    [&SERVER_MAC[..], &CLIENT_MAC, &kind, packet].concat()
}

/// What the IP header says; a length of 0 is that of a packet longer than it can
/// say.
fn total_len(packet: &[u8]) -> usize {
    let (at, more) = match packet.first().map(|first| first >> 4) {
        Some(6) => (4, 40),
        _ => (2, 0),
    };
    match packet.get(at..at + 2) {
        Some(&[0, 0]) | None => packet.len(),
        Some(len) => usize::from(u16::from_be_bytes([len[0], len[1]])) + more,
    }
}

fn places(packet: &[u8]) -> Option<Places> {
    let net = Net::of(101, packet, packet.len() as u32);
    let (_, _, tcp) = net.tcp()?;
    let data = packet.len() - tcp.payload.len();
    let tcp = data - 20 - tcp.options.len();
    Some(Places { tcp, data })
}

/// The sum of a segment with its pseudo-header (RFC 9293 §3.1, RFC 8200 §8.1).
fn pseudo(packet: &[u8], places: &Places) -> Sum16BitWords {
    let addrs = if packet[0] >> 4 == 6 {
        &packet[8..40]
    } else {
        &packet[12..20]
    };
    let len = (packet.len() - places.tcp) as u32;
    Sum16BitWords::new()
        .add_slice(addrs)
        .add_4bytes(len.to_be_bytes())
        .add_2bytes([0, protocol::TCP])
}

/// Completes the checksum if its field holds the pseudo-header's sum, as it does
/// where the card was to complete it. One that is wrong otherwise stays wrong.
fn complete(packet: &mut [u8], places: &Places) {
    let sum = pseudo(packet, places);
    let partial = (!sum.ones_complement()).to_be().to_be_bytes();
    if packet[places.tcp + CHECKSUM..places.tcp + CHECKSUM + 2] == partial {
        put_checksum(packet, places);
    }
}

fn put_checksum(packet: &mut [u8], places: &Places) {
    let at = places.tcp + CHECKSUM;
    packet[at..at + 2].fill(0);
    let sum = pseudo(packet, places).add_slice(&packet[places.tcp..]);
    packet[at..at + 2].copy_from_slice(&sum.ones_complement().to_be().to_be_bytes());
}

/// Puts another acknowledgement and window into a frame with a segment.
pub fn set_ack(frame: &mut [u8], ack: u32, window: u16) {
    let packet = &mut frame[14..];
    if let Some(places) = places(packet) {
        packet[places.tcp + ACK..places.tcp + ACK + 4].copy_from_slice(&ack.to_be_bytes());
        packet[places.tcp + WINDOW..places.tcp + WINDOW + 2].copy_from_slice(&window.to_be_bytes());
        put_checksum(packet, &places);
    }
}

/// A frame with a segment of the same connection that only acknowledges, and
/// whose own number is `seq`.
pub fn bare_ack(frame: &[u8], seq: u32, ack: u32, window: u16) -> Option<Vec<u8>> {
    let places = places(&frame[14..])?;
    let mut bare = frame[..14 + places.data].to_vec();
    let packet = &mut bare[14..];
    packet[places.tcp + SEQ..places.tcp + SEQ + 4].copy_from_slice(&seq.to_be_bytes());
    packet[places.tcp + FLAGS] = 0x10;
    put_lengths(packet);
    set_ack(&mut bare, ack, window);
    Some(bare)
}

/// Cuts a long segment as a card does.
fn split(packet: &[u8], places: &Places, mtu: usize) -> Vec<Vec<u8>> {
    let (head, data) = packet.split_at(places.data);
    let parts: Vec<&[u8]> = data.chunks(mtu - places.data).collect();
    let last = parts.len() - 1;
    let mut offset = 0;
    let mut frames = Vec::with_capacity(parts.len());
    for (place, part) in parts.into_iter().enumerate() {
        let mut whole = [head, part].concat();
        let seq = &mut whole[places.tcp + SEQ..places.tcp + SEQ + 4];
        let moved = u32::from_be_bytes([seq[0], seq[1], seq[2], seq[3]]).wrapping_add(offset);
        seq.copy_from_slice(&moved.to_be_bytes());
        let flags = &mut whole[places.tcp + FLAGS];
        *flags &= if place < last { !LAST_ONLY } else { 0xff };
        *flags &= if place > 0 { !FIRST_ONLY } else { 0xff };
        put_lengths(&mut whole);
        put_checksum(&mut whole, places);
        frames.push(frame(&whole));
        offset += part.len() as u32;
    }
    frames
}

/// The IP header's length and checksum.
fn put_lengths(packet: &mut [u8]) {
    let len = packet.len();
    if packet[0] >> 4 == 6 {
        packet[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
        return;
    }
    packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    packet[10..12].fill(0);
    let header = usize::from(packet[0] & 0xf) * 4;
    let sum = Sum16BitWords::new()
        .add_slice(&packet[..header])
        .ones_complement();
    packet[10..12].copy_from_slice(&sum.to_be().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};

    fn packet(is_v6: bool, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let tcp = |b: etherparse::PacketBuilderStep<etherparse::IpHeaders>| {
            b.tcp(40_000, 80, 1_000, 500).psh().ack(7).fin()
        };
        let builder = match is_v6 {
            true => tcp(PacketBuilder::ipv6([1; 16], [2; 16], 64)),
            false => tcp(PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)),
        };
        builder.write(&mut bytes, payload).unwrap();
        bytes
    }

    /// Sequence number, data, flags, of a frame whose checksums are right.
    #[track_caller]
    fn check(frame: &[u8]) -> (u32, Vec<u8>, bool) {
        let sliced = SlicedPacket::from_ethernet(frame).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else {
            panic!("no TCP");
        };
        let right = match sliced.net.as_ref().unwrap() {
            etherparse::NetSlice::Ipv4(ip) => {
                assert_eq!(
                    ip.header().header_checksum(),
                    ip.header().to_header().calc_header_checksum()
                );
                tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination())
                    .unwrap()
            }
            etherparse::NetSlice::Ipv6(ip) => tcp
                .calc_checksum_ipv6(ip.header().source(), ip.header().destination())
                .unwrap(),
            _ => panic!("no IP"),
        };
        assert_eq!(tcp.checksum(), right);
        (tcp.sequence_number(), tcp.payload().to_vec(), tcp.fin())
    }

    #[test]
    fn a_whole_packet_stays_as_it_is() {
        for is_v6 in [false, true] {
            let packet = packet(is_v6, b"hello");
            let padded = [&packet[..], &[0; 6]].concat();
            let frames = of(&padded, 1500);
            assert_eq!(frames.len(), 1);
            assert_eq!(&frames[0][14..], packet);
            assert_eq!(check(&frames[0]), (1_000, b"hello".to_vec(), true));
        }
    }

    #[test]
    fn a_checksum_that_the_card_was_to_complete_is_completed_and_a_wrong_one_is_not() {
        for is_v6 in [false, true] {
            let whole = packet(is_v6, b"hello");
            let places = places(&whole).unwrap();
            let mut partial = whole.clone();
            let sum = (!pseudo(&whole, &places).ones_complement()).to_be();
            partial[places.tcp + 16..places.tcp + 18].copy_from_slice(&sum.to_be_bytes());
            assert_eq!(&of(&partial, 1500)[0][14..], whole);
            let mut wrong = whole.clone();
            *wrong.last_mut().unwrap() ^= 1;
            assert_eq!(&of(&wrong, 1500)[0][14..], wrong);
        }
    }

    #[test]
    fn a_long_segment_is_cut_into_frames() {
        let data: Vec<u8> = (0..4_000).map(|n| n as u8).collect();
        for is_v6 in [false, true] {
            let frames = of(&packet(is_v6, &data), 1500);
            let mut together = Vec::new();
            for (place, frame) in frames.iter().enumerate() {
                assert!(frame.len() <= 1514);
                let (seq, part, fin) = check(frame);
                assert_eq!(seq as usize, 1_000 + together.len());
                assert_eq!(fin, place == frames.len() - 1);
                together.extend(part);
            }
            assert_eq!(together, data);
        }
    }
}
