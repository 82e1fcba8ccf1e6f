//! The verifier takes the program of every shape of rules; what it costs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Bench;
use super::frames::{TCP, ports, v4, v6};
use super::lab::{addr, may};
use crate::xdp::filter::{ADDRS_MAX, Deployment, Fate, Filter, FilterError, PORTS_MAX, Rules};

fn v4s(count: usize) -> Vec<IpAddr> {
    let addr = |n| Ipv4Addr::from_bits(0xc0a8_0001 + n as u32).into();
    (0..count).map(addr).collect()
}

fn v6s(count: usize) -> Vec<IpAddr> {
    let addr = |n| Ipv6Addr::from_bits((0xfd00 << 112) + 1 + n as u128).into();
    (0..count).map(addr).collect()
}

/// Ports with gaps, so that none join to a range.
fn scattered(count: usize) -> Vec<u16> {
    (0..count).map(|n| 63 * n as u16 + 1).collect()
}

#[test]
fn the_verifier_takes_every_shape() {
    if !may("the_verifier_takes_every_shape") {
        return;
    }
    let families = [
        v4s(1),
        v6s(1),
        [v4s(1), v6s(1)].concat(),
        v4s(ADDRS_MAX),
        v6s(ADDRS_MAX),
        [v4s(4), v6s(4)].concat(),
        [v4s(2), v4s(2), v6s(1), v6s(1)].concat(),
    ];
    let lists = [
        None,
        Some(vec![80]),
        Some(vec![80, 80]),
        Some(vec![1, 65535]),
        Some((1..=64).collect()),
        Some(scattered(64)),
        Some(scattered(PORTS_MAX)),
    ];
    for addrs in &families {
        for ports in &lists {
            let own = Deployment::Own {
                ports: ports.clone(),
            };
            load(addrs, own);
            if let Some(ports) = ports.clone() {
                load(addrs, Deployment::Shared { ports });
            }
        }
    }
}

#[track_caller]
fn load(addrs: &[IpAddr], deploy: Deployment) {
    let rules = Rules {
        addrs: addrs.to_vec(),
        deploy,
    };
    for queues in [1, 64] {
        if let Err(error) = Filter::load(&rules, queues) {
            panic!("{rules:?}: {error}");
        }
    }
}

#[test]
fn every_port_of_a_list_is_found_and_no_other() {
    if !may("every_port_of_a_list_is_found") {
        return;
    }
    let list = [1, 22, 80, 81, 82, 443, 8000, 8001, 9000, 65534, 65535];
    let bench = Bench::new(&Rules::shared([addr("10.0.0.2")], list));
    for port in 0..=u16::MAX {
        let frame = v4("10.0.0.2", TCP).frame(&ports(port));
        let want = if list.contains(&port) {
            Fate::RedirectTcp
        } else {
            Fate::PassPort
        };
        assert_eq!(bench.fate(&frame), want, "port {port}");
    }
}

#[test]
fn every_address_of_a_list_is_found() {
    if !may("every_address_of_a_list_is_found") {
        return;
    }
    let addrs = [v4s(ADDRS_MAX / 2), v6s(ADDRS_MAX / 2)].concat();
    let bench = Bench::new(&Rules::own(addrs.clone()));
    for addr in addrs {
        let text = addr.to_string();
        let frame = match addr {
            IpAddr::V4(_) => v4(&text, TCP).frame(&ports(80)),
            IpAddr::V6(_) => v6(&text, TCP, &ports(80)),
        };
        assert_eq!(bench.fate(&frame), Fate::RedirectTcp, "{addr}");
    }
}

#[test]
fn rules_and_queues_that_cannot_be_are_refused() {
    if !may("rules_and_queues_that_cannot_be_are_refused") {
        return;
    }
    let none = Filter::load(&Rules::own([]), 1).unwrap_err();
    assert!(matches!(none, FilterError::Rules(_)), "{none}");
    let no_queue = Filter::load(&Rules::own(v4s(1)), 0).unwrap_err();
    assert!(
        matches!(no_queue, FilterError::NoQueue { .. }),
        "{no_queue}"
    );
    let filter = Filter::load(&Rules::own(v4s(1)), 2).unwrap();
    let beyond = filter.clear_socket(2).unwrap_err();
    assert!(matches!(beyond, FilterError::NoQueue { .. }), "{beyond}");
}

/// Prints nanoseconds a frame: `cargo test … the_price -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, with nothing to fail"]
fn the_price_of_addresses_and_ports() {
    let own = |addrs, ports| Rules {
        addrs,
        deploy: Deployment::Own { ports },
    };
    let table = [
        ("1 address, all ports", own(v4s(1), None)),
        (
            "8 addresses, all ports",
            own([v4s(4), v6s(4)].concat(), None),
        ),
        ("64 addresses, all ports", own(v4s(64), None)),
        ("1 address, 2 ports", own(v4s(1), Some(vec![1, 443]))),
        ("1 address, 64 ports", own(v4s(1), Some(scattered(64)))),
        ("1 address, 1024 ports", own(v4s(1), Some(scattered(1024)))),
    ];
    for (name, rules) in table {
        let bench = Bench::new(&rules);
        let last = rules.addrs.iter().rfind(|addr| addr.is_ipv4()).unwrap();
        let ours = v4(&last.to_string(), TCP).frame(&ports(1));
        let other = v4("10.9.9.9", TCP).frame(&ports(1));
        println!(
            "{name}: ours {} ns, another's {} ns",
            bench.ns(&ours),
            bench.ns(&other)
        );
    }
}
