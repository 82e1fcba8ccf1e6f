//! Which frames a capture keeps: a small language, and what it means.
//!
//! ```text
//! expression = term { "or" term }            term   = factor { "and" factor }
//! factor     = "not" factor | "(" expression ")" | test
//! test       = "host" ADDR     to or from that address
//!            | "net" ADDR/BITS to or from that network
//!            | "port" N[-M]    to or from one of these ports
//!            | "flow" ADDR:PORT of the connections with that end
//!            | "fd" N          of the connection with that descriptor
//!            | "route" PATTERN of connections that the mux sent to that route
//!            | "status" WHAT   of connections with such an answer: 404, 5xx, 500-503
//!            | "in" | "out"    received, sent
//!            | "tcp" | "udp" | "icmp" | "arp"
//! ```
//!
//! `&&`, `||` and `!` are written for `and`, `or` and `not` as well. A word with
//! spaces or brackets stands in quotes: `route "GET /{$}"`.
//!
//! `route`, `status` and `fd` are true of all frames of a connection once they
//! are true of it, whichever of its requests made them so. Until the connection
//! is over they may still become true, so a frame has one of three answers
//! ([`Verdict`]), by Kleene's logic.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use wirepath_driver::capture::Direction;
use wirepath_stack::Cidr;

use super::packet::{Packet, Protocol};

mod parse;

/// What a filter says of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is wanted.
    Yes,
    /// It is not.
    No,
    /// That shows later.
    NotYet,
}

use Verdict::{No, NotYet, Yes};

impl Verdict {
    fn of(is_so: bool) -> Verdict {
        if is_so { Yes } else { No }
    }

    fn and(self, other: impl FnOnce() -> Verdict) -> Verdict {
        match self {
            No => No,
            Yes => other(),
            NotYet if other() == No => No,
            NotYet => NotYet,
        }
    }

    fn not(self) -> Verdict {
        match self {
            Yes => No,
            No => Yes,
            NotYet => NotYet,
        }
    }
}

/// What is known of the connection of a frame.
pub trait Connection {
    /// Its descriptor's number; None while it is not known.
    fn fd(&self) -> Option<u32>;
    /// Whether a request of it was answered with one of these.
    fn was_answered(&self, statuses: &RangeInclusive<u16>) -> bool;
    /// Whether the mux sent a request of it to that pattern.
    fn had_route(&self, pattern: &str) -> bool;
    /// Whether all there is to know of it is known.
    fn is_over(&self) -> bool;
}

/// A filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    test: Test,
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    And(Box<Test>, Box<Test>),
    Or(Box<Test>, Box<Test>),
    Not(Box<Test>),
    Host(IpAddr),
    Net(Cidr),
    Port(RangeInclusive<u16>),
    Flow(SocketAddr),
    Protocol(Protocol),
    Direction(Direction),
    Fd(u32),
    Route(String),
    Status(RangeInclusive<u16>),
}

impl FromStr for Filter {
    type Err = parse::FilterError;

    fn from_str(text: &str) -> Result<Filter, parse::FilterError> {
        Ok(Filter {
            test: parse::parse(text)?,
            text: text.to_owned(),
        })
    }
}

impl Filter {
    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it asks for what only a trace tells.
    pub fn asks_trace(&self) -> bool {
        self.test
            .asks(&|test| matches!(test, Test::Fd(_) | Test::Route(_) | Test::Status(_)))
    }

    /// Whether it asks which way a frame went.
    pub fn asks_direction(&self) -> bool {
        self.test.asks(&|test| matches!(test, Test::Direction(_)))
    }

    /// What it says of a frame, of which `connection` is known, if it is of one.
    pub fn judge(&self, packet: &Packet, connection: Option<&dyn Connection>) -> Verdict {
        self.test.judge(packet, connection)
    }

    /// What it says as long as nothing is known of connections.
    pub fn judge_alone(&self, packet: &Packet) -> Verdict {
        self.test
            .judge(packet, packet.flow().map(|_| &Unknown as _))
    }
}

/// A connection of which nothing is known yet.
struct Unknown;

impl Connection for Unknown {
    fn fd(&self) -> Option<u32> {
        None
    }
    fn was_answered(&self, _: &RangeInclusive<u16>) -> bool {
        false
    }
    fn had_route(&self, _: &str) -> bool {
        false
    }
    fn is_over(&self) -> bool {
        false
    }
}

impl Test {
    /// Whether a test in it is such a one.
    fn asks(&self, is_one: &dyn Fn(&Test) -> bool) -> bool {
        match self {
            Test::And(a, b) | Test::Or(a, b) => a.asks(is_one) || b.asks(is_one),
            Test::Not(a) => a.asks(is_one),
            test => is_one(test),
        }
    }

    fn judge(&self, packet: &Packet, of: Option<&dyn Connection>) -> Verdict {
        let ends = packet.ends.as_ref();
        let of_end = |is_so: &dyn Fn(SocketAddr) -> bool| {
            Verdict::of(ends.is_some_and(|(from, to)| is_so(*from) || is_so(*to)))
        };
        match self {
            Test::And(a, b) => a.judge(packet, of).and(|| b.judge(packet, of)),
            Test::Or(a, b) => {
                let neither = a.judge(packet, of).not();
                neither.and(|| b.judge(packet, of).not()).not()
            }
            Test::Not(a) => a.judge(packet, of).not(),
            Test::Host(addr) => of_end(&|end| end.ip() == *addr),
            Test::Net(net) => of_end(&|end| net.contains(end.ip())),
            Test::Port(ports) => {
                of_end(&|end| packet.protocol.has_ports() && ports.contains(&end.port()))
            }
            Test::Flow(addr) => of_end(&|end| packet.protocol == Protocol::Tcp && end == *addr),
            Test::Protocol(protocol) => Verdict::of(packet.protocol == *protocol),
            Test::Direction(direction) => Verdict::of(packet.direction == *direction),
            Test::Fd(fd) => match of {
                Some(of) if of.fd().is_some() => Verdict::of(of.fd() == Some(*fd)),
                other => told(other, |_| false),
            },
            Test::Route(pattern) => told(of, |of| of.had_route(pattern)),
            Test::Status(statuses) => told(of, |of| of.was_answered(statuses)),
        }
    }
}

/// What becomes true of a connection, or never does.
fn told(of: Option<&dyn Connection>, is_so: impl FnOnce(&dyn Connection) -> bool) -> Verdict {
    match of {
        None => No,
        Some(of) if is_so(of) => Yes,
        Some(of) if of.is_over() => No,
        Some(_) => NotYet,
    }
}

#[cfg(test)]
mod tests;
