//! The conversations of a file: who talked to whom, from when to when, how much.
//!
//! Those that go on are in a table; one that was not heard of for longest leaves
//! it when the table is full, and is a row from then on. Rows are bounded too,
//! and what is beyond is counted: a scan of a million addresses costs a file's
//! reader no more than its bounds.

use std::collections::HashMap;
use std::net::SocketAddr;

use serde::{Serialize, Serializer};

use super::packet::{Carried, Ip, Net, Tcp};
use super::read::Record;
use super::seen::{Seen, Side};
use super::tcp::half::RoundTrips;
use super::tcp::stall::{Stall, Stalls};
use super::tcp::{Counts, Findings, Track};

/// Conversations that are followed at a time: about 1 KiB each.
const MAX_LIVE: usize = 65_536;
/// Conversations that are told one by one: about 0.5 KiB each.
const MAX_ROWS: usize = 262_144;

/// What a conversation is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
        }
    }
}

/// A conversation by its ends, the same from both sides.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    protocol: Protocol,
    low: SocketAddr,
    high: SocketAddr,
}

impl Key {
    fn of(protocol: Protocol, from: SocketAddr, to: SocketAddr) -> Key {
        Key {
            protocol,
            low: from.min(to),
            high: from.max(to),
        }
    }
}

/// Packets and bytes one way.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Volume {
    /// Packets.
    pub packets: u64,
    /// Bytes, as long as the packets were on the wire.
    pub bytes: u64,
}

/// A conversation that is followed.
#[derive(Debug)]
pub struct Flow {
    /// Its number in the file, from 0.
    pub number: u32,
    /// What it is of.
    pub protocol: Protocol,
    /// Who opened it, or is more likely to have.
    pub client: SocketAddr,
    /// The other end.
    pub server: SocketAddr,
    /// Of the client's packets and the server's.
    pub volumes: [Volume; 2],
    /// Its first packet's number.
    pub first_packet: u64,
    /// Its first and last packet's times, in nanoseconds since 1970.
    pub first_ns: i64,
    /// As above.
    pub last_ns: i64,
    /// What its relative numbers count from: of the client's, of the server's.
    bases: Option<[u32; 2]>,
    /// Of a TCP connection.
    pub track: Option<Box<Track>>,
}

/// A row: what is told of a conversation.
#[derive(Clone, Debug, Serialize)]
pub struct Conversation {
    /// Its number in the file, from 0.
    pub stream: u32,
    /// What it is of.
    pub protocol: Protocol,
    /// Who opened it, or is more likely to have.
    pub client: SocketAddr,
    /// The other end.
    pub server: SocketAddr,
    /// Its first packet's number.
    pub first_packet: u64,
    /// When it began, in nanoseconds since 1970.
    pub first_ns: i64,
    /// How long it went on, in nanoseconds.
    pub duration_ns: i64,
    /// From the client.
    pub from_client: Volume,
    /// From the server.
    pub from_server: Volume,
    /// Of a TCP connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Box<TcpRow>>,
}

/// What is told of a TCP connection.
#[derive(Clone, Debug, Serialize)]
pub struct TcpRow {
    /// How it was opened and ended: "open" and "closed" are words for people.
    pub state: State,
    /// From SYN to the handshake's ACK, in nanoseconds.
    pub handshake_ns: Option<i64>,
    /// Of the client's segments and of the server's.
    pub client: SideRow,
    /// As above.
    pub server: SideRow,
    /// The longest pauses.
    pub stalls: Vec<Stall>,
    #[serde(skip)]
    sums: Stalls,
}

impl TcpRow {
    /// How long it stood still for each cause.
    pub fn sums(&self) -> &Stalls {
        &self.sums
    }
}

/// How a connection was opened and ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nobody answered its SYN.
    Unanswered,
    /// Its opening was seen and its end was not.
    Open,
    /// It began before the file.
    Midstream,
    /// Both sides ended it.
    Closed,
    /// A side reset it.
    Reset,
}

