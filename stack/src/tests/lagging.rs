//! A queue that lags as a card's does: its TX ring is short, a kick sends only
//! part of it, and what was sent comes back to the pool by `reclaim` alone.

use super::*;

const RING: usize = 8;
const SENT_A_KICK: usize = 3;
const SLOTS: u32 = 64;
const RETRY: Duration = Duration::from_millis(1);

/// What the test and the card share.
#[derive(Default)]
struct Card {
    /// Sent frames do not come back for now.
    keeps: bool,
    /// Frames in the TX ring, and sent ones that were not taken back.
    held: usize,
}

struct Lagging {
    end: Box<dyn Queue>,
    pool: FramePool,
    card: Arc<Mutex<Card>>,
    /// Received, with no frame of the pool to put it into.
    arrived: VecDeque<Frame>,
    ring: VecDeque<Frame>,
    sent: Vec<Frame>,
    retry_at: Option<Nanos>,
    stats: RingStats,
}

impl Lagging {
    fn drive(&mut self, now: Nanos) -> io::Result<()> {
        let sent: Vec<Frame> = self
            .ring
            .drain(..self.ring.len().min(SENT_A_KICK))
            .collect();
        let mut copies = VecDeque::new();
        for frame in &sent {
            let mut copy = self.end.pool().take_tx().expect("the wire's pool is large");
            assert!(copy.fill(frame));
            copies.push_back(copy);
        }
        self.end.tx_burst(now, &mut copies)?;
        self.sent.extend(sent);
        self.retry_at = (!self.ring.is_empty()).then(|| now + RETRY);
        self.note();
        Ok(())
    }

    fn note(&self) {
        self.card.lock().unwrap().held = self.ring.len() + self.sent.len();
    }
}

impl Queue for Lagging {
    fn info(&self) -> &QueueInfo {
        self.end.info()
    }

    fn pool(&self) -> &FramePool {
        &self.pool
    }

    fn rx_burst(&mut self, now: Nanos, frames: &mut Vec<Frame>) -> io::Result<usize> {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.drive(now)?;
        }
        let mut came = Vec::new();
        self.end.rx_burst(now, &mut came)?;
        self.arrived.extend(came);
        let mut taken = 0;
        while taken < BURST_FRAMES && !self.arrived.is_empty() {
            let Some(mut frame) = self.pool.take_rx() else {
                self.stats.rx_no_frame += 1;
                break;
            };
            assert!(frame.fill(&self.arrived.pop_front().unwrap()));
            frame.meta.polled_at = now;
            frames.push(frame);
            taken += 1;
        }
        self.stats.rx_frames += taken as u64;
        Ok(taken)
    }

    fn tx_burst(&mut self, _: Nanos, frames: &mut VecDeque<Frame>) -> io::Result<usize> {
        let taken = frames.len().min(RING - self.ring.len());
        self.stats.tx_ring_full += u64::from(taken < frames.len());
        self.ring.extend(frames.drain(..taken));
        self.stats.tx_frames += taken as u64;
        self.note();
        Ok(taken)
    }

    fn kick(&mut self, now: Nanos) -> io::Result<()> {
        self.stats.kicks += 1;
        self.drive(now)
    }

    fn reclaim(&mut self, _: Nanos) -> usize {
        if self.card.lock().unwrap().keeps {
            return 0;
        }
        let back = self.sent.drain(..).count();
        self.note();
        back
    }

    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn next_event(&self) -> Option<Nanos> {
        self.retry_at
    }

    fn stats(&self) -> RingStats {
        self.stats
    }
}

impl Net {
    /// The server's queue lags.
    fn with_card() -> (Net, Arc<Mutex<Card>>) {
        let card = Arc::new(Mutex::new(Card::default()));
        let mut net = Net::new();
        let queue = Box::new(Lagging {
            end: net.wire.end(0),
            pool: FramePool::new(SLOTS, 2048, SLOTS / 4).unwrap(),
            card: card.clone(),
            arrived: VecDeque::new(),
            ring: VecDeque::new(),
            sent: Vec::new(),
            retry_at: None,
            stats: RingStats::default(),
        });
        let config = Config::new(SERVER_MAC, vec!["10.0.0.1/24".parse().unwrap()]);
        net.server = Stack::new(config, vec![queue]).unwrap();
        net.advance(Duration::from_secs(5));
        (net, card)
    }

    /// Lets time pass until nothing of the server's is under way.
    #[track_caller]
    fn drain(&mut self, card: &Mutex<Card>) {
        for _ in 0..1_000 {
            self.advance(RETRY);
            if card.lock().unwrap().held == 0 {
                return;
            }
        }
        panic!("frames stay on the card");
    }
}

#[test]
fn a_full_tx_ring_holds_a_stream_up_and_loses_nothing() {
    let (mut net, card) = Net::with_card();
    let (_, server, client) = net.connected();
    let data = pattern(0, 300_000);
    let (mut written, mut got) = (0, Vec::new());
    for _ in 0..10_000 {
        written += net.write(0, server, &data[written..]).unwrap_or(0);
        net.advance(RETRY);
        while let Ok(bytes) = net.read(1, client, 65_536) {
            got.extend(bytes);
        }
        if got.len() == data.len() {
            break;
        }
    }
    assert!(got == data, "{} of {} bytes", got.len(), data.len());
    net.drain(&card);
    assert!(net.count(0, "tx_ring_full") > 0);
    assert_eq!(net.count(0, "tx_no_frame"), 0);
}

#[test]
fn frames_come_back_to_a_sender_although_nothing_is_received() {
    let (mut net, card) = Net::with_card();
    let socket = net.udp(0, "10.0.0.1:0");
    let sink = net.udp(1, "0.0.0.0:9");
    let send = |net: &Net| {
        net.side(0)
            .udp_send_to(socket, b"x", Some("10.0.0.2:9".parse().unwrap()), net.now)
    };
    assert_eq!(send(&net), Ok(1));
    net.drain(&card);
    net.take_events(0);
    card.lock().unwrap().keeps = true;
    let mut sent = 1;
    for _ in 0..10 * SLOTS {
        match send(&net) {
            Ok(_) => sent += 1,
            Err(error) => {
                assert_eq!(error, Errno::WouldBlock);
                break;
            }
        }
        net.advance(RETRY);
    }
    assert!(sent > SLOTS / 2 && sent <= SLOTS + 1, "{sent} were sent");
    assert_eq!(send(&net), Err(Errno::WouldBlock), "the pool is empty");
    let next = net.server.next_event(0).expect("it looks again");
    assert!(next > net.now, "and does not spin until then");
    net.take_events(0);
    let received = net.server.stats().get("rx_frames");
    card.lock().unwrap().keeps = false;
    net.advance(2 * RETRY);
    assert!(net.told(0, socket).contains(Ready::WRITE));
    assert_eq!(send(&net), Ok(1));
    assert_eq!(net.server.stats().get("rx_frames"), received);
    net.drain(&card);
    let got = std::iter::from_fn(|| net.recv(1, sink).ok()).count();
    assert_eq!(got, sent as usize + 1);
}
