//! The TCP checksum of a captured frame that its device was to complete.

use crate::ring::{ETHERNET_HEADER, VLAN_TAG};

/// Where the EtherType is, without a tag.
const ETHER_TYPE: usize = 12;
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const VLAN: [u8; 2] = [0x81, 0x00];
/// Bytes of an IPv6 header without extensions, which the stack sends none of.
const IPV6_HEADER: usize = 40;
/// Where a TCP header has its checksum (RFC 9293 §3.1).
const TCP_CHECKSUM: usize = 16;

/// Completes the checksum, whose field holds the sum of the pseudo-header, as
/// the device would. A frame that was cut, or is none of the stack's, stays.
pub(super) fn complete(frame: &mut [u8], original_len: usize) {
    if frame.len() < original_len {
        return;
    }
    let Some(start) = tcp_start(frame) else {
        return;
    };
    let segment = &mut frame[start..];
    if segment.len() < TCP_CHECKSUM + 2 {
        return;
    }
    let sum = !fold(segment);
    segment[TCP_CHECKSUM..TCP_CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
}

fn tcp_start(frame: &[u8]) -> Option<usize> {
    let kind = |at: usize| frame.get(at..at + 2);
    let (kind, ip) = match kind(ETHER_TYPE)? {
        tag if tag == VLAN => (kind(ETHER_TYPE + VLAN_TAG)?, ETHERNET_HEADER + VLAN_TAG),
        other => (other, ETHERNET_HEADER),
    };
    let first = *frame.get(ip)?;
    if kind == IPV6 {
        Some(ip + IPV6_HEADER)
    } else {
        (kind == IPV4).then_some(ip + usize::from(first & 0xf) * 4)
    }
    .filter(|start| *start <= frame.len())
}

/// The Internet checksum's sum (RFC 1071 §1).
fn fold(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| match *pair {
        [a, b] => u64::from(u16::from_be_bytes([a, b])),
        [a] => u64::from(a) << 8,
        _ => 0,
    };
    let mut sum: u64 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A SYN from 10.0.0.1 to 10.0.0.2 whose checksum field has the sum of the
    /// pseudo-header, once plain and once tagged.
    #[test]
    fn a_partial_checksum_is_completed() {
        for tag in [&[][..], &[0x81, 0x00, 0x00, 0x07]] {
            let mut frame = vec![0; ETHER_TYPE];
            frame.extend_from_slice(tag);
            frame.extend_from_slice(&IPV4);
            let mut ip = [0; 20];
            ip[0] = 0x45;
            ip[9] = 6;
            ip[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
            frame.extend_from_slice(&ip);
            let start = frame.len();
            let mut tcp = [0; 23];
            tcp[12] = 0x50;
            tcp[20..].copy_from_slice(b"abc");
            let mut pseudo = ip[12..20].to_vec();
            pseudo.extend_from_slice(&[0, 6, 0, 23]);
            tcp[16..18].copy_from_slice(&fold(&pseudo).to_be_bytes());
            frame.extend_from_slice(&tcp);
            let len = frame.len();
            complete(&mut frame, len + 1);
            assert_eq!(&frame[start..], &tcp, "a cut frame cannot be completed");
            complete(&mut frame, len);
            // A right checksum makes the whole sum all ones.
            let mut whole = pseudo.clone();
            whole.extend_from_slice(&frame[start..]);
            assert_eq!(fold(&whole), 0xffff);
        }
    }

    #[test]
    fn what_is_no_tcp_stays() {
        for bytes in [&[][..], &[0; 13], &[0xff; 60], &[0x08; 15]] {
            let mut frame = bytes.to_vec();
            complete(&mut frame, bytes.len());
            assert_eq!(frame, bytes);
        }
    }
}