impl State {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            State::Unanswered => "unanswered",
            State::Open => "open",
            State::Midstream => "midstream",
            State::Closed => "closed",
            State::Reset => "reset",
        }
    }
}

/// What is told of one direction of a connection.
#[derive(Clone, Debug, Serialize)]
pub struct SideRow {
    /// Bytes of data, each time that they were sent.
    pub data_bytes: u64,
    /// Of them those that were sent again.
    pub again_bytes: u64,
    /// Data that its receiver has and the capture does not.
    pub missed_bytes: u64,
    /// Largest segment that it takes, as it said.
    pub mss: Option<u16>,
    /// The shift of its windows.
    pub window_scale: Option<u8>,
    /// From its data to the acknowledgment.
    #[serde(serialize_with = "round_trips")]
    pub round_trips: RoundTrips,
    /// What was found.
    pub findings: Counts,
}

fn round_trips<S: Serializer>(trips: &RoundTrips, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Told {
        count: u32,
        min_ns: i64,
        mean_ns: i64,
        max_ns: i64,
    }
    trips
        .mean_ns()
        .map(|mean_ns| Told {
            count: trips.count,
            min_ns: trips.min_ns,
            mean_ns,
            max_ns: trips.max_ns,
        })
        .serialize(serializer)
}

/// Where a packet belongs.
#[derive(Clone, Copy, Debug)]
pub struct Belongs {
    /// The conversation's number.
    pub stream: u32,
    /// Who sent it.
    pub from: Side,
    /// What was found, of a segment.
    pub findings: Findings,
    /// What its relative numbers count from: the sender's and the receiver's.
    /// None in the segment that sets them.
    pub bases: Option<(u32, u32)>,
}

impl Belongs {
    /// The segment that belongs there.
    pub fn seen<'a>(&self, tcp: &Tcp<'a>, packet: u64, at_ns: i64) -> Seen<'a> {
        Seen {
            packet,
            at_ns,
            stream: self.stream,
            from: self.from,
            seq: tcp.seq,
            ack: tcp.ack,
            flags: tcp.flags,
            payload: tcp.payload,
            cut: tcp.cut(),
        }
    }
}

/// When a packet came, and how long it was.
#[derive(Clone, Copy, Debug)]
pub struct When {
    /// Its number in the file.
    pub packet: u64,
    /// Its time, in nanoseconds since 1970.
    pub at_ns: i64,
    /// Its length on the wire, in bytes.
    pub bytes: u32,
}

impl When {
    /// Of a packet of a file.
    pub fn of(record: &Record<'_>) -> When {
        When {
            packet: record.number,
            at_ns: record.at_ns,
            bytes: record.original,
        }
    }
}

/// The conversations of a file.
pub struct Flows {
    places: HashMap<Key, usize, foldhash::fast::RandomState>,
    live: Vec<Flow>,
    rows: Vec<Conversation>,
    stall_ns: i64,
    next_number: u32,
    /// Conversations that found no room among the rows.
    pub left_out: u64,
    /// Conversations that were ended by the reader, for want of room.
    pub forgotten: u64,
}

impl Flows {
    /// `stall_ns`: from when on a pause is worth a word.
    pub fn new(stall_ns: i64) -> Flows {
        Flows {
            places: HashMap::default(),
            live: Vec::new(),
            rows: Vec::new(),
            stall_ns,
            next_number: 0,
            left_out: 0,
            forgotten: 0,
        }
    }

    /// Takes a packet in. None if it is of no conversation.
    pub fn take(&mut self, net: &Net<'_>, when: When) -> Option<Belongs> {
        let Net::Ip(ip) = net else {
            return None;
        };
        match &ip.carries {
            Carried::Tcp(tcp) => Some(self.take_tcp(ip, tcp, when)),
            Carried::Udp { from, to, .. } => {
                let from = SocketAddr::new(ip.from, *from);
                let to = SocketAddr::new(ip.to, *to);
                let place = self.place(Protocol::Udp, from, to, None, when);
                let flow = &mut self.live[place];
                let side = flow.count(from, when);
                Some(flow.belongs(side, Findings::default(), None))
            }
            _ => None,
        }
    }

