//! Names, and dialling by them: on a stack that asks a name server written here
//! over a cable, and on the kernel.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use wirepath_driver::cable::{CableEnd, CableOptions, cable};
use wirepath_runtime::chan::TryRecvError;
use wirepath_runtime::net::{
    ListenOptions, Network, TcpListener, TcpStream, UdpOptions, UdpSocket, lookup_host,
    lookup_host_on,
};
use wirepath_runtime::{Runtime, Stack, clock, now};
use wirepath_stack::Config;

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 7, 0, 1));
const SOON: Duration = Duration::from_millis(50);

/// Two runtimes with a stack of both families each; the client's asks names of
/// `server`'s address.
struct Lab {
    server: Runtime,
    client: Runtime,
    client_stack: Stack,
}

impl Lab {
    fn new(name_servers: &[SocketAddr]) -> Lab {
        let (near, far) = cable(CableOptions::default()).unwrap();
        let stack = |number: u8, end: CableEnd, name_servers: &[SocketAddr]| {
            let mac = format!("02:00:00:00:00:0{number}").parse().unwrap();
            let addrs = [format!("10.7.0.{number}/24"), format!("fd07::{number}/64")];
            let addrs = addrs.iter().map(|addr| addr.parse().unwrap());
            let mut config = Config::new(mac, addrs.collect());
            config.name_servers = name_servers.to_vec();
            Stack::new(config, vec![Box::new(end)]).unwrap()
        };
        let runtime = |stack| {
            let builder = Runtime::builder().max_procs(2).stack(stack);
            builder.build().unwrap()
        };
        let client_stack = stack(2, far, name_servers);
        Lab {
            server: runtime(stack(1, near, &[])),
            client: runtime(client_stack.clone()),
            client_stack,
        }
    }

    /// With a name server, a service at port 80, and addresses of IPv6 that are
    /// usable.
    fn served() -> Lab {
        let lab = Lab::new(&[(SERVER, 53).into()]);
        let (ready, up) = std::sync::mpsc::channel();
        let told = ready.clone();
        lab.server.go(move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap();
            told.send(()).unwrap();
            serve_names(&socket);
        });
        lab.server.go(move || {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap();
            ready.send(()).unwrap();
            serve(&listener);
        });
        up.recv().unwrap();
        up.recv().unwrap();
        lab
    }

    /// Waits until the client's IPv6 address has been checked for duplicates.
    fn await_ipv6(&self) {
        let dial = || {
            let start = clock::now();
            while TcpStream::connect((host(1), 80)).is_err() {
                assert!(clock::now().since(start) < Duration::from_secs(20));
                wirepath_runtime::sleep(SOON);
            }
        };
        self.client.go(dial).join().unwrap();
    }
}

/// Greets whoever connects.
fn serve(listener: &TcpListener) {
    while let Ok((mut stream, peer)) = listener.accept() {
        let _ = write!(stream, "hello {}", peer.ip());
    }
}

/// A host on the lab's network.
fn host(number: u16) -> IpAddr {
    Ipv6Addr::new(0xfd07, 0, 0, 0, 0, 0, 0, number).into()
}

/// Answers: `none.test` does not exist, `alias.test` is `both.test`, names have
/// the addresses that are listed here, and `silent.test` is never answered.
fn serve_names(socket: &UdpSocket) {
    let mut buf = [0; 512];
    while let Ok((len, from)) = socket.recv_from(&mut buf) {
        let query = &buf[..len];
        let end = 12 + query[12..].iter().position(|b| *b == 0).unwrap() + 1;
        let name: Vec<u8> = query[12..end].to_vec();
        let is_v6 = query[end + 1] == 28;
        let mut reply = query.to_vec();
        reply[2] |= 0x80;
        let is = |label: &[u8]| name[1..].starts_with(label);
        if is(b"silent") {
            continue;
        }
        if is(b"none") {
            reply[3] = 3;
        } else if is(b"alias") {
            // CNAME both.test, and its address.
            push(&mut reply, &[0xc0, 12], 5, b"\x04both\x04test\0");
            let owner = b"\x04both\x04test\0";
            match is_v6 {
                true => push(&mut reply, owner, 28, &v6(1)),
                false => push(&mut reply, owner, 1, &[10, 7, 0, 1]),
            }
        } else {
            match is_v6 {
                true if is(b"both") || is(b"v6") => push(&mut reply, &[0xc0, 12], 28, &v6(1)),
                false if !is(b"v6") => push(&mut reply, &[0xc0, 12], 1, &[10, 7, 0, 1]),
                _ => {}
            }
        }
        socket.send_to(&reply, from).unwrap();
    }
}

fn v6(host: u16) -> [u8; 16] {
    Ipv6Addr::new(0xfd07, 0, 0, 0, 0, 0, 0, host).octets()
}

/// Adds an answer.
fn push(reply: &mut Vec<u8>, owner: &[u8], kind: u8, data: &[u8]) {
    reply[7] += 1;
    reply.extend_from_slice(owner);
    reply.extend_from_slice(&[
        0,
        kind,
        0,
        1,
        0,
        0,
        0,
        9,
        0,
        u8::try_from(data.len()).unwrap(),
    ]);
    reply.extend_from_slice(data);
}

