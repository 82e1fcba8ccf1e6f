//! Datagrams between goroutines: over the cable between two stacks, and over
//! the kernel's loopback.

mod lab;

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lab::{Lab, SERVER, wait_until};
use wirepath_runtime::chan::channel;
use wirepath_runtime::net::{Network, UdpOptions, UdpSocket};
use wirepath_runtime::{Next, Runtime, clock, go, steps};

const SOON: Duration = Duration::from_millis(20);

/// Where datagrams are exchanged.
struct Sides {
    server: Arc<Runtime>,
    client: Arc<Runtime>,
    /// The server's address.
    at: IpAddr,
    network: Network,
}

fn both() -> [Sides; 2] {
    let lab = Lab::new();
    let (server, client) = (Arc::new(lab.server), Arc::new(lab.client));
    let runtime = Arc::new(Runtime::builder().max_procs(2).build().unwrap());
    [
        Sides {
            server,
            client,
            at: SERVER,
            network: Network::Stack,
        },
        Sides {
            server: runtime.clone(),
            client: runtime,
            at: Ipv4Addr::LOCALHOST.into(),
            network: Network::Kernel,
        },
    ]
}

fn any() -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, 0).into()
}

#[track_caller]
fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

impl Sides {
    /// Starts a goroutine with a socket on the server's address, and waits until
    /// it is bound; gives its address and its end.
    fn serve(
        &self,
        serve: impl FnOnce(UdpSocket) + Send + 'static,
    ) -> (SocketAddr, wirepath_runtime::JoinHandle<()>) {
        let (ready, bound) = std::sync::mpsc::channel();
        let at = self.at;
        let server = self.server.go(move || {
            let socket = UdpSocket::bind((at, 0)).unwrap();
            ready.send(socket.local_addr().unwrap()).unwrap();
            serve(socket);
        });
        (bound.recv().unwrap(), server)
    }
}

/// Sends back what comes, until an empty datagram.
fn echo(socket: &UdpSocket) {
    let mut buf = [0; 2048];
    loop {
        let (len, from) = socket.recv_from(&mut buf).unwrap();
        assert_eq!(socket.send_to(&buf[..len], from).unwrap(), len);
        if len == 0 {
            return;
        }
    }
}

#[test]
fn many_datagrams_come_back() {
    for sides in both() {
        let (addr, server) = sides.serve(|socket| echo(&socket));
        let network = sides.network;
        let client = sides.client.go(move || {
            // One without a peer, one with.
            for connected in [false, true] {
                let socket = UdpSocket::bind(any()).unwrap();
                assert_eq!(socket.network(), network);
                assert_ne!(socket.local_addr().unwrap().port(), 0);
                if connected {
                    socket.connect(addr).unwrap();
                    assert_eq!(socket.peer_addr().unwrap(), addr);
                } else {
                    assert_eq!(kind(socket.peer_addr()), ErrorKind::NotConnected);
                }
                let mut buf = [0; 2048];
                for round in 0..500 {
                    let sent = format!("round {round}").repeat(1 + round % 100);
                    if connected {
                        socket.send(sent.as_bytes()).unwrap();
                    } else {
                        socket.send_to(sent.as_bytes(), addr).unwrap();
                    }
                    let (len, from) = socket.recv_from(&mut buf).unwrap();
                    assert_eq!((&buf[..len], from), (sent.as_bytes(), addr));
                }
            }
            let socket = UdpSocket::bind(any()).unwrap();
            socket.send_to(b"", addr).unwrap();
            assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 0);
        });
        client.join().unwrap();
        server.join().unwrap();
    }
}

#[test]
fn a_server_of_steps_answers_between_waits() {
    for sides in both() {
        let (addr, server) = sides.serve(|socket| {
            let echo = steps(socket, |socket| {
                let mut buf = [0; 2048];
                match socket.try_recv_from(&mut buf) {
                    Ok((0, _)) => Next::Done,
                    Ok((len, from)) => {
                        socket.try_send_to(&buf[..len], from).unwrap();
                        Next::Yield
                    }
                    Err(e) if e.kind() == ErrorKind::WouldBlock => Next::Wait(socket.readable()),
                    Err(e) => panic!("{e}"),
                }
            });
            echo.join().unwrap();
        });
        let client = sides.client.go(move || {
            // First one, so that the rest need not wait for the neighbour, for
            // which there is little room.
            let socket = UdpSocket::bind(any()).unwrap();
            socket.send_to(b"first", addr).unwrap();
            socket.recv(&mut [0; 8]).unwrap();
            let clients = (0..20u8).map(|n| {
                go(move || {
                    let socket = UdpSocket::bind(any()).unwrap();
                    for round in 0..20 {
                        socket.send_to(&[n, round], addr).unwrap();
                        let mut buf = [0; 8];
                        assert_eq!(socket.recv(&mut buf).unwrap(), 2);
                        assert_eq!(buf[..2], [n, round]);
                    }
                })
            });
            let clients: Vec<_> = clients.collect();
            clients.into_iter().for_each(|c| c.join().unwrap());
            socket.send_to(b"", addr).unwrap();
        });
        client.join().unwrap();
        server.join().unwrap();
    }
}

