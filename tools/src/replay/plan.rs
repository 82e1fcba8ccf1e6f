//! What of a capture can be replayed: the connections to one port, from their
//! SYNs on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::Path;

use serde::Serialize;

use crate::capture::filter::Filter;
use crate::failure::Failure;
use crate::inspect::flow::{Flows, When};
use crate::inspect::packet::{Net, TcpOption, TcpOptions, ip_packet};
use crate::inspect::read::Reader;
use crate::inspect::row;
use crate::inspect::seen::Side;

/// Packets of a capture that are held in memory, bytes of them in all.
const MAX_BYTES: usize = 512 << 20;
/// What is taken for the path's MTU where no SYN of the server says its own.
const DEFAULT_MTU: usize = 1500;

/// A packet of a connection.
pub struct Packet {
    /// Its number in the file.
    pub number: u64,
    /// Its time, in nanoseconds since 1970.
    pub at_ns: i64,
    /// Its connection, by its number in the file.
    pub stream: u32,
    /// Who sent it.
    pub from: Side,
    /// The IP packet.
    pub ip: Vec<u8>,
    /// Whether the snap length cut it.
    pub is_cut: bool,
}

/// Why a connection is not replayed.
#[derive(Clone, Debug, Serialize)]
pub struct Refused {
    /// Its number in the file.
    pub stream: u32,
    /// Its client.
    pub client: SocketAddr,
    /// Why, in words.
    pub why: &'static str,
}

/// What is replayed.
pub struct Plan {
    /// The server: one port, of one address or several.
    pub servers: BTreeSet<SocketAddr>,
    /// The largest IP packet on the server's side, in bytes.
    pub mtu: usize,
    /// The packets of connections that are replayed, of both sides, in order.
    pub packets: Vec<Packet>,
    /// Those connections' numbers in the file, in the order of their SYNs.
    pub streams: Vec<u32>,
    /// The server's initial sequence number, by client and its own.
    pub isns: HashMap<(SocketAddr, u32), u32>,
    /// Connections to the server that are not replayed.
    pub refused: Vec<Refused>,
    /// Packets of clients after which a replay halts; none: after each.
    pub halts: Option<BTreeSet<u64>>,
}

/// A connection while the file is read.
struct Seen {
    client: SocketAddr,
    server: SocketAddr,
    client_isn: Option<u32>,
    server_isn: Option<u32>,
    server_mtu: Option<usize>,
    begins_with_syn: bool,
    client_is_cut: bool,
}

impl Seen {
    fn why_not(&self) -> Option<&'static str> {
        if !self.begins_with_syn {
            Some("it begins in the middle: its SYN is not in the capture")
        } else if self.server_isn.is_none() {
            Some("nobody answered its SYN in the capture, so the server's numbers are not known")
        } else if self.client_is_cut {
            Some("the snap length cut packets of the client; capture whole packets")
        } else {
            None
        }
    }
}

impl Plan {
    /// Reads a capture. `server` chooses where there are several.
    ///
    /// # Errors
    ///
    /// It cannot be read, is too large, or has nothing that can be replayed.
    pub fn read(
        file: &Path,
        filter: Option<&Filter>,
        server: Option<SocketAddr>,
    ) -> Result<Plan, Failure> {
        let mut reader = Reader::open(file)?;
        let (packets, seen) = collect(&mut reader, filter)?;
        let servers = match server {
            Some(server) => [server].into(),
            None => servers(&seen)?,
        };
        let mut plan = Plan {
            servers,
            mtu: DEFAULT_MTU,
            packets,
            streams: Vec::new(),
            isns: HashMap::new(),
            refused: Vec::new(),
            halts: None,
        };
        plan.choose(&seen);
        if plan.streams.is_empty() {
            return Err(plan.nothing());
        }
        plan.packets
            .retain(|packet| plan.streams.contains(&packet.stream));
        Ok(plan)
    }

    /// How many of these packets a client sent at one moment, as a card hands
    /// them up together; none if the first is the server's. One that is to be
    /// stopped at is the last.
    pub fn burst(&self, rest: &[Packet]) -> usize {
        let Some(first) = rest.first() else {
            return 0;
        };
        let is_next = |packet: &&Packet| packet.from == Side::Client && packet.at_ns == first.at_ns;
        let together = rest.iter().take_while(is_next).count();
        let is_stop = |packet: &Packet| match &self.halts {
            Some(numbers) => numbers.contains(&packet.number),
            None => true,
        };
        let stop = rest[..together].iter().position(is_stop);
        stop.map_or(together, |place| place + 1)
    }

