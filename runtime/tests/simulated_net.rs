//! TCP over a cable that loses frames, in virtual time: its retransmission
//! timers of a second and more cost nothing.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use wirepath_driver::cable::{CableOptions, cable};
use wirepath_driver::impair::{Impair, ImpairOptions, Impairment};
use wirepath_driver::{Nanos, Queue};
use wirepath_runtime::net::{TcpListener, TcpStream};
use wirepath_runtime::simulation::Simulated;
use wirepath_runtime::{Runtime, Stack, go, now, sleep};
use wirepath_stack::{Config, Errno, Fd, Shutdown};

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 7, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 7, 0, 2));

/// How often the peer looks for frames.
const STEP: Duration = Duration::from_micros(100);

fn stack(number: u8, addr: IpAddr, queue: Box<dyn Queue>) -> Stack {
    let mac = format!("02:00:00:00:00:0{number}").parse().unwrap();
    let config = Config::new(mac, vec![format!("{addr}/24").parse().unwrap()]);
    Stack::new(config, vec![queue]).unwrap()
}

/// A stack that a goroutine of the simulation works by hand.
#[derive(Clone)]
struct Peer(Stack);

impl Peer {
    /// Turns it until `call` does not block.
    fn until<T>(&self, mut call: impl FnMut(&Stack) -> Result<T, Errno>) -> Result<T, Errno> {
        loop {
            self.0.poll(0, now(), 64, &mut Vec::new());
            let done = call(&self.0);
            self.0.flush(0, now());
            match done {
                Err(Errno::WouldBlock) => sleep(STEP),
                done => return done,
            }
        }
    }

    fn connect(&self, to: SocketAddr) -> Fd {
        let fd = self.0.connect(0, to, now()).unwrap();
        self.until(|stack| stack.connect_result(fd)).unwrap();
        fd
    }

    /// Sends all of `data` and the end, and reads to the end.
    fn exchange(&self, fd: Fd, data: &[u8]) -> Vec<u8> {
        let (mut sent, mut got, mut buf) = (0, Vec::new(), [0; 4096]);
        loop {
            let n = self.until(|stack| {
                if sent < data.len() {
                    sent += stack.write(fd, &data[sent..], now()).or_else(|e| match e {
                        Errno::WouldBlock => Ok(0),
                        e => Err(e),
                    })?;
                    if sent == data.len() {
                        stack.shutdown(fd, Shutdown::Write, now())?;
                    }
                }
                stack.read(fd, &mut buf, now())
            });
            match n.unwrap() {
                0 => return got,
                n => got.extend_from_slice(&buf[..n]),
            }
        }
    }
}

fn echo(stream: &TcpStream) -> io::Result<()> {
    let mut buf = [0; 1000];
    loop {
        match (&mut &*stream).read(&mut buf)? {
            0 => return stream.shutdown(std::net::Shutdown::Write),
            n => (&mut &*stream).write_all(&buf[..n])?,
        }
    }
}

/// Two stacks, one at each end of a cable of this quality.
fn lab(seed: u64, quality: Impairment) -> (Stack, Peer) {
    let (near, far) = cable(CableOptions::default()).unwrap();
    let far = Impair::wrap(far, ImpairOptions::both(quality), seed);
    let server = stack(1, SERVER, Box::new(near));
    (server, Peer(stack(2, CLIENT, Box::new(far))))
}

fn transfer(seed: u64, quality: Impairment) -> Simulated<()> {
    let (server, client) = lab(seed, quality);
    let run = Runtime::builder().stack(server).simulate(seed, move || {
        let listener = TcpListener::bind((SERVER, 80)).unwrap();
        let server = go(move || {
            let (stream, _) = listener.accept().unwrap();
            echo(&stream).unwrap();
        });
        let data: Vec<u8> = (0..60_000u32).map(|i| (i * 7 / 8) as u8).collect();
        let fd = client.connect(SocketAddr::new(SERVER, 80));
        assert!(client.exchange(fd, &data) == data, "bytes changed");
        server.join().unwrap();
    });
    run.unwrap()
}

#[test]
fn a_transfer_over_a_bad_cable_takes_seconds_that_pass_at_once() {
    let bad = Impairment {
        loss: 0.1,
        duplication: 0.02,
        reordering: 0.05,
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(5),
        ..Impairment::default()
    };
    let good = transfer(1, Impairment::default());
    assert!(good.elapsed < Duration::from_secs(1), "{:?}", good.elapsed);
    for seed in 1..6 {
        let run = transfer(seed, bad.clone());
        assert!(run.elapsed > Duration::from_secs(1), "{:?}", run.elapsed);
        assert_eq!(run, transfer(seed, bad.clone()), "seed {seed}");
    }
}

#[test]
fn no_frame_is_sent_before_time_begins() {
    let (near, mut far) = cable(CableOptions::default()).unwrap();
    let server = stack(1, SERVER, Box::new(near));
    let runtime = Runtime::builder().stack(server).virtual_time(1);
    let runtime = runtime.build().unwrap();
    // Long enough for a thread that has nothing else to do.
    std::thread::sleep(Duration::from_millis(50));
    let mut frames = Vec::new();
    assert_eq!(far.rx_burst(Nanos::ZERO, &mut frames).unwrap(), 0);
    runtime.run(|| sleep(STEP)).unwrap();
    assert_ne!(far.rx_burst(Nanos::ZERO, &mut frames).unwrap(), 0);
}

#[test]
fn a_deadline_of_a_stream_is_exact() {
    let (server, client) = lab(2, Impairment::default());
    let run = Runtime::builder().stack(server).simulate(2, move || {
        let listener = TcpListener::bind((SERVER, 80)).unwrap();
        let wait = Duration::from_secs(30);
        let start = now();
        listener.set_deadline(Some(start + wait));
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(now().since(start), wait);
        listener.set_deadline(None);
        let other = client.clone();
        let connecting = go(move || other.connect(SocketAddr::new(SERVER, 80)));
        let (stream, _) = listener.accept().unwrap();
        let fd = connecting.join().unwrap();
        let start = now();
        stream.set_read_deadline(Some(start + wait));
        let error = (&stream).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(now().since(start), wait);
        stream.set_read_deadline(None);
        client.until(|stack| stack.write(fd, b"x", now())).unwrap();
        assert_eq!((&stream).read(&mut [0; 8]).unwrap(), 1);
    });
    run.unwrap();
}

#[test]
fn a_connect_that_nobody_answers_times_out_exactly() {
    let (client, _nobody) = lab(
        3,
        Impairment {
            loss: 1.0,
            ..Impairment::default()
        },
    );
    let run = Runtime::builder().stack(client).simulate(3, || {
        let timeout = Duration::from_millis(700);
        let start = now();
        let error = TcpStream::connect_timeout((CLIENT, 80), timeout).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(now().since(start), timeout);
    });
    run.unwrap();
}
