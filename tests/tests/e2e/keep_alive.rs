//! Several requests on one connection, one after the other and all at once.

use std::io::Write;

use wirepath_tests::http::request;
use wirepath_tests::{Lab, Serve, Server};

on_every_device! {
    curl_uses_its_connection_again,
    a_connection_serves_a_thousand_requests,
    close_is_said_and_done,
    ten_thousand_pipelined_requests_are_answered_in_order,
    requests_cut_at_every_byte_are_put_together,
}

fn curl_uses_its_connection_again(lab: &Lab) {
    let _server = Serve::new(lab).start();
    let url = format!("http://{}/", Server::V4);
    let args = [
        "-sS",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} %{num_connects}\n",
    ];
    let out = lab.run(
        "curl",
        &[&args[..], &[&url, "-o", "/dev/null", &url]].concat(),
    );
    assert_eq!(out.ok().text(), "200 1\n200 0\n");
}

fn a_connection_serves_a_thousand_requests(lab: &Lab) {
    let server = Serve::new(lab).start();
    let mut client = server.client();
    for n in 0..1000 {
        let path = ["/", "/about", "/users/7", "/stream?n=2", "/nope"][n % 5];
        let want = if path == "/nope" { 404 } else { 200 };
        assert_eq!(client.get(path).status, want, "request {n}, {path}");
    }
}

fn close_is_said_and_done(lab: &Lab) {
    let server = Serve::new(lab).start();
    let mut client = server.client();
    client.send("GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n");
    let reply = client.reply().unwrap();
    assert_eq!(reply.field("connection"), Some("close"));
    assert_eq!(client.rest().unwrap(), b"");

    // Without keep-alive asked for, HTTP/1.0 ends after one reply.
    let mut client = server.client();
    client.send("GET / HTTP/1.0\r\n\r\n");
    let all = String::from_utf8(client.rest().unwrap()).unwrap();
    assert!(all.ends_with("\r\n\r\nHello, World!\n"), "{all}");
}

fn ten_thousand_pipelined_requests_are_answered_in_order(lab: &Lab) {
    const REQUESTS: usize = 10_000;
    let server = Serve::new(lab).without_capture().start();
    let mut client = server.client();
    let mut writer = client.socket().try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let all: String = (0..REQUESTS)
                .map(|n| request("GET", &format!("/users/u{n:05}")))
                .collect();
            writer.write_all(all.as_bytes()).unwrap();
        });
        for n in 0..REQUESTS {
            let reply = client
                .reply()
                .unwrap_or_else(|err| panic!("reply {n}: {err}"));
            assert_eq!(reply.status, 200);
            let want = format!("u{n:05}");
            assert!(reply.text().contains(&want), "{want}: {}", reply.text());
        }
    });
    assert_eq!(client.get("/").status, 200);
}

fn requests_cut_at_every_byte_are_put_together(lab: &Lab) {
    let server = Serve::new(lab).start();
    let mut client = server.client();
    let asked = request("GET", "/users/slow");
    for cut in 1..asked.len() {
        // No Nagle on our side: each part is a segment.
        client.send(&asked[..cut]);
        client.send(&asked[cut..]);
        let reply = client.reply().unwrap();
        assert!(reply.text().contains("slow"), "cut at {cut}");
    }
}
