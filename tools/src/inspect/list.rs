//! The packet list: a line a packet, as `tcpdump -nn` prints it, so that eyes and
//! scripts that know the one know the other.
//!
//! A file's list is millions of lines. A line is put together in one buffer that
//! is used again, and what does not change within a second is kept.

use std::io::Write;
use std::net::IpAddr;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::packet::{Carried, Ip, Net, Tcp, TcpOption, TcpOptions, u32_at};
use super::seen::Flags;

mod icmp;
#[cfg(test)]
mod tests;

/// The ports whose data tcpdump reads as HTTP.
const HTTP_PORTS: [u16; 3] = [80, 8080, 3128];
/// Of a request or status line no more is shown.
const MAX_TEXT_BYTES: usize = 256;

/// Writes lines.
pub struct Lines {
    line: Vec<u8>,
    zone: TimeZone,
    /// The second that `clock` is of.
    second: i64,
    clock: [u8; 8],
    has_nanoseconds: bool,
}

/// Numbers that a connection's relative ones count from: of the sender, and of
/// the receiver.
pub type Bases = Option<(u32, u32)>;

impl Lines {
    /// Times are of this zone, with nanoseconds or with microseconds.
    pub fn new(zone: TimeZone, has_nanoseconds: bool) -> Lines {
        Lines {
            line: Vec::with_capacity(512),
            zone,
            second: i64::MIN,
            clock: *b"00:00:00",
            has_nanoseconds,
        }
    }

    /// A packet's line, with its end.
    ///
    /// `bases`: None where numbers are told as they are, in the first segment of
    /// a connection.
    pub fn of(&mut self, at_ns: i64, net: &Net<'_>, bases: Bases) -> &[u8] {
        self.line.clear();
        self.time(at_ns);
        match net {
            Net::Ip(ip) => self.ip(ip, bases),
            Net::Arp(bytes) => icmp::arp(&mut self.line, bytes),
            Net::EtherType(kind, len) => {
                self.format(format_args!("ethertype {kind:#06x}, length {len}"));
            }
            Net::Length(len) => self.format(format_args!("802.3, length {len}")),
            Net::LinkType(number) => self.format(format_args!("link type {number}, not read")),
            Net::Broken(why) => self.format(format_args!("[{why}]")),
        }
        self.line.push(b'\n');
        &self.line
    }

    fn format(&mut self, words: std::fmt::Arguments<'_>) {
        self.line.write_fmt(words).expect("memory takes it");
    }

    fn time(&mut self, at_ns: i64) {
        let second = at_ns.div_euclid(1_000_000_000);
        if second != self.second {
            self.second = second;
            self.clock = clock_of(second, &self.zone);
        }
        self.line.extend_from_slice(&self.clock);
        self.line.push(b'.');
        let rest = at_ns.rem_euclid(1_000_000_000) as u32;
        match self.has_nanoseconds {
            true => padded(&mut self.line, rest, 9),
            false => padded(&mut self.line, rest / 1000, 6),
        }
        self.line.push(b' ');
    }

    fn ip(&mut self, ip: &Ip<'_>, bases: Bases) {
        let is_v6 = ip.from.is_ipv6();
        self.line
            .extend_from_slice(if is_v6 { b"IP6 " } else { b"IP " });
        let ports = match &ip.carries {
            Carried::Tcp(tcp) => Some((tcp.from, tcp.to)),
            Carried::Udp { from, to, .. } => Some((*from, *to)),
            _ => None,
        };
        end(&mut self.line, ip.from, ports.map(|ports| ports.0));
        self.line.extend_from_slice(b" > ");
        end(&mut self.line, ip.to, ports.map(|ports| ports.1));
        self.line.extend_from_slice(b": ");
        if ip.has_hop_options {
            self.line.extend_from_slice(b"HBH ");
        }
        match &ip.carries {
            Carried::Tcp(tcp) => segment(&mut self.line, tcp, bases),
            Carried::Udp { len, .. } => self.format(format_args!("UDP, length {len}")),
            Carried::Icmp(bytes) => icmp::message(&mut self.line, bytes, ip.len, is_v6),
            Carried::Fragment(kind) => self.format(format_args!("ip-proto-{kind}")),
            Carried::Other(kind) => self.format(format_args!("ip-proto-{kind} {}", ip.len)),
            Carried::Broken(why) => self.format(format_args!("[{why}]")),
        }
    }
}

/// Hours, minutes and seconds there.
fn clock_of(second: i64, zone: &TimeZone) -> [u8; 8] {
    let Ok(time) = Timestamp::from_second(second) else {
        return *b"--:--:--";
    };
    let time = zone.to_datetime(time);
    let mut clock = *b"00:00:00";
    for (place, part) in [(0, time.hour()), (3, time.minute()), (6, time.second())] {
        clock[place] = b'0' + part.unsigned_abs() / 10;
        clock[place + 1] = b'0' + part.unsigned_abs() % 10;
    }
    clock
}

