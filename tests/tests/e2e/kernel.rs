//! `wirepath serve --kernel`: the same server over the kernel's sockets.
//!
//! It listens on loopback, at a port that is free, and needs no lab.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use wirepath_tests::bin;
use wirepath_tests::http::{Client, request};
use wirepath_tests::nobody::Nobody;
use wirepath_tests::process::{self, Daemon, Finished};

/// A server on loopback.
struct Server {
    daemon: Daemon,
    addr: SocketAddr,
}

impl Server {
    /// Starts `command serve --kernel` and waits until it listens.
    #[track_caller]
    fn start(mut command: Command, listen: &str) -> Server {
        command.args(["serve", "--kernel", listen]);
        let mut daemon = Daemon::start(&mut command).expect("a program can be started");
        daemon.wait_for("Ctrl-C ends it");
        let output = daemon.output();
        let url = output.split("http://").nth(1).expect("it says where");
        let addr = url
            .split('/')
            .next()
            .expect("split gives one part at least");
        let addr = addr.parse().expect("an address and a port");
        Server { daemon, addr }
    }

    fn client(&self) -> Client {
        Client::new(TcpStream::connect(self.addr).expect("the server accepts"))
    }
}

fn wirepath() -> Command {
    // It dies with the test.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(bin::wirepath());
    command
}

#[test]
fn the_site_is_served_over_kernel_sockets() {
    let mut server = Server::start(wirepath(), "127.0.0.1:0");
    let mut client = server.client();
    for _ in 0..100 {
        let reply = client.get("/");
        assert_eq!(reply.status, 200);
        assert_eq!(reply.body, b"Hello, World!\n");
    }
    let about = client.get("/about").body;
    let about = String::from_utf8_lossy(&about);
    assert!(about.contains("the\nkernel's TCP"), "{about}");
    assert!(!about.contains("no kernel socket"), "{about}");
    let big = client.get("/big").body;
    assert_eq!(big.len(), 1 << 20);
    assert!(big.ends_with(b".\n"));
    let counters: Value =
        serde_json::from_slice(&client.get("/debug/wirepath/counters").body).unwrap();
    assert_eq!(counters["network"], "kernel");
    assert_eq!(counters["server"]["connections_accepted"], 1);
    assert!(counters["stack"].is_null() && counters["queues"].is_null());
    server.daemon.signal(Signal::TERM);
    assert_eq!(client.rest().unwrap(), b"");
    let (status, printed) = server.daemon.wait();
    assert_eq!(status.code(), Some(0), "{printed}");
    assert!(printed.contains("totals:"), "{printed}");
}

#[test]
fn a_request_in_flight_is_answered_before_the_end_over_kernel_sockets() {
    let mut server = Server::start(wirepath(), "127.0.0.1:0");
    let mut client = server.client();
    client.send(request("GET", "/sleep?ms=500"));
    // Asked later and answered: so that one is being handled.
    assert_eq!(server.client().get("/").status, 200);
    server.daemon.signal(Signal::INT);
    assert_eq!(client.reply().expect("it comes all the same").status, 200);
    let (status, printed) = server.daemon.wait();
    assert_eq!(status.code(), Some(0), "{printed}");
}

#[test]
fn a_port_alone_is_of_both_families() {
    let server = Server::start(wirepath(), ":0");
    assert_eq!(server.client().get("/").status, 200);
    let six = SocketAddr::new("::1".parse().unwrap(), server.addr.port());
    // A machine without IPv6 has no such address.
    if TcpListener::bind((six.ip(), 0)).is_ok() {
        let mut client = Client::new(TcpStream::connect(six).expect("it listens there too"));
        assert_eq!(client.get("/").status, 200);
    }
}

#[test]
fn many_clients_send_requests_in_pieces() {
    let server = Server::start(wirepath(), "127.0.0.1:0");
    let clients: Vec<_> = (0..64)
        .map(|_| {
            let addr = server.addr;
            std::thread::spawn(move || {
                let mut stream = TcpStream::connect(addr).unwrap();
                for _ in 0..20 {
                    for piece in ["GET / HT", "TP/1.1\r\nHo", "st: a\r\n", "\r\n"] {
                        stream.write_all(piece.as_bytes()).unwrap();
                    }
                    let mut seen = Vec::new();
                    let mut buf = [0; 4096];
                    while !seen.ends_with(b"Hello, World!\n") {
                        let n = stream.read(&mut buf).unwrap();
                        assert!(n > 0, "{}", String::from_utf8_lossy(&seen));
                        seen.extend_from_slice(&buf[..n]);
                    }
                }
                // The last request and the end of the stream in one.
                stream
                    .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    .unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).unwrap();
                assert!(rest.ends_with(b"Hello, World!\n"));
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
}

#[test]
fn it_needs_no_rights() {
    // Only root can become nobody; anybody else shows it by running at all.
    let Ok(nobody) = Nobody::new() else {
        let server = Server::start(wirepath(), "127.0.0.1:0");
        assert_eq!(server.client().get("/").status, 200);
        return;
    };
    let mut command = nobody.command();
    command.args(["--no-new-privs", "--pdeathsig", "KILL"]);
    command.arg(nobody.program());
    let server = Server::start(command, "127.0.0.1:0");
    assert_eq!(server.client().get("/").status, 200);
}

#[test]
fn without_descriptors_it_accepts_later() {
    // 64 are enough to start, and for some connections.
    let mut command = Command::new("prlimit");
    command.args(["--nofile=64:64", "setpriv", "--pdeathsig", "KILL"]);
    command.arg(bin::wirepath());
    let mut server = Server::start(command, "127.0.0.1:0");
    let clients: Vec<_> = (0..80).map(|_| server.client()).collect();
    server.daemon.wait_for("accepting failed, trying again");
    drop(clients);
    assert_eq!(server.client().get("/").status, 200);
    server.daemon.signal(Signal::TERM);
    let (status, printed) = server.daemon.wait();
    assert_eq!(status.code(), Some(0), "{printed}");
}

#[track_caller]
fn refused(args: &[&str], culprit: &str) {
    let finished: Finished = process::run(wirepath().arg("serve").args(args));
    assert_eq!(finished.status.code(), Some(2), "{finished}");
    let lines: Vec<_> = finished.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "one line: {finished}");
    assert!(lines[0].contains(culprit), "it names {culprit}: {finished}");
}

#[test]
fn what_does_not_fit_is_refused_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (args, culprit) in [
        (vec!["--kernel", ":8080", "--tap", "wp0"], "--tap"),
        (vec!["--kernel", ":8080", "--addr", "10.0.0.2/24"], "--addr"),
        (vec!["--kernel", ":8080", "--pcap", "x.pcapng"], "--pcap"),
        (vec!["--kernel", ":8080", "--listen", ":80"], "--listen"),
        (vec!["--kernel", "nowhere"], "nowhere"),
        (vec!["--kernel", ":99999"], "99999"),
        // TEST-NET-1 (RFC 5737), an address of nobody.
        (vec!["--kernel", "192.0.2.1:80"], "192.0.2.1"),
        (vec!["--kernel", &taken], "ss -ltnp"),
        (
            vec!["--kernel", ":0", "--root", "/no/such/folder"],
            "--root",
        ),
        (vec![], "--kernel"),
    ] {
        println!("{args:?}");
        refused(&args, culprit);
    }
}