    fn take_tcp(&mut self, ip: &Ip<'_>, tcp: &Tcp<'_>, when: When) -> Belongs {
        let from = SocketAddr::new(ip.from, tcp.from);
        let to = SocketAddr::new(ip.to, tcp.to);
        let place = self.place(Protocol::Tcp, from, to, Some(tcp), when);
        let flow = &mut self.live[place];
        let side = flow.count(from, when);
        let bases = flow.bases(side, tcp);
        let findings = match &mut flow.track {
            Some(track) => track.take(when.packet, when.at_ns, side, tcp, self.stall_ns),
            None => Findings::default(),
        };
        flow.belongs(side, findings, bases)
    }

    /// The conversation's place among the live ones; a new one if need be.
    fn place(
        &mut self,
        protocol: Protocol,
        from: SocketAddr,
        to: SocketAddr,
        tcp: Option<&Tcp<'_>>,
        when: When,
    ) -> usize {
        let key = Key::of(protocol, from, to);
        if let Some(&place) = self.places.get(&key) {
            if self.live[place].is_reused_by(from, tcp) {
                let fresh = self.flow(protocol, from, to, tcp, when);
                let ended = std::mem::replace(&mut self.live[place], fresh);
                self.tell(ended);
            }
            return place;
        }
        if self.live.len() == MAX_LIVE {
            self.make_room();
        }
        let fresh = self.flow(protocol, from, to, tcp, when);
        self.live.push(fresh);
        self.places.insert(key, self.live.len() - 1);
        self.live.len() - 1
    }

    fn flow(
        &mut self,
        protocol: Protocol,
        from: SocketAddr,
        to: SocketAddr,
        tcp: Option<&Tcp<'_>>,
        when: When,
    ) -> Flow {
        let number = self.next_number;
        self.next_number += 1;
        let (client, server) = match is_from_client(from, to, tcp) {
            true => (from, to),
            false => (to, from),
        };
        Flow {
            number,
            protocol,
            client,
            server,
            volumes: [Volume::default(); 2],
            first_packet: when.packet,
            first_ns: when.at_ns,
            last_ns: when.at_ns,
            bases: None,
            track: tcp.map(|_| Box::default()),
        }
    }

    /// Ends the half of the live conversations that was not heard of for longest.
    fn make_room(&mut self) {
        let mut live = std::mem::take(&mut self.live);
        live.sort_unstable_by_key(|flow| flow.last_ns);
        self.live = live.split_off(live.len() / 2);
        self.forgotten += live.iter().filter(|flow| !flow.has_ended()).count() as u64;
        for flow in live {
            self.tell(flow);
        }
        let places = self.live.iter().enumerate();
        self.places = places.map(|(place, flow)| (flow.key(), place)).collect();
    }

    fn tell(&mut self, flow: Flow) {
        match self.rows.len() {
            MAX_ROWS => self.left_out += 1,
            _ => self.rows.push(flow.into_row()),
        }
    }

    /// How many there were.
    pub fn count(&self) -> u32 {
        self.next_number
    }

    /// All of them, in the order of their first packets.
    pub fn into_rows(mut self) -> Rows {
        for flow in std::mem::take(&mut self.live) {
            self.tell(flow);
        }
        self.rows.sort_unstable_by_key(|row| row.stream);
        Rows {
            all: self.rows,
            left_out: self.left_out,
            forgotten: self.forgotten,
        }
    }
}

/// The conversations of a file that was read.
#[derive(Debug)]
pub struct Rows {
    /// In the order of their first packets.
    pub all: Vec<Conversation>,
    /// Those that found no room among the rows.
    pub left_out: u64,
    /// Those that went on when there was no more room to follow them; what came
    /// later of one is a conversation of its own.
    pub forgotten: u64,
}