#[test]
fn a_burst_beyond_the_ring_makes_the_sender_wait() {
    const COUNT: usize = 5_000;
    for sides in both() {
        let (addr, server) = sides.serve(|socket| {
            // Some are lost where the receiver is slower; the last is sent
            // until it comes.
            let (mut buf, mut count) = ([0; 2048], 0);
            while socket.recv(&mut buf).unwrap() != 3 {
                count += 1;
            }
            assert!(count > 0 && count <= COUNT, "{count}");
        });
        let (ended, end) = channel::<()>(1);
        let client = sides.client.go(move || {
            let socket = UdpSocket::bind(any()).unwrap();
            for _ in 0..COUNT {
                assert_eq!(socket.send_to(&[7; 1000], addr).unwrap(), 1000);
            }
            while end
                .recv_timeout(SOON)
                .is_err_and(|e| e.to_string() != closed())
            {
                // The port is gone when the server has heard one.
                let _ = socket.send_to(b"end", addr);
            }
        });
        server.join().unwrap();
        drop(ended);
        client.join().unwrap();
    }
}

/// What a receiver says when every sender is gone.
fn closed() -> String {
    let (sender, receiver) = channel::<()>(0);
    drop(sender);
    receiver.recv_timeout(SOON).unwrap_err().to_string()
}

#[test]
fn what_does_not_fit_the_buffer_is_lost() {
    for sides in both() {
        let (addr, server) = sides.serve(|socket| {
            let mut buf = [0; 4];
            assert_eq!(socket.recv(&mut buf).unwrap(), 4);
            assert_eq!(&buf, b"0123");
            assert_eq!(socket.recv(&mut buf).unwrap(), 1);
            assert_eq!(kind(socket.try_recv(&mut buf)), ErrorKind::WouldBlock);
        });
        let client = sides.client.go(move || {
            let socket = UdpSocket::bind(any()).unwrap();
            socket.send_to(b"0123456789", addr).unwrap();
            socket.send_to(b"x", addr).unwrap();
            // On the stack more than a frame, on the kernel than a datagram.
            assert!(socket.send_to(&[0; 70_000], addr).is_err());
        });
        client.join().unwrap();
        server.join().unwrap();
    }
}

#[test]
fn a_deadline_ends_a_recv() {
    for sides in both() {
        let (_, server) = sides.serve(|socket| {
            socket.set_read_deadline(Some(clock::now() + SOON));
            assert_eq!(kind(socket.recv(&mut [0; 8])), ErrorKind::TimedOut);
            assert_eq!(kind(socket.try_recv(&mut [0; 8])), ErrorKind::TimedOut);
            socket.set_deadline(None);
            assert_eq!(kind(socket.try_recv(&mut [0; 8])), ErrorKind::WouldBlock);
        });
        server.join().unwrap();
    }
}

#[test]
fn a_close_ends_a_wait_and_a_second_waiter_is_refused() {
    for sides in both() {
        let (_, server) = sides.serve(|socket| {
            let addr = socket.local_addr().unwrap();
            assert_eq!(kind(UdpSocket::bind(addr)), ErrorKind::AddrInUse);
            let socket = Arc::new(socket);
            let (refused, refusal) = channel(2);
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    let (socket, refused) = (socket.clone(), refused.clone());
                    go(move || {
                        let ended = kind(socket.recv(&mut [0; 8]));
                        if ended == ErrorKind::ResourceBusy {
                            refused.send(()).unwrap();
                        }
                        ended
                    })
                })
                .collect();
            refusal.recv().unwrap();
            socket.close();
            socket.close();
            let mut ends: Vec<_> = readers.into_iter().map(|r| r.join().unwrap()).collect();
            ends.sort_unstable_by_key(|end| *end == ErrorKind::ResourceBusy);
            assert_eq!(
                ends,
                [ErrorKind::ConnectionAborted, ErrorKind::ResourceBusy]
            );
            assert_eq!(
                kind(socket.send_to(b"x", addr)),
                ErrorKind::ConnectionAborted
            );
            assert_eq!(kind(socket.local_addr()), ErrorKind::ConnectionAborted);
            // The port is free again.
            UdpSocket::bind(addr).unwrap();
        });
        server.join().unwrap();
    }
}

