//! Sockets of the kernel, on loopback, and beside those of a stack.

mod lab;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lab::{Lab, SERVER};
use wirepath_runtime::chan::{Receiver, Sender, channel};
use wirepath_runtime::net::{ListenOptions, Network, PollFd, TcpListener, TcpStream};
use wirepath_runtime::{JoinHandle, Next, Runtime, clock, go, steps};

const LOOPBACK: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

fn runtime() -> Runtime {
    Runtime::builder().max_procs(2).build().unwrap()
}

fn listen() -> (Arc<TcpListener>, SocketAddr) {
    let listener = TcpListener::bind(LOOPBACK).unwrap();
    let addr = listener.local_addr().unwrap();
    assert_ne!(addr.port(), 0);
    (Arc::new(listener), addr)
}

/// Both ends of a connection.
fn pair() -> (TcpStream, TcpStream) {
    let (listener, addr) = listen();
    let near = TcpStream::connect(addr).unwrap();
    let (far, peer) = listener.accept().unwrap();
    assert_eq!(peer, near.local_addr().unwrap());
    assert_eq!(near.peer_addr().unwrap(), addr);
    assert_eq!(near.network(), Network::Kernel);
    (near, far)
}

#[track_caller]
fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

/// Copies what comes from `from` to `to`, and its end.
fn copy(from: &TcpStream, to: &TcpStream) {
    io::copy(&mut &*from, &mut &*to).unwrap();
    to.shutdown(Shutdown::Write).unwrap();
}

#[test]
fn many_echoes_come_back() {
    const CLIENTS: usize = 200;
    runtime()
        .run(|| {
            let (listener, addr) = listen();
            let server = go(move || {
                for _ in 0..CLIENTS {
                    let (stream, _) = listener.accept().unwrap();
                    go(move || copy(&stream, &stream));
                }
            });
            let client = move |n: usize| {
                let mut stream = TcpStream::connect(addr).unwrap();
                for round in 0..20 {
                    let sent = format!("client {n} round {round}");
                    stream.write_all(sent.as_bytes()).unwrap();
                    let mut back = vec![0; sent.len()];
                    stream.read_exact(&mut back).unwrap();
                    assert_eq!(back, sent.as_bytes());
                }
                stream.shutdown(Shutdown::Write).unwrap();
                assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
            };
            let clients: Vec<_> = (0..CLIENTS).map(|n| go(move || client(n))).collect();
            clients.into_iter().for_each(|c| c.join().unwrap());
            server.join().unwrap();
        })
        .unwrap();
}

#[test]
fn a_full_socket_makes_the_writer_wait() {
    const LEN: usize = 8 << 20;
    runtime()
        .run(|| {
            let (mut near, mut far) = pair();
            let writer = go(move || near.write_all(&vec![7; LEN]).unwrap());
            let mut all = Vec::new();
            far.read_to_end(&mut all).unwrap();
            assert_eq!(all.len(), LEN);
            writer.join().unwrap();
        })
        .unwrap();
}

#[test]
fn a_deadline_ends_a_read() {
    runtime()
        .run(|| {
            let (near, _far) = pair();
            near.set_read_deadline(Some(clock::now() + Duration::from_millis(20)));
            assert_eq!(kind((&near).read(&mut [0; 8])), ErrorKind::TimedOut);
            near.set_read_deadline(None);
            assert_eq!(kind(near.try_read(&mut [0; 8])), ErrorKind::WouldBlock);
        })
        .unwrap();
}

#[test]
fn a_close_ends_the_waits_of_others_and_a_second_waiter_is_refused() {
    runtime()
        .run(|| {
            let (near, _far) = pair();
            let near = Arc::new(near);
            let (refused, refusal) = channel(2);
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    let (near, refused) = (near.clone(), refused.clone());
                    go(move || {
                        let ended = kind((&*near).read(&mut [0; 8]));
                        refused.send(ended).unwrap();
                    })
                })
                .collect();
            assert_eq!(refusal.recv(), Ok(ErrorKind::ResourceBusy));
            near.close();
            near.close();
            assert_eq!(refusal.recv(), Ok(ErrorKind::ConnectionAborted));
            readers.into_iter().for_each(|r| r.join().unwrap());
            assert_eq!(kind((&*near).write(b"x")), ErrorKind::ConnectionAborted);
            assert_eq!(kind(near.peer_addr()), ErrorKind::ConnectionAborted);
        })
        .unwrap();
}