    /// The last packet of a client up to this number.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn up_to(&self, number: u64) -> Result<u64, Failure> {
        let mut of_clients = self
            .packets
            .iter()
            .filter(|packet| packet.from == Side::Client)
            .map(|packet| packet.number);
        let first = of_clients.clone().next().unwrap_or(0);
        of_clients.rfind(|&sent| sent <= number).ok_or_else(|| {
            Failure::refused(format!(
                "nothing is replayed up to packet {number}: the first packet of a client is {first}"
            ))
        })
    }

    fn choose(&mut self, seen: &BTreeMap<u32, Seen>) {
        for (&stream, flow) in seen
            .iter()
            .filter(|(_, flow)| self.servers.contains(&flow.server))
        {
            let (None, Some(client_isn), Some(server_isn)) =
                (flow.why_not(), flow.client_isn, flow.server_isn)
            else {
                self.refused.push(Refused {
                    stream,
                    client: flow.client,
                    why: flow.why_not().unwrap_or("its SYN is not in the capture"),
                });
                continue;
            };
            self.streams.push(stream);
            self.isns.insert((flow.client, client_isn), server_isn);
            self.mtu = flow.server_mtu.unwrap_or(self.mtu);
        }
    }

    fn nothing(&self) -> Failure {
        let first = self.refused.first();
        let why = first.map_or(
            "the capture has no TCP connection to it".to_string(),
            |refused| {
                format!(
                    "of {} connections to it none can be: of {}, {}",
                    self.refused.len(),
                    refused.client,
                    refused.why
                )
            },
        );
        Failure::refused(format!(
            "nothing of {} can be replayed: {why}",
            self.names()
        ))
    }

    /// The server's addresses, for people.
    pub fn names(&self) -> String {
        let names: Vec<String> = self.servers.iter().map(ToString::to_string).collect();
        names.join(" and ")
    }
}

/// All TCP packets, and what is known of their connections.
fn collect(
    reader: &mut Reader,
    filter: Option<&Filter>,
) -> Result<(Vec<Packet>, BTreeMap<u32, Seen>), Failure> {
    let mut flows = Flows::new(i64::MAX);
    let (mut packets, mut seen) = (Vec::new(), BTreeMap::new());
    let mut bytes = 0;
    while let Some(record) = reader.next() {
        let net = Net::of(record.link, record.data, record.original);
        if let Some(filter) = filter
            && !row::takes(filter, &record, &net)?
        {
            continue;
        }
        let (Some(belongs), Some((from, to, tcp)), Some(ip)) = (
            flows.take(&net, When::of(&record)),
            net.tcp(),
            ip_packet(record.link, record.data),
        ) else {
            continue;
        };
        let is_client = belongs.from == Side::Client;
        let flow: &mut Seen = seen.entry(belongs.stream).or_insert_with(|| Seen {
            client: if is_client { from } else { to },
            server: if is_client { to } else { from },
            client_isn: None,
            server_isn: None,
            server_mtu: None,
            begins_with_syn: tcp.flags.syn() && !tcp.flags.ack(),
            client_is_cut: false,
        });
        let is_cut = record.data.len() < record.original as usize;
        flow.client_is_cut |= is_client && is_cut;
        if tcp.flags.syn() && is_client {
            flow.client_isn.get_or_insert(tcp.seq);
        } else if tcp.flags.syn() && tcp.flags.ack() {
            flow.server_isn.get_or_insert(tcp.seq);
            flow.server_mtu = flow.server_mtu.or(mtu_of(tcp.options, from));
        }
        if is_client && !tcp.flags.syn() && tcp.flags.ack() && !tcp.flags.rst() {
            // Where the answer to the SYN is not in the capture.
            flow.server_isn.get_or_insert(tcp.ack.wrapping_sub(1));
        }
        bytes += ip.len();
        if bytes > MAX_BYTES {
            return Err(Failure::refused(format!(
                "the capture has more than {} MiB of TCP, which a replay holds in memory; choose connections with a filter, as `host 10.0.0.1 and port 40000`",
                MAX_BYTES >> 20
            )));
        }
        packets.push(Packet {
            number: record.number,
            at_ns: record.at_ns,
            stream: belongs.stream,
            from: belongs.from,
            ip: ip.to_vec(),
            is_cut,
        });
    }
    Ok((packets, seen))
}

/// What a SYN says of its sender's MTU: its MSS and the headers (RFC 9293
/// §3.7.1).
fn mtu_of(options: &[u8], of: SocketAddr) -> Option<usize> {
    let headers = if of.is_ipv4() { 40 } else { 60 };
    TcpOptions(options).find_map(|option| match option {
        TcpOption::Mss(mss) => Some(usize::from(mss) + headers),
        _ => None,
    })
}

/// The server of the capture: the addresses whose connections can be replayed,
/// if they have one port.
fn servers(seen: &BTreeMap<u32, Seen>) -> Result<BTreeSet<SocketAddr>, Failure> {
    let of = |is_fit: bool| -> BTreeSet<SocketAddr> {
        let fit = seen
            .values()
            .filter(|flow| flow.why_not().is_none() == is_fit);
        fit.map(|flow| flow.server).collect()
    };
    let servers = match of(true) {
        fit if fit.is_empty() => of(false),
        fit => fit,
    };
    let ports: BTreeSet<u16> = servers.iter().map(SocketAddr::port).collect();
    match ports.len() {
        0 => Err(Failure::refused(
            "the capture has no TCP connection, so there is nothing to replay",
        )),
        1 => Ok(servers),
        _ => {
            let names: Vec<String> = servers.iter().take(5).map(ToString::to_string).collect();
            Err(Failure::refused(format!(
                "the capture has connections to {} servers; choose one with --server: {}",
                servers.len(),
                names.join(", ")
            )))
        }
    }
}
