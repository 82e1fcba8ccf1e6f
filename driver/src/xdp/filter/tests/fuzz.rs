//! The program against the model, over frames that a seed makes.

use super::frames::*;
use super::lab::{addr, may};
use super::{Bench, model, table};
use crate::impair::rng::Rng;
use crate::xdp::filter::{Deployment, Fate, Rules};

const SEED: u64 = 0x5eed_0004;
const FRAMES: usize = 40_000;

/// The kernel gives a test run a page less room for headers and its own.
const LONGEST: usize = 3400;

#[test]
fn program_and_model_agree_on_frames_cut_anywhere() {
    if !may("program_and_model_agree_on_frames_cut_anywhere") {
        return;
    }
    for rules in table::deployments() {
        let bench = Bench::new(&rules);
        for (name, frame, _) in table::rows() {
            // A test run takes no frame shorter than an Ethernet header.
            for len in 14..frame.len().min(200) {
                let cut = &frame[..len];
                let want = model::fate(&rules, cut);
                assert_eq!(bench.fate(cut), want, "{name} {len} {rules:?}");
            }
        }
    }
}

#[test]
fn program_and_model_agree_on_changed_frames() {
    if !may("program_and_model_agree_on_changed_frames") {
        return;
    }
    let mut rng = Rng::new(SEED);
    let rows = table::rows();
    let benches: Vec<_> = rules().into_iter().map(|r| (Bench::new(&r), r)).collect();
    let mut seen = [0_usize; Fate::ALL.len()];
    for round in 0..FRAMES {
        let start = &rows[rng.below(rows.len() as u64) as usize].1;
        let frame = change(&mut rng, start);
        let (bench, rules) = &benches[rng.below(benches.len() as u64) as usize];
        let want = model::fate(rules, &frame);
        let got = bench.fate(&frame);
        assert_eq!(
            got, want,
            "seed {SEED:#x} round {round} {rules:?} {frame:02x?}"
        );
        seen[got as usize] += 1;
    }
    for fate in Fate::ALL {
        let enough = seen[fate as usize] >= 20 || fate == Fate::PassNoSocket;
        assert!(enough, "too few frames end as {fate:?}: {seen:?}");
    }
}

/// The table's three, and some with more addresses and ports.
fn rules() -> Vec<Rules> {
    let mut all = table::deployments().to_vec();
    let many: Vec<_> = ["10.0.0.2", "10.0.0.3", "fd00::2", "fd00::3", "fd00:1::2"]
        .map(addr)
        .to_vec();
    let ports = [22, 80, 81, 82, 443, 8080, 65535].to_vec();
    all.push(Rules {
        addrs: many.clone(),
        deploy: Deployment::Own {
            ports: Some(ports.clone()),
        },
    });
    all.push(Rules::shared(many, ports));
    all.push(Rules::own([addr("10.0.0.2")]));
    all.push(Rules::own([addr("fd00::2")]));
    all
}

/// One to four changes, mostly of headers; then perhaps an end.
fn change(rng: &mut Rng, start: &[u8]) -> Vec<u8> {
    let mut frame = start.to_vec();
    frame.truncate(LONGEST);
    for _ in 0..rng.below(5) {
        let at = rng.below(frame.len().min(120) as u64) as usize;
        match rng.below(6) {
            0 => frame[at] ^= 1 << rng.below(8),
            1 => frame[at] = rng.next() as u8,
            2 => frame[at] = interesting(rng),
            3 => frame = header_added(rng, &frame),
            4 => port_changed(rng, &mut frame),
            _ => frame.truncate(at.max(14)),
        }
    }
    frame.resize(frame.len().clamp(14, LONGEST), 0);
    frame
}

/// A byte that means something somewhere.
fn interesting(rng: &mut Rng) -> u8 {
    let bytes = [
        0, 1, 6, 17, 43, 44, 58, 60, 0x45, 0x46, 0x4f, 0x60, 135, 136, 0xff, 0x20,
    ];
    bytes[rng.below(bytes.len() as u64) as usize]
}

/// With one more extension header before what the IPv6 header leads to.
fn header_added(rng: &mut Rng, frame: &[u8]) -> Vec<u8> {
    if frame.len() < 54 || frame[12..14] != [0x86, 0xdd] {
        return frame.to_vec();
    }
    let (next, rest) = (frame[20], &frame[54..]);
    let units = rng.below(12) as u8;
    let (kind, added) = match rng.below(4) {
        0 => (HOP_BY_HOP, extension(next, units, rest)),
        1 => (DESTINATION, extension(next, units, rest)),
        2 => (ROUTING, routing(next, rng.below(2) as u8, rest)),
        _ => {
            let offset = rng.below(2) as u16;
            (FRAGMENT, fragment(next, offset, rng.below(2) == 1, rest))
        }
    };
    let mut frame = frame[..54].to_vec();
    frame[20] = kind;
    frame.extend(added);
    frame
}

/// Another port where one without options has it.
fn port_changed(rng: &mut Rng, frame: &mut [u8]) {
    let ports = [0, 21, 22, 79, 80, 81, 82, 83, 443, 444, 8080, 65534, 65535];
    let port = ports[rng.below(ports.len() as u64) as usize] as u16;
    let at = if frame[12] == 8 { 36 } else { 56 };
    if let Some(place) = frame.get_mut(at..at + 2) {
        place.copy_from_slice(&port.to_be_bytes());
    }
}
