//! Time-outs and limits, on virtual time.

mod sim;

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use sim::{Client, Peer, STEP, simulate};
use wirepath::{MinRate, Request, ResponseWriter, Server, ServerBuilder, TooSlow};
use wirepath_runtime::chan::{Receiver, channel};
use wirepath_runtime::net::{Network, TcpListener, TcpStream};
use wirepath_runtime::{Runtime, go, now, sleep};
use wirepath_stack::Errno;

const SEC: Duration = Duration::from_secs(1);
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn hello(w: &mut ResponseWriter, _: &mut Request) {
    w.write_all(b"hello\n").unwrap();
}

fn stat(server: &Server, name: &str) -> u64 {
    let stats = server.stats();
    stats.iter().find(|(n, _)| *n == name).unwrap().1
}

/// Asserts that `what` takes `want`, as exactly as the client looks.
#[track_caller]
fn takes<T>(want: Duration, what: impl FnOnce() -> T) -> T {
    let start = now();
    let value = what();
    let took = now().since(start);
    assert!(took + STEP >= want && took <= want + 20 * STEP, "{took:?}");
    value
}

/// What a client gets that has sent `sent` and waits for the end.
fn after(client: &Client, sent: &str) -> String {
    client.send(sent.as_bytes());
    let (got, end) = client.read_to_end();
    assert_eq!(end, Ok(()));
    got
}

#[test]
fn a_head_has_its_time_from_its_first_byte() {
    let builder = Server::builder(hello)
        .read_header_timeout(3 * SEC)
        .idle_timeout(60 * SEC);
    simulate(1, builder, |peer, server| {
        for sent in ["", "GET / HTTP/1.1\r\nHost"] {
            let client = peer.connect();
            assert_eq!(takes(3 * SEC, || after(&client, sent)), "");
        }
        // Byte after byte is no way around it.
        let client = peer.connect();
        let head = format!("GET /{} HTTP/1.1\r\n", "a".repeat(50));
        assert!(client.send_slowly(head.as_bytes(), SEC / 5) < 20);
        assert_eq!(stat(server, "heads_timed_out"), 3);
        // The second of a connection has its own time.
        let client = peer.connect();
        client.send(GET.as_bytes());
        client.read_until("hello\n");
        client.wait(20 * SEC);
        assert_eq!(takes(3 * SEC, || after(&client, "GET / HT")), "");
        assert_eq!(stat(server, "heads_timed_out"), 4);
        assert_eq!(stat(server, "idle_timed_out"), 0);
    });
}

#[test]
fn an_idle_connection_has_its_time_from_the_last_response() {
    let builder = Server::builder(hello)
        .read_header_timeout(3 * SEC)
        .idle_timeout(7 * SEC);
    simulate(1, builder, |peer, server| {
        let client = peer.connect();
        for _ in 0..2 {
            client.wait(2 * SEC);
            client.send(GET.as_bytes());
            client.read_until("hello\n");
        }
        let (got, end) = takes(7 * SEC, || client.read_to_end());
        assert_eq!((got.as_str(), end), ("", Ok(())));
        assert_eq!(stat(server, "idle_timed_out"), 1);
    });
}

/// A handler that reads the body, and tells how that went.
fn reads() -> (ServerBuilder, Receiver<Result<usize, std::io::Error>>) {
    let (told, outcomes) = channel(1);
    let handler = move |w: &mut ResponseWriter, r: &mut Request| {
        let mut body = Vec::new();
        let read = r.body.read_to_end(&mut body);
        told.send(read.map(|_| body.len())).unwrap();
        w.write_all(b"read\n").unwrap();
    };
    (Server::builder(handler), outcomes)
}

const UPLOAD: &str = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n";

