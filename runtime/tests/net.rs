//! TCP between two runtimes, each with a stack of its own, joined by a cable.

mod lab;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use lab::{Lab, SERVER, wait_until};
use wirepath_runtime::chan::{Receiver, channel};
use wirepath_runtime::net::{ListenOptions, TcpListener, TcpStream};
use wirepath_runtime::{Nanos, Next, clock, go};

const SOON: Duration = Duration::from_millis(20);

fn soon() -> Option<Nanos> {
    Some(clock::now() + SOON)
}

/// A listener on a free port, in the server's runtime.
fn listen() -> (Arc<TcpListener>, SocketAddr) {
    let listener = TcpListener::bind((SERVER, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    assert_ne!(addr.port(), 0);
    (Arc::new(listener), addr)
}

/// Runs `server` with the first connection, `client` with its other end.
#[track_caller]
fn pair<S, C>(
    server: impl FnOnce(TcpStream) -> S + Send + 'static,
    client: impl FnOnce(TcpStream) -> C + Send + 'static,
) -> (S, C)
where
    S: Send + 'static,
    C: Send + 'static,
{
    let lab = Lab::new();
    let (ready, address) = channel(1);
    let server = lab.server.go(move || {
        let (listener, addr) = listen();
        ready.send(addr).unwrap();
        let (stream, peer) = listener.accept().unwrap();
        assert_eq!(stream.peer_addr().unwrap(), peer);
        server(stream)
    });
    let client = lab.client.go(move || client(dial(&address)));
    (server.join().unwrap(), client.join().unwrap())
}

fn dial(address: &Receiver<SocketAddr>) -> TcpStream {
    let addr = address.recv().unwrap();
    let stream = TcpStream::connect(addr).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), addr);
    stream
}

#[track_caller]
fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

/// A byte for each position, so that what is lost or doubled shows.
fn pattern(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|i| (i % 251) as u8).collect()
}

#[test]
fn an_echo_comes_back() {
    pair(
        |mut stream| {
            let mut buf = [0; 64];
            loop {
                let n = stream.read(&mut buf).unwrap();
                if n == 0 {
                    break;
                }
                stream.write_all(&buf[..n]).unwrap();
            }
        },
        |mut stream| {
            for len in [1, 64, 1_000] {
                let sent = pattern(len, len);
                stream.write_all(&sent).unwrap();
                let mut back = vec![0; len];
                stream.read_exact(&mut back).unwrap();
                assert_eq!(back, sent);
            }
        },
    );
}

#[test]
fn the_network_is_polled_while_goroutines_never_wait() {
    let lab = Lab::new();
    let stop = Arc::new(AtomicBool::new(false));
    for _ in 0..10 {
        let stop = stop.clone();
        lab.server
            .steps((), move |()| match stop.load(Ordering::Acquire) {
                true => Next::Done,
                false => Next::Yield,
            });
    }
    let (ready, address) = channel(1);
    lab.server.go(move || {
        let (listener, addr) = listen();
        ready.send(addr).unwrap();
        let (stream, _) = listener.accept().unwrap();
        io::copy(&mut &stream, &mut &stream).unwrap();
    });
    let client = lab.client.go(move || {
        let mut stream = dial(&address);
        for round in 0..20 {
            stream.write_all(&[round]).unwrap();
            let mut back = [0];
            stream.read_exact(&mut back).unwrap();
            assert_eq!(back, [round]);
        }
    });
    client.join().unwrap();
    stop.store(true, Ordering::Release);
}

#[test]
fn one_side_closes_and_the_other_goes_on() {
    pair(
        |mut stream| {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            assert_eq!(all, b"question");
            stream.write_all(b"answer").unwrap();
        },
        |mut stream| {
            stream.write_all(b"question").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(kind(stream.write(b"more")), ErrorKind::BrokenPipe);
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            assert_eq!(all, b"answer");
        },
    );
}

#[test]
fn a_dropped_stream_still_sends_what_was_written() {
    const LEN: usize = 60_000;
    pair(
        |mut stream| stream.write_all(&pattern(0, LEN)).unwrap(),
        |mut stream| {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            assert_eq!(all, pattern(0, LEN));
        },
    );
}

