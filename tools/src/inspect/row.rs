//! A packet as filters see it, and in JSON.

use std::net::SocketAddr;

use serde::Serialize;
use wirepath_driver::capture::Direction;

use super::flow::Belongs;
use super::packet::{Carried, Ip, Net};
use super::read::{Record, Way};
use super::seen::Side;
use super::tcp::Finding;
use crate::capture::filter::{Filter, Verdict};
use crate::capture::packet as sifted;
use crate::failure::Failure;

/// Whether a filter takes a packet.
pub fn takes(filter: &Filter, record: &Record<'_>, net: &Net<'_>) -> Result<bool, Failure> {
    let direction = match record.way {
        Some(Way::In) => Direction::In,
        Some(Way::Out) => Direction::Out,
        None if filter.asks_direction() => {
            return Err(Failure::refused(format!(
                "the file does not say which way packet {} went; leave `in` and `out` away",
                record.number
            )));
        }
        None => Direction::In,
    };
    let (protocol, ends) = sifted_of(net);
    let packet = sifted::Packet {
        direction,
        protocol,
        ends,
        tcp: None,
    };
    Ok(filter.judge_alone(&packet) == Verdict::Yes)
}

/// A packet as filters see it.
fn sifted_of(net: &Net<'_>) -> (sifted::Protocol, Option<(SocketAddr, SocketAddr)>) {
    use sifted::Protocol;
    let ip = match net {
        Net::Ip(ip) => ip,
        Net::Arp(_) => return (Protocol::Arp, None),
        _ => return (Protocol::Other, None),
    };
    let (protocol, ports) = match &ip.carries {
        Carried::Tcp(tcp) => (Protocol::Tcp, (tcp.from, tcp.to)),
        Carried::Udp { from, to, .. } => (Protocol::Udp, (*from, *to)),
        Carried::Icmp(_) => (Protocol::Icmp, (0, 0)),
        _ => (Protocol::Other, (0, 0)),
    };
    let ends = ((ip.from, ports.0).into(), (ip.to, ports.1).into());
    (protocol, Some(ends))
}

/// A packet in JSON.
#[derive(Serialize)]
pub struct PacketRow {
    packet: u64,
    at_ns: i64,
    length: u32,
    captured: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    way: Option<Way>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    protocol: sifted::Protocol,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<Side>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp: Option<SegmentRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<Finding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<&'static str>,
}

/// A segment in JSON: numbers as they are on the wire.
#[derive(Serialize)]
struct SegmentRow {
    seq: u32,
    ack: u32,
    flags: u8,
    window: u16,
    length: u32,
}

impl PacketRow {
    pub fn of(record: &Record<'_>, net: &Net<'_>, belongs: Option<Belongs>) -> PacketRow {
        let (protocol, ends) = sifted_of(net);
        let tell = |end: SocketAddr| match protocol.has_ports() {
            true => end.to_string(),
            false => end.ip().to_string(),
        };
        PacketRow {
            packet: record.number,
            at_ns: record.at_ns,
            length: record.original,
            captured: record.data.len(),
            way: record.way,
            from: ends.map(|ends| tell(ends.0)),
            to: ends.map(|ends| tell(ends.1)),
            protocol,
            stream: belongs.map(|belongs| belongs.stream),
            sender: belongs.map(|belongs| belongs.from),
            tcp: net.tcp().map(|(_, _, tcp)| SegmentRow {
                seq: tcp.seq,
                ack: tcp.ack,
                flags: tcp.flags.0,
                window: tcp.window,
                length: tcp.len,
            }),
            findings: belongs.map_or(Vec::new(), |belongs| belongs.findings.iter().collect()),
            comment: record
                .comment
                .map(|text| String::from_utf8_lossy(text).into_owned()),
            broken: match net {
                Net::Broken(why) => Some(why),
                Net::Ip(Ip {
                    carries: Carried::Broken(why),
                    ..
                }) => Some(why),
                _ => None,
            },
        }
    }
}