#[test]
fn a_connected_socket_hears_that_a_port_is_closed() {
    for sides in both() {
        // A port that was free a moment ago.
        let (addr, server) = sides.serve(drop);
        server.join().unwrap();
        let client = sides.client.go(move || {
            let socket = UdpSocket::bind(any()).unwrap();
            socket.connect(addr).unwrap();
            socket.send(b"x").unwrap();
            kind(socket.recv(&mut [0; 8]))
        });
        assert_eq!(client.join().unwrap(), ErrorKind::ConnectionRefused);
    }
}

#[test]
fn a_shutdown_ends_a_recv() {
    for network in [Network::Stack, Network::Kernel] {
        let runtime = match network {
            Network::Stack => Lab::new().server,
            _ => Runtime::builder().max_procs(2).build().unwrap(),
        };
        let (tell, told) = std::sync::mpsc::channel();
        runtime.go(move || {
            let socket = UdpSocket::bind(any()).unwrap();
            tell.send("bound".to_owned()).unwrap();
            let ended = socket.recv(&mut [0; 8]).unwrap_err();
            tell.send(ended.to_string()).unwrap();
        });
        assert_eq!(told.recv().unwrap(), "bound");
        let report = runtime.shutdown(Duration::from_secs(20));
        assert_eq!(told.recv().unwrap(), "the runtime is shutting down");
        assert_eq!(report.leaked, 0);
    }
}

#[test]
fn options_bound_what_waits() {
    let lab = Lab::new();
    let (ready, bound) = std::sync::mpsc::channel();
    let server = lab.server.go(move || {
        let mut options = UdpOptions::default();
        options.recv_datagrams = 3;
        let socket = UdpSocket::bind_with((SERVER, 0), &options).unwrap();
        ready.send(socket.local_addr().unwrap()).unwrap();
        // Told over the same path, when all have arrived or were dropped.
        let done = UdpSocket::bind((SERVER, 4242)).unwrap();
        ready.send(done.local_addr().unwrap()).unwrap();
        done.recv(&mut [0; 8]).unwrap();
        let mut count = 0;
        while socket.try_recv(&mut [0; 8]).is_ok() {
            count += 1;
        }
        count
    });
    let (addr, done) = (bound.recv().unwrap(), bound.recv().unwrap());
    let client = lab.client.go(move || {
        let socket = UdpSocket::bind(any()).unwrap();
        for _ in 0..10 {
            socket.send_to(b"x", addr).unwrap();
        }
        socket.send_to(b"done", done).unwrap();
    });
    client.join().unwrap();
    assert_eq!(server.join().unwrap(), 3);
}

#[test]
fn a_kernel_socket_of_both_families_talks_to_each() {
    let runtime = Runtime::builder().max_procs(2).build().unwrap();
    runtime
        .run(|| {
            let std = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let near = UdpSocket::from_std(std).unwrap();
            let far = UdpSocket::bind_on(Network::Kernel, any()).unwrap();
            far.send_to(b"hello", near.local_addr().unwrap()).unwrap();
            let mut buf = [0; 8];
            let (len, from) = near.recv_from(&mut buf).unwrap();
            assert_eq!(&buf[..len], b"hello");
            assert!(from.is_ipv4());
            near.send_to(b"back", from).unwrap();
            let (len, from) = far.recv_from(&mut buf).unwrap();
            assert_eq!(
                (&buf[..len], from),
                (&b"back"[..], near.local_addr().unwrap())
            );
            far.connect(from).unwrap();
            assert_eq!(far.peer_addr().unwrap(), from);
        })
        .unwrap();
}

#[test]
fn outside_of_a_runtime_there_is_no_network() {
    assert_eq!(kind(UdpSocket::bind(any())), ErrorKind::Unsupported);
    let runtime = Runtime::builder().max_procs(1).build().unwrap();
    let bound = runtime.run(|| UdpSocket::bind_on(Network::Stack, any()).map(drop));
    assert_eq!(kind(bound.unwrap()), ErrorKind::NetworkDown);
}

#[test]
fn a_dump_tells_what_a_receiver_waits_for() {
    let lab = Lab::new();
    let (tell, told) = std::sync::mpsc::channel();
    let server = lab.server.go(move || {
        let socket = UdpSocket::bind((SERVER, 0)).unwrap();
        let peer: SocketAddr = "10.7.0.2:9".parse().unwrap();
        socket.connect(peer).unwrap();
        tell.send(socket.local_addr().unwrap()).unwrap();
        let _ = socket.recv(&mut [0; 8]);
    });
    let local = told.recv().unwrap();
    let want = format!("udp {local} -> 10.7.0.2:9, recv-q 0; to read");
    wait_until(|| lab.server.dump(100).contains(&want));
    drop(lab);
    drop(server);
}
