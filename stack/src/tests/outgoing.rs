//! Connections that we open.

use super::*;
use crate::ip::checksum::Sum;

#[test]
fn a_closed_port_refuses() {
    let mut net = Net::new();
    let fd = net.dial("10.0.0.1:81");
    assert_eq!(net.client.connect_result(fd), Err(Errno::ConnectionRefused));
    assert!(net.told(1, fd).contains(Ready::WRITE | Ready::HANGUP));
    assert_eq!(net.count(0, "no_flow_resets"), 1);
    net.client.close(fd, net.now).unwrap();
    assert_eq!(net.count(1, "connections"), 0);
}

#[test]
fn a_neighbour_that_is_not_there_is_unreachable() {
    let mut net = Net::new();
    for addr in ["10.0.0.77:80", "[fd00::77]:80"] {
        let fd = net.dial(addr);
        assert_eq!(net.client.connect_result(fd), Err(Errno::WouldBlock));
        assert_eq!(net.write(1, fd, b"x"), Err(Errno::WouldBlock));
        assert_eq!(net.read(1, fd, 1), Err(Errno::NotConnected));
        net.advance(Duration::from_secs(10));
        assert_eq!(net.client.connect_result(fd), Err(Errno::HostUnreachable));
        assert!(net.told(1, fd).contains(Ready::WRITE));
    }
    assert_eq!(net.count(1, "neighbor_unreachable"), 2);
}

#[test]
fn a_silent_host_times_out() {
    let mut net = Net::new();
    net.listen(&ListenOptions::default());
    net.wire.lose(|side, frame| side == 0 && frame[23] == 6);
    let fd = net.dial(SERVER);
    net.advance(Duration::from_secs(120));
    assert_eq!(net.client.connect_result(fd), Err(Errno::WouldBlock));
    net.advance(Duration::from_secs(10));
    assert_eq!(net.client.connect_result(fd), Err(Errno::TimedOut));
    net.client.close(fd, net.now).unwrap();
    assert_eq!(net.count(1, "connections"), 0);
}

#[test]
fn addresses_that_cannot_be_reached() {
    let net = Net::new();
    for (addr, want) in [
        ("192.0.2.1:80", Errno::NetworkUnreachable),
        ("10.0.0.2:80", Errno::AddrNotAvailable),
        ("0.0.0.0:80", Errno::AddrNotAvailable),
        ("224.0.0.1:80", Errno::AddrNotAvailable),
        ("10.0.0.255:80", Errno::AddrNotAvailable),
        ("127.0.0.1:80", Errno::AddrNotAvailable),
        ("10.0.0.1:0", Errno::AddrNotAvailable),
    ] {
        let got = net.client.connect(0, addr.parse().unwrap(), net.now);
        assert_eq!(got, Err(want), "{addr}");
    }
}

#[test]
fn a_connection_given_up_leaves_nothing() {
    let mut net = Net::new();
    // Before the neighbour answers, and after, before the peer does.
    let fd = net
        .client
        .connect(0, SERVER.parse().unwrap(), net.now)
        .unwrap();
    net.client.close(fd, net.now).unwrap();
    net.settle();
    net.wire.lose(|side, _| side == 0);
    let fd = net.dial(SERVER);
    net.client.close(fd, net.now).unwrap();
    assert_eq!(net.count(1, "connections"), 0);
    assert_eq!(net.client.next_event(0).filter(|at| *at <= net.now), None);
}

#[test]
fn ports_differ_and_are_of_the_upper_half() {
    let mut net = Net::new();
    net.listen(&ListenOptions::default());
    let mut ports = std::collections::HashSet::new();
    for _ in 0..200 {
        let fd = net.dial(SERVER);
        let port = net.client.local_addr(fd).unwrap().port();
        assert!(port >= 32_768 && ports.insert(port));
    }
}

#[test]
fn an_abort_right_after_the_handshake_is_learned_by_the_peers_user() {
    let mut net = Net::new();
    let listener = net.listen(&ListenOptions::default());
    // Another connection first, so that the neighbour is known.
    net.dial(SERVER);
    net.server.accept(listener, net.now).unwrap();
    let fd = net
        .client
        .connect(0, SERVER.parse().unwrap(), net.now)
        .unwrap();
    net.flush(1);
    net.poll(0);
    net.flush(0);
    net.poll(1);
    assert_eq!(net.client.connect_result(fd), Ok(()));
    net.client.abort(fd, net.now).unwrap();
    net.settle();
    let (server, _) = net.server.accept(listener, net.now).unwrap();
    assert_eq!(net.read(0, server, 1), Err(Errno::ConnectionReset));
}

/// An ICMP error of a code about a packet that the client sent, from a router at
/// the server's end of the wire. `change` may damage the quoted packet.
pub(super) fn icmp_error(code: u8, frame: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut quoted = frame[HEADER_LEN..].to_vec();
    change(&mut quoted);
    let is_v4 = quoted[0] >> 4 == 4;
    let kind = if is_v4 { 3 } else { 1 };
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&quoted);
    let (src, dst, protocol): (IpAddr, IpAddr, _) = if is_v4 {
        let (src, dst) = ([10, 0, 0, 99], [10, 0, 0, 2]);
        (src.into(), dst.into(), IpProtocol::Icmp)
    } else {
        let (src, dst) = ("fd00::99".parse().unwrap(), "fd00::2".parse().unwrap());
        (src, dst, IpProtocol::Icmpv6)
    };
    let ip = IpRepr::new(src.into(), dst.into(), protocol, message.len(), 64);
    let at = HEADER_LEN + ip.header_len();
    let mut frame = vec![0; HEADER_LEN + ip.buffer_len()];
    let ethertype = if is_v4 { ether::IPV4 } else { ether::IPV6 };
    ether::write_header(&mut frame, CLIENT_MAC, SERVER_MAC, ethertype);
    ip.emit(&mut frame[HEADER_LEN..], &ChecksumCapabilities::default());
    frame[at..].copy_from_slice(&message);
    let pseudo = if is_v4 {
        Sum::default()
    } else {
        Sum::of(&frame[HEADER_LEN + 8..HEADER_LEN + 40]).and_protocol(58, message.len())
    };
    let checksum = pseudo.and(Sum::of(&message)).checksum();
    frame[at + 2..at + 4].copy_from_slice(&checksum);
    frame
}