fn addrs(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|addr| addr.parse().unwrap()).collect()
}

/// What the service says on a connection.
fn hello(stream: std::io::Result<TcpStream>) -> String {
    let mut said = String::new();
    stream.unwrap().read_to_string(&mut said).unwrap();
    said
}

#[test]
fn literals_and_localhost_ask_nobody() {
    let lab = Lab::new(&[]);
    let client = lab.client.go(|| {
        assert_eq!(lookup_host("10.7.0.9").unwrap(), addrs(&["10.7.0.9"]));
        assert_eq!(lookup_host("fd07::9").unwrap(), addrs(&["fd07::9"]));
        let localhost = addrs(&["::1", "127.0.0.1"]);
        assert_eq!(lookup_host("localhost").unwrap(), localhost);
        let failed = lookup_host("www.test").unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Unsupported);
        let said = failed.to_string();
        assert!(
            said.contains("www.test") && said.contains("name server"),
            "{said}"
        );
    });
    client.join().unwrap();
    assert_eq!(
        lookup_host("10.7.0.9").unwrap_err().kind(),
        ErrorKind::Unsupported
    );
}

#[test]
fn a_stack_finds_names() {
    let lab = Lab::served();
    lab.await_ipv6();
    let client = lab.client.go(|| {
        assert_eq!(lookup_host("v4.test").unwrap(), addrs(&["10.7.0.1"]));
        for name in ["both.test", "BOTH.test.", "alias.test"] {
            let want = addrs(&["fd07::1", "10.7.0.1"]);
            assert_eq!(lookup_host(name).unwrap(), want, "{name}");
        }
        let failed = lookup_host("none.test").unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::NotFound);
        assert!(failed.to_string().contains("none.test"), "{failed}");
        assert_eq!(lookup_host("a..b").unwrap_err().kind(), ErrorKind::NotFound);
    });
    client.join().unwrap();
}

#[test]
fn many_lookups_at_once() {
    let lab = Lab::served();
    let client = lab.client.go(|| {
        let lookups = (0..100)
            .map(|n| wirepath_runtime::go(move || lookup_host(&format!("v4-{n}.test")).unwrap()));
        let lookups: Vec<_> = lookups.collect();
        for lookup in lookups {
            assert_eq!(lookup.join().unwrap(), addrs(&["10.7.0.1"]));
        }
    });
    client.join().unwrap();
    assert_eq!(lab.client_stack.stats().get("lookups"), Some(0));
}

#[test]
fn dialling_by_name() {
    let lab = Lab::served();
    lab.await_ipv6();
    let client = lab.client.go(|| {
        assert_eq!(
            hello(TcpStream::connect_host("v4.test:80")),
            "hello 10.7.0.2"
        );
        assert_eq!(
            hello(TcpStream::connect_host("v6.test:80")),
            "hello fd07::2"
        );
        // Whichever answers in time.
        let said = hello(TcpStream::connect_host("both.test:80"));
        assert!(said.starts_with("hello "), "{said}");
        assert_eq!(
            hello(TcpStream::connect_host("10.7.0.1:80")),
            "hello 10.7.0.2"
        );
        assert_eq!(
            hello(TcpStream::connect_host("[fd07::1]:80")),
            "hello fd07::2"
        );
        for (target, want) in [
            ("both.test:81", ErrorKind::ConnectionRefused),
            ("none.test:80", ErrorKind::NotFound),
            ("both.test", ErrorKind::InvalidInput),
        ] {
            let failed = TcpStream::connect_host(target).unwrap_err();
            assert_eq!(failed.kind(), want, "{target}");
        }
    });
    client.join().unwrap();
}

#[test]
fn the_other_family_is_tried_beside_one_that_does_not_answer() {
    let lab = Lab::served();
    lab.await_ipv6();
    let (ready, up) = std::sync::mpsc::channel();
    lab.server.go(move || {
        // With its accept queue full it drops every SYN, which a peer hears
        // nothing of for two minutes.
        let mut options = ListenOptions::default();
        options.backlog = 1;
        let full = TcpListener::bind_with((host(1), 82), &options).unwrap();
        let listener = TcpListener::bind((SERVER, 82)).unwrap();
        ready.send(()).unwrap();
        serve(&listener);
        drop(full);
    });
    up.recv().unwrap();
    let client = lab.client.go(|| {
        let _first = TcpStream::connect((host(1), 82)).unwrap();
        hello(TcpStream::connect_host("both.test:82"))
    });
    assert_eq!(client.join().unwrap(), "hello 10.7.0.2");
}

