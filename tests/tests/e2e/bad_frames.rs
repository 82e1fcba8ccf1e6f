//! Frames that are wrong, not for us, or not for anybody.

use wirepath_tests::frames::{
    BROADCAST, Ends, Mac, Noise, arp, checksum, ethernet, ethertype, ipv4, ipv6, protocol, seal,
    seal_ipv4, tagged, tcp, udp,
};
use wirepath_tests::inject::Injector;
use wirepath_tests::wait::wait_until;
use wirepath_tests::{Device, Lab, Serve, Server};

on_every_device! {
    each_kind_is_counted_by_its_cause,
    a_right_syn_made_by_hand_is_answered,
    a_frame_longer_than_the_servers_is_dropped,
    noise_harms_nothing,
}

pub const US: [u8; 4] = [10, 0, 0, 1];
pub const SERVER: [u8; 4] = [10, 0, 0, 2];
pub const US6: [u8; 16] = v6(1);
pub const SERVER6: [u8; 16] = v6(2);
/// The sequence number of the segments: of no connection.
const SEQ: u32 = 0x5000_0000;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

pub const fn v6(last: u8) -> [u8; 16] {
    [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]
}

/// An injector beside a server that is ready for both families: its IPv6
/// address serves only once nobody objected to it (RFC 4862 §5.4).
#[track_caller]
pub fn plug_in(lab: &Lab, server: &Server<'_>) -> (Injector, Cable) {
    server.check_alive();
    server.connect(Server::V6).expect("the server accepts");
    let injector = Injector::new(lab, lab.client_end());
    let cable = Cable {
        to: mac_of(lab, "10.0.0.2"),
        from: injector.mac(),
    };
    (injector, cable)
}

/// The MAC address that ARP or NDP told the client for `addr`.
#[track_caller]
pub fn mac_of(lab: &Lab, addr: &str) -> Mac {
    let said = lab.net().ip(&format!("neigh show {addr}"));
    let mac = said
        .split_whitespace()
        .skip_while(|word| *word != "lladdr")
        .nth(1);
    let mac = mac.unwrap_or_else(|| panic!("no lladdr in {said:?}"));
    let bytes: Vec<u8> = mac
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    bytes.try_into().unwrap()
}

/// The addresses of a frame from us to the server.
#[derive(Clone, Copy)]
pub struct Cable {
    pub to: Mac,
    pub from: Mac,
}

impl Cable {
    pub fn ipv4(self, packet: &[u8]) -> Vec<u8> {
        ethernet(self.to, self.from, ethertype::IPV4, packet)
    }

    pub fn ipv6(self, packet: &[u8]) -> Vec<u8> {
        ethernet(self.to, self.from, ethertype::IPV6, packet)
    }
}

fn ends(src_port: u16) -> Ends<'static> {
    Ends {
        src: &US,
        dst: &SERVER,
        src_port,
        dst_port: 8080,
    }
}

fn ends6(src_port: u16) -> Ends<'static> {
    Ends {
        src: &US6,
        dst: &SERVER6,
        src_port,
        dst_port: 8080,
    }
}

/// A right SYN, to make wrong ones from.
pub fn syn() -> Vec<u8> {
    ipv4(US, SERVER, protocol::TCP, &tcp(ends(4000), SEQ, SYN, b""))
}

fn syn6() -> Vec<u8> {
    ipv6(
        US6,
        SERVER6,
        protocol::TCP,
        &tcp(ends6(4000), SEQ, SYN, b""),
    )
}

/// `packet` with some bytes replaced.
fn with(mut packet: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    packet[at..at + bytes.len()].copy_from_slice(bytes);
    packet
}

/// As [`with`], for an IPv4 packet whose header checksum is to be right.
fn sealed(packet: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut packet = with(packet, at, bytes);
    seal_ipv4(&mut packet);
    packet
}

/// Frames for each cause that the server tells apart; it has to count every
/// one of them there, and answer none.
fn spoiled(cable: Cable) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    [
        layer_2(cable),
        layer_3(cable),
        layer_4(cable),
        neighbors(cable),
    ]
    .concat()
}

