//! ARP packets (RFC 826), read and written.

use std::net::Ipv4Addr;

use crate::MacAddr;
use crate::ether::{self, HEADER_LEN};
use crate::ip::DropCause;

/// Bytes of an ARP packet for IPv4 over Ethernet.
const ARP_LEN: usize = 28;
/// Bytes of the shortest Ethernet frame without its FCS. A kernel pads what it
/// gives a NIC, we pad what we build.
const MIN_FRAME_LEN: usize = 60;

/// Hardware type Ethernet, protocol type IPv4, and the lengths of both addresses.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// What an ARP packet does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArpOp {
    /// Asks who has the target address.
    Request,
    /// Says that the sender has its address.
    Reply,
}

/// An ARP packet for IPv4 over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ArpPacket {
    /// Request or reply.
    pub op: ArpOp,
    /// Ethernet address that the sender claims.
    pub sender_mac: MacAddr,
    /// IPv4 address that the sender claims; unspecified in a probe (RFC 5227).
    pub sender_ip: Ipv4Addr,
    /// Ethernet address of the target; means nothing in a request.
    pub target_mac: MacAddr,
    /// IPv4 address that is asked for, or that of the asker.
    pub target_ip: Ipv4Addr,
}

impl ArpPacket {
    /// Reads the payload of an Ethernet frame; what follows the packet is padding.
    ///
    /// # Errors
    /// [`DropCause::Truncated`] or [`DropCause::BadArp`].
    pub(crate) fn parse(payload: &[u8]) -> Result<ArpPacket, DropCause> {
        let bytes = payload.first_chunk::<ARP_LEN>();
        let bytes = bytes.ok_or(DropCause::Truncated)?;
        let op = match bytes[6..8] {
            [0, 1] => ArpOp::Request,
            [0, 2] => ArpOp::Reply,
            _ => return Err(DropCause::BadArp),
        };
        if !bytes.starts_with(&ETHERNET_IPV4) {
            return Err(DropCause::BadArp);
        }
        let mac = |at: usize| {
            let mac = bytes[at..].first_chunk::<6>();
            MacAddr(*mac.expect("both addresses are in the packet"))
        };
        let ip = |at: usize| {
            let ip = bytes[at..].first_chunk::<4>();
            Ipv4Addr::from(*ip.expect("both addresses are in the packet"))
        };
        Ok(ArpPacket {
            op,
            sender_mac: mac(8),
            sender_ip: ip(14),
            target_mac: mac(18),
            target_ip: ip(24),
        })
    }

    /// The packet in a frame for `dst`, padded to the least length.
    pub(super) fn to_frame(self, dst: MacAddr) -> [u8; MIN_FRAME_LEN] {
        let mut frame = [0; MIN_FRAME_LEN];
        ether::write_header(&mut frame, dst, self.sender_mac, ether::ARP);
        let bytes = &mut frame[HEADER_LEN..];
        bytes[..6].copy_from_slice(&ETHERNET_IPV4);
        bytes[7] = match self.op {
            ArpOp::Request => 1,
            ArpOp::Reply => 2,
        };
        bytes[8..14].copy_from_slice(&self.sender_mac.0);
        bytes[14..18].copy_from_slice(&self.sender_ip.octets());
        bytes[18..24].copy_from_slice(&self.target_mac.0);
        bytes[24..28].copy_from_slice(&self.target_ip.octets());
        frame
    }
}
