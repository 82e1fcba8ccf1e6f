//! Clients that go away in the middle.

use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use wirepath_tests::http::{Client, post_head, request};
use wirepath_tests::{Lab, Serve, Server};

on_every_device! {
    a_reset_mid_body,
    an_end_of_stream_mid_body,
    a_reset_while_much_is_on_its_way_to_it,
    a_process_that_is_killed_mid_body,
    a_client_that_falls_silent,
    a_cable_that_is_pulled_and_put_back,
}

/// A client that sent half of a body and got what of it came back.
fn in_mid_body(server: &Server<'_>, to: &str) -> Client {
    let mut client = server.connect(to).unwrap();
    client.send(post_head("/echo", 1 << 20));
    client.send([b'x'; 4096]);
    client
}

fn a_reset_mid_body(lab: &Lab) {
    let server = Serve::new(lab).start();
    for _ in 0..20 {
        let client = in_mid_body(&server, Server::V4);
        set_socket_linger(client.socket(), Some(Duration::ZERO)).unwrap();
        drop(client);
        server.check_alive();
    }
}

fn an_end_of_stream_mid_body(lab: &Lab) {
    let server = Serve::new(lab).start();
    for _ in 0..20 {
        let client = in_mid_body(&server, Server::V6);
        client.socket().shutdown(std::net::Shutdown::Both).unwrap();
        drop(client);
        server.check_alive();
    }
}

fn a_reset_while_much_is_on_its_way_to_it(lab: &Lab) {
    let server = Serve::new(lab).without_capture().start();
    for _ in 0..20 {
        let mut client = server.client();
        for _ in 0..16 {
            client.send(request("GET", "/big"));
        }
        client.head().unwrap();
        // Unread bytes in the socket: the kernel closes with a reset.
        drop(client);
        server.check_alive();
    }
}

fn a_process_that_is_killed_mid_body(lab: &Lab) {
    let server = Serve::new(lab).without_capture().start();
    let url = format!("http://{}/echo", Server::V4);
    let args = [
        "-sS",
        "-o",
        "/dev/null",
        "--limit-rate",
        "64k",
        "-T",
        "/dev/zero",
    ];
    let mut curl = lab.net().command("curl");
    curl.args(args).args(["-X", "POST", &url]);
    let before = received(lab);
    let mut child = curl.spawn().unwrap();
    wirepath_tests::wait::wait_until("curl uploads", || received(lab) > before + 32 * 1024);
    child.kill().unwrap();
    child.wait().unwrap();
    server.check_alive();
}

/// Bytes that the client has sent.
fn received(lab: &Lab) -> u64 {
    let path = "/proc/thread-self/net/dev";
    let devices = lab.net().enter(|| std::fs::read_to_string(path)).unwrap();
    let line = devices.lines().find_map(|line| {
        line.trim()
            .strip_prefix(lab.client_end())?
            .strip_prefix(':')
    });
    let sent = line.and_then(|line| line.split_whitespace().nth(8));
    sent.expect("the interface is there").parse().unwrap()
}

fn a_client_that_falls_silent(lab: &Lab) {
    let dev = lab.client_end();
    lab.net().ip(&format!("addr add 10.0.0.3/24 dev {dev}"));
    let server = Serve::new(lab).start();
    // The route's preferred source makes this client 10.0.0.3.
    lab.net()
        .ip(&format!("route add 10.0.0.2/32 dev {dev} src 10.0.0.3"));
    let mut silent = in_mid_body(&server, Server::V4);
    silent.send(request("GET", "/big"));
    let from = silent.socket().local_addr().unwrap();
    assert_eq!(from.ip().to_string(), "10.0.0.3");
    lab.net().ip(&format!("route del 10.0.0.2/32 dev {dev}"));
    // Without its address the kernel neither answers for that client nor sends.
    lab.net().ip(&format!("addr del 10.0.0.3/24 dev {dev}"));
    for _ in 0..20 {
        server.check_alive();
    }
    drop(silent);
    server.check_alive();
}

fn a_cable_that_is_pulled_and_put_back(lab: &Lab) {
    let server = Serve::new(lab).start();
    let mut client = server.client();
    assert_eq!(client.get("/").status, 200);
    for state in ["down", "up"] {
        let link = format!("link set {} {state}", lab.client_end());
        lab.net().ip(&link);
    }
    server.check_alive();
    // TCP does not notice a short outage.
    assert_eq!(client.get("/").status, 200);
}