impl Net {
    /// Puts a frame on the client's side of the wire and lets it act.
    pub(super) fn inject_to_client(&mut self, frame: Vec<u8>) {
        self.wire.state().toward[1].push_back(frame);
        self.poll(1);
    }

    /// A dial whose SYN is lost: the descriptor and the SYN.
    fn dial_into_the_void(&mut self, addr: &str) -> (Fd, Vec<u8>) {
        self.wire.lose(|side, frame| {
            let at = if frame[12] == 8 { 23 } else { 20 };
            side == 1 && frame[at] == ip::TCP
        });
        self.wire.sent(1);
        let fd = self.dial(addr);
        self.take_events(1);
        let syn = self.wire.sent(1).pop().unwrap();
        (fd, syn)
    }
}

#[test]
fn an_icmp_error_about_the_syn_ends_a_connect() {
    for (addr, code, want) in [
        (SERVER, 0, Errno::NetworkUnreachable),
        (SERVER, 1, Errno::HostUnreachable),
        (SERVER, 3, Errno::ConnectionRefused),
        (SERVER_V6, 0, Errno::NetworkUnreachable),
        (SERVER_V6, 3, Errno::HostUnreachable),
        (SERVER_V6, 4, Errno::ConnectionRefused),
    ] {
        let mut net = Net::new();
        let (fd, syn) = net.dial_into_the_void(addr);
        net.inject_to_client(icmp_error(code, &syn, |_| {}));
        assert_eq!(net.client.connect_result(fd), Err(want), "{addr} {code}");
        assert!(net.told(1, fd).contains(Ready::WRITE));
        assert_eq!(net.count(1, "icmp_errors"), 1);
        // Nothing more is sent for it.
        net.wire.sent(1);
        net.advance(Duration::from_secs(10));
        assert_eq!(segments((SERVER_MAC, "10.0.0.1/24"), &net.wire.sent(1)), []);
        net.client.close(fd, net.now).unwrap();
        assert_eq!(net.count(1, "connections"), 0);
    }
}

#[test]
fn an_icmp_error_that_does_not_know_the_connection_is_ignored() {
    let mut net = Net::new();
    let (fd, syn) = net.dial_into_the_void(SERVER);
    let bytes = [("port", 20), ("peer", 16), ("sequence number", 27)];
    for (what, at) in bytes {
        net.inject_to_client(icmp_error(1, &syn, |quoted| quoted[at] ^= 1));
        let result = net.client.connect_result(fd);
        assert_eq!(result, Err(Errno::WouldBlock), "{what}");
    }
    net.inject_to_client(icmp_error(1, &syn, |quoted| quoted.truncate(27)));
    // «Fragmentation needed» tells of a size, not of the end.
    net.inject_to_client(icmp_error(4, &syn, |_| {}));
    assert_eq!(net.client.connect_result(fd), Err(Errno::WouldBlock));
    assert_eq!(net.count(1, "icmp_errors"), 0);
    assert_eq!(net.count(1, "icmp_ignored"), 5);
}

#[test]
fn an_icmp_error_does_not_end_an_established_connection() {
    let mut net = Net::new();
    net.wire.sent(1);
    let (_, server, client) = net.connected();
    net.write(1, client, b"x").unwrap();
    net.settle();
    for frame in net.wire.sent(1) {
        if frame[23] == ip::TCP {
            net.inject_to_client(icmp_error(1, &frame, |_| {}));
        }
    }
    assert!(net.count(1, "icmp_ignored") >= 3);
    assert_eq!(net.state(1, client), "ESTABLISHED");
    assert_eq!(net.read(0, server, 9), Ok(b"x".to_vec()));
}

#[test]
fn a_gateway_may_be_a_link_local_neighbour() {
    let wire = Wire::new();
    let addrs = vec!["2001:db8::2/64".parse().unwrap()];
    let mut config = Config::new(CLIENT_MAC, addrs);
    config.gateways = vec!["fe80::1".parse().unwrap()];
    let stack = Stack::new(config.clone(), vec![wire.end(1)]).unwrap();
    let (mut now, end) = (Nanos(1_000_000_000_000), Nanos(1_010_000_000_000));
    while now < end {
        stack.poll(0, now, 64, &mut Vec::new());
        stack.flush(0, now);
        now = now + Duration::from_millis(100);
    }
    wire.sent(1);
    let fd = stack
        .connect(0, "[2001:4860::8]:80".parse().unwrap(), now)
        .unwrap();
    stack.flush(0, now);
    let source = stack.local_addr(fd).unwrap().ip();
    assert_eq!(source, "2001:db8::2".parse::<IpAddr>().unwrap());
    // It asks for the gateway's station.
    let asked = wire.sent(1).pop().unwrap();
    let target: [u8; 16] = asked[62..78].try_into().unwrap();
    assert_eq!(IpAddr::from(target), config.gateways[0]);
    config.addrs = vec!["10.0.0.2/24".parse().unwrap()];
    assert!(Stack::new(config, vec![wire.end(1)]).is_err());
}