fn layer_2(cable: Cable) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let Cable { to, from } = cable;
    let stranger = [0x02, 0, 0, 0, 0x77, 0x77];
    let right = cable.ipv4(&syn());
    vec![
        (
            "vlan",
            vec![tagged(&right, 7), tagged(&cable.ipv6(&syn6()), 4095)],
        ),
        (
            "unknown_ethertype",
            vec![
                ethernet(to, from, ethertype::EXPERIMENTAL, b"what is this"),
                // A length, of 802.3.
                ethernet(to, from, 0x0040, &[0xaa; 64]),
            ],
        ),
        (
            "foreign_mac",
            vec![
                ethernet(stranger, from, ethertype::IPV4, &syn()),
                ethernet([0x01, 0, 0x5e, 1, 2, 3], from, ethertype::IPV4, &syn()),
                ethernet([0x33, 0x33, 9, 9, 9, 9], from, ethertype::IPV6, &syn6()),
            ],
        ),
        (
            "bad_source_mac",
            vec![
                ethernet(to, BROADCAST, ethertype::IPV4, &syn()),
                ethernet(to, [0; 6], ethertype::IPV4, &syn()),
                ethernet(to, [0x01, 0, 0x5e, 0, 0, 1], ethertype::IPV4, &syn()),
            ],
        ),
        (
            "own_source_mac",
            vec![ethernet(to, to, ethertype::IPV4, &syn())],
        ),
    ]
}

fn layer_3(cable: Cable) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let four = |packets: Vec<Vec<u8>>| packets.iter().map(|p| cable.ipv4(p)).collect::<Vec<_>>();
    let six = |packets: Vec<Vec<u8>>| packets.iter().map(|p| cable.ipv6(p)).collect::<Vec<_>>();
    let syn_from = |src| ipv4(src, SERVER, protocol::TCP, &tcp(ends(4000), SEQ, SYN, b""));
    let syn_to = |dst| ipv4(US, dst, protocol::TCP, &tcp(ends(4000), SEQ, SYN, b""));
    let syn6_from = |src| {
        ipv6(
            src,
            SERVER6,
            protocol::TCP,
            &tcp(ends6(4000), SEQ, SYN, b""),
        )
    };
    let mut all_nodes = [0; 16];
    (all_nodes[0], all_nodes[1], all_nodes[15]) = (0xff, 2, 1);
    // A fragment header: next header TCP, offset 0, more to come.
    let fragment6 = [&[protocol::TCP, 0, 0, 1, 0, 0, 0, 7][..], &[0; 32]].concat();
    vec![
        (
            "truncated",
            [
                four(vec![vec![], syn()[..10].to_vec(), syn()[..39].to_vec()]),
                six(vec![vec![], syn6()[..39].to_vec(), syn6()[..50].to_vec()]),
            ]
            .concat(),
        ),
        (
            "bad_version",
            [
                four(vec![sealed(syn(), 0, &[0x65])]),
                six(vec![with(syn6(), 0, &[0x40])]),
            ]
            .concat(),
        ),
        // A header of 16 bytes; a packet shorter than its header.
        (
            "bad_length",
            four(vec![with(syn(), 0, &[0x44]), sealed(syn(), 2, &[0, 19])]),
        ),
        (
            "bad_header_checksum",
            four(vec![with(syn(), 10, &[0xde, 0xad]), with(syn(), 8, &[63])]),
        ),
        (
            "fragment",
            [
                four(vec![
                    sealed(syn(), 6, &[0x20, 0]),
                    sealed(syn(), 6, &[0x00, 1]),
                    sealed(syn(), 6, &[0x3f, 0xff]),
                ]),
                six(vec![ipv6(US6, SERVER6, 44, &fragment6)]),
            ]
            .concat(),
        ),
        (
            "foreign_addr",
            [
                four(vec![syn_to([10, 0, 0, 77]), syn_to([192, 0, 2, 1])]),
                six(vec![with(syn6(), 24, &v6(77))]),
            ]
            .concat(),
        ),
        (
            "bad_source",
            [
                four(vec![
                    syn_from([224, 0, 0, 1]),
                    syn_from([255, 255, 255, 255]),
                    syn_from([127, 0, 0, 1]),
                    syn_from([0, 0, 0, 0]),
                    syn_from([10, 0, 0, 255]),
                ]),
                six(vec![syn6_from(all_nodes), syn6_from([0; 16])]),
            ]
            .concat(),
        ),
        (
            "own_source",
            [four(vec![syn_from(SERVER)]), six(vec![syn6_from(SERVER6)])].concat(),
        ),
        (
            "group_frame",
            vec![ethernet(BROADCAST, cable.from, ethertype::IPV4, &syn())],
        ),
        (
            "unknown_protocol",
            [
                four(vec![ipv4(US, SERVER, 132, &[0; 20])]),
                six(vec![ipv6(US6, SERVER6, 132, &[0; 20])]),
            ]
            .concat(),
        ),
    ]
}

