use super::*;
use crate::cable::{CableEnd, CableOptions, cable};

const MS: u64 = 1_000_000;

fn impaired(options: ImpairOptions) -> (Impair<CableEnd>, CableEnd) {
    let (a, b) = cable(CableOptions {
        ring_frames: 2048,
        ..CableOptions::default()
    })
    .unwrap();
    (Impair::wrap(a, options, 7), b)
}

fn send(queue: &mut impl Queue, now: Nanos, numbers: std::ops::Range<u8>) -> usize {
    let make = |n| {
        let mut frame = queue.pool().take_tx().unwrap();
        assert!(frame.fill(&[n; 100]));
        frame
    };
    let mut frames: VecDeque<Frame> = numbers.map(make).collect();
    let taken = queue.tx_burst(now, &mut frames).unwrap();
    queue.kick(now).unwrap();
    taken
}

fn numbers(queue: &mut impl Queue, now: Nanos) -> Vec<u8> {
    let mut frames = Vec::new();
    while queue.rx_burst(now, &mut frames).unwrap() > 0 {}
    frames.iter().map(|f| f[50]).collect()
}

fn tx(impairment: Impairment) -> ImpairOptions {
    ImpairOptions {
        tx: impairment,
        ..ImpairOptions::default()
    }
}

fn rx(impairment: Impairment) -> ImpairOptions {
    ImpairOptions {
        rx: impairment,
        ..ImpairOptions::default()
    }
}

#[test]
fn splitmix_gives_its_published_numbers() {
    let mut rng = Rng::new(1_234_567);
    let got = [rng.next(), rng.next(), rng.next()];
    let want = [
        6_457_827_717_110_365_317,
        3_203_168_211_198_807_973,
        9_817_491_932_198_370_423,
    ];
    assert_eq!(got, want);
}

#[test]
fn with_nothing_set_frames_pass_at_once_and_in_order() {
    let (mut a, mut b) = impaired(ImpairOptions::default());
    send(&mut a, Nanos(1), 0..50);
    assert_eq!(numbers(&mut b, Nanos(1)), (0..50).collect::<Vec<_>>());
    send(&mut b, Nanos(1), 0..50);
    assert_eq!(numbers(&mut a, Nanos(1)), (0..50).collect::<Vec<_>>());
    assert_eq!(a.next_event(), None);
}

#[test]
fn loss_is_as_often_as_asked_and_counted() {
    let loss = Impairment {
        loss: 0.3,
        ..Impairment::default()
    };
    let (mut a, mut b) = impaired(ImpairOptions::both(loss));
    let mut through = 0;
    for _ in 0..200 {
        send(&mut a, Nanos(0), 0..50);
        through += numbers(&mut b, Nanos(0)).len();
        send(&mut b, Nanos(0), 0..50);
        numbers(&mut a, Nanos(0));
        b.reclaim(Nanos(0));
    }
    let stats = a.stats();
    assert_eq!(stats.tx_frames as usize, through);
    assert_eq!(stats.tx_frames + stats.tx_impaired, 10_000);
    assert_eq!(stats.rx_frames + stats.rx_impaired, 10_000);
    for lost in [stats.tx_impaired, stats.rx_impaired] {
        assert!((2_700..3_300).contains(&lost), "{lost}");
    }
}

#[test]
fn duplicates_follow_and_one_bit_is_flipped() {
    let (mut a, mut b) = impaired(tx(Impairment {
        duplication: 1.0,
        ..Impairment::default()
    }));
    send(&mut a, Nanos(0), 0..2);
    assert_eq!(numbers(&mut b, Nanos(0)), [0, 0, 1, 1]);

    let (mut a, mut b) = impaired(rx(Impairment {
        corruption: 1.0,
        ..Impairment::default()
    }));
    send(&mut b, Nanos(0), 0..1);
    let mut frames = Vec::new();
    a.rx_burst(Nanos(0), &mut frames).unwrap();
    let flipped: u32 = frames[0].iter().map(|b| b.count_ones()).sum();
    assert_eq!((flipped, a.rx_impairments().corrupted), (1, 1));
}

