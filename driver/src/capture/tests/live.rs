//! Captures of queues in use, and the ring of the last frames.

use super::*;

#[test]
fn a_switch_starts_and_ends_captures_of_queues_in_use() {
    let switch = CaptureSwitch::new();
    let (a, mut b) = ends();
    let mut a = switch.wrap(a);
    let mut send = |n| {
        offer(&mut a, n, 60, 1);
        assert_eq!(receive(&mut b, n), 1);
    };
    send(1);
    let (first, second) = (Memory::default(), Memory::default());
    let start = |sink| CaptureFile::start(sink, CaptureOptions::default()).unwrap();
    let one = start(first.clone());
    assert!(switch.turn_on(&one));
    send(2);
    let two = start(second.clone());
    assert!(switch.turn_on(&two));
    send(3);
    switch.turn_off(&one);
    send(4);
    assert_eq!(one.finish().unwrap().written, 2);
    // One that ended without being turned off.
    assert_eq!(two.finish().unwrap().written, 2);
    send(5);
    let names = |sink: &Memory| read(&sink.bytes.lock().unwrap()).0;
    assert_eq!(names(&first), ["cable a"]);
    assert_eq!(names(&second), ["cable a"]);
}

#[test]
fn captures_at_a_time_are_few() {
    let switch = CaptureSwitch::new();
    let start = || CaptureFile::start(io::sink(), CaptureOptions::default()).unwrap();
    let mut all: Vec<_> = (0..8).map(|_| start()).collect();
    assert!(all.iter().all(|file| switch.turn_on(file)));
    let ninth = start();
    assert!(!switch.turn_on(&ninth));
    drop(all.pop());
    assert!(
        switch.turn_on(&ninth),
        "the place of one that ended is free"
    );
}

#[test]
fn a_ring_has_the_last_frames_at_any_time() {
    let ring = FrameRing::new(16 * (60 + size_of::<Captured>()), 65_535).unwrap();
    let (a, mut b) = ends();
    let mut a = ring.wrap(a);
    assert_eq!(read(&ring.take()).1, []);
    let offset = ring.capture_offset();
    for n in 1..=40 {
        offer(&mut a, n, 60, 1);
        receive(&mut b, n);
    }
    wait_until("the last is there", || {
        read(&ring.take())
            .1
            .last()
            .is_some_and(|p| p.1 == 40 + offset)
    });
    let (names, packets, _) = read(&ring.take());
    assert_eq!(names, ["cable a"]);
    assert_eq!((packets.len(), ring.frames()), (16, 16));
    let want = (25..=40).map(|n| (FLAGS_OUT, n + offset, 60, 60));
    assert!(packets.into_iter().eq(want));
}
