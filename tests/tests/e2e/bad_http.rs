//! Clients that are slow, greedy or wrong: each gets its defined answer, while
//! the requests of another client go on beside it.

use std::io::{ErrorKind, Read};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use wirepath_tests::http::{Client, post_head, request};
use wirepath_tests::wait::wait_until;
use wirepath_tests::{Lab, Serve, Server};

on_every_device! {
    heads_that_come_byte_by_byte_end_in_time,
    bodies_that_come_byte_by_byte_end_in_time,
    a_field_without_end_is_refused,
    a_body_longer_than_declared_is_the_next_request,
    who_never_reads_is_let_go,
    who_closes_half_is_answered,
    an_address_has_so_many_connections,
}

const CONFORMANCE: &str = env!("CARGO_BIN_EXE_wirepath-conformance");
/// Connections that the server takes from an address, where a test says so.
const MOST: usize = 8;
/// How long a slow client may be slow.
const GRACE: [&str; 2] = ["--grace", "1000"];
/// How many clients misbehave at a time.
const CROWD: usize = 16;

fn serve<'lab>(lab: &'lab Lab, args: &[&str]) -> Server<'lab> {
    let serve = Serve::new(lab).program(CONFORMANCE).without_capture();
    serve.args(args).start()
}

/// Has `misbehave` while a client, connected before, asks on and on.
fn beside_another(server: &Server<'_>, misbehave: impl FnOnce()) {
    let (over, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut other = server.client();
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                assert_eq!(other.get("/hello").body, b"hello\n");
                answers.fetch_add(1, Ordering::Relaxed);
            }
        });
        // Dropped in a panic too, so that the asking ends.
        let end = OnDrop(&over);
        misbehave();
        let before = answers.load(Ordering::Relaxed);
        wait_until("the other client is answered", || {
            answers.load(Ordering::Relaxed) > before || asking.is_finished()
        });
        drop(end);
        asking.join().expect("the other client's answers are right");
    });
}

struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends `text` byte by byte, over and over, until the server ends it, and
/// returns what it said.
fn trickle(mut client: Client, text: &str) -> String {
    let mut said = Vec::new();
    let mut part = [0; 4096];
    let short = Duration::from_millis(100);
    client.socket().set_read_timeout(Some(short)).unwrap();
    for byte in text.bytes().cycle() {
        // A server that has answered may take no more of it.
        let _ = client.try_send([byte]);
        match client.socket().read(&mut part) {
            Ok(n) if n > 0 => said.extend_from_slice(&part[..n]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Ok(_) | Err(_) => break,
        }
    }
    String::from_utf8(said).unwrap()
}

/// What [`CROWD`] clients hear who trickle `text` after `head`.
fn crowd(server: &Server<'_>, head: &str, text: &str) -> Vec<String> {
    thread::scope(|scope| {
        let each = || {
            let mut client = server.client();
            client.send(head);
            trickle(client, text)
        };
        let all: Vec<_> = (0..CROWD).map(|_| scope.spawn(each)).collect();
        let all = all.into_iter().map(|one| one.join().unwrap());
        all.collect()
    })
}

fn heads_that_come_byte_by_byte_end_in_time(lab: &Lab) {
    let server = serve(lab, &[]);
    beside_another(&server, || {
        let heard = crowd(&server, "GET /hello HTTP/1.1\r\nHost: a\r\n", "X: y\r\n");
        assert_eq!(heard, vec![""; CROWD]);
    });
}

fn bodies_that_come_byte_by_byte_end_in_time(lab: &Lab) {
    let server = serve(lab, &GRACE);
    beside_another(&server, || {
        for said in crowd(&server, &post_head("/echo", 1_000_000), "x") {
            assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
        }
        let chunked = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        for said in crowd(&server, chunked, "1\r\nx\r\n") {
            assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
        }
    });
}

fn a_field_without_end_is_refused(lab: &Lab) {
    let server = serve(lab, &[]);
    beside_another(&server, || {
        let mut client = server.client();
        client.send("GET /hello HTTP/1.1\r\nHost: a\r\nX: ");
        let mut sender = Client::new(client.socket().try_clone().unwrap());
        // The server answers, takes what is on its way for a moment, and closes.
        let sending = thread::spawn(move || {
            let megabyte = vec![b'a'; 1_000_000];
            (1..).find(|_| sender.try_send(&megabyte).is_err())
        });
        assert_eq!(client.head().unwrap().status, 431);
        let sent = sending.join().unwrap();
        assert!(sent.is_some_and(|megabytes| megabytes > 1), "{sent:?}");
    });
}

fn a_body_longer_than_declared_is_the_next_request(lab: &Lab) {
    let server = serve(lab, &[]);
    beside_another(&server, || {
        let mut client = server.client();
        client.send(post_head("/ignore", 5) + "12345678\r\n\r\n");
        assert_eq!(client.reply().unwrap().body, b"ignored\n");
        assert_eq!(client.reply().unwrap().status, 400);
        assert_eq!(client.rest().unwrap(), b"");
    });
}

fn who_never_reads_is_let_go(lab: &Lab) {
    let server = serve(lab, &GRACE);
    beside_another(&server, || {
        let mut clients: Vec<_> = (0..CROWD).map(|_| server.client()).collect();
        for client in &mut clients {
            client.send(request("GET", "/big?n=100000000"));
        }
        // What fits into buffers came; the rest was given up.
        for client in &mut clients {
            wait_until("the server gives up", || {
                client.socket().take_error().unwrap().is_some()
            });
        }
    });
}

fn who_closes_half_is_answered(lab: &Lab) {
    let server = serve(lab, &[]);
    beside_another(&server, || {
        for (sent, want) in [
            (request("GET", "/sleep?ms=200"), "200"),
            (request("GET", "/hello") + "GET /hel", "400"),
            (post_head("/echo", 5) + "123", "400"),
            ("GET".to_owned(), "400"),
        ] {
            let mut client = server.client();
            client.send(&sent);
            client.socket().shutdown(Shutdown::Write).unwrap();
            let said = String::from_utf8(client.rest().unwrap()).unwrap();
            let last = said.rsplit("HTTP/1.1 ").next().unwrap();
            assert!(last.starts_with(want), "{sent}: {said}");
        }
        let mut silent = server.client();
        silent.socket().shutdown(Shutdown::Write).unwrap();
        assert_eq!(silent.rest().unwrap(), b"");
    });
}

fn an_address_has_so_many_connections(lab: &Lab) {
    let server = serve(lab, &["--max-connections-per-address", &MOST.to_string()]);
    beside_another(&server, || {
        let ask = |client: &mut Client| {
            client.try_send(request("GET", "/hello"))?;
            client.reply()
        };
        // One is the other client's.
        let mut clients: Vec<_> = (1..MOST).map(|_| server.client()).collect();
        for client in &mut clients {
            assert_eq!(ask(client).unwrap().status, 200);
        }
        for _ in 0..CROWD {
            if let Ok(mut client) = server.connect(Server::V4) {
                ask(&mut client).expect_err("one too many was answered");
            }
        }
        // Another address has its own.
        wait_until("IPv6 is there", || {
            let client = server.connect(Server::V6);
            client.is_ok_and(|mut client| ask(&mut client).is_ok())
        });
        drop(clients);
        wait_until("the address is let in again", || {
            let client = server.connect(Server::V4);
            client.is_ok_and(|mut client| ask(&mut client).is_ok())
        });
    });
}
