//! The rule as a table: a frame, its fate where the address is ours alone with
//! all ports, with ports 80 and 443, and where it is shared with these ports.

use super::Bench;
use super::frames::*;
use super::lab::{addr, may};
use super::model;
use crate::xdp::filter::{Deployment, Fate, Rules};

use Fate::{
    DropFragment, PassAddress, PassEthertype, PassFragment, PassHeaders, PassPort, PassProtocol,
    PassShort, PassVersion, PassVlan, RedirectArp, RedirectIcmp, RedirectNdp, RedirectTcp,
    RedirectUdp,
};

const OURS: &str = "10.0.0.2";
const HOST: &str = "10.0.0.3";
const OURS6: &str = "fd00::2";
const HOST6: &str = "fd00::3";
/// The solicited-node group of both IPv6 addresses' last three bytes.
const GROUP: &str = "ff02::1:ff00:2";

/// All ports, a list, and shared with the same list.
pub fn deployments() -> [Rules; 3] {
    let addrs = vec![addr(OURS), addr(OURS6)];
    let ports = vec![443, 80];
    let with = |deploy| Rules {
        addrs: addrs.clone(),
        deploy,
    };
    [
        with(Deployment::Own { ports: None }),
        with(Deployment::Own {
            ports: Some(ports.clone()),
        }),
        with(Deployment::Shared { ports }),
    ]
}