#[test]
fn a_closed_listener_says_so() {
    runtime()
        .run(|| {
            let (listener, addr) = listen();
            listener.set_deadline(Some(clock::now()));
            assert_eq!(kind(listener.accept()), ErrorKind::TimedOut);
            listener.set_deadline(None);
            let waits = listener.clone();
            let waiter = go(move || kind(waits.accept()));
            listener.close();
            assert_eq!(waiter.join().unwrap(), ErrorKind::ConnectionAborted);
            assert_eq!(kind(TcpStream::connect(addr)), ErrorKind::ConnectionRefused);
        })
        .unwrap();
}

#[test]
fn an_abort_is_a_reset_for_the_peer() {
    runtime()
        .run(|| {
            let (near, far) = pair();
            let reader = go(move || kind((&far).read(&mut [0; 8])));
            near.abort();
            assert_eq!(reader.join().unwrap(), ErrorKind::ConnectionReset);
        })
        .unwrap();
}

#[test]
fn options_are_taken() {
    runtime()
        .run(|| {
            let (near, _far) = pair();
            near.set_nodelay(false).unwrap();
            near.set_nodelay(true).unwrap();
            near.set_keepalive(Some(Duration::from_millis(1_500)))
                .unwrap();
            near.set_keepalive(None).unwrap();
            let options = ListenOptions::default();
            let listener = TcpListener::bind_with(LOOPBACK, &options).unwrap();
            let addr = listener.local_addr().unwrap();
            assert_eq!(kind(TcpListener::bind(addr)), ErrorKind::AddrInUse);
        })
        .unwrap();
}

#[test]
fn an_unspecified_address_is_of_both_families() {
    runtime()
        .run(|| {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            for host in ["127.0.0.1", "::1"] {
                let addr = SocketAddr::new(host.parse().unwrap(), port);
                // A machine without IPv6 has no such address.
                if std::net::TcpListener::bind((addr.ip(), 0)).is_err() {
                    continue;
                }
                let near = TcpStream::connect(addr).unwrap();
                let (far, peer) = listener.accept().unwrap();
                assert_eq!(peer.ip(), addr.ip());
                assert_eq!(far.local_addr().unwrap(), addr);
                assert_eq!(near.peer_addr().unwrap(), addr);
            }
        })
        .unwrap();
}

#[test]
fn sockets_of_std_are_taken_over() {
    runtime()
        .run(|| {
            let listener = std::net::TcpListener::bind(LOOPBACK).unwrap();
            let addr = listener.local_addr().unwrap();
            let near = std::net::TcpStream::connect(addr).unwrap();
            let listener = TcpListener::from_std(listener).unwrap();
            let (mut far, _) = listener.accept().unwrap();
            let mut near = TcpStream::from_std(near).unwrap();
            near.write_all(b"hello").unwrap();
            let mut got = [0; 5];
            far.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"hello");
        })
        .unwrap();
}

/// Reads what comes in a step each, and ends a step after a short read without
/// asking again. After what ends with `!` it waits first until told to go on.
fn read_in_steps(far: TcpStream, tell: Sender<Vec<u8>>, go_on: Receiver<()>) -> JoinHandle<()> {
    steps(far, move |far| {
        let mut buf = [0; 64];
        match far.try_read(&mut buf) {
            Ok(0) => {
                tell.send(b"end".to_vec()).unwrap();
                return Next::Done;
            }
            Ok(n) => {
                assert!(n < buf.len());
                tell.send(buf[..n].to_vec()).unwrap();
                if buf[..n].ends_with(b"!") {
                    go_on.recv().unwrap();
                }
            }
            Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock),
        }
        Next::Wait(far.readable())
    })
}

/// The other end of [`read_in_steps`].
fn write_for_steps(mut near: TcpStream, told: &Receiver<Vec<u8>>, go_on: &Sender<()>) {
    for round in 0..50 {
        let sent = format!("round {round}");
        near.write_all(sent.as_bytes()).unwrap();
        near.flush().unwrap();
        assert_eq!(told.recv().unwrap(), sent.as_bytes());
    }
    near.write_all(b"stop!").unwrap();
    near.flush().unwrap();
    assert_eq!(told.recv().unwrap(), b"stop!");
    // These come between the read and the wait.
    near.write_all(b"last").unwrap();
    near.shutdown(Shutdown::Write).unwrap();
    go_on.send(()).unwrap();
    assert_eq!(told.recv().unwrap(), b"last");
    assert_eq!(told.recv().unwrap(), b"end");
}

#[test]
fn a_short_read_may_end_a_step_and_loses_nothing() {
    runtime()
        .run(|| {
            let (near, far) = pair();
            let ((tell, told), (wrote, go_on)) = (channel(64), channel(1));
            let reader = read_in_steps(far, tell, go_on);
            write_for_steps(near, &told, &wrote);
            reader.join().unwrap();
        })
        .unwrap();
}

