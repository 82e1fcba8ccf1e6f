//! Frames made by hand: right ones, and from these wrong ones.
//!
//! Headers are written as RFC 791, RFC 8200, RFC 9293, RFC 826 and RFC 4861
//! draw them, without the stack's own emitters, so that a mistake there cannot
//! hide itself here.

/// A MAC address.
pub type Mac = [u8; 6];

/// `FF:FF:FF:FF:FF:FF`.
pub const BROADCAST: Mac = [0xff; 6];

/// The protocol numbers that the tests use.
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
}

/// Ethertypes.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// An 802.1Q tag.
    pub const VLAN: u16 = 0x8100;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// "For public use for prototype development": nobody's.
    pub const EXPERIMENTAL: u16 = 0x88b5;
}

/// An Ethernet frame.
pub fn ethernet(dst: Mac, src: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(14 + payload.len());
    frame.extend(dst);
    frame.extend(src);
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// An IPv4 packet without options.
pub fn ipv4(src: [u8; 4], dst: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).expect("a packet of at most 64 KiB");
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
    packet.extend(src);
    packet.extend(dst);
    seal_ipv4(&mut packet);
    packet.extend(payload);
    packet
}

/// Makes the header checksum of an IPv4 packet right.
pub fn seal_ipv4(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let sum = checksum(&[&packet[..20]]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// An IPv6 packet without extension headers.
pub fn ipv6(src: [u8; 16], dst: [u8; 16], next_header: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a packet of at most 64 KiB");
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([next_header, 255]);
    packet.extend(src);
    packet.extend(dst);
    packet.extend(payload);
    packet
}

/// The ends of a TCP or UDP exchange, as the checksum's pseudo-header has them.
#[derive(Clone, Copy, Debug)]
pub struct Ends<'a> {
    /// The source address.
    pub src: &'a [u8],
    /// The destination address.
    pub dst: &'a [u8],
    /// The source port.
    pub src_port: u16,
    /// The destination port.
    pub dst_port: u16,
}

/// A TCP segment without options. `flags` are the low bits of byte 13.
pub fn tcp(ends: Ends<'_>, seq: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(ends.src_port.to_be_bytes());
    segment.extend(ends.dst_port.to_be_bytes());
    segment.extend(seq.to_be_bytes());
    segment.extend([0; 4]);
    segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(payload);
    seal(ends.src, ends.dst, protocol::TCP, &mut segment, 16);
    segment
}

/// A UDP datagram.
pub fn udp(ends: Ends<'_>, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).expect("a datagram of at most 64 KiB");
    let mut datagram = Vec::new();
    datagram.extend(ends.src_port.to_be_bytes());
    datagram.extend(ends.dst_port.to_be_bytes());
    datagram.extend(length.to_be_bytes());
    datagram.extend([0; 2]);
    datagram.extend(payload);
    seal(ends.src, ends.dst, protocol::UDP, &mut datagram, 6);
    datagram
}

/// An ARP packet for IPv4 over Ethernet; `operation` 1 asks, 2 answers.
pub fn arp(operation: u16, sender: (Mac, [u8; 4]), target: (Mac, [u8; 4])) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(operation.to_be_bytes());
    packet.extend(sender.0);
    packet.extend(sender.1);
    packet.extend(target.0);
    packet.extend(target.1);
    packet
}

/// Puts an 802.1Q tag with this VLAN id into an Ethernet frame.
pub fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    let mut tagged = frame[..12].to_vec();
    tagged.extend(ethertype::VLAN.to_be_bytes());
    tagged.extend(vlan.to_be_bytes());
    tagged.extend(&frame[12..]);
    tagged
}

/// Makes the checksum at `at` right for what an IP packet carries.
pub fn seal(src: &[u8], dst: &[u8], protocol: u8, body: &mut [u8], at: usize) {
    body[at..at + 2].fill(0);
    let length = u32::try_from(body.len()).expect("a packet of at most 64 KiB");
    let tail = [length.to_be_bytes(), [0, 0, 0, protocol]].concat();
    let sum = checksum(&[src, dst, &tail, body]);
    body[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// The Internet checksum (RFC 1071) of parts that are each, but the last, of
/// even length.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A small generator of repeatable noise (xorshift, Marsaglia 2003).
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Noise {
    /// The noise of a seed, which is not zero.
    pub fn new(seed: u64) -> Noise {
        assert_ne!(seed, 0, "zero stays zero");
        Noise(seed)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    /// `frame` with up to four bytes changed behind its MAC addresses, and
    /// sometimes cut short.
    pub fn spoil(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut spoiled = frame.to_vec();
        for _ in 0..=self.below(4) {
            let at = 12 + self.below(spoiled.len() - 12);
            spoiled[at] = self.below(256) as u8;
        }
        if self.below(4) == 0 {
            spoiled.truncate(14 + self.below(spoiled.len() - 14));
        }
        spoiled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_of_the_example_in_rfc_1071() {
        let words = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&[&words]), !0xddf2);
    }

    #[test]
    fn a_sealed_segment_sums_to_zero() {
        let ends = Ends {
            src: &[10, 0, 0, 1],
            dst: &[10, 0, 0, 2],
            src_port: 1,
            dst_port: 2,
        };
        for payload in [&b""[..], b"odd", b"even"] {
            let segment = tcp(ends, 7, 2, payload);
            let tail = [0, segment.len() as u8, 0, protocol::TCP];
            assert_eq!(checksum(&[ends.src, ends.dst, &tail, &segment]), 0);
        }
    }

    #[test]
    fn noise_leaves_the_ethernet_header_whole() {
        let mut noise = Noise::new(1);
        let frame = ethernet(BROADCAST, [2; 6], ethertype::ARP, &[0; 28]);
        for _ in 0..1000 {
            let spoiled = noise.spoil(&frame);
            assert_eq!(spoiled[..12], frame[..12]);
            assert!((14..=frame.len()).contains(&spoiled.len()));
        }
    }
}
