//! The header that a TAP opened with `IFF_VNET_HDR` puts before each frame:
//! `struct virtio_net_hdr` of linux/virtio_net.h, in the machine's byte order.
//!
//! With it the kernel completes checksums and cuts a long TCP segment into ones
//! that fit the MTU, or, where the receiver is on this machine, does neither.

use crate::frame::{Frame, Offload};
use crate::ring::ETHERNET_HEADER;

/// Bytes of the header (`TUNSETVNETHDRSZ` leaves it so).
pub(super) const HEADER_LEN: usize = 10;

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
/// Where a TCP header has its checksum.
const TCP_CHECKSUM: u16 = 16;
/// Bytes of an IPv6 header without extensions.
const IPV6_HEADER: usize = 40;

/// The header of a frame to send.
pub(super) fn header(frame: &Frame) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    if !frame.meta.offload.contains(Offload::CHECKSUM_PARTIAL) {
        return header;
    }
    let packet = &frame[ETHERNET_HEADER..];
    let is_v6 = packet[0] >> 4 == 6;
    let ip_len = match is_v6 {
        true => IPV6_HEADER,
        false => usize::from(packet[0] & 0xf) * 4,
    };
    let start = ETHERNET_HEADER + ip_len;
    let tcp_len = usize::from(packet[ip_len + 12] >> 4) * 4;
    let mut put = |at: usize, value: u16| {
        header[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    };
    put(6, u16::try_from(start).expect("headers are short"));
    put(8, TCP_CHECKSUM);
    if frame.meta.segment_len > 0 {
        put(
            2,
            u16::try_from(start + tcp_len).expect("headers are short"),
        );
        put(4, frame.meta.segment_len);
    }
    header[0] = NEEDS_CSUM;
    header[1] = match (frame.meta.segment_len, is_v6) {
        (0, _) => 0,
        (_, false) => GSO_TCPV4,
        (_, true) => GSO_TCPV6,
    };
    header
}

/// What the header of a received frame says.
pub(super) fn offload(header: &[u8]) -> Offload {
    match header.first() {
        Some(flags) if flags & (DATA_VALID | NEEDS_CSUM) != 0 => Offload::CHECKSUM_VALID,
        _ => Offload::empty(),
    }
}