/// Who is the client: who sends a SYN; where there is none, the end with the
/// ephemeral port (RFC 6335 §6), and else who was heard first.
fn is_from_client(from: SocketAddr, to: SocketAddr, tcp: Option<&Tcp<'_>>) -> bool {
    const FIRST_EPHEMERAL: u16 = 32_768;
    if let Some(tcp) = tcp
        && tcp.flags.syn()
    {
        return !tcp.flags.ack();
    }
    let is_ephemeral = |end: SocketAddr| end.port() >= FIRST_EPHEMERAL;
    match (is_ephemeral(from), is_ephemeral(to)) {
        (false, true) => false,
        (true, false) => true,
        _ => from.port() >= 1024 || to.port() < 1024,
    }
}

impl Flow {
    fn key(&self) -> Key {
        Key::of(self.protocol, self.client, self.server)
    }

    fn is_reused_by(&self, from: SocketAddr, tcp: Option<&Tcp<'_>>) -> bool {
        match (&self.track, tcp) {
            (Some(track), Some(tcp)) if tcp.flags.syn() && !tcp.flags.ack() => {
                track.is_reused_by(self.side(from), tcp)
            }
            _ => false,
        }
    }

    fn side(&self, from: SocketAddr) -> Side {
        match from == self.client {
            true => Side::Client,
            false => Side::Server,
        }
    }

    fn has_ended(&self) -> bool {
        self.track.as_ref().is_some_and(|track| track.has_ended())
    }

    fn count(&mut self, from: SocketAddr, when: When) -> Side {
        let side = self.side(from);
        let volume = &mut self.volumes[side.index()];
        volume.packets += 1;
        volume.bytes += u64::from(when.bytes);
        self.last_ns = self.last_ns.max(when.at_ns);
        side
    }

    fn belongs(&self, from: Side, findings: Findings, bases: Option<(u32, u32)>) -> Belongs {
        Belongs {
            stream: self.number,
            from,
            findings,
            bases,
        }
    }

    /// Relative numbers begin anew with each SYN, as those of tcpdump do, which
    /// tells that segment's own as they are.
    fn bases(&mut self, from: Side, tcp: &Tcp<'_>) -> Option<(u32, u32)> {
        let (mine, its) = (from.index(), from.other().index());
        match self.bases {
            Some(bases) if !tcp.flags.syn() => Some((bases[mine], bases[its])),
            _ => {
                let bases = self.bases.insert([0; 2]);
                bases[mine] = tcp.seq;
                bases[its] = tcp.ack.wrapping_sub(1);
                None
            }
        }
    }

    fn into_row(self) -> Conversation {
        let [from_client, from_server] = self.volumes;
        Conversation {
            stream: self.number,
            protocol: self.protocol,
            client: self.client,
            server: self.server,
            first_packet: self.first_packet,
            first_ns: self.first_ns,
            duration_ns: self.last_ns.saturating_sub(self.first_ns),
            from_client,
            from_server,
            tcp: self.track.map(|track| Box::new(TcpRow::of(*track))),
        }
    }
}

impl TcpRow {
    fn of(track: Track) -> TcpRow {
        let side = |side: Side| {
            let half = track.half(side);
            SideRow {
                data_bytes: half.data_bytes,
                again_bytes: half.again_bytes,
                missed_bytes: half.missed_bytes,
                mss: half.mss(),
                window_scale: half.scale(),
                round_trips: half.round_trips,
                findings: track.counts[side.index()],
            }
        };
        TcpRow {
            state: State::of(&track),
            handshake_ns: track.handshake.round_trip_ns(),
            client: side(Side::Client),
            server: side(Side::Server),
            stalls: track.stalls.longest.clone(),
            sums: track.stalls,
        }
    }
}

impl State {
    fn of(track: &Track) -> State {
        let shake = track.handshake;
        if track.was_reset() {
            State::Reset
        } else if track.has_ended() {
            State::Closed
        } else if shake.syn_ns.is_none() && shake.syn_ack_ns.is_none() {
            State::Midstream
        } else if shake.syn_ack_ns.is_none() && shake.ack_ns.is_none() {
            State::Unanswered
        } else {
            State::Open
        }
    }
}