fn layer_4(cable: Cable) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let segment = |segment: &[u8]| cable.ipv4(&ipv4(US, SERVER, protocol::TCP, segment));
    let resealed = |at: usize, bytes: &[u8]| {
        let mut segment = with(tcp(ends(4000), SEQ, SYN, b""), at, bytes);
        seal(&US, &SERVER, protocol::TCP, &mut segment, 16);
        cable.ipv4(&ipv4(US, SERVER, protocol::TCP, &segment))
    };
    let to_all = |dst: [u8; 4]| {
        let ends = Ends {
            dst: &dst,
            ..ends(4000)
        };
        let packet = ipv4(US, dst, protocol::TCP, &tcp(ends, SEQ, SYN, b""));
        ethernet(BROADCAST, cable.from, ethertype::IPV4, &packet)
    };
    let mut ping = vec![8, 0, 0, 0, 0, 1, 0, 1];
    let mut no_checksum = udp(ends6(4000), b"datagram");
    no_checksum[6..8].fill(0);
    let right = checksum(&[&ping]);
    ping[2..4].copy_from_slice(&(right ^ 0x0101).to_be_bytes());
    vec![
        (
            "bad_tcp_checksum",
            vec![
                segment(&with(tcp(ends(4000), SEQ, SYN, b""), 16, &[0, 0])),
                segment(&with(tcp(ends(4000), SEQ, ACK, b"some data"), 20, b"same")),
                cable.ipv6(&with(syn6(), 44, &[1, 2, 3, 4])),
            ],
        ),
        // Data offsets of 16 and of 60 bytes, in a segment of 20.
        (
            "bad_tcp_offset",
            vec![resealed(12, &[0x40]), resealed(12, &[0xf0])],
        ),
        (
            "tcp_port_zero",
            vec![resealed(0, &[0, 0]), resealed(2, &[0, 0])],
        ),
        (
            "tcp_to_group",
            vec![to_all([255, 255, 255, 255]), to_all([10, 0, 0, 255])],
        ),
        (
            "bad_udp_checksum",
            vec![
                cable.ipv4(&ipv4(
                    US,
                    SERVER,
                    protocol::UDP,
                    &with(udp(ends(4000), b"datagram"), 6, &[1, 1]),
                )),
                cable.ipv6(&ipv6(US6, SERVER6, protocol::UDP, &no_checksum)),
            ],
        ),
        (
            "bad_icmp_checksum",
            vec![cable.ipv4(&ipv4(US, SERVER, protocol::ICMP, &ping))],
        ),
    ]
}

fn neighbors(cable: Cable) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let ask = arp(1, (cable.from, US), ([0; 6], SERVER));
    let arp = |packet: &[u8]| ethernet(BROADCAST, cable.from, ethertype::ARP, packet);
    // A neighbour solicitation for the server's address.
    let mut ask6 = [
        &[135, 0, 0, 0, 0, 0, 0, 0][..],
        &SERVER6,
        &[1, 1],
        &cable.from,
    ]
    .concat();
    seal(&US6, &SERVER6, protocol::ICMPV6, &mut ask6, 2);
    let routed = with(ipv6(US6, SERVER6, protocol::ICMPV6, &ask6), 7, &[64]);
    // Its option says that it has no length: a loop for one who believes it.
    let mut endless = with(ask6.clone(), 25, &[0]);
    seal(&US6, &SERVER6, protocol::ICMPV6, &mut endless, 2);
    vec![
        ("truncated", vec![arp(&ask[..27]), arp(&ask[..3])]),
        (
            "bad_arp",
            vec![
                arp(&with(ask.clone(), 0, &[0, 6])),
                arp(&with(ask.clone(), 4, &[200, 200])),
                arp(&with(ask.clone(), 6, &[0, 9])),
            ],
        ),
        (
            "bad_ndp",
            vec![
                cable.ipv6(&routed),
                cable.ipv6(&ipv6(US6, SERVER6, protocol::ICMPV6, &endless)),
            ],
        ),
    ]
}