#[test]
fn a_request_has_its_time_head_and_body() {
    let (builder, outcomes) = reads();
    let builder = builder.read_timeout(Some(5 * SEC));
    simulate(1, builder, move |peer, _| {
        let client = peer.connect();
        let got = takes(5 * SEC, || after(&client, UPLOAD));
        let read = outcomes.recv().unwrap().unwrap_err();
        assert_eq!(read.kind(), ErrorKind::TimedOut);
        assert!(got.contains("\r\nConnection: close\r\n"), "{got}");
        assert!(got.ends_with("read\n"), "{got}");
        // The head counts.
        let client = peer.connect();
        takes(5 * SEC, || {
            let (start, rest) = UPLOAD.split_at(9);
            client.send(start.as_bytes());
            client.wait(3 * SEC);
            after(&client, rest)
        });
        assert!(outcomes.recv().unwrap().is_err());
        // And is held to it itself, though heads may take longer.
        let client = peer.connect();
        assert_eq!(takes(5 * SEC, || after(&client, "PUT")), "");
    });
}

/// Ten million bytes, and how far the handler came with them.
fn writes() -> (ServerBuilder, Receiver<std::io::Result<()>>) {
    let (told, outcomes) = channel(1);
    let handler = move |w: &mut ResponseWriter, _: &mut Request| {
        let written = w.write_all(&vec![b'x'; 10_000_000]);
        told.send(written).unwrap();
    };
    (Server::builder(handler), outcomes)
}

