//! Stopping a server: what has begun is finished, the rest is refused.

use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::process::Signal;
use wirepath_tests::http::request;
use wirepath_tests::wait::wait_until;
use wirepath_tests::{Lab, Serve};

on_every_device! {
    a_request_in_flight_is_answered_before_the_end,
    idle_connections_do_not_hold_it_up,
    totals_are_printed_at_the_end,
    the_device_can_be_used_again_at_once,
    a_response_that_nobody_has_read_yet_still_arrives,
    what_is_written_outlives_its_connection,
}

fn a_request_in_flight_is_answered_before_the_end(lab: &Lab) {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Serve::new(lab).start();
        let mut client = server.client();
        client.send(request("GET", "/sleep?ms=500"));
        // Asked later and answered: so that one is being handled.
        server.check_alive();
        server.daemon().signal(signal);
        let reply = client.reply().expect("the reply comes all the same");
        assert_eq!(reply.status, 200);
        assert_eq!(client.rest().unwrap(), b"");
        let (status, printed) = server.daemon().wait();
        assert_eq!(status.code(), Some(0), "{signal:?}: {printed}");
    }
}

fn idle_connections_do_not_hold_it_up(lab: &Lab) {
    let mut server = Serve::new(lab).start();
    let mut idle: Vec<_> = (0..50).map(|_| server.client()).collect();
    for client in &mut idle {
        assert_eq!(client.get("/").status, 200);
    }
    server.daemon().signal(Signal::TERM);
    for client in &mut idle {
        assert_eq!(client.rest().unwrap(), b"");
    }
    let (status, printed) = server.daemon().wait();
    assert_eq!(status.code(), Some(0), "{printed}");
}

fn totals_are_printed_at_the_end(lab: &Lab) {
    let server = Serve::new(lab).start();
    for _ in 0..37 {
        server.check_alive();
    }
    let (status, printed) = server.stop();
    assert_eq!(status.code(), Some(0), "{printed}");
    assert!(printed.contains("37"), "37 requests were served: {printed}");
}

fn the_device_can_be_used_again_at_once(lab: &Lab) {
    for _ in 0..3 {
        let server = Serve::new(lab).start();
        server.check_alive();
        let (status, printed) = server.stop();
        assert_eq!(status.code(), Some(0), "{printed}");
    }
}

fn a_response_that_nobody_has_read_yet_still_arrives(lab: &Lab) {
    let mut server = Serve::new(lab).start();
    let mut client = server.client();
    set_socket_recv_buffer_size(client.socket(), 4096).unwrap();
    client.send(request("GET", "/big"));
    let head = client.head().unwrap();
    server.daemon().signal(Signal::TERM);
    server.daemon().wait_for("stopping");
    let mut body = Vec::new();
    client.body(&head, &mut body).unwrap();
    assert_eq!(body.len(), 1 << 20);
    let (status, printed) = server.daemon().wait();
    assert_eq!(status.code(), Some(0), "{printed}");
}

/// What the server has written and closed is its peer's, however late the peer
/// reads it.
fn what_is_written_outlives_its_connection(lab: &Lab) {
    let mut server = Serve::new(lab).start();
    let mut client = server.client();
    set_socket_recv_buffer_size(client.socket(), 4096).unwrap();
    client.send("GET /users/42 HTTP/1.1\r\nHost: lab\r\n\r\n".repeat(300));
    client.send("GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n");
    // All are answered, into the send buffer, and the connection is closed.
    wait_until("301 requests are served", || {
        server.counters()["server"]["requests"].as_u64() >= Some(301)
    });
    server.daemon().signal(Signal::TERM);
    server.daemon().wait_for("stopping");
    std::thread::sleep(std::time::Duration::from_millis(300));
    let all = client.rest().unwrap();
    assert!(all.ends_with(b"Hello, World!\n"), "{} bytes", all.len());
    let (status, printed) = server.daemon().wait();
    assert_eq!(status.code(), Some(0), "{printed}");
}
