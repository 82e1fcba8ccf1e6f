//! The rule once more, as plain code that reads what it needs or gives up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::frames::{
    ADVERTISEMENT, DESTINATION, FRAGMENT, HOP_BY_HOP, ICMP, ICMPV6, ROUTING, SOLICITATION, TCP, UDP,
};
use crate::xdp::filter::program::HEADERS_MAX;
use crate::xdp::filter::{Fate, Rules};

/// What is to become of the frame.
pub fn fate(rules: &Rules, frame: &[u8]) -> Fate {
    Model { rules }.frame(frame).unwrap_or(Fate::PassShort)
}

struct Model<'a> {
    rules: &'a Rules,
}

/// None for a frame that ends too soon.
type Judged = Option<Fate>;

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn addr4(bytes: &[u8], at: usize) -> Option<IpAddr> {
    let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(Ipv4Addr::from(octets).into())
}

fn addr6(bytes: &[u8], at: usize) -> Option<IpAddr> {
    let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
    Some(Ipv6Addr::from(octets).into())
}

impl Model<'_> {
    fn is_ours(&self, addr: IpAddr) -> bool {
        self.rules.addrs.contains(&addr)
    }

    fn has(&self, family: fn(&IpAddr) -> bool) -> bool {
        self.rules.addrs.iter().any(family)
    }

    fn frame(&self, frame: &[u8]) -> Judged {
        let rest = frame.get(14..)?;
        match be16(frame, 12)? {
            0x8100 | 0x88a8 => Some(Fate::PassVlan),
            0x0800 if !self.has(IpAddr::is_ipv4) => Some(Fate::PassAddress),
            0x86dd if !self.has(IpAddr::is_ipv6) => Some(Fate::PassAddress),
            0x0806 if self.rules.is_shared() || !self.has(IpAddr::is_ipv4) => {
                Some(Fate::PassAddress)
            }
            0x0800 => self.v4(rest),
            0x86dd => self.v6(rest),
            0x0806 => self.arp(rest),
            _ => Some(Fate::PassEthertype),
        }
    }

    fn arp(&self, packet: &[u8]) -> Judged {
        let packet = packet.get(..28)?;
        if packet[..6] != [0, 1, 8, 0, 6, 4] {
            return Some(Fate::PassEthertype);
        }
        let ours = self.is_ours(addr4(packet, 14)?) || self.is_ours(addr4(packet, 24)?);
        Some(if ours {
            Fate::RedirectArp
        } else {
            Fate::PassAddress
        })
    }

    fn v4(&self, packet: &[u8]) -> Judged {
        let header = packet.get(..20)?;
        let (version, length) = (header[0] >> 4, usize::from(header[0] & 15) * 4);
        if version != 4 || length < 20 {
            return Some(Fate::PassVersion);
        }
        if !self.is_ours(addr4(header, 16)?) {
            return Some(Fate::PassAddress);
        }
        let fragment = be16(header, 6)?;
        if self.rules.is_shared() && fragment & 0x3fff != 0 {
            return Some(Fate::PassFragment);
        }
        if fragment & 0x1fff != 0 {
            return Some(Fate::DropFragment);
        }
        if header[9] == ICMP && !self.rules.is_shared() {
            return Some(Fate::RedirectIcmp);
        }
        self.transport(header[9], packet.get(length..).unwrap_or_default())
    }

    fn v6(&self, packet: &[u8]) -> Judged {
        let header = packet.get(..40)?;
        if header[0] >> 4 != 6 {
            return Some(Fate::PassVersion);
        }
        let message = &packet[40..];
        let about = [SOLICITATION, ADVERTISEMENT];
        let is_neighbor = header[6] == ICMPV6
            && message.len() >= 24
            && about.contains(&message[0])
            && self.is_ours(addr6(message, 8)?);
        if is_neighbor && !self.rules.is_shared() {
            return Some(Fate::RedirectNdp);
        }
        if !self.is_ours(addr6(header, 24)?) {
            return Some(Fate::PassAddress);
        }
        self.headers(header[6], message)
    }

    fn headers(&self, mut next: u8, mut rest: &[u8]) -> Judged {
        for _ in 0..HEADERS_MAX {
            if ![HOP_BY_HOP, DESTINATION, ROUTING, FRAGMENT].contains(&next) {
                break;
            }
            let header = rest.get(..8)?;
            let mut length = 8 * (usize::from(header[1]) + 1);
            if next == ROUTING && header[3] != 0 {
                return Some(Fate::PassHeaders);
            }
            if next == FRAGMENT && self.rules.is_shared() {
                return Some(Fate::PassFragment);
            }
            if next == FRAGMENT {
                length = 8;
                if be16(header, 2)? >> 3 != 0 {
                    return Some(Fate::DropFragment);
                }
            }
            next = header[0];
            rest = rest.get(length..).unwrap_or_default();
        }
        match next {
            HOP_BY_HOP | DESTINATION | ROUTING | FRAGMENT => Some(Fate::PassHeaders),
            ICMPV6 if !self.rules.is_shared() => Some(Fate::RedirectIcmp),
            _ => self.transport(next, rest),
        }
    }

    fn transport(&self, protocol: u8, segment: &[u8]) -> Judged {
        let fate = match protocol {
            TCP => Fate::RedirectTcp,
            UDP => Fate::RedirectUdp,
            _ => return Some(Fate::PassProtocol),
        };
        let port = be16(segment.get(..4)?, 2)?;
        let ours = self.rules.ports().is_none_or(|list| list.contains(&port));
        Some(if ours { fate } else { Fate::PassPort })
    }
}