#[test]
fn a_response_has_its_time() {
    let (builder, outcomes) = writes();
    let builder = builder.write_timeout(Some(5 * SEC));
    simulate(1, builder, move |peer, server| {
        let client = peer.connect();
        client.send(GET.as_bytes());
        client.wait(SEC);
        let written = takes(4 * SEC, || {
            client.wait(4 * SEC);
            outcomes.recv().unwrap()
        });
        assert_eq!(written.unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(stat(server, "responses_too_slow"), 0);
    });
}

fn rate(bytes_per_second: u32, grace: Duration) -> Option<MinRate> {
    Some(MinRate {
        bytes_per_second,
        grace,
    })
}

#[test]
fn a_body_may_come_slowly_but_not_too_slowly() {
    let (builder, outcomes) = reads();
    let builder = builder.min_body_rate(rate(100, 10 * SEC));
    simulate(1, builder, move |peer, server| {
        // 125 bytes a second for eight seconds, after a break.
        let client = peer.connect();
        client.send(UPLOAD.as_bytes());
        client.wait(9 * SEC);
        for _ in 0..8 {
            client.send(&[b'x'; 125]);
            client.wait(SEC);
        }
        assert_eq!(outcomes.recv().unwrap().unwrap(), 1_000);
        assert_eq!(stat(server, "bodies_too_slow"), 0);
        // 25 bytes a second use up the grace in 13 s.
        let client = peer.connect();
        client.send(UPLOAD.as_bytes());
        let sent = client.send_slowly(&[b'x'; 1_000], SEC / 25);
        assert!((320..400).contains(&sent), "{sent}");
        let read = outcomes.recv().unwrap().unwrap_err();
        assert_eq!(read.kind(), ErrorKind::TimedOut);
        assert!(read.get_ref().unwrap().is::<TooSlow>());
        assert_eq!(stat(server, "bodies_too_slow"), 1);
        // Nothing at all, the grace.
        let client = peer.connect();
        let got = takes(10 * SEC, || after(&client, UPLOAD));
        assert!(got.contains("\r\nConnection: close\r\n"), "{got}");
        assert!(outcomes.recv().unwrap().is_err());
        assert_eq!(stat(server, "bodies_too_slow"), 2);
    });
}

#[test]
fn a_handler_that_takes_its_time_makes_no_client_slow() {
    let handler = |w: &mut ResponseWriter, r: &mut Request| {
        let mut byte = [0];
        while r.body.read(&mut byte).unwrap() > 0 {
            sleep(SEC);
        }
        hello(w, r);
    };
    let builder = Server::builder(handler).min_body_rate(rate(1_000, SEC));
    simulate(1, builder, |peer, _| {
        let client = peer.connect();
        client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n");
        client.send(&[b'x'; 20]);
        client.read_until("hello\n");
    });
}

#[test]
fn a_client_that_never_reads_is_cut_off() {
    let (builder, outcomes) = writes();
    let builder = builder.min_response_rate(rate(100, 10 * SEC));
    simulate(1, builder, move |peer, server| {
        let client = peer.connect();
        client.send(GET.as_bytes());
        client.wait(11 * SEC);
        let written = outcomes.recv().unwrap().unwrap_err();
        assert_eq!(written.kind(), ErrorKind::TimedOut);
        assert_eq!(stat(server, "responses_too_slow"), 1);
        assert_eq!(stat(server, "connections_open"), 0);
        assert_eq!(client.read_to_end().1, Err(Errno::ConnectionReset));
    });
}

#[test]
fn a_client_that_reads_slowly_is_not() {
    let (builder, outcomes) = writes();
    let builder = builder.min_response_rate(rate(1_000, 10 * SEC));
    simulate(1, builder, move |peer, server| {
        let client = peer.connect();
        client.send(GET.as_bytes());
        for _ in 0..60 {
            client.wait(SEC);
            assert!(client.read_some(2_000) > 0);
        }
        assert_eq!(stat(server, "responses_too_slow"), 0);
        assert!(outcomes.try_recv().is_err());
        client.reset();
        client.wait(SEC);
        let written = outcomes.recv().unwrap().unwrap_err();
        assert_eq!(written.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_head_has_a_length() {
    let builder = Server::builder(hello).max_header_bytes(100);
    simulate(1, builder, |peer, server| {
        let head = |n| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(n));
        let client = peer.connect();
        client.send(head(4_000).as_bytes());
        client.read_until("hello\n");
        let got = after(&client, &head(5_000));
        assert!(got.starts_with("HTTP/1.1 431 "), "{got}");
        assert_eq!(stat(server, "requests_refused"), 1);
    });
}

/// The first of these many connections that is reset at once.
fn first_refused(peer: &Peer, connections: usize) -> (usize, Vec<Client>) {
    let mut open = Vec::new();
    for n in 0..connections {
        let client = peer.connect();
        client.send(GET.as_bytes());
        client.wait(STEP * 10);
        if client.read_some(1_000) == 0 {
            return (n, open);
        }
        open.push(client);
    }
    (connections, open)
}

#[test]
fn there_are_no_more_connections_than_allowed() {
    let all = (
        Server::builder(hello).max_connections(3),
        "connections_refused",
    );
    let each = (
        Server::builder(hello).max_connections_per_address(3),
        "connections_refused_per_address",
    );
    for (builder, counter) in [all, each] {
        simulate(1, builder, move |peer, server| {
            let (refused, open) = first_refused(peer, 9);
            assert_eq!((refused, stat(server, counter)), (3, 1));
            assert_eq!(stat(server, "connections_accepted"), 3);
            // One that goes makes room.
            open[0].reset();
            open[0].wait(SEC);
            let (refused, _) = first_refused(peer, 9);
            assert_eq!((refused, stat(server, counter)), (1, 2));
        });
    }
}

/// Over sockets of the kernel, in real time: a client that takes nothing, and
/// one that takes all.
#[test]
fn the_kernel_s_clients_are_held_to_the_rate_too() {
    let runtime = Runtime::builder().max_procs(2).build().unwrap();
    let run = runtime.run(|| {
        let handler = |w: &mut ResponseWriter, _: &mut Request| {
            let piece = [b'x'; 1 << 16];
            // The client that takes nothing ends it.
            (0..1_000).all(|_| w.write_all(&piece).is_ok());
        };
        let builder = Server::builder(handler).min_response_rate(rate(1_000, SEC / 2));
        let server = builder.build();
        let loopback = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpListener::bind_on(Network::Kernel, loopback).unwrap();
        let addr = listener.local_addr().unwrap();
        let serving = server.clone();
        let accepting = go(move || serving.serve(listener).unwrap());
        let ask = || {
            let mut stream = TcpStream::connect_on(Network::Kernel, addr).unwrap();
            let last = GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
            stream.write_all(last.as_bytes()).unwrap();
            stream
        };
        let idle = ask();
        while stat(&server, "connections_open") > 0 || stat(&server, "requests") == 0 {
            sleep(SEC / 100);
        }
        assert_eq!(stat(&server, "responses_too_slow"), 1);
        drop(idle);
        let mut got = Vec::new();
        ask().read_to_end(&mut got).unwrap();
        assert!(got.len() > 1_000 << 16, "{}", got.len());
        assert_eq!(stat(&server, "responses_too_slow"), 1);
        server.close();
        accepting.join().unwrap();
    });
    run.unwrap();
}