#[test]
fn a_short_read_on_the_stack_loses_nothing_either() {
    let lab = Lab::new();
    let ((tell, told), (wrote, go_on)) = (channel(64), channel(1));
    let (ready, at) = channel::<SocketAddr>(1);
    let server = lab.server.go(move || {
        let listener = TcpListener::bind((SERVER, 0)).unwrap();
        ready.send(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        read_in_steps(far, tell, go_on).join().unwrap();
    });
    let client = lab.client.go(move || {
        let near = TcpStream::connect(at.recv().unwrap()).unwrap();
        write_for_steps(near, &told, &wrote);
    });
    client.join().unwrap();
    server.join().unwrap();
}

#[test]
fn a_goroutine_joins_the_two_networks() {
    let lab = Lab::new();
    let (ready, at) = channel(2);
    // The server's runtime: from its stack to a socket of the kernel and back.
    let (proxy_ready, proxy_at) = channel(1);
    let proxy = lab.server.go(move || {
        assert_eq!(Network::current().unwrap(), Network::Stack);
        let behind: SocketAddr = at.recv().unwrap();
        let listener = TcpListener::bind((SERVER, 0)).unwrap();
        proxy_ready.send(listener.local_addr().unwrap()).unwrap();
        let (front, _) = listener.accept().unwrap();
        let back = TcpStream::connect_on(Network::Kernel, behind).unwrap();
        assert_eq!(
            (front.network(), back.network()),
            (Network::Stack, Network::Kernel)
        );
        let (front, back) = (Arc::new(front), Arc::new(back));
        let (from, to) = (front.clone(), back.clone());
        let up = go(move || copy(&from, &to));
        copy(&back, &front);
        up.join().unwrap();
    });
    let echo = runtime();
    let echo_server = echo.go(move || {
        let (listener, addr) = listen();
        ready.send(addr).unwrap();
        let (stream, _) = listener.accept().unwrap();
        copy(&stream, &stream);
    });
    let client = lab.client.go(move || {
        let mut stream = TcpStream::connect(proxy_at.recv().unwrap()).unwrap();
        let sent: Vec<u8> = (0..100_000).map(|i| (i % 251) as u8).collect();
        let (mut back, len) = (Vec::new(), sent.len());
        for part in sent.chunks(10_000) {
            stream.write_all(part).unwrap();
            let mut got = vec![0; part.len()];
            stream.read_exact(&mut got).unwrap();
            back.extend(got);
        }
        assert_eq!(back.len(), len);
        assert_eq!(back, sent);
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    });
    client.join().unwrap();
    proxy.join().unwrap();
    echo_server.join().unwrap();
}

#[test]
fn a_listener_of_each_network_in_one_runtime() {
    let lab = Lab::new();
    let stack = lab.server.go(|| {
        let named = TcpListener::bind_on(Network::Kernel, LOOPBACK).unwrap();
        let addr = named.local_addr().unwrap();
        assert!(addr.ip().is_loopback());
        let near = go(move || TcpStream::connect_on(Network::Kernel, addr).unwrap());
        let (far, _) = named.accept().unwrap();
        assert_eq!(far.network(), Network::Kernel);
        drop(near.join().unwrap());
        let default = TcpListener::bind((SERVER, 0)).unwrap();
        assert_eq!(default.local_addr().unwrap().ip(), SERVER);
    });
    stack.join().unwrap();
}

#[test]
fn a_runtime_without_a_stack_says_so() {
    runtime()
        .run(|| {
            assert_eq!(Network::current().unwrap(), Network::Kernel);
            let stack = TcpListener::bind_on(Network::Stack, LOOPBACK);
            assert_eq!(kind(stack), ErrorKind::NetworkDown);
        })
        .unwrap();
    let built = Runtime::builder().network(Network::Stack).build();
    assert!(built.unwrap_err().to_string().contains("without a stack"));
}

/// Ends of a pipe that goroutines may wait for.
fn pipe() -> (PollFd, PollFd) {
    let (reader, writer) = io::pipe().unwrap();
    (PollFd::new(reader).unwrap(), PollFd::new(writer).unwrap())
}

#[test]
fn pipes_are_read_and_written() {
    runtime()
        .run(|| {
            let (mut reader, writer) = pipe();
            // More than a pipe holds.
            let sent: Vec<u8> = (0..1_000_000).map(|i| (i % 251) as u8).collect();
            let expected = sent.clone();
            let writes = go(move || (&writer).write_all(&sent).unwrap());
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            assert_eq!(all, expected);
            writes.join().unwrap();
            assert_eq!(reader.try_read(&mut [0; 8]).unwrap(), 0);

            let (reader, writer) = pipe();
            assert_eq!(kind(reader.try_read(&mut [0; 8])), ErrorKind::WouldBlock);
            reader.set_read_deadline(Some(clock::now()));
            assert_eq!(kind((&reader).read(&mut [0; 8])), ErrorKind::TimedOut);
            drop(reader);
            assert_eq!(kind((&writer).write(b"x")), ErrorKind::BrokenPipe);
            writer.close();
            assert_eq!(kind((&writer).write(b"x")), ErrorKind::ConnectionAborted);
        })
        .unwrap();
}

#[test]
fn a_pipe_that_is_closed_meanwhile_ends_the_read() {
    runtime()
        .run(|| {
            let (reader, _writer) = pipe();
            let reader = Arc::new(reader);
            let waits = reader.clone();
            let (about_to, started) = channel(1);
            let read = go(move || {
                about_to.send(()).unwrap();
                kind((&*waits).read(&mut [0; 8]))
            });
            let () = started.recv().unwrap();
            reader.close();
            assert_eq!(read.join().unwrap(), ErrorKind::ConnectionAborted);
        })
        .unwrap();
}

#[test]
fn a_file_is_refused_with_words() {
    runtime()
        .run(|| {
            let file = std::fs::File::open("/proc/self/exe").unwrap();
            let refused = PollFd::new(file).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unsupported);
            assert!(refused.to_string().contains("`blocking`"), "{refused}");
        })
        .unwrap();
    let (reader, _writer) = io::pipe().unwrap();
    assert_eq!(kind(PollFd::new(reader)), ErrorKind::Unsupported);
}