/// Frames that were counted for `cause`: by the stack, or with AF_XDP by the
/// filter, which passed them on to the kernel.
fn counted(lab: &Lab, server: &Server<'_>, cause: &str) -> u64 {
    let filters: &[&str] = match cause {
        _ if !lab.device().is_xdp() => &[],
        "vlan" => &["pass_vlan"],
        "unknown_ethertype" => &["pass_ethertype"],
        "truncated" => &["pass_short"],
        "bad_version" | "bad_length" => &["pass_version"],
        "fragment" => &["drop_fragment"],
        "foreign_addr" | "tcp_to_group" => &["pass_address"],
        "unknown_protocol" => &["pass_protocol"],
        "bad_arp" => &["pass_ethertype"],
        _ => &[],
    };
    let names = filters.iter().chain([&cause]);
    names.map(|name| server.counter(name)).sum()
}

fn each_kind_is_counted_by_its_cause(lab: &Lab) {
    let server = Serve::new(lab).start();
    let (mut injector, cable) = plug_in(lab, &server);
    for (cause, frames) in spoiled(cable) {
        for (n, frame) in frames.iter().enumerate() {
            let before = counted(lab, &server, cause);
            injector.send(frame);
            // The kernel's own multicast may be counted too, so: at least one.
            let now = counted(lab, &server, cause);
            assert!(now > before, "{cause}, frame {n}: {frame:02x?}");
        }
    }
    server.check_alive();
}

fn a_right_syn_made_by_hand_is_answered(lab: &Lab) {
    // What makes the spoiled ones spoiled is what was done to this one.
    let server = Serve::new(lab).start();
    let (mut injector, cable) = plug_in(lab, &server);
    let before = server.counter("passive_opens");
    injector.send(&cable.ipv4(&syn()));
    injector.send(&cable.ipv6(&syn6()));
    let mut looks = 0;
    wait_until("two more than the looks themselves", || {
        looks += 1;
        server.counter("passive_opens") == before + looks + 2
    });
}

fn a_frame_longer_than_the_servers_is_dropped(lab: &Lab) {
    let server = Serve::new(lab).start();
    lab.set_mtu(3000);
    let (mut injector, cable) = plug_in(lab, &server);
    let long = ipv4(US, SERVER, protocol::UDP, &udp(ends(4000), &[7; 2900]));
    // The kernel drops what does not fit a frame of AF_XDP's.
    let causes: &[_] = match lab.device() {
        Device::Tap => &["rx_bad_len", "oversized"],
        _ => &["rx_bad_len", "oversized", "rx_dropped"],
    };
    let too_long = || -> u64 { causes.iter().map(|cause| server.counter(cause)).sum() };
    let before = too_long();
    for _ in 0..10 {
        injector.send(&cable.ipv4(&long));
    }
    server.check_alive();
    assert_eq!(too_long(), before + 10);
}

fn noise_harms_nothing(lab: &Lab) {
    const ROUNDS: usize = 2000;
    let server = Serve::new(lab).start();
    let mut bystander = server.client();
    let (mut injector, cable) = plug_in(lab, &server);
    let kinds: Vec<Vec<u8>> = [
        vec![cable.ipv4(&syn()), cable.ipv6(&syn6())],
        spoiled(cable)
            .into_iter()
            .flat_map(|(_, frames)| frames)
            .collect(),
    ]
    .concat()
    .into_iter()
    .filter(|frame| frame.len() > 14)
    .collect();
    let seed = 0x5eed_0bad_f4a3_e5e5;
    println!("seed {seed:#x}");
    let mut noise = Noise::new(seed);
    for round in 0..ROUNDS {
        for _ in 0..10 {
            let kind = &kinds[noise.below(kinds.len())];
            injector.send(&noise.spoil(kind));
        }
        if round % 100 == 0 {
            assert_eq!(bystander.get("/").status, 200, "round {round}");
        }
    }
    assert_eq!(injector.sent(), 10 * ROUNDS);
    // The noise may have claimed the server's address for another; the kernel
    // asks again.
    lab.net().ip("neigh flush all");
    server.check_alive();
    assert_eq!(server.counter("tcp_panics"), 0);
}
