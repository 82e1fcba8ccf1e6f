//! Frames that are not the server's, or not wholly: each goes where the rule
//! says, and the filter counts it there.

use wirepath_tests::frames::{Ends, ethernet, ethertype, ipv6, protocol, seal, tagged, tcp};
use wirepath_tests::inject::Injector;
use wirepath_tests::lab::SERVER_END;
use wirepath_tests::process::Daemon;
use wirepath_tests::wait::wait_until;
use wirepath_tests::{Lab, Serve, Server};

use crate::bad_frames::{SERVER6, US6, mac_of, plug_in, syn, v6};

on_xdp! {
    the_kernel_sees_what_is_its_own_and_nothing_else,
    fragments_go_to_the_host_and_are_dropped_for_the_server,
    extension_headers_are_walked_over,
}

/// tcpdump of what the server's kernel gets.
fn watch(lab: &Lab) -> Daemon {
    let mut tcpdump = lab.server_net().command("tcpdump");
    tcpdump.args(["-i", SERVER_END, "-Q", "in", "-n", "-e", "-l"]);
    let mut tcpdump = Daemon::start(tcpdump.arg("--immediate-mode")).unwrap();
    tcpdump.wait_for("listening on");
    tcpdump
}

fn the_kernel_sees_what_is_its_own_and_nothing_else(lab: &Lab) {
    let server = Serve::new(lab).start();
    let (mut injector, cable) = plug_in(lab, &server);
    let mut kernel = watch(lab);
    server.check_alive();
    lab.run("ping", &["-c", "1", "-W", "10", "10.0.0.2"]).ok();
    injector.send(&tagged(&cable.ipv4(&syn()), 7));
    injector.send(&ethernet(
        cable.to,
        cable.from,
        ethertype::EXPERIMENTAL,
        b"what is this",
    ));
    kernel.wait_for("vlan 7");
    kernel.wait_for("0x88b5");
    assert!(server.counter("pass_vlan") >= 1);
    assert!(server.counter("pass_ethertype") >= 1);
    let seen = kernel.output();
    for line in seen.lines().filter(|line| !line.contains("vlan 7")) {
        assert!(!line.contains("10.0.0.2"), "{line} of {seen}");
    }
}

fn fragments_go_to_the_host_and_are_dropped_for_the_server(lab: &Lab) {
    let net = lab.server_net();
    net.ip(&format!("addr add 10.0.0.9/24 dev {SERVER_END}"));
    net.ip(&format!("-6 addr add fd00::9/64 nodad dev {SERVER_END}"));
    let server = Serve::new(lab).start();
    server.check_alive();
    server.connect(Server::V6).unwrap();
    let ping = |to: &str, wait: &str| {
        let args = ["-c", "3", "-i", "0.05", "-s", "4000", "-W", wait, to];
        lab.run("ping", &args).text()
    };
    for host in ["10.0.0.9", "fd00::9"] {
        let said = ping(host, "10");
        assert!(said.contains("3 received, 0% packet loss"), "{said}");
    }
    assert_eq!(server.counter("drop_fragment"), 0);
    for (own, so_far) in [("10.0.0.2", 1), ("fd00::2", 2)] {
        let said = ping(own, "1");
        assert!(said.contains(" 0 received"), "{said}");
        // Three datagrams of three parts each: the filter drops the last two,
        // and the stack the first, which says a port.
        assert_eq!(server.counter("drop_fragment"), so_far * 6, "{own}");
        assert_eq!(server.counter("fragment"), so_far * 3, "{own}");
    }
    server.check_alive();
}

/// Destination options that say nothing, before `next_header` (RFC 8200 §4.6).
fn options(next_header: u8, payload: &[u8]) -> Vec<u8> {
    [&[next_header, 0, 1, 4, 0, 0, 0, 0], payload].concat()
}

const DESTINATION_OPTIONS: u8 = 60;

/// Frames enough to be told from those that asking for a counter takes.
const MANY: u64 = 200;

/// `payload` behind that many headers of options.
fn behind(headers: usize, next_header: u8, payload: &[u8]) -> (u8, Vec<u8>) {
    let start = (next_header, payload.to_vec());
    (0..headers).fold(start, |(next, body), _| {
        (DESTINATION_OPTIONS, options(next, &body))
    })
}

fn extension_headers_are_walked_over(lab: &Lab) {
    let net = lab.server_net();
    net.ip(&format!("-6 addr add fd00::9/64 nodad dev {SERVER_END}"));
    let server = Serve::new(lab).start();
    let (mut injector, cable) = plug_in(lab, &server);
    lab.run("ping", &["-c", "1", "-W", "10", "fd00::9"]).ok();
    let ends = Ends {
        src: &US6,
        dst: &SERVER6,
        src_port: 4000,
        dst_port: 8080,
    };
    let syn = tcp(ends, 7, 2, b"");
    for (headers, fate) in [
        (1, "redirect_tcp"),
        (3, "redirect_tcp"),
        (20, "pass_headers"),
    ] {
        let (next, body) = behind(headers, protocol::TCP, &syn);
        let packet = cable.ipv6(&ipv6(US6, SERVER6, next, &body));
        let before = server.counter(fate);
        for _ in 0..MANY {
            injector.send(&packet);
        }
        wait_until(fate, || server.counter(fate) >= before + MANY);
    }
    check_host_answers(lab, &mut injector, v6(9));
    server.check_alive();
    assert_eq!(server.counter("tcp_panics"), 0);
}

/// Shows that the server's kernel answers an echo request that comes behind
/// options.
fn check_host_answers(lab: &Lab, injector: &mut Injector, host: [u8; 16]) {
    let mut echo = vec![128, 0, 0, 0, 0, 1, 0, 1];
    seal(&US6, &host, protocol::ICMPV6, &mut echo, 2);
    let (next, body) = behind(2, protocol::ICMPV6, &echo);
    let to = mac_of(lab, "fd00::9");
    let before = echo_replies(lab);
    let packet = ipv6(US6, host, next, &body);
    injector.send(&ethernet(to, injector.mac(), ethertype::IPV6, &packet));
    wait_until("the host answers", || echo_replies(lab) > before);
}

/// Echo replies that the server's kernel has sent over IPv6.
fn echo_replies(lab: &Lab) -> u64 {
    let path = "/proc/thread-self/net/snmp6";
    let all = lab
        .server_net()
        .enter(|| std::fs::read_to_string(path))
        .unwrap();
    let line = all
        .lines()
        .find_map(|line| line.strip_prefix("Icmp6OutEchoReplies"));
    line.expect("Linux counts them").trim().parse().unwrap()
}
