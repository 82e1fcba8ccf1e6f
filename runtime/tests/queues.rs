//! A runtime whose stack has several queues: who polls which, and that no wake
//! is lost between them, with fewer P's than queues, as many, and more.

mod lab;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lab::{Lab, SERVER, wait_until};
use wirepath_runtime::chan::{Receiver, Sender, channel};
use wirepath_runtime::net::{TcpListener, TcpStream};
use wirepath_runtime::{go, sleep};

const CABLES: usize = 2;
const FLOWS: usize = 16;
const PROCS: [usize; 3] = [1, 2, 3];

/// An echo in the server's runtime; its address comes out of the channel.
fn serve(lab: &Lab) -> Receiver<SocketAddr> {
    let (ready, address): (Sender<SocketAddr>, _) = channel(1);
    lab.server.go(move || {
        let listener = TcpListener::bind((SERVER, 0)).unwrap();
        ready.send(listener.local_addr().unwrap()).unwrap();
        while let Ok((stream, _)) = listener.accept() {
            go(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    address
}

fn round(stream: &mut TcpStream, number: usize) {
    let sent = [number as u8; 200];
    let mut back = [0; 200];
    stream.write_all(&sent).unwrap();
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, sent);
}

/// What came in on each of the server's queues.
fn from_rings(lab: &Lab) -> Vec<u64> {
    let shards = lab.stack.stats().shards;
    shards.iter().map(|shard| shard.ledger.from_ring).collect()
}

/// Runs `talk` over flows of both cables, each in a goroutine of its own.
#[track_caller]
fn over_both(lab: &Lab, talk: impl Fn(usize, &mut TcpStream) + Copy + Send + 'static) {
    let address = serve(lab);
    let done = Arc::new(AtomicUsize::new(0));
    let all = done.clone();
    lab.client.go(move || {
        let addr = address.recv().unwrap();
        for flow in 0..FLOWS {
            // One after the other, so that they take turns at the cables.
            let mut stream = TcpStream::connect(addr).unwrap();
            let done = all.clone();
            go(move || {
                talk(flow, &mut stream);
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    wait_until(|| done.load(Ordering::SeqCst) == FLOWS);
}

#[track_caller]
fn check_ledgers(lab: &Lab) {
    for shard in lab.stack.stats().shards {
        let ledger = &shard.ledger;
        assert_eq!(ledger.unaccounted_rx(), 0, "{ledger:?}");
        assert_eq!(ledger.unaccounted_tx(), 0, "{ledger:?}");
        assert!(ledger.from_ring > 0, "{ledger:?}");
        assert_eq!(ledger.from_other_shards, 0, "a flow left its queue");
    }
}

#[test]
fn both_queues_are_served_while_both_are_busy() {
    for procs in PROCS {
        let lab = Lab::with_cables(CABLES, procs);
        over_both(&lab, |_, stream| {
            (0..300).for_each(|number| round(stream, number));
        });
        check_ledgers(&lab);
    }
}

#[test]
fn queues_that_fall_idle_again_and_again_lose_no_wake() {
    for procs in PROCS {
        let lab = Lab::with_cables(CABLES, procs);
        over_both(&lab, |flow, stream| {
            for number in 0..40 {
                round(stream, number);
                // Short and long, so that now one queue rests, now both do.
                sleep(Duration::from_micros(50 << ((number + flow) % 6)));
            }
        });
        check_ledgers(&lab);
    }
}

#[test]
fn a_frame_for_either_queue_ends_the_sleep_of_all() {
    for procs in PROCS {
        let lab = Lab::with_cables(CABLES, procs);
        let address = serve(&lab);
        let client = lab.client.go(move || {
            let addr = address.recv().unwrap();
            let mut streams: Vec<_> = (0..CABLES)
                .map(|_| TcpStream::connect(addr).unwrap())
                .collect();
            for number in 0..50 {
                // Long enough for every thread of the server to sleep.
                sleep(Duration::from_millis(2));
                round(&mut streams[number % CABLES], number);
            }
        });
        client.join().unwrap();
        check_ledgers(&lab);
        assert!(from_rings(&lab).iter().all(|n| *n >= 25));
    }
}

#[test]
fn a_goroutine_that_keeps_its_p_keeps_no_queue_waiting_for_ever() {
    let lab = Lab::with_cables(CABLES, 2);
    let stop = Arc::new(AtomicUsize::new(0));
    let busy = stop.clone();
    lab.server.go(move || {
        while busy.load(Ordering::SeqCst) == 0 {
            std::hint::spin_loop();
        }
    });
    over_both(&lab, |_, stream| {
        (0..5).for_each(|number| round(stream, number));
    });
    stop.store(1, Ordering::SeqCst);
    check_ledgers(&lab);
}
