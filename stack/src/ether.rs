//! The Ethernet header, in and out, and the group addresses that IP maps to.
//!
//! [`crate::ip::classify`] parses a header for each received frame; whoever
//! builds a frame writes one in front of it. IEEE 802.3 for the layout, RFC 1112
//! §6.4 and RFC 2464 §7 for groups. Frames come without their FCS.
//!
//! VLAN tags (802.1Q, 802.1ad) are recognized and refused: a tagged frame belongs
//! to another network than the untagged one that the stack is configured for.

use std::net::Ipv6Addr;

use crate::MacAddr;
use crate::ip::DropCause;

/// Bytes of an untagged header.
pub(crate) const HEADER_LEN: usize = 14;

/// Bytes of the longest frame that an IP packet can need: a header, and an IPv6
/// packet whose payload length is all ones.
pub(crate) const MAX_FRAME_LEN: usize = HEADER_LEN + 40 + 65_535;

/// EtherType of IPv4 (RFC 894).
pub(crate) const IPV4: u16 = 0x0800;
/// EtherType of ARP (RFC 826).
pub(crate) const ARP: u16 = 0x0806;
/// EtherType of IPv6 (RFC 2464 §3).
pub(crate) const IPV6: u16 = 0x86dd;

/// Tag protocol identifiers of a customer's (802.1Q) and a service's (802.1ad) VLAN.
const VLAN_TAGS: [u16; 2] = [0x8100, 0x88a8];

/// An Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Who sent the frame.
    pub src: MacAddr,
    /// Whom it is for: a station, a group, or everybody.
    pub dst: MacAddr,
    /// What the payload is; below 0x0600 a length (802.3), which IP never uses.
    pub ethertype: u16,
}

/// Reads the header of `frame`.
///
/// # Errors
/// [`DropCause::Truncated`], [`DropCause::Oversized`] or [`DropCause::Vlan`].
#[inline]
pub(crate) fn parse(frame: &[u8]) -> Result<Header, DropCause> {
    let Some(bytes) = frame.first_chunk::<HEADER_LEN>() else {
        return Err(DropCause::Truncated);
    };
    if frame.len() > MAX_FRAME_LEN {
        return Err(DropCause::Oversized);
    }
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *bytes;
    let ethertype = u16::from_be_bytes([t0, t1]);
    if VLAN_TAGS.contains(&ethertype) {
        return Err(DropCause::Vlan);
    }
    Ok(Header {
        src: MacAddr([s0, s1, s2, s3, s4, s5]),
        dst: MacAddr([d0, d1, d2, d3, d4, d5]),
        ethertype,
    })
}

/// Writes a header to the start of `buf`.
///
/// # Panics
/// When `buf` is shorter than [`HEADER_LEN`].
#[inline]
pub(crate) fn write_header(buf: &mut [u8], dst: MacAddr, src: MacAddr, ethertype: u16) {
    let header = buf
        .first_chunk_mut::<HEADER_LEN>()
        .expect("the caller made room for a header");
    header[..6].copy_from_slice(&dst.0);
    header[6..12].copy_from_slice(&src.0);
    header[12..].copy_from_slice(&ethertype.to_be_bytes());
}

/// The Ethernet group of an IPv6 multicast address (RFC 2464 §7).
pub(crate) fn group_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_header_reads_back() {
        let want = Header {
            src: MacAddr([2, 0, 0, 0, 0, 1]),
            dst: MacAddr::BROADCAST,
            ethertype: ARP,
        };
        let mut frame = [0x55; 20];
        write_header(&mut frame, want.dst, want.src, want.ethertype);
        assert_eq!(parse(&frame), Ok(want));
        assert_eq!(
            &frame[..15],
            b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x08\x06\x55"
        );
    }

    #[test]
    fn headers_that_cannot_be_read_are_told_apart() {
        let tagged = |tag: u16| {
            let mut frame = vec![0; 64];
            write_header(&mut frame, MacAddr::BROADCAST, MacAddr([2; 6]), tag);
            frame
        };
        for (frame, want) in [
            (vec![], DropCause::Truncated),
            (vec![0xff; 13], DropCause::Truncated),
            (tagged(0x8100), DropCause::Vlan),
            (tagged(0x88a8), DropCause::Vlan),
            (vec![0xff; MAX_FRAME_LEN + 1], DropCause::Oversized),
        ] {
            assert_eq!(parse(&frame), Err(want), "{} bytes", frame.len());
        }
        assert!(parse(&vec![0xff; MAX_FRAME_LEN]).is_ok());
    }

    #[test]
    fn groups_map_to_their_low_bits() {
        let group = "ff02::1:ff28:9c5a".parse().unwrap();
        assert_eq!(
            group_mac(group),
            MacAddr([0x33, 0x33, 0xff, 0x28, 0x9c, 0x5a])
        );
    }
}