/// A number with zeros before it.
fn padded(line: &mut Vec<u8>, mut number: u32, digits: usize) {
    let start = line.len();
    line.resize(start + digits, b'0');
    for place in line[start..].iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn number(line: &mut Vec<u8>, number: impl itoa::Integer) {
    line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// An address, with its port behind a dot.
fn end(line: &mut Vec<u8>, addr: IpAddr, port: Option<u16>) {
    address(line, addr);
    if let Some(port) = port {
        line.push(b'.');
        number(line, port);
    }
}

fn address(line: &mut Vec<u8>, addr: IpAddr) {
    match addr {
        IpAddr::V4(addr) => {
            for (place, part) in addr.octets().into_iter().enumerate() {
                if place > 0 {
                    line.push(b'.');
                }
                number(line, part);
            }
        }
        IpAddr::V6(addr) => write!(line, "{addr}").expect("memory takes it"),
    }
}

/// A segment: flags, numbers, window, options, length, and what begins it.
fn segment(line: &mut Vec<u8>, tcp: &Tcp<'_>, bases: Bases) {
    line.extend_from_slice(b"Flags [");
    flags(line, tcp.flags);
    line.push(b']');
    let (mine, its) = bases.unwrap_or_default();
    if tcp.len > 0 || tcp.flags.is_control() {
        line.extend_from_slice(b", seq ");
        let seq = tcp.seq.wrapping_sub(mine);
        number(line, seq);
        if tcp.len > 0 {
            line.push(b':');
            number(line, seq.wrapping_add(tcp.len));
        }
    }
    if tcp.flags.ack() {
        line.extend_from_slice(b", ack ");
        number(line, tcp.ack.wrapping_sub(its));
    }
    line.extend_from_slice(b", win ");
    number(line, tcp.window);
    if tcp.flags.0 & 0x20 != 0 {
        line.extend_from_slice(b", urg ");
        number(line, tcp.urgent);
    }
    options(line, tcp, its);
    line.extend_from_slice(b", length ");
    number(line, tcp.len);
    if tcp.len > 0
        && HTTP_PORTS
            .iter()
            .any(|port| [tcp.from, tcp.to].contains(port))
    {
        line.extend_from_slice(b": HTTP");
        text(line, tcp.payload);
    }
}

fn flags(line: &mut Vec<u8>, flags: Flags) {
    let start = line.len();
    for (bit, letter) in b"FSRP.UEW".iter().enumerate() {
        if flags.0 & 1 << bit != 0 {
            line.push(*letter);
        }
    }
    if line.len() == start {
        line.extend_from_slice(b"none");
    }
}

fn options(line: &mut Vec<u8>, tcp: &Tcp<'_>, its: u32) {
    if tcp.options.is_empty() {
        return;
    }
    line.extend_from_slice(b", options [");
    for (place, option) in TcpOptions(tcp.options).enumerate() {
        if place > 0 {
            line.push(b',');
        }
        one_option(line, option, its);
    }
    line.push(b']');
}

fn one_option(line: &mut Vec<u8>, option: TcpOption<'_>, its: u32) {
    match option {
        TcpOption::Nop => line.extend_from_slice(b"nop"),
        TcpOption::End => line.extend_from_slice(b"eol"),
        TcpOption::SackPermitted => line.extend_from_slice(b"sackOK"),
        TcpOption::Bad => line.extend_from_slice(b"bad opt"),
        TcpOption::Mss(mss) => write!(line, "mss {mss}").expect("memory takes it"),
        TcpOption::WindowScale(scale) => write!(line, "wscale {scale}").expect("memory takes it"),
        TcpOption::Timestamps(value, echo) => {
            line.extend_from_slice(b"TS val ");
            number(line, value);
            line.extend_from_slice(b" ecr ");
            number(line, echo);
        }
        TcpOption::Sack(blocks) => {
            line.extend_from_slice(b"sack ");
            number(line, blocks.len() / 8);
            line.push(b' ');
            for block in blocks.chunks_exact(8) {
                let from = u32_at(block, 0).wrapping_sub(its);
                let to = u32_at(block, 4).wrapping_sub(its);
                write!(line, "{{{from}:{to}}}").expect("memory takes it");
            }
        }
        TcpOption::Other(kind, body) => {
            write!(line, "unknown-{kind} 0x").expect("memory takes it");
            for byte in body {
                write!(line, "{byte:02x}").expect("memory takes it");
            }
        }
    }
}

/// The first line of a request or a response, if data begins like one.
fn text(line: &mut Vec<u8>, payload: &[u8]) {
    let first = payload
        .split(|&byte| byte == b'\r' || byte == b'\n')
        .next()
        .unwrap_or_default();
    let word = first.split(|&byte| byte == b' ').next().unwrap_or_default();
    let is_method = (3..=16).contains(&word.len())
        && word.len() < first.len()
        && word.iter().all(u8::is_ascii_uppercase);
    if is_method || word.starts_with(b"HTTP/") {
        line.extend_from_slice(b": ");
        let shown = first.iter().take(MAX_TEXT_BYTES);
        line.extend(shown.map(|&byte| {
            if byte.is_ascii_graphic() || byte == b' ' {
                byte
            } else {
                b'.'
            }
        }));
    }
}
