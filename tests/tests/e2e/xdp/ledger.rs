//! Every frame ends in one named fate, and the sums agree.

use serde_json::Value;
use wirepath_tests::frames::{Noise, ethernet, ethertype, ipv4, protocol, tagged};
use wirepath_tests::wait::wait_until;
use wirepath_tests::{Lab, Serve, Server};

use crate::bad_frames::{SERVER, US, plug_in, syn};

on_xdp! {
    the_sums_agree_after_all_kinds_of_frames,
    the_host_beside_it_keeps_what_is_its_own,
}

/// Frames of each kind that the test makes.
const EACH: usize = 20;

/// More than the server's frames of 2 KiB hold.
const LARGE_MTU: u32 = 3000;

/// The stages of the ledger, from the program to the stack and back.
const STAGES: [&str; 7] = [
    "program",
    "socket.rx",
    "card.rx",
    "card.tx",
    "driver.rx",
    "stack.rx",
    "stack.tx",
];

/// The entry of a stage.
#[track_caller]
fn entry<'a>(counters: &'a Value, stage: &str) -> &'a Value {
    let entries = counters["ledger"].as_array().expect("a ledger");
    let found = entries.iter().find(|entry| entry["stage"] == stage);
    found.unwrap_or_else(|| panic!("no stage {stage} in {counters:#}"))
}

fn sum(went: &Value) -> u64 {
    let places = went.as_object().expect("places by name").values();
    places.map(|frames| frames.as_u64().expect("a count")).sum()
}

/// Waits until no frame is on its way, then checks each entry against the sum of
/// its places, and each stage against the one before it.
#[track_caller]
fn check(server: &Server<'_>) -> Value {
    let mut counters = Value::Null;
    wait_until("every frame is accounted for", || {
        counters = server.counters();
        let none_left = |stage: &&str| entry(&counters, stage)["unaccounted"] == 0;
        STAGES.iter().all(none_left)
    });
    for stage in STAGES {
        let entry = entry(&counters, stage);
        assert_eq!(entry["frames"], sum(&entry["went"]), "{entry:#}");
    }
    let frames = |stage: &str| entry(&counters, stage)["frames"].as_u64().unwrap();
    let went = |stage: &str, place: &str| entry(&counters, stage)["went"][place].clone();
    let verdicts = entry(&counters, "program")["went"].as_object().unwrap();
    let redirected = verdicts
        .iter()
        .filter(|(name, _)| name.starts_with("redirect"));
    let redirected: u64 = redirected.filter_map(|(_, n)| n.as_u64()).sum();
    assert_eq!(frames("socket.rx"), redirected);
    assert_eq!(went("socket.rx", "received"), frames("card.rx"));
    assert_eq!(
        went("card.rx", "to_driver").as_u64(),
        went("driver.rx", "to_stack").as_u64()
    );
    counters
}

fn the_sums_agree_after_all_kinds_of_frames(lab: &Lab) {
    let server = Serve::new(lab).start();
    lab.set_mtu(LARGE_MTU);
    let (mut injector, cable) = plug_in(lab, &server);
    let before = check(&server);
    let foreign = ipv4(US, [10, 0, 0, 77], protocol::TCP, &[0; 20]);
    let mut noise = Noise::new(4);
    for len in 0..EACH {
        assert_eq!(server.get("/big").body.len(), 1 << 20);
        injector.send(&cable.ipv4(&foreign));
        injector.send(&tagged(&cable.ipv4(&syn()), 7));
        // Cut within the headers, and longer than its IP length says.
        let whole = cable.ipv4(&syn());
        injector.send(&whole[..14 + len]);
        injector.send(&[&whole[..], &[0; 1400]].concat());
        // Longer than a frame of the server's memory.
        let long = ipv4(US, SERVER, protocol::UDP, &[0; 2900]);
        injector.send(&cable.ipv4(&long));
        injector.send(&ethernet(
            cable.to,
            cable.from,
            ethertype::EXPERIMENTAL,
            b"?",
        ));
        injector.send(&noise.spoil(&whole));
    }
    lab.run("ping", &["-c", "3", "-i", "0.05", "-W", "10", "10.0.0.2"])
        .ok();
    let all_came = || {
        let now = server.counters();
        let of = |all: &Value| entry(all, "program")["frames"].as_u64().unwrap();
        of(&now) - of(&before) >= (EACH * 7) as u64
    };
    wait_until("the program saw what was injected", all_came);
    let counters = check(&server);
    let went = |stage: &str, place: &str| entry(&counters, stage)["went"][place].as_u64();
    assert!(went("program", "pass_address") >= Some(EACH as u64));
    assert!(went("program", "pass_vlan") >= Some(EACH as u64));
    assert!(went("program", "pass_short") > Some(0));
    assert!(went("socket.rx", "dropped") >= Some(EACH as u64));
    assert!(went("stack.rx", "dropped") > Some(0));
    assert_eq!(went("stack.rx", "to_icmp"), Some(3));
    let (status, printed) = server.stop();
    assert_eq!(status.code(), Some(0), "{printed}");
    assert!(printed.contains("ledger of frames:"), "{printed}");
    assert!(printed.contains("socket.rx "), "{printed}");
}

fn the_host_beside_it_keeps_what_is_its_own(lab: &Lab) {
    lab.give_host_addresses();
    let server = Serve::new(lab).sharing_host().start();
    server.check_alive();
    lab.run("ping", &["-c", "3", "-i", "0.05", "-W", "10", "10.0.0.2"])
        .ok();
    let counters = check(&server);
    let went = |stage: &str, place: &str| entry(&counters, stage)["went"][place].as_u64();
    assert_eq!(went("stack.rx", "to_icmp"), Some(0));
    assert_eq!(went("stack.rx", "to_arp"), Some(0));
    assert!(went("program", "pass_protocol") >= Some(3), "{counters:#}");
}
