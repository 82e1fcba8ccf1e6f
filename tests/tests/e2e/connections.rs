//! Many connections, IPv6, half of a connection.

use std::sync::Barrier;

use std::net::Shutdown;

use wirepath_tests::http::{Client, post_head, request};
use wirepath_tests::pattern::{self, Check};
use wirepath_tests::{Lab, Serve, Server};

use crate::curl::curl;

on_every_device! {
    a_thousand_connections_at_once,
    ten_times_as_many_connections_one_after_the_other,
    ipv6_is_served_as_ipv4_is,
    a_port_without_a_listener_refuses,
    who_has_said_all_still_gets_the_reply,
    who_ends_mid_head_is_let_go,
}

fn a_thousand_connections_at_once(lab: &Lab) {
    const THREADS: usize = 8;
    const EACH: usize = 125;
    let server = Serve::new(lab).without_capture().start();
    let all_are_open = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (server, all_are_open) = (&server, &all_are_open);
            scope.spawn(move || {
                let mut clients: Vec<Client> = (0..EACH).map(|_| server.client()).collect();
                all_are_open.wait();
                for round in 0..3 {
                    ask_all(&mut clients, thread, round);
                }
            });
        }
    });
    server.check_alive();
}

/// Sends a request on every connection, then reads every reply.
fn ask_all(clients: &mut [Client], thread: usize, round: usize) {
    let name = |n: usize| format!("t{thread}r{round}c{n:03}");
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(request("GET", &format!("/users/{}", name(n))));
    }
    for (n, client) in clients.iter_mut().enumerate() {
        let reply = client
            .reply()
            .unwrap_or_else(|err| panic!("{}: {err}", name(n)));
        assert!(reply.text().contains(&name(n)), "{}", reply.text());
    }
}

fn ten_times_as_many_connections_one_after_the_other(lab: &Lab) {
    let server = Serve::new(lab).without_capture().start();
    // More than the server has half-open slots, accept slots or pooled
    // stacks: whatever a connection leaves behind would run out.
    for _ in 0..10_000 {
        let mut client = server.client();
        client.send("GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n");
        assert_eq!(client.reply().unwrap().status, 200);
        assert_eq!(client.rest().unwrap(), b"");
    }
}

fn ipv6_is_served_as_ipv4_is(lab: &Lab) {
    let server = Serve::new(lab).start();
    let reply = curl(lab, &[&format!("http://{}/", Server::V6)]);
    assert_eq!(reply.body, b"Hello, World!\n");

    let mut client = server.connect(Server::V6).unwrap();
    let mut writer = client.socket().try_clone().unwrap();
    let length = 4 << 20;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            use std::io::Write;
            writer
                .write_all(post_head("/echo", length).as_bytes())
                .unwrap();
            pattern::send(length, &mut writer).unwrap();
        });
        let reply = client.head().unwrap();
        let mut check = Check::default();
        client.body(&reply, &mut check).unwrap();
        assert_eq!(check.seen(), length);
    });
}

fn a_port_without_a_listener_refuses(lab: &Lab) {
    let server = Serve::new(lab).start();
    for to in ["10.0.0.2:8081", "[fd00::2]:8081"] {
        let err = server.connect(to).unwrap_err();
        assert_eq!(err.kind(), std::io::ErrorKind::ConnectionRefused, "{to}");
    }
    server.check_alive();
}

fn who_has_said_all_still_gets_the_reply(lab: &Lab) {
    let server = Serve::new(lab).start();
    for (asked, length) in [
        (request("GET", "/"), 14),
        (request("GET", "/big"), 1 << 20),
        (format!("{}{}", post_head("/echo", 5), "abcde"), 5),
        (request("GET", "/sleep?ms=100"), 0),
    ] {
        let mut client = server.client();
        client.send(&asked);
        client.socket().shutdown(Shutdown::Write).unwrap();
        let reply = client
            .reply()
            .unwrap_or_else(|err| panic!("{asked}: {err}"));
        assert_eq!(reply.status, 200, "{asked}");
        assert!(reply.body.len() >= length, "{asked}");
        assert_eq!(client.rest().unwrap(), b"", "{asked}");
    }
}

fn who_ends_mid_head_is_let_go(lab: &Lab) {
    let server = Serve::new(lab).start();
    let mut client = server.client();
    client.send("GET / HTTP/1.1\r\nHo");
    client.socket().shutdown(Shutdown::Write).unwrap();
    let rest = String::from_utf8(client.rest().unwrap()).unwrap();
    assert!(
        rest.is_empty() || rest.starts_with("HTTP/1.1 400 "),
        "{rest}"
    );
    server.check_alive();
}
