//! A TCP segment as the analyses see it: whose it is, and of which conversation.

use serde::Serialize;

/// Who sent a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Who opened the connection; where that is not in the file, who is more
    /// likely to have.
    Client,
    /// The other.
    Server,
}

impl Side {
    /// The other side.
    pub fn other(self) -> Side {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }

    /// For arrays of two: the client first.
    pub fn index(self) -> usize {
        usize::from(self == Side::Server)
    }
}

/// The flags of a TCP header (RFC 9293 §3.1), as its byte 13.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// No more data from the sender.
    pub fn fin(self) -> bool {
        self.0 & 0x01 != 0
    }

    /// The sequence number is the initial one.
    pub fn syn(self) -> bool {
        self.0 & 0x02 != 0
    }

    /// The connection is reset.
    pub fn rst(self) -> bool {
        self.0 & 0x04 != 0
    }

    /// The acknowledgment number counts.
    pub fn ack(self) -> bool {
        self.0 & 0x10 != 0
    }

    /// Whether it opens, ends or resets.
    pub fn is_control(self) -> bool {
        self.0 & 0x07 != 0
    }
}

/// A TCP segment of a capture.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The packet's number in the file, from 1.
    pub packet: u64,
    /// When it was captured: nanoseconds since 1970-01-01 UTC.
    pub at_ns: i64,
    /// The conversation's number in the file, from 0.
    pub stream: u32,
    /// Who sent it.
    pub from: Side,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Flags.
    pub flags: Flags,
    /// Data that was captured.
    pub payload: &'a [u8],
    /// Bytes of data that the snap length cut off behind `payload`.
    pub cut: u32,
}
