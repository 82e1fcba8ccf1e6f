//! A receiver with little room, as Linux is one since 6.17: what does not fit
//! its memory or its window is dropped, and the window shuts over it.

use super::*;

const MSS: usize = 1_460;
/// What a segment takes of the receiver's memory besides its data.
const OVERHEAD: usize = 576;

/// The receiver, which acknowledges what comes and says its window once when
/// its reader made room.
struct Receiver {
    raw: Raw,
    room: usize,
    /// Payload lengths in its queue.
    queue: Vec<usize>,
    next: u32,
    /// The end of the window that was announced last.
    edge: u32,
    got: usize,
    /// Acknowledgements on their way, each with when it arrives.
    toward_server: Vec<(Nanos, u32, u16)>,
}

impl Receiver {
    fn used(&self) -> usize {
        self.queue.iter().map(|len| len + OVERHEAD).sum()
    }

    fn window(&self) -> u16 {
        let free = self.room.saturating_sub(self.used());
        // Less than a segment is no window (RFC 9293 §3.8.6.2.2).
        let is_worth_it = free >= MSS.min(self.room / 2);
        if is_worth_it { free as u16 } else { 0 }
    }

    fn say(&mut self, at: Nanos, window: u16) {
        self.edge = self.next.wrapping_add(window.into());
        self.toward_server.push((at, self.next, window));
    }

    fn take(&mut self, segment: &Segment, at: Nanos) {
        let len = segment.payload_len;
        if len == 0 {
            // Only what is outside the window is answered.
            if crate::segment::after(self.next, segment.seq) {
                self.say(at, self.window());
            }
            return;
        }
        let end = segment.seq.wrapping_add(len as u32);
        let is_next = segment.seq == self.next;
        let is_beyond = crate::segment::after(end, self.edge) && !self.queue.is_empty();
        let has_room = self.queue.is_empty() || self.used() + len + OVERHEAD <= self.room;
        if is_next && !is_beyond && has_room {
            self.queue.push(len);
            self.next = end;
        }
        let window = if is_next && !has_room {
            0
        } else {
            self.window()
        };
        self.say(at, window);
    }

    /// Its reader takes everything.
    fn read(&mut self, at: Nanos) {
        self.got += self.queue.drain(..).sum::<usize>();
        let open = self.edge.wrapping_sub(self.next);
        if u32::from(self.window()) >= 2 * open.max(1) {
            self.say(at, self.window());
        }
    }
}

#[test]
fn one_with_little_room_is_never_left_waiting() {
    for seed in 0..500 {
        transfer_to_small_receiver(seed);
    }
}

/// Acknowledgements overtake each other, as they do where two CPUs send, and
/// some are lost.
fn transfer_to_small_receiver(seed: u64) {
    const LENGTH: usize = 100_000;
    /// Longer than smoltcp's longest timeout, twice.
    const PATIENCE: Duration = Duration::from_secs(200);
    let mut random = Random(seed);
    let mut net = Net::new();
    let listener = net.listen(&ListenOptions::default());
    let raw = Raw::new(5_000);
    let next = net.raw_handshake(&raw, None);
    let (fd, _) = net.server.accept(listener, net.now).unwrap();
    let mut peer = Receiver {
        raw,
        room: [3_000, 4_096, 8_192][random.below(3)],
        queue: Vec::new(),
        next,
        edge: next.wrapping_add(60_000),
        got: 0,
        toward_server: Vec::new(),
    };
    let mut written = 0;
    let (mut reads_at, mut progress_at) = (net.now, net.now);
    while peer.got < LENGTH {
        let rest = pattern(written, LENGTH - written);
        written += net.write(0, fd, &rest).unwrap_or(0);
        net.poll(0);
        net.flush(0);
        let frames: Vec<_> = net.wire.state().toward[1].drain(..).collect();
        for segment in segments((peer.raw.mac, "10.0.0.9/24"), &frames) {
            if random.below(200) > 0 {
                peer.take(&segment, net.now + micros(random.below(60)));
            }
        }
        if reads_at <= net.now {
            let before = peer.got;
            peer.read(net.now + micros(random.below(60)));
            if peer.got > before {
                progress_at = net.now;
            }
            let pauses = [20, 20, 20, 20, 20, 20, 1_000, 300_000];
            reads_at = net.now + micros(pauses[random.below(pauses.len())]);
        }
        peer.toward_server.sort_by_key(|(at, ..)| *at);
        let due = peer
            .toward_server
            .partition_point(|(at, ..)| *at <= net.now);
        for (_, ack, window) in peer.toward_server.drain(..due) {
            if random.below(200) > 0 {
                let more = More { window, ..PLAIN };
                let frame = peer.raw.frame(TcpControl::None, 1_001, Some(ack), more);
                net.wire.state().toward[0].push_back(frame);
            }
        }
        if net.wire.is_quiet() {
            let arrives = peer.toward_server.first().map(|(at, ..)| *at);
            let next = [net.server.next_event(0), arrives, Some(reads_at)];
            let next = next.into_iter().flatten().min().unwrap();
            net.now = next.max(net.now + micros(10));
        }
        let waits = net.now.since(progress_at);
        assert!(waits < PATIENCE, "seed {seed}: {} of {LENGTH}", peer.got);
    }
}

fn micros(n: usize) -> Duration {
    Duration::from_micros(n as u64)
}