#[test]
fn delay_holds_both_ways_until_next_event() {
    let delay = Impairment {
        delay: Duration::from_millis(10),
        ..Impairment::default()
    };
    let (mut a, mut b) = impaired(ImpairOptions::both(delay));
    send(&mut a, Nanos(0), 0..1);
    assert_eq!(a.next_event(), Some(Nanos(10 * MS)));
    assert!(numbers(&mut a, Nanos(10 * MS - 1)).is_empty());
    assert!(numbers(&mut b, Nanos(10 * MS - 1)).is_empty());
    // Receiving is enough to send what is due.
    assert!(numbers(&mut a, Nanos(10 * MS)).is_empty());
    assert_eq!(numbers(&mut b, Nanos(10 * MS)), [0]);

    send(&mut b, Nanos(10 * MS), 5..6);
    assert!(numbers(&mut a, Nanos(10 * MS)).is_empty());
    assert_eq!(a.next_event(), Some(Nanos(20 * MS)));
    assert_eq!(numbers(&mut a, Nanos(20 * MS)), [5]);
    assert_eq!(a.next_event(), None);
}

#[test]
fn jitter_keeps_the_order_and_reordering_does_not() {
    let jitter = Impairment {
        jitter: Duration::from_millis(5),
        ..Impairment::default()
    };
    let (mut a, mut b) = impaired(tx(jitter.clone()));
    send(&mut a, Nanos(0), 0..50);
    a.kick(Nanos(5 * MS)).unwrap();
    assert_eq!(numbers(&mut b, Nanos(5 * MS)), (0..50).collect::<Vec<_>>());

    let (mut a, mut b) = impaired(tx(Impairment {
        reordering: 0.2,
        ..Impairment::default()
    }));
    send(&mut a, Nanos(0), 0..50);
    let first = numbers(&mut b, Nanos(0));
    a.kick(Nanos(2 * MS)).unwrap();
    let late = numbers(&mut b, Nanos(2 * MS));
    assert_eq!(late.len() as u64, a.tx_impairments().reordered);
    assert!(!late.is_empty() && first.last() > late.first());
    assert_eq!(first.len() + late.len(), 50);
}

#[test]
fn the_rate_spreads_frames_out() {
    let (mut a, mut b) = impaired(tx(Impairment {
        // 100 bytes take a millisecond.
        rate_bits_per_s: Some(800_000),
        ..Impairment::default()
    }));
    send(&mut a, Nanos(0), 0..10);
    for ms in 1..=10 {
        a.kick(Nanos(ms * MS - 1)).unwrap();
        assert!(numbers(&mut b, Nanos(ms * MS - 1)).is_empty());
        a.kick(Nanos(ms * MS)).unwrap();
        assert_eq!(numbers(&mut b, Nanos(ms * MS)), [ms as u8 - 1]);
    }
}

#[test]
fn what_is_held_is_bounded() {
    let short = Impairment {
        delay: Duration::from_millis(1),
        hold_frames: 4,
        ..Impairment::default()
    };
    let (mut a, mut b) = impaired(ImpairOptions::both(short));
    assert_eq!(send(&mut a, Nanos(0), 0..10), 4);
    assert_eq!(a.stats().tx_ring_full, 1);
    send(&mut b, Nanos(0), 0..10);
    assert!(numbers(&mut a, Nanos(0)).is_empty());
    assert_eq!(a.rx_impairments().overflowed, 6);
    assert_eq!(numbers(&mut a, Nanos(MS)), [0, 1, 2, 3]);
    assert_eq!(a.stats().rx_impaired + a.stats().rx_frames, 10);
}

#[test]
fn the_same_seed_gives_the_same_fate() {
    let options = ImpairOptions::both(Impairment {
        loss: 0.2,
        duplication: 0.2,
        reordering: 0.2,
        ..Impairment::default()
    });
    let run = |seed| {
        let (a, mut b) = cable(CableOptions::default()).unwrap();
        let mut a = Impair::wrap(a, options.clone(), seed);
        send(&mut a, Nanos(0), 0..60);
        a.kick(Nanos(2 * MS)).unwrap();
        numbers(&mut b, Nanos(2 * MS))
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn a_full_ring_below_is_not_an_event_of_its_own() {
    let (a, mut b) = cable(CableOptions {
        ring_frames: 2,
        ..CableOptions::default()
    })
    .unwrap();
    let mut a = Impair::wrap(a, ImpairOptions::default(), 7);
    assert_eq!(send(&mut a, Nanos(0), 0..60), 60);
    assert_eq!(a.next_event(), None);
    assert!(!a.arm());
    let mut got = Vec::new();
    while got.len() < 60 {
        got.extend(numbers(&mut b, Nanos(0)));
        a.kick(Nanos(0)).unwrap();
    }
    assert_eq!(got, (0..60).collect::<Vec<_>>());
}