/// Numbers and slots are used again at once, by pipes that are closed with
/// events for them under way.
#[test]
fn events_of_a_former_user_wake_nobody_for_long() {
    runtime()
        .run(|| {
            for round in 0..200_u32 {
                let (old_reader, old_writer) = pipe();
                (&old_writer).write_all(b"old").unwrap();
                drop((old_reader, old_writer));
                let (mut reader, writer) = pipe();
                let writes = go(move || {
                    (&writer).write_all(&round.to_ne_bytes()).unwrap();
                });
                let mut got = [0; 4];
                reader.read_exact(&mut got).unwrap();
                assert_eq!(u32::from_ne_bytes(got), round);
                writes.join().unwrap();
            }
        })
        .unwrap();
}

#[test]
fn a_busy_p_looks_for_the_kernel_too() {
    let runtime = Runtime::builder().max_procs(1).build().unwrap();
    runtime
        .run(|| {
            let (mut near, mut far) = pair();
            let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
            let stop = done.clone();
            // Never leaves the P idle.
            let busy = go(move || {
                while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                    wirepath_runtime::yield_now();
                }
            });
            let echo = go(move || {
                let mut got = [0; 4];
                far.read_exact(&mut got).unwrap();
                far.write_all(&got).unwrap();
            });
            near.write_all(b"ping").unwrap();
            let mut got = [0; 4];
            near.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"ping");
            done.store(true, std::sync::atomic::Ordering::SeqCst);
            busy.join().unwrap();
            echo.join().unwrap();
        })
        .unwrap();
}

#[test]
fn a_shutdown_ends_the_waits() {
    let runtime = runtime();
    let (tell, told) = channel(1);
    runtime.go(move || {
        let (near, _far) = pair();
        tell.send(()).unwrap();
        let ended = (&near).read(&mut [0; 8]).unwrap_err();
        assert!(ended.to_string().contains("shutting down"), "{ended}");
    });
    let () = told.recv().unwrap();
    let report = runtime.shutdown(Duration::from_secs(20));
    assert_eq!(report.leaked, 0, "{}", report.leaked_goroutines);
}

#[test]
fn a_connect_that_nobody_answers_gives_up() {
    runtime()
        .run(|| {
            // A full backlog: the kernel drops further SYNs.
            let listener = std::net::TcpListener::bind(LOOPBACK).unwrap();
            rustix::net::listen(&listener, 0).unwrap();
            let addr = listener.local_addr().unwrap();
            let _held = TcpStream::connect(addr).unwrap();
            let mut given_up = false;
            let mut more = Vec::new();
            for _ in 0..4 {
                match TcpStream::connect_timeout(addr, Duration::from_millis(50)) {
                    Ok(stream) => more.push(stream),
                    Err(e) => {
                        assert_eq!(e.kind(), ErrorKind::TimedOut);
                        given_up = true;
                        break;
                    }
                }
            }
            assert!(given_up, "{} connections stood", more.len());
        })
        .unwrap();
}

#[test]
fn in_virtual_time_there_is_no_kernel_to_wait_for() {
    let runtime = Runtime::builder().virtual_time(1).build().unwrap();
    let bound = runtime.run(|| TcpListener::bind(LOOPBACK)).unwrap();
    let refused = bound.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(refused.to_string().contains("use a stack"), "{refused}");
}