/// A name, a frame, and its fates.
type Row = (&'static str, Vec<u8>, [Fate; 3]);

fn same(fate: Fate) -> [Fate; 3] {
    [fate; 3]
}

fn v4_rows() -> Vec<Row> {
    let (web, ssh) = (ports(80), ports(22));
    let whole = |protocol| v4(OURS, protocol);
    let part = |protocol, fragment| V4 {
        fragment,
        ..v4(OURS, protocol)
    };
    let options = |options| V4 {
        options,
        ..v4(OURS, TCP)
    };
    let ip = |first: u8| {
        let mut frame = whole(TCP).frame(&web);
        frame[14] = first;
        frame
    };
    let port_here = [RedirectTcp, RedirectTcp, PassFragment];
    let port_not_here = [RedirectTcp, PassPort, PassFragment];
    let icmp = [RedirectIcmp, RedirectIcmp, PassProtocol];
    let later = [DropFragment, DropFragment, PassFragment];
    vec![
        ("tcp", whole(TCP).frame(&web), same(RedirectTcp)),
        ("tcp 443", whole(TCP).frame(&ports(443)), same(RedirectTcp)),
        ("udp", whole(UDP).frame(&web), same(RedirectUdp)),
        (
            "ssh",
            whole(TCP).frame(&ssh),
            [RedirectTcp, PassPort, PassPort],
        ),
        (
            "udp 22",
            whole(UDP).frame(&ssh),
            [RedirectUdp, PassPort, PassPort],
        ),
        ("host's tcp", v4(HOST, TCP).frame(&web), same(PassAddress)),
        ("host's icmp", v4(HOST, ICMP).frame(&web), same(PassAddress)),
        ("ping", whole(ICMP).frame(&[8; 16]), icmp),
        ("empty icmp", whole(ICMP).frame(&[]), icmp),
        ("sctp", whole(132).frame(&web), same(PassProtocol)),
        ("esp", whole(ESP).frame(&web), same(PassProtocol)),
        (
            "icmpv6 in ipv4",
            whole(ICMPV6).frame(&web),
            same(PassProtocol),
        ),
        (
            "broadcast",
            v4("255.255.255.255", UDP).frame(&web),
            same(PassAddress),
        ),
        ("group", v4("224.0.0.1", UDP).frame(&web), same(PassAddress)),
        (
            "four bytes of options",
            options(4).frame(&web),
            same(RedirectTcp),
        ),
        ("most options", options(40).frame(&web), same(RedirectTcp)),
        (
            "options, ssh",
            options(40).frame(&ssh),
            [RedirectTcp, PassPort, PassPort],
        ),
        ("version 6", ip(0x65), same(PassVersion)),
        ("version 0", ip(0x05), same(PassVersion)),
        ("header of 16", ip(0x44), same(PassVersion)),
        ("header of 0", ip(0x40), same(PassVersion)),
        ("header beyond the frame", ip(0x4f), same(PassShort)),
        ("first part", part(TCP, 0x2000).frame(&web), port_here),
        (
            "first part, ssh",
            part(TCP, 0x2000).frame(&ssh),
            port_not_here,
        ),
        ("middle part", part(TCP, 0x2001).frame(&web), later),
        ("far part", part(TCP, 0x1000).frame(&web), later),
        ("last part", part(UDP, 0x00b9).frame(&web), later),
        ("last part of ping", part(ICMP, 0x1fff).frame(&web), later),
        (
            "the reserved bit",
            part(TCP, 0x8000).frame(&web),
            same(RedirectTcp),
        ),
        (
            "first part of ping",
            part(ICMP, 0x2000).frame(&web),
            [RedirectIcmp, RedirectIcmp, PassFragment],
        ),
        (
            "host's later part",
            V4 {
                fragment: 1,
                ..v4(HOST, TCP)
            }
            .frame(&web),
            same(PassAddress),
        ),
        (
            "tcp of 4 bytes",
            whole(TCP).frame(&web[..4]),
            same(RedirectTcp),
        ),
        (
            "tcp of 3 bytes",
            whole(TCP).frame(&web[..3]),
            same(PassShort),
        ),
        ("no tcp at all", whole(TCP).frame(&[]), same(PassShort)),
        (
            "19 bytes of ipv4",
            whole(TCP).frame(&web)[..33].to_vec(),
            same(PassShort),
        ),
    ]
}

fn other_rows() -> Vec<Row> {
    let web = v4(OURS, TCP).frame(&ports(80));
    let arp_ours = [RedirectArp, RedirectArp, PassAddress];
    let odd_arp = |at: usize| {
        let mut frame = arp(1, HOST, OURS);
        frame[at] ^= 1;
        frame
    };
    let not_ip = [PassEthertype, PassEthertype, PassAddress];
    vec![
        ("who has ours", arp(1, "10.0.0.1", OURS), arp_ours),
        ("answer to us", arp(2, "10.0.0.1", OURS), arp_ours),
        ("somebody claims ours", arp(1, OURS, OURS), arp_ours),
        ("ours asked by itself", arp(1, OURS, "10.0.0.1"), arp_ours),
        ("probe for ours", arp(1, "0.0.0.0", OURS), arp_ours),
        (
            "who has the host's",
            arp(1, "10.0.0.1", HOST),
            same(PassAddress),
        ),
        (
            "answer to the host",
            arp(2, "10.0.0.1", HOST),
            same(PassAddress),
        ),
        ("arp of other hardware", odd_arp(15), not_ip),
        ("arp for other addresses", odd_arp(17), not_ip),
        ("arp of longer hardware", odd_arp(18), not_ip),
        ("arp of longer addresses", odd_arp(19), not_ip),
        (
            "arp of 27 bytes",
            arp(1, HOST, OURS)[..41].to_vec(),
            [PassShort, PassShort, PassAddress],
        ),
        ("802.1Q", tagged(0x8100, &web), same(PassVlan)),
        (
            "802.1ad",
            tagged(0x88a8, &tagged(0x8100, &web)),
            same(PassVlan),
        ),
        ("tag of nothing", ethernet(0x8100, &[]), same(PassVlan)),
        (
            "tagged arp",
            tagged(0x8100, &arp(1, HOST, OURS)),
            same(PassVlan),
        ),
        ("lldp", ethernet(0x88cc, &[2; 50]), same(PassEthertype)),
        (
            "802.3 length",
            ethernet(46, &[0x42; 46]),
            same(PassEthertype),
        ),
        ("mpls", ethernet(0x8847, &web[14..]), same(PassEthertype)),
        ("pppoe", ethernet(0x8864, &web[14..]), same(PassEthertype)),
        ("a header alone", ethernet(0x0800, &[]), same(PassShort)),
        ("of ipv6", ethernet(0x86dd, &[]), same(PassShort)),
    ]
}

fn v6_rows() -> Vec<Row> {
    let (web, ssh) = (ports(80), ports(22));
    let icmp = [RedirectIcmp, RedirectIcmp, PassProtocol];
    let ndp = [RedirectNdp, RedirectNdp, PassAddress];
    let ndp_here = [RedirectNdp, RedirectNdp, PassProtocol];
    let port_not_here = [RedirectTcp, PassPort, PassPort];
    let solicit = |dst, target| v6(dst, ICMPV6, &neighbor(SOLICITATION, target));
    let version = |first: u8| {
        let mut frame = v6(OURS6, TCP, &web);
        frame[14] = first;
        frame
    };
    vec![
        ("tcp", v6(OURS6, TCP, &web), same(RedirectTcp)),
        ("udp", v6(OURS6, UDP, &web), same(RedirectUdp)),
        ("ssh", v6(OURS6, TCP, &ssh), port_not_here),
        ("host's", v6(HOST6, TCP, &web), same(PassAddress)),
        ("near ours", v6("fd00:1::2", TCP, &web), same(PassAddress)),
        ("group", v6("ff02::1", UDP, &web), same(PassAddress)),
        ("ping", v6(OURS6, ICMPV6, &[128, 0, 0, 0]), icmp),
        ("empty icmp", v6(OURS6, ICMPV6, &[]), icmp),
        ("icmp of ipv4", v6(OURS6, ICMP, &web), same(PassProtocol)),
        (
            "host's ping",
            v6(HOST6, ICMPV6, &[128; 8]),
            same(PassAddress),
        ),
        ("who has ours", solicit(GROUP, OURS6), ndp),
        ("are you there", solicit(OURS6, OURS6), ndp_here),
        (
            "who has the host's",
            solicit("ff02::1:ff00:3", HOST6),
            same(PassAddress),
        ),
        (
            "another of our group",
            solicit(GROUP, "fd00:1::2"),
            same(PassAddress),
        ),
        (
            "host, are you there",
            solicit(HOST6, HOST6),
            same(PassAddress),
        ),
        (
            "somebody claims ours",
            v6("ff02::1", ICMPV6, &neighbor(ADVERTISEMENT, OURS6)),
            ndp,
        ),
        (
            "answer to us",
            v6(OURS6, ICMPV6, &neighbor(ADVERTISEMENT, HOST6)),
            icmp,
        ),
        (
            "answer to the host",
            v6(HOST6, ICMPV6, &neighbor(ADVERTISEMENT, "fd00::1")),
            same(PassAddress),
        ),
        (
            "router's advertisement",
            v6("ff02::1", ICMPV6, &neighbor(134, OURS6)),
            same(PassAddress),
        ),
        (
            "cut solicitation",
            v6(GROUP, ICMPV6, &neighbor(SOLICITATION, OURS6)[..23]),
            same(PassAddress),
        ),
        ("version 4", version(0x40), same(PassVersion)),
        ("version 7", version(0x7f), same(PassVersion)),
        ("traffic class", version(0x6f), same(RedirectTcp)),
        (
            "39 bytes of ipv6",
            v6(OURS6, TCP, &web)[..53].to_vec(),
            same(PassShort),
        ),
        ("tcp of 3 bytes", v6(OURS6, TCP, &web[..3]), same(PassShort)),
        ("esp", v6(OURS6, ESP, &web), same(PassProtocol)),
        (
            "authentication",
            v6(OURS6, AUTHENTICATION, &web),
            same(PassProtocol),
        ),
        (
            "no next header",
            v6(OURS6, NO_NEXT_HEADER, &[]),
            same(PassProtocol),
        ),
    ]
}

/// `count` destination headers before TCP.
fn chain(count: usize) -> Vec<u8> {
    let mut payload = ports(80);
    for place in 0..count {
        let next = if place == 0 { TCP } else { DESTINATION };
        payload = extension(next, 0, &payload);
    }
    v6(OURS6, DESTINATION, &payload)
}

fn header_rows() -> Vec<Row> {
    let (web, ssh) = (ports(80), ports(22));
    let here = |next, payload: &[u8]| v6(OURS6, next, payload);
    let later = [DropFragment, DropFragment, PassFragment];
    let first = [RedirectTcp, RedirectTcp, PassFragment];
    let icmp = [RedirectIcmp, RedirectIcmp, PassProtocol];
    let long = extension(TCP, 255, &web);
    vec![
        (
            "hop by hop",
            here(HOP_BY_HOP, &extension(TCP, 0, &web)),
            same(RedirectTcp),
        ),
        ("long header", here(DESTINATION, &long), same(RedirectTcp)),
        (
            "cut long header",
            here(DESTINATION, &long[..2040]),
            same(PassShort),
        ),
        (
            "cut header",
            here(DESTINATION, &extension(TCP, 0, &[])[..7]),
            same(PassShort),
        ),
        (
            "header without more",
            here(DESTINATION, &extension(TCP, 0, &[])),
            same(PassShort),
        ),
        (
            "ssh behind a header",
            here(DESTINATION, &extension(TCP, 3, &ssh)),
            [RedirectTcp, PassPort, PassPort],
        ),
        (
            "ping behind a header",
            here(HOP_BY_HOP, &extension(ICMPV6, 0, &[128; 8])),
            icmp,
        ),
        (
            "esp behind a header",
            here(HOP_BY_HOP, &extension(ESP, 0, &web)),
            same(PassProtocol),
        ),
        (
            "route at its end",
            here(ROUTING, &routing(TCP, 0, &web)),
            same(RedirectTcp),
        ),
        (
            "route on its way",
            here(ROUTING, &routing(TCP, 1, &web)),
            same(PassHeaders),
        ),
        ("as many as are walked", chain(6), same(RedirectTcp)),
        ("one more", chain(7), same(PassHeaders)),
        ("many more", chain(100), same(PassHeaders)),
        (
            "whole in a part",
            here(FRAGMENT, &fragment(TCP, 0, false, &web)),
            first,
        ),
        (
            "first part",
            here(FRAGMENT, &fragment(TCP, 0, true, &web)),
            first,
        ),
        (
            "first part, ssh",
            here(FRAGMENT, &fragment(TCP, 0, true, &ssh)),
            [RedirectTcp, PassPort, PassFragment],
        ),
        (
            "middle part",
            here(FRAGMENT, &fragment(TCP, 1, true, &web)),
            later,
        ),
        (
            "last part",
            here(FRAGMENT, &fragment(UDP, 0x1fff, false, &web)),
            later,
        ),
        (
            "later part behind a header",
            here(
                HOP_BY_HOP,
                &extension(FRAGMENT, 0, &fragment(TCP, 9, true, &web)),
            ),
            later,
        ),
        (
            "host's later part",
            v6(HOST6, FRAGMENT, &fragment(TCP, 9, true, &web)),
            same(PassAddress),
        ),
        (
            "cut part",
            here(FRAGMENT, &fragment(TCP, 9, true, &[])[..7]),
            same(PassShort),
        ),
        (
            "solicitation behind a header",
            v6(
                GROUP,
                HOP_BY_HOP,
                &extension(ICMPV6, 0, &neighbor(SOLICITATION, OURS6)),
            ),
            same(PassAddress),
        ),
    ]
}

/// Every frame of the table.
pub fn rows() -> Vec<Row> {
    [v4_rows(), other_rows(), v6_rows(), header_rows()].concat()
}

#[test]
fn the_model_says_what_the_table_says() {
    for (name, frame, want) in rows() {
        for (rules, want) in deployments().iter().zip(want) {
            assert_eq!(model::fate(rules, &frame), want, "{name} {rules:?}");
        }
    }
}

#[test]
fn the_program_says_what_the_table_says() {
    if !may("the_program_says_what_the_table_says") {
        return;
    }
    for (place, rules) in deployments().iter().enumerate() {
        let bench = Bench::new(rules);
        for (name, frame, want) in rows() {
            assert_eq!(bench.fate(&frame), want[place], "{name} {rules:?}");
        }
    }
}

#[test]
fn what_is_ours_passes_where_there_is_no_socket() {
    if !may("what_is_ours_passes") {
        return;
    }
    for rules in deployments() {
        let bench = Bench::new(&rules);
        bench.filter.clear_socket(0).unwrap();
        for (name, frame, _) in rows() {
            let want = match model::fate(&rules, &frame) {
                fate if fate <= RedirectUdp => Fate::PassNoSocket,
                other => other,
            };
            assert_eq!(bench.fate(&frame), want, "{name} {rules:?}");
        }
    }
}