#[test]
fn a_deadline_ends_a_lookup_and_a_dial() {
    let lab = Lab::served();
    let client = lab.client.go(|| {
        let soon = || Some(clock::now() + SOON);
        let failed = lookup_host_on(Network::Stack, "silent.test", soon()).unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::TimedOut);
        for target in ["silent.test:80", "10.7.0.77:80"] {
            let dialled = TcpStream::connect_host_on(Network::Stack, target, soon());
            assert_eq!(dialled.unwrap_err().kind(), ErrorKind::TimedOut, "{target}");
        }
    });
    client.join().unwrap();
    assert_eq!(lab.client_stack.stats().get("lookups"), Some(0));
}

#[test]
fn a_shutdown_ends_a_lookup_and_a_dial() {
    for target in ["silent.test:80", "10.7.0.77:80"] {
        let lab = Lab::served();
        let (tell, told) = std::sync::mpsc::channel();
        lab.client.go(move || {
            tell.send("begun".to_owned()).unwrap();
            let failed = TcpStream::connect_host(target).unwrap_err();
            tell.send(failed.to_string()).unwrap();
        });
        assert_eq!(told.recv().unwrap(), "begun");
        let report = lab.client.shutdown(Duration::from_secs(20));
        let said = told.recv().unwrap();
        assert!(said.contains("the runtime is shutting down"), "{said}");
        assert_eq!(report.leaked, 0);
        assert_eq!(lab.client_stack.stats().get("lookups"), Some(0));
    }
}

#[test]
fn the_kernel_finds_localhost_and_dials_it() {
    let runtime = Runtime::builder().max_procs(2).build().unwrap();
    runtime
        .run(|| {
            let found = lookup_host("localhost").unwrap();
            assert!(
                !found.is_empty() && found.iter().all(IpAddr::is_loopback),
                "{found:?}"
            );
            assert_eq!(lookup_host("127.0.0.9").unwrap(), addrs(&["127.0.0.9"]));
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = wirepath_runtime::go(move || {
                let (mut stream, _) = listener.accept().unwrap();
                stream.write_all(b"hello").unwrap();
            });
            // Where localhost is of IPv6 first, that refuses and IPv4 is tried.
            let said = hello(TcpStream::connect_host(&format!("localhost:{port}")));
            assert_eq!(said, "hello");
            server.join().unwrap();
            let late = Some(clock::now());
            let failed = lookup_host_on(Network::Kernel, "localhost", late).unwrap_err();
            assert_eq!(failed.kind(), ErrorKind::TimedOut);
            // A name that no resolver is asked for (RFC 1035 §2.3.4).
            let failed = lookup_host(&"a".repeat(300)).unwrap_err();
            assert!(
                failed.to_string().contains("cannot find the addresses"),
                "{failed}"
            );
        })
        .unwrap();
}

/// A stack of the simulation whose link has one other station, which never
/// answers a datagram.
fn alone(seed: u64, test: impl FnOnce() + Send + 'static) -> Duration {
    let (near, far) = cable(CableOptions::default()).unwrap();
    let stack = |number: u8, end: CableEnd| {
        let mac = format!("02:00:00:00:00:0{number}").parse().unwrap();
        let addr = format!("10.7.0.{number}/24").parse().unwrap();
        let mut config = Config::new(mac, vec![addr]);
        config.name_servers = vec![(SERVER, 53).into()];
        Stack::new(config, vec![Box::new(end)]).unwrap()
    };
    let (silent, stack) = (stack(1, near), stack(2, far));
    let any = (Ipv4Addr::UNSPECIFIED, 53).into();
    silent.udp_bind(any, &UdpOptions::default()).unwrap();
    let run = Runtime::builder().stack(stack).simulate(seed, move || {
        let (done, ended) = wirepath_runtime::chan::channel::<()>(1);
        let link = wirepath_runtime::go(move || {
            while ended.try_recv().is_err_and(|e| e == TryRecvError::Empty) {
                silent.poll(0, now(), 64, &mut Vec::new());
                silent.flush(0, now());
                wirepath_runtime::sleep(Duration::from_millis(10));
            }
        });
        test();
        drop(done);
        link.join().unwrap();
    });
    run.unwrap().elapsed
}

#[test]
fn waits_for_nobody_end_in_their_time() {
    let elapsed = alone(1, || {
        let start = now();
        let failed = lookup_host("www.test").unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::TimedOut);
        // 1, 2 and 4 seconds.
        assert_eq!(now().since(start).as_secs(), 7);
        let start = now();
        let failed = TcpStream::connect_host("10.7.0.77:80").unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::HostUnreachable);
        assert_eq!(now().since(start).as_secs(), 3);
        let start = now();
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        socket
            .connect(("10.7.0.78".parse::<IpAddr>().unwrap(), 9))
            .unwrap();
        socket.send(b"x").unwrap();
        let failed = socket.recv(&mut [0; 8]).unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::HostUnreachable);
        assert_eq!(now().since(start).as_secs(), 3);
        let start = now();
        socket.set_read_deadline(Some(start + Duration::from_secs(60)));
        let failed = socket.recv(&mut [0; 8]).unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::TimedOut);
        assert_eq!(now().since(start), Duration::from_secs(60));
    });
    assert_eq!(elapsed.as_secs(), 73);
}
