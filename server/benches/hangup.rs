//! How soon a handler knows that its client hung up: from the client's call
//! that sends the FIN until the handler, which waits for the end of its
//! request's context, runs again. Prints the median and the spread.
//!
//! `cargo bench -p wirepath --bench hangup`

#[path = "../../runtime/tests/lab/mod.rs"]
mod lab;

use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use lab::{Lab, SERVER};
use wirepath::{Request, ResponseWriter, Server};
use wirepath_runtime::Runtime;
use wirepath_runtime::chan::{Receiver, channel};
use wirepath_runtime::net::{Network, TcpListener, TcpStream};

const ROUNDS: usize = 2_000;

/// What a handler tells: that it waits, and when it was told.
struct Told {
    waits: Receiver<()>,
    at: Receiver<Instant>,
}

fn server() -> (Server, Told) {
    let (waiting, waits) = channel(1);
    let (telling, at) = channel(1);
    let handler = move |_: &mut ResponseWriter, r: &mut Request| {
        let done = r.context().done().expect("a request's context ends");
        waiting.send(()).expect("the client lives");
        let _ = done.recv();
        telling.send(Instant::now()).expect("the client lives");
    };
    (Server::new(handler), Told { waits, at })
}

/// Asks and hangs up, again and again; how long it took until that was seen.
fn hang_up(network: Network, to: SocketAddr, told: &Told) -> Vec<Duration> {
    let round = |_| {
        let mut stream = TcpStream::connect_on(network, to).expect("the server listens");
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        stream.write_all(request).expect("the server reads");
        told.waits.recv().expect("the handler waits");
        let start = Instant::now();
        stream.shutdown(Shutdown::Write).expect("it is open");
        stream.flush().expect("it is open");
        told.at.recv().expect("the handler is told") - start
    };
    (0..ROUNDS).map(round).collect()
}

fn print(name: &str, mut delays: Vec<Duration>) {
    delays.sort_unstable();
    let at =
        |part: f64| delays[(part * (delays.len() - 1) as f64) as usize].as_nanos() as f64 / 1e3;
    println!(
        "{name:>16}  median {:6.1} us  p10 {:6.1}  p90 {:6.1}  p99 {:6.1}  most {:6.1}",
        at(0.5),
        at(0.1),
        at(0.9),
        at(0.99),
        at(1.0)
    );
}

fn over_the_kernel() -> Vec<Duration> {
    let runtime = Runtime::builder().max_procs(2).build().expect("a runtime");
    let run = || {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpListener::bind_on(Network::Kernel, loopback).expect("a free port");
        let to = listener.local_addr().expect("it is bound");
        let (server, told) = server();
        let serving = server.clone();
        wirepath_runtime::go(move || drop(serving.serve(listener)));
        let delays = hang_up(Network::Kernel, to, &told);
        server.close();
        delays
    };
    runtime.run(run).expect("nothing panics")
}

fn over_a_cable() -> Vec<Duration> {
    let lab = Lab::with_cables(1, 1);
    let to = SocketAddr::new(SERVER, 80);
    let (server, told) = server();
    let serving = server.clone();
    let (ready, listens) = channel(1);
    lab.server.go(move || {
        let listener = TcpListener::bind(to).expect("a free port");
        ready.send(()).expect("the client lives");
        drop(serving.serve(listener));
    });
    listens.recv().expect("the server lives");
    let client = lab.client.go(move || hang_up(Network::Stack, to, &told));
    let delays = client.join().expect("nothing panics");
    server.close();
    delays
}

fn main() {
    print("kernel loopback", over_the_kernel());
    print("stack on a cable", over_a_cable());
}