#[test]
fn more_than_the_buffers_hold_goes_both_ways_at_once() {
    const LEN: usize = 3 << 20;
    let both = |stream: TcpStream| {
        let stream = Arc::new(stream);
        let writer = stream.clone();
        let writer = go(move || {
            (&*writer).write_all(&pattern(0, LEN)).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut all = Vec::new();
        (&*stream).read_to_end(&mut all).unwrap();
        assert!(
            all == pattern(0, LEN),
            "{} bytes came, other than sent",
            all.len()
        );
        writer.join().unwrap();
    };
    pair(both, both);
}

#[test]
fn a_read_deadline_passes_and_is_set_anew() {
    let (done, wait) = channel::<()>(0);
    pair(
        move |mut stream| {
            wait.recv().unwrap();
            stream.write_all(b"late").unwrap();
        },
        move |mut stream| {
            let mut buf = [0; 4];
            let deadline = soon();
            stream.set_read_deadline(deadline);
            assert_eq!(kind(stream.read(&mut buf)), ErrorKind::TimedOut);
            assert!(Some(clock::now()) >= deadline);
            // It stays passed, and binds the other call too.
            assert_eq!(kind(stream.read(&mut buf)), ErrorKind::TimedOut);
            assert_eq!(kind(stream.try_read(&mut buf)), ErrorKind::TimedOut);
            stream.set_read_deadline(None);
            assert_eq!(kind(stream.try_read(&mut buf)), ErrorKind::WouldBlock);
            done.send(()).unwrap();
            stream.read_exact(&mut buf).unwrap();
            assert_eq!(&buf, b"late");
        },
    );
}

#[test]
fn a_deadline_binds_a_read_that_waits_already() {
    let (done, wait) = channel::<()>(0);
    pair(
        move |_stream| wait.recv().unwrap(),
        move |stream| {
            let stream = Arc::new(stream);
            // A later deadline first: the nearer one must not wait for it.
            stream.set_read_deadline(Some(clock::now() + Duration::from_secs(3_600)));
            let reader = stream.clone();
            let reader = go(move || kind((&*reader).read(&mut [0])));
            wirepath_runtime::yield_now();
            stream.set_read_deadline(soon());
            assert_eq!(reader.join().unwrap(), ErrorKind::TimedOut);
            done.send(()).unwrap();
        },
    );
}

#[test]
fn a_write_deadline_passes_when_the_peer_does_not_read() {
    let (done, wait) = channel::<()>(0);
    pair(
        move |_stream| wait.recv().unwrap(),
        move |mut stream| {
            let chunk = [0; 16 << 10];
            // On a slow machine the time may be up before the buffers are
            // full: again, until bytes are left that nobody takes.
            loop {
                stream.set_write_deadline(soon());
                let error = loop {
                    match stream.write(&chunk) {
                        Ok(n) => assert_ne!(n, 0),
                        Err(e) => break e,
                    }
                };
                assert_eq!(error.kind(), ErrorKind::TimedOut);
                if stream.queued().unwrap().1 > 0 {
                    break;
                }
            }
            done.send(()).unwrap();
        },
    );
}

#[test]
fn a_second_reader_is_told_so() {
    let (go_on, wait) = channel::<()>(0);
    pair(
        move |mut stream| {
            wait.recv().unwrap();
            stream.write_all(b"x").unwrap();
        },
        move |stream| {
            let stream = Arc::new(stream);
            let (results, result) = channel(2);
            for _ in 0..2 {
                let (stream, results) = (stream.clone(), results.clone());
                go(move || results.send((&*stream).read(&mut [0])).unwrap());
            }
            let refused = result.recv().unwrap().unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ResourceBusy);
            assert!(refused.to_string().contains("already waits to read"));
            go_on.send(()).unwrap();
            assert_eq!(result.recv().unwrap().unwrap(), 1);
        },
    );
}

#[test]
fn closing_ends_a_read_that_waits() {
    let (done, wait) = channel::<()>(0);
    pair(
        move |_stream| wait.recv().unwrap(),
        move |stream| {
            let stream = Arc::new(stream);
            let reader = stream.clone();
            let reader = go(move || kind((&*reader).read(&mut [0])));
            wirepath_runtime::yield_now();
            stream.close();
            stream.close();
            assert_eq!(reader.join().unwrap(), ErrorKind::ConnectionAborted);
            assert_eq!(kind((&*stream).write(b"x")), ErrorKind::ConnectionAborted);
            assert_eq!(kind(stream.peer_addr()), ErrorKind::ConnectionAborted);
            done.send(()).unwrap();
        },
    );
}

#[test]
fn an_abort_resets_the_peer() {
    pair(
        |mut stream| {
            stream.write_all(b"x").unwrap();
            assert_eq!(kind(stream.read(&mut [0])), ErrorKind::ConnectionReset);
            assert_ne!(kind(stream.write(b"x")), ErrorKind::WouldBlock);
        },
        |mut stream| {
            // A reset before the handshake's last segment would leave the
            // peer with nothing to accept.
            stream.read_exact(&mut [0]).unwrap();
            stream.abort();
            assert_eq!(kind(stream.read(&mut [0])), ErrorKind::ConnectionAborted);
        },
    );
}

#[test]
fn closing_a_listener_ends_its_accept() {
    let lab = Lab::new();
    let outcome = lab.server.go(|| {
        let (listener, addr) = listen();
        let closer = listener.clone();
        let acceptor = go(move || kind(listener.accept()));
        wirepath_runtime::yield_now();
        closer.close();
        assert_eq!(kind(closer.try_accept()), ErrorKind::ConnectionAborted);
        // The address is free again.
        TcpListener::bind(addr).unwrap();
        acceptor.join().unwrap()
    });
    assert_eq!(outcome.join().unwrap(), ErrorKind::ConnectionAborted);
}

#[test]
fn an_accept_deadline_passes() {
    let lab = Lab::new();
    let outcome = lab.server.go(|| {
        let (listener, _) = listen();
        assert_eq!(kind(listener.try_accept()), ErrorKind::WouldBlock);
        listener.set_deadline(soon());
        kind(listener.accept())
    });
    assert_eq!(outcome.join().unwrap(), ErrorKind::TimedOut);
}

#[test]
fn dialling_fails_for_a_reason() {
    let lab = Lab::new();
    let outcome = lab.client.go(|| {
        let refused = kind(TcpStream::connect((SERVER, 9)));
        let silent: SocketAddr = "10.7.0.77:9".parse().unwrap();
        let silent = kind(TcpStream::connect_timeout(silent, SOON));
        (refused, silent)
    });
    let expected = (ErrorKind::ConnectionRefused, ErrorKind::TimedOut);
    assert_eq!(outcome.join().unwrap(), expected);
}

#[test]
fn what_is_not_supported_says_so() {
    pair(drop, |stream| {
        stream.set_nodelay(true).unwrap();
        assert_eq!(kind(stream.set_nodelay(false)), ErrorKind::Unsupported);
        stream.set_keepalive(Some(Duration::from_secs(15))).unwrap();
        assert_eq!(u64::from(stream.fd_number()), stream.flow() & 0xff_ffff);
    });
    assert_eq!(
        kind(TcpStream::connect((SERVER, 9))),
        ErrorKind::Unsupported
    );
}

#[test]
fn a_taken_address_is_refused() {
    let lab = Lab::new();
    let outcome = lab.server.go(|| {
        let (_listener, addr) = listen();
        let foreign: SocketAddr = "192.0.2.1:80".parse().unwrap();
        (
            kind(TcpListener::bind(addr)),
            kind(TcpListener::bind(foreign)),
        )
    });
    let expected = (ErrorKind::AddrInUse, ErrorKind::AddrNotAvailable);
    assert_eq!(outcome.join().unwrap(), expected);
}

#[test]
fn a_thousand_connections_at_once() {
    const CONNECTIONS: usize = 1_000;
    let lab = Lab::new();
    let (ready, address) = channel(1);
    let served = Arc::new(AtomicUsize::new(0));
    let counter = served.clone();
    lab.server.go(move || {
        let options = ListenOptions::default();
        let listener = TcpListener::bind_with((SERVER, 0), &options).unwrap();
        ready.send(listener.local_addr().unwrap()).unwrap();
        for _ in 0..CONNECTIONS {
            let (mut stream, _) = listener.accept().unwrap();
            let counter = counter.clone();
            go(move || {
                let mut buf = [0; 8];
                stream.read_exact(&mut buf).unwrap();
                stream.write_all(&buf).unwrap();
                assert_eq!(stream.read(&mut buf).unwrap(), 0);
                counter.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    let client = lab.client.go(move || {
        let addr = address.recv().unwrap();
        // All stand before the first is used.
        let streams: Vec<_> = (0..CONNECTIONS)
            .map(|_| TcpStream::connect(addr).unwrap())
            .collect();
        for (i, mut stream) in streams.iter().enumerate() {
            stream.write_all(&i.to_be_bytes()).unwrap();
        }
        for (i, mut stream) in streams.iter().enumerate() {
            let mut buf = [0; 8];
            stream.read_exact(&mut buf).unwrap();
            assert_eq!(usize::from_be_bytes(buf), i);
        }
    });
    client.join().unwrap();
    wait_until(|| served.load(Ordering::SeqCst) == CONNECTIONS);
}

#[test]
fn a_runtime_with_nothing_to_do_polls_no_more() {
    let lab = Lab::new();
    let (ready, address) = channel(1);
    let server = lab.server.go(move || {
        let (listener, addr) = listen();
        ready.send(addr).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all.len()
    });
    let client = lab
        .client
        .go(move || dial(&address).write_all(&pattern(0, 9_000)));
    client.join().unwrap().unwrap();
    assert_eq!(server.join().unwrap(), 9_000);
    let polls = |runtime: &wirepath_runtime::Runtime| {
        let all = runtime.metrics();
        all.iter().find(|(name, _)| *name == "polls").unwrap().1
    };
    for runtime in [&lab.server, &lab.client] {
        wait_until(|| {
            let before = polls(runtime);
            std::thread::sleep(Duration::from_millis(100));
            polls(runtime) == before
        });
    }
}

/// Nothing but the stack's own timer ends the sleep of the client's M's.
#[test]
fn a_lost_frame_is_sent_again_though_everyone_sleeps() {
    let lab = Lab::new();
    let (ready, address) = channel(1);
    let server = lab.server.go(move || {
        let (listener, addr) = listen();
        ready.send(addr).unwrap();
        listener.accept().unwrap().0.read(&mut [0]).unwrap()
    });
    let lose = lab.loser();
    let client = lab.client.go(move || {
        let mut stream = dial(&address);
        lose();
        stream.write(&[7]).unwrap()
    });
    assert_eq!(client.join().unwrap(), 1);
    assert_eq!(server.join().unwrap(), 1);
}
