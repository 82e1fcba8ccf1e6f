//! What a trace is made of: events, and who they tell of.
//!
//! An event is seven words, so that with its number it fills a cache line. What
//! the words mean beyond the time, the kind and who ran depends on the kind:
//! each [`Kind`] says so, and the methods of [`Event`] named for a meaning
//! (`target`, `acked`, `status`, …) read it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::clock::Nanos;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident = $number:literal, $name:literal;)+) => {
        /// What happened: the fourteen stages of the path, numbered as in the
        /// architecture's picture, and what explains the time between them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum Kind {
            $($(#[doc = $doc])+ $kind = $number,)+
        }

        impl Kind {
            /// Every kind, by number.
            pub const ALL: &[Kind] = &[$(Kind::$kind,)+];

            /// The kind's name: `nic.rx`, …
            pub fn name(self) -> &'static str {
                match self {
                    $(Kind::$kind => $name,)+
                }
            }

            /// The kind of a number; None for one that means nothing.
            pub fn from_number(n: u8) -> Option<Kind> {
                match n {
                    $($number => Some(Kind::$kind),)+
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// Frame in the RX ring.
    NicRx = 1, "nic.rx";
    /// A burst taken off the ring.
    DriverPoll = 2, "driver.poll";
    /// 4-tuple to connection.
    FlowLookup = 3, "flow.lookup";
    /// smoltcp processed the segment; [`Event::acked`] is what the peer has of
    /// our stream.
    TcpIngress = 4, "tcp.ingress";
    /// The socket buffer has data, the fd is marked.
    FdReady = 5, "fd.ready";
    /// netpoll made the goroutine [`Event::target`] runnable.
    GReady = 6, "g.ready";
    /// A P picked it, an M runs it.
    GRun = 7, "g.run";
    /// Bytes copied to the goroutine.
    ConnRead = 8, "conn.read";
    /// Bytes in the socket send buffer.
    ConnWrite = 9, "conn.write";
    /// smoltcp cut a segment from the send buffer.
    TcpSegment = 10, "tcp.segment";
    /// Frame in the TX ring.
    NicTx = 11, "nic.tx";
    /// Ring handed to the device.
    DriverKick = 12, "driver.kick";
    /// Frame back in the pool.
    NicDone = 13, "nic.done";
    /// From head parsed to last byte written, at its end: the bytes are those of
    /// the response in the stream out; [`Event::dur_ns`], [`Event::status`],
    /// [`Event::route`].
    HttpHandler = 14, "http.handler";

    /// A connection came to be: [`Event::addrs`].
    FlowOpen = 16, "flow.open";
    /// The network is done with a connection.
    FlowClose = 17, "flow.close";
    /// Bytes of ours were sent once more.
    TcpRetransmit = 18, "tcp.retransmit";
    /// A segment came that leaves a gap before it.
    TcpGap = 19, "tcp.gap";
    /// A segment came whose bytes were there already.
    TcpRepeat = 20, "tcp.repeat";
    /// The peer's window was shut, or opened again: [`Event::len`] is its bytes.
    TcpWindow = 21, "tcp.window";
    /// The connection was reset, by us ([`Event::len`] 1) or by the peer (0).
    TcpReset = 22, "tcp.reset";
    /// A frame was dropped; [`Event::label`] is the cause.
    Drop = 23, "drop";

    /// A request's head was parsed: its bytes in the stream in, and the first 12
    /// bytes of its method and target ([`Event::text`]). With [`PROTECTED`] in the
    /// offset it is that of what TLS protects, not of the wire.
    HttpHead = 24, "http.head";
    /// The next 32 bytes of method and target, right behind `http.head`; more of
    /// them for longer ones.
    HttpText = 25, "http.text";
    /// A request was refused before any handler: [`Event::label`] is the reason
    /// code, [`Event::status`] the answer.
    HttpRefused = 26, "http.refused";

    /// A goroutine was started: [`Event::target`], and [`Event::label`] is
    /// where.
    GoCreate = 32, "go.create";
    /// A goroutine ended.
    GoEnd = 33, "go.end";
    /// A goroutine waits: [`Event::label`] is the reason, [`Event::flow`] the
    /// descriptor where there is one.
    GoBlock = 34, "go.block";
    /// The goroutine [`Event::target`] was made runnable, by whoever runs here,
    /// or by a timer when nobody does.
    GoUnblock = 35, "go.unblock";
    /// A goroutine let others run.
    GoYield = 36, "go.yield";
    /// A goroutine began something that may block its thread.
    GoBlocking = 37, "go.blocking";
    /// It came back.
    GoUnblocked = 38, "go.unblocked";
    /// An M took the P up.
    ProcStart = 40, "proc.start";
    /// It put it down.
    ProcStop = 41, "proc.stop";

    /// Somebody asked for attention: [`Event::label`] says why.
    Mark = 48, "mark";
}

impl Kind {
    /// The stages of the path, in order.
    pub const STAGES: [Kind; 14] = [
        Kind::NicRx,
        Kind::DriverPoll,
        Kind::FlowLookup,
        Kind::TcpIngress,
        Kind::FdReady,
        Kind::GReady,
        Kind::GRun,
        Kind::ConnRead,
        Kind::ConnWrite,
        Kind::TcpSegment,
        Kind::NicTx,
        Kind::DriverKick,
        Kind::NicDone,
        Kind::HttpHandler,
    ];

    /// The stage's number in the architecture's picture, from 1; None for what
    /// is no stage.
    pub fn stage(self) -> Option<u8> {
        Some(self as u8).filter(|n| *n <= 14)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Who ran when an event happened: put by the runtime at each switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// The goroutine; 0 for none (the scheduler itself, or a plain thread).
    pub g: u64,
    /// The P, plus one; 0 for none.
    pub p: u16,
    /// The M, plus one; 0 for none.
    pub m: u16,
}

/// The number of a string in the trace's table: [`crate::trace::label`]. 0 is
/// none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Label(pub u16);

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it happened.
    pub at: Nanos,
    /// What happened.
    pub kind: Kind,
    /// Who ran.
    pub actor: Actor,
    /// The flow and its fd, which are one identity ([`Event::fd_number`]); 0
    /// where none is known.
    pub flow: u64,
    /// Offset in the stream of the flow (of its direction) of the first byte.
    pub offset: u64,
    /// Bytes of the stream.
    pub len: u32,
    /// Bytes of the frame, for stages that have one.
    pub frame_len: u32,
    /// How long it took, where the kind has a duration. Who emits such an event
    /// gives the time of its beginning here.
    pub dur_ns: u64,
}

/// Marks offsets of requests and responses that are within TLS.
pub const PROTECTED: u64 = 1 << 63;

/// Words of an encoded event.
pub const EVENT_WORDS: usize = 7;

/// Bytes of text in an `http.text`.
pub const TEXT_LEN: usize = 32;
/// Bytes of text in an `http.head`.
pub const HEAD_TEXT_LEN: usize = 12;

impl Event {
    /// An event of `kind` at `at` on `flow`, nothing else known.
    pub fn new(at: Nanos, kind: Kind, flow: u64) -> Event {
        Event {
            at,
            kind,
            actor: Actor::default(),
            flow,
            offset: 0,
            len: 0,
            frame_len: 0,
            dur_ns: 0,
        }
    }

    /// The same event about `len` bytes of the stream from `offset`.
    #[must_use]
    pub fn bytes(mut self, offset: u64, len: usize) -> Event {
        self.offset = offset;
        self.len = u32::try_from(len).unwrap_or(u32::MAX);
        self
    }

    /// The same event about a frame of `len` bytes.
    #[must_use]
    pub fn frame(mut self, len: usize) -> Event {
        self.frame_len = u32::try_from(len).unwrap_or(u32::MAX);
        self
    }

    /// The same event about the goroutine `g`.
    #[must_use]
    pub fn to(mut self, g: u64) -> Event {
        self.offset = g;
        self
    }

    /// The same event with a label.
    #[must_use]
    pub fn labelled(mut self, label: Label) -> Event {
        self.len = label.0.into();
        self
    }

    /// The end of a handler: how it answered, and the route.
    #[must_use]
    pub fn answered(mut self, status: u16, route: Label) -> Event {
        self.frame_len = u32::from(route.0) << 16 | u32::from(status);
        self
    }

    /// The same event with up to [`TEXT_LEN`] bytes of `text`.
    #[must_use]
    pub fn with_text(mut self, text: &[u8]) -> Event {
        let mut bytes = [0; TEXT_LEN];
        let len = text.len().min(TEXT_LEN);
        bytes[..len].copy_from_slice(&text[..len]);
        self.set_payload(bytes);
        self
    }

    /// A head with up to [`HEAD_TEXT_LEN`] bytes of `text`.
    #[must_use]
    pub fn with_head_text(mut self, text: &[u8]) -> Event {
        let mut bytes = [0; 16];
        let len = text.len().min(HEAD_TEXT_LEN);
        bytes[..len].copy_from_slice(&text[..len]);
        let (first, rest) = bytes.split_at(8);
        self.dur_ns = u64::from_le_bytes(first.try_into().expect("8 bytes"));
        self.frame_len = u32::from_le_bytes(rest[..4].try_into().expect("4 bytes"));
        self
    }

    /// The same event with the addresses of a flow.
    #[must_use]
    pub fn with_addrs(mut self, local: SocketAddr, peer: SocketAddr) -> Event {
        let v6 = |addr: IpAddr| match addr {
            IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
            IpAddr::V6(addr) => addr.octets(),
        };
        let mut bytes = [0; TEXT_LEN];
        bytes[..16].copy_from_slice(&v6(local.ip()));
        bytes[16..].copy_from_slice(&v6(peer.ip()));
        self.set_payload(bytes);
        (self.actor.p, self.actor.m) = (local.port(), peer.port());
        self
    }

    /// The number that people see for the flow's fd: its slot, the low 24 bits.
    pub fn fd_number(&self) -> u32 {
        fd_number(self.flow)
    }

    /// The offset after the last byte.
    pub fn end(&self) -> u64 {
        self.offset + u64::from(self.len)
    }

    /// The goroutine that it is done to, of `g.ready`, `go.create`,
    /// `go.unblock`.
    pub fn target(&self) -> u64 {
        self.offset
    }

    /// The label, of those kinds that have one.
    pub fn label(&self) -> Label {
        Label(self.len as u16)
    }

    /// How a handler answered; 0 if it did not.
    pub fn status(&self) -> u16 {
        self.frame_len as u16
    }

    /// The pattern that chose the handler.
    pub fn route(&self) -> Label {
        Label((self.frame_len >> 16) as u16)
    }

    /// Bytes of our stream that the peer has acknowledged, of `tcp.ingress`.
    pub fn acked(&self) -> u64 {
        self.dur_ns
    }

    /// Text: of `http.head` method and target without what comes after, of
    /// `http.text` all.
    pub fn text(&self) -> Vec<u8> {
        let bytes = match self.kind {
            Kind::HttpHead => {
                let first = self.dur_ns.to_le_bytes();
                [&first[..], &self.frame_len.to_le_bytes()].concat()
            }
            _ => self.payload().to_vec(),
        };
        let mut spaces = bytes.iter().enumerate().filter(|(_, b)| **b == b' ');
        let target_end = spaces.nth(1).map(|(at, _)| at);
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        bytes[..target_end.unwrap_or(end).min(end)].to_vec()
    }

    /// Our address and the peer's, of `flow.open`.
    pub fn addrs(&self) -> (SocketAddr, SocketAddr) {
        let bytes = self.payload();
        let addr = |bytes: &[u8], port| {
            let octets: [u8; 16] = bytes.try_into().expect("16 bytes");
            SocketAddr::new(Ipv6Addr::from(octets).to_canonical(), port)
        };
        let (local, peer) = bytes.split_at(16);
        (addr(local, self.actor.p), addr(peer, self.actor.m))
    }

    #[inline]
    pub(super) fn lens(&self) -> u64 {
        u64::from(self.len) << 32 | u64::from(self.frame_len)
    }

    fn payload(&self) -> [u8; TEXT_LEN] {
        let words = [self.actor.g, self.offset, self.lens(), self.dur_ns];
        let mut bytes = [0; TEXT_LEN];
        for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn set_payload(&mut self, bytes: [u8; TEXT_LEN]) {
        let word = |i: usize| {
            let bytes = bytes[i * 8..][..8].try_into().expect("8 bytes");
            u64::from_le_bytes(bytes)
        };
        self.actor.g = word(0);
        self.offset = word(1);
        self.len = (word(2) >> 32) as u32;
        self.frame_len = word(2) as u32;
        self.dur_ns = word(3);
    }

    /// Whether it names who ran.
    #[inline]
    pub(super) fn names_actor(&self) -> bool {
        let actor = self.actor;
        actor.g != 0 || actor.p != 0 || actor.m != 0
    }

    /// The event as words: time; kind, P and M; goroutine; flow; offset;
    /// lengths; duration.
    pub fn encode(&self) -> [u64; EVENT_WORDS] {
        let actor = self.actor;
        let who = u64::from(actor.p) << 16 | u64::from(actor.m) | u64::from(self.kind as u8) << 32;
        [
            self.at.0,
            who,
            actor.g,
            self.flow,
            self.offset,
            self.lens(),
            self.dur_ns,
        ]
    }

    /// The event of these words; None when they are none of this version's.
    pub fn decode(words: [u64; EVENT_WORDS]) -> Option<Event> {
        let [at, who, g, flow, offset, lens, dur_ns] = words;
        Some(Event {
            at: Nanos(at),
            kind: Kind::from_number((who >> 32) as u8)?,
            actor: Actor {
                g,
                p: (who >> 16) as u16,
                m: who as u16,
            },
            flow,
            offset,
            len: (lens >> 32) as u32,
            frame_len: lens as u32,
            dur_ns,
        })
    }
}

/// The number that people see for a flow's fd: its slot, the low 24 bits.
pub fn fd_number(flow: u64) -> u32 {
    (flow & 0xff_ffff) as u32
}
