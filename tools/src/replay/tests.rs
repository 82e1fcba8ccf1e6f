use std::io::Write;

use etherparse::PacketBuilder;

use super::*;
use crate::inspect::fixture;

const CLIENT_ISN: u32 = 1_000;
const SERVER_ISN: u32 = 77_000;
const REQUEST: &[u8] = b"GET /users/ann HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// A frame of the connection of port 40,000 to port 80.
fn frame(from: Side, seq: u32, ack: u32, flags: &str, data: &[u8]) -> Vec<u8> {
    let (client, server) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let (src, dst, isn, other) = match from {
        Side::Client => ((client, 40_000), (server, 80), CLIENT_ISN, SERVER_ISN),
        Side::Server => ((server, 80), (client, 40_000), SERVER_ISN, CLIENT_ISN),
    };
    let mut builder = PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(src.0, dst.0, 64)
        .tcp(src.1, dst.1, isn.wrapping_add(seq), 60_000);
    if flags.contains('S') {
        builder = builder.syn();
    }
    if flags.contains('F') {
        builder = builder.fin();
    }
    if flags.contains('.') {
        builder = builder.ack(other.wrapping_add(ack));
    }
    let mut bytes = Vec::new();
    builder.write(&mut bytes, data).unwrap();
    bytes
}

fn file(packets: &[(u64, Vec<u8>)]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&fixture::pcap(packets)).unwrap();
    file
}

/// A request and `answer`.
fn exchange(answer: &[u8]) -> Vec<(u64, Vec<u8>)> {
    use Side::{Client, Server};
    let (asked, answered) = (1 + REQUEST.len() as u32, 1 + answer.len() as u32);
    vec![
        (10, frame(Client, 0, 0, "S", b"")),
        (20, frame(Server, 0, 1, "S.", b"")),
        (30, frame(Client, 1, 1, ".", b"")),
        (40, frame(Client, 1, 1, ".", REQUEST)),
        (900, frame(Server, 1, asked, ".", answer)),
        (950, frame(Server, answered, asked, "F.", b"")),
        (1_000, frame(Client, asked, answered + 1, "F.", b"")),
        (1_100, frame(Server, answered + 1, asked + 1, ".", b"")),
    ]
}

fn outcome(packets: &[(u64, Vec<u8>)]) -> Outcome {
    let file = file(packets);
    let plan = Arc::new(Plan::read(file.path(), None, None).unwrap());
    let options = Options {
        file: file.path().into(),
        filter: Vec::new(),
        server: None,
        root: None,
        packets: false,
        to: None,
        at: Vec::new(),
        step: false,
        json: false,
    };
    let stops = Stops::of(&options, &plan).unwrap();
    let teller = Arc::new(Mutex::new(Teller::new(&options, stops)));
    let heard = {
        let teller = teller.clone();
        move |at_ns: u64, event: Event<'_>| lock(&teller).hear(at_ns, event)
    };
    let elapsed = player::play(plan.clone(), site::mux(Network::Stack), Box::new(heard)).unwrap();
    let mut teller = lock(&teller);
    let tape = std::mem::replace(&mut teller.tape, Tape::new());
    Outcome::of(&plan, teller.last, tape, elapsed.as_nanos() as u64)
}

/// What the server says, but for its date.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 9\r\nConnection: close\r\n\r\nuser ann\n";

#[test]
fn a_connection_is_answered_as_captured() {
    let outcome = outcome(&exchange(ANSWER));
    let told = &outcome.connections[0].compared;
    assert!(outcome.is_as_captured, "{told:?}");
    assert_eq!(told.replayed_bytes, ANSWER.len());
    assert_eq!(outcome.to_packet, 7);
    // The answer is in two segments or one; its bytes are what counts.
    assert!(told.bytes.is_none());
}

#[test]
fn the_first_byte_that_is_another_is_told() {
    let mut other = ANSWER.to_vec();
    let last = other.len() - 2;
    other[last] = b'X';
    let outcome = outcome(&exchange(&other));
    assert!(!outcome.is_as_captured);
    let parting = outcome.connections[0].compared.bytes.as_ref().unwrap();
    assert_eq!((parting.offset, parting.packet), (last, Some(5)));
    assert_eq!(
        (&parting.captured[..], &parting.replayed[..]),
        ("X\\n", "n\\n")
    );
}

#[test]
fn an_answer_that_is_shorter_or_longer_is_told() {
    for (answer, captured, replayed) in [
        (&ANSWER[..ANSWER.len() - 3], "(FIN)", "nn\\n"),
        (&[ANSWER, b"more"].concat()[..], "more", "(FIN)"),
    ] {
        let outcome = outcome(&exchange(answer));
        let parting = outcome.connections[0].compared.bytes.as_ref().unwrap();
        assert_eq!(
            (&parting.captured[..], &parting.replayed[..]),
            (captured, replayed)
        );
    }
}

#[track_caller]
fn refused(packets: &[(u64, Vec<u8>)], wanted: &str) {
    let file = file(packets);
    let error = Plan::read(file.path(), None, None).err().unwrap();
    assert_eq!(error.code(), 2);
    assert!(error.to_string().contains(wanted), "{error}");
}

#[test]
fn what_cannot_be_replayed_is_refused_by_name() {
    let whole = exchange(ANSWER);
    refused(&whole[3..], "of 10.0.0.1:40000, it begins in the middle");
    refused(&whole[..1], "nobody answered its SYN");
    let mut udp = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .udp(1, 53)
        .write(&mut udp, b"x")
        .unwrap();
    refused(&[(1, udp)], "the capture has no TCP connection");
    refused(&[], "the capture has no TCP connection");
    let lines = Plan::read(
        file(&whole).path(),
        None,
        Some("10.9.9.9:1".parse().unwrap()),
    )
    .err()
    .unwrap();
    assert!(
        lines.to_string().contains(
            "nothing of 10.9.9.9:1 can be replayed: the capture has no TCP connection to it"
        ),
        "{lines}"
    );
}

#[test]
fn a_stop_at_a_packet_of_the_server_is_after_the_client_s_before_it() {
    let file = file(&exchange(ANSWER));
    let plan = Plan::read(file.path(), None, None).unwrap();
    let halts: Vec<u64> = (1..10).map(|number| plan.up_to(number).unwrap()).collect();
    assert_eq!(halts, [1, 1, 3, 4, 4, 4, 7, 7, 7]);
    assert!(
        plan.up_to(0)
            .unwrap_err()
            .to_string()
            .contains("the first packet of a client is 1")
    );
}

#[test]
fn it_can_stop_anywhere() {
    let whole = exchange(ANSWER);
    for count in 2..whole.len() {
        let outcome = outcome(&whole[..count]);
        assert_eq!(outcome.connections.len(), 1, "{count}");
    }
}
