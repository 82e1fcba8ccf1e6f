//! UDP sockets.

use super::outgoing::icmp_error;
use super::*;
use crate::UdpOptions;
use crate::udp::Outgoing;

impl Net {
    /// A UDP socket of a side, registered.
    #[track_caller]
    pub(super) fn udp(&self, side: usize, addr: &str) -> Fd {
        self.udp_with(side, addr, &UdpOptions::default())
    }

    #[track_caller]
    fn udp_with(&self, side: usize, addr: &str, options: &UdpOptions) -> Fd {
        let stack = self.side(side);
        let fd = stack.udp_bind(addr.parse().unwrap(), options).unwrap()[0];
        assert_eq!(stack.register(fd, 7), Ok(Ready::WRITE));
        fd
    }

    fn send(&self, side: usize, fd: Fd, data: &[u8], to: &str) -> Result<usize, Errno> {
        let to = (!to.is_empty()).then(|| to.parse().unwrap());
        self.side(side).udp_send_to(fd, data, to, self.now)
    }

    pub(super) fn recv(&self, side: usize, fd: Fd) -> Result<(Vec<u8>, SocketAddr), Errno> {
        let mut buf = vec![0; 2048];
        let (copied, len, from) = self.side(side).udp_recv_from(fd, &mut buf)?;
        assert_eq!(copied, len);
        buf.truncate(len);
        Ok((buf, from))
    }
}

/// A datagram from a stranger to the server, as a frame.
fn datagram(from: &str, to: &str, data: &[u8]) -> Vec<u8> {
    let datagram = Outgoing {
        src: from.parse().unwrap(),
        dst: to.parse().unwrap(),
        data,
    };
    let mut frame = vec![0; datagram.frame_len()];
    datagram.emit(&mut frame, MacAddr([2, 0, 0, 0, 0, 9]), SERVER_MAC);
    frame
}

#[test]
fn datagrams_go_both_ways_over_either_family() {
    for (any, server) in [("0.0.0.0:53", "10.0.0.1:53"), ("[::]:53", "[fd00::1]:53")] {
        let mut net = Net::new();
        let a = net.udp(0, any);
        let b = net.udp(1, "0.0.0.0:0");
        // Empty ones too, and the first waits for the neighbour.
        for data in [&b"hello"[..], b"", &pattern(0, 1400)] {
            assert_eq!(net.send(1, b, data, server), Ok(data.len()));
            net.settle();
            assert_eq!(net.told(0, a), Ready::READ);
            let (got, from) = net.recv(0, a).unwrap();
            assert_eq!(got, data);
            assert_eq!(from.port(), net.client.local_addr(b).unwrap().port());
            assert_eq!(net.recv(0, a), Err(Errno::WouldBlock));
            net.send(0, a, data, &from.to_string()).unwrap();
            net.settle();
            assert_eq!(net.told(1, b), Ready::READ);
            assert_eq!(net.recv(1, b), Ok((data.to_vec(), server.parse().unwrap())));
        }
        assert_eq!(net.count(0, "udp_received"), 3);
        assert_eq!(net.count(0, "udp_sent"), 3);
        assert_eq!(net.count(1, "bad_udp_checksum"), 0);
    }
}

#[test]
fn ports_are_had_once() {
    let net = Net::new();
    let bind = |addr: &str| {
        let fds = net
            .server
            .udp_bind(addr.parse().unwrap(), &UdpOptions::default());
        fds.map(|fds| fds[0])
    };
    let exact = bind("10.0.0.1:53").unwrap();
    assert_eq!(bind("10.0.0.1:53"), Err(Errno::AddrInUse));
    assert_eq!(bind("0.0.0.0:53"), Err(Errno::AddrInUse));
    assert_eq!(bind("[::]:53"), Err(Errno::AddrInUse));
    assert!(bind("[fd00::1]:53").is_ok());
    let any = bind("[::]:54").unwrap();
    assert_eq!(bind("10.0.0.1:54"), Err(Errno::AddrInUse));
    assert_eq!(bind("10.0.0.3:55"), Err(Errno::AddrNotAvailable));
    let port = |fd| net.server.local_addr(fd).unwrap().port();
    let (c, d) = (bind("0.0.0.0:0").unwrap(), bind("0.0.0.0:0").unwrap());
    assert!(port(c) >= 32_768 && port(d) >= 32_768 && port(c) != port(d));
    assert_eq!(net.count(0, "udp_sockets"), 5);
    net.server.close(exact, net.now).unwrap();
    net.server.close(any, net.now).unwrap();
    assert_eq!(net.server.close(any, net.now), Err(Errno::BadFd));
    assert!(bind("10.0.0.1:53").is_ok() && bind("10.0.0.1:54").is_ok());
}

#[test]
fn a_receive_queue_is_bounded_both_ways() {
    for (datagrams, bytes, counter) in [
        (3, 1_000_000, "udp_queue_full"),
        (1_000, 30, "udp_bytes_full"),
    ] {
        let mut net = Net::new();
        let options = UdpOptions {
            recv_datagrams: datagrams,
            recv_bytes: bytes,
        };
        let a = net.udp_with(0, "0.0.0.0:53", &options);
        for i in 0..5u8 {
            net.inject(datagram("10.0.0.9:9", "10.0.0.1:53", &[i; 10]));
        }
        assert_eq!(net.count(0, counter), 2);
        assert_eq!(net.server.queued(a), Ok((30, 0)));
        for i in 0..3u8 {
            assert_eq!(net.recv(0, a).unwrap().0, [i; 10]);
        }
        assert_eq!(net.recv(0, a), Err(Errno::WouldBlock));
        net.inject(datagram("10.0.0.9:9", "10.0.0.1:53", b"again"));
        assert_eq!(net.recv(0, a).unwrap().0, b"again");
    }
}

#[test]
fn what_does_not_fit_the_buffer_is_lost_and_told() {
    let mut net = Net::new();
    let a = net.udp(0, "0.0.0.0:53");
    net.inject(datagram("10.0.0.9:9", "10.0.0.1:53", b"0123456789"));
    net.inject(datagram("10.0.0.9:9", "10.0.0.1:53", b"next"));
    let mut buf = [0; 4];
    let (copied, len, _) = net.server.udp_recv_from(a, &mut buf).unwrap();
    assert_eq!((copied, len, &buf), (4, 10, b"0123"));
    assert_eq!(net.recv(0, a).unwrap().0, b"next");
}

#[test]
fn a_connected_socket_hears_its_peer_alone() {
    let mut net = Net::new();
    let a = net.udp(0, "0.0.0.0:53");
    assert_eq!(net.server.peer_addr(a), Err(Errno::NotConnected));
    assert_eq!(net.send(0, a, b"x", ""), Err(Errno::NotConnected));
    net.server
        .udp_connect(a, "10.0.0.9:9".parse().unwrap())
        .unwrap();
    assert_eq!(net.server.local_addr(a), Ok("10.0.0.1:53".parse().unwrap()));
    assert_eq!(net.server.peer_addr(a), Ok("10.0.0.9:9".parse().unwrap()));
    net.inject(datagram("10.0.0.9:8", "10.0.0.1:53", b"stranger"));
    assert_eq!(net.count(0, "udp_no_port"), 1);
    net.inject(datagram("10.0.0.9:9", "10.0.0.1:53", b"peer"));
    assert_eq!(net.recv(0, a).unwrap().0, b"peer");
    assert_eq!(net.recv(0, a), Err(Errno::WouldBlock));
}

#[test]
fn a_closed_port_refuses_a_connected_socket_once() {
    for server in ["10.0.0.1:53", "[fd00::1]:53"] {
        let mut net = Net::new();
        let b = net.udp(1, "0.0.0.0:0");
        net.client.udp_connect(b, server.parse().unwrap()).unwrap();
        net.send(1, b, b"x", "").unwrap();
        net.settle();
        assert_eq!(net.told(1, b), Ready::READ | Ready::WRITE);
        assert_eq!(net.recv(1, b), Err(Errno::ConnectionRefused));
        assert_eq!(net.recv(1, b), Err(Errno::WouldBlock));
        net.send(1, b, b"x", "").unwrap();
        net.settle();
        assert_eq!(net.send(1, b, b"x", ""), Err(Errno::ConnectionRefused));
        assert_eq!(net.count(1, "icmp_errors"), 2);
        assert_eq!(net.count(0, "udp_no_port"), 2);
        // One that is not connected learns nothing: it may have many peers.
        let c = net.udp(1, "0.0.0.0:0");
        net.send(1, c, b"x", server).unwrap();
        net.settle();
        assert_eq!(net.recv(1, c), Err(Errno::WouldBlock));
    }
}

#[test]
fn an_icmp_error_of_another_port_or_a_soft_one_is_ignored() {
    let mut net = Net::new();
    net.udp(0, "0.0.0.0:53");
    let b = net.udp(1, "0.0.0.0:0");
    net.client
        .udp_connect(b, "10.0.0.1:53".parse().unwrap())
        .unwrap();
    net.wire.sent(1);
    net.send(1, b, b"x", "").unwrap();
    net.settle();
    let sent = net.wire.sent(1).pop().unwrap();
    net.inject_to_client(icmp_error(3, &sent, |quoted| quoted[21] ^= 1));
    net.inject_to_client(icmp_error(3, &sent, |quoted| quoted[23] ^= 1));
    net.inject_to_client(icmp_error(1, &sent, |_| {}));
    assert_eq!(net.recv(1, b), Err(Errno::WouldBlock));
    assert_eq!(net.count(1, "icmp_ignored"), 3);
    net.inject_to_client(icmp_error(3, &sent, |_| {}));
    assert_eq!(net.recv(1, b), Err(Errno::ConnectionRefused));
}

#[test]
fn what_cannot_be_sent() {
    let mut net = Net::new();
    let b = net.udp(1, "10.0.0.2:0");
    for (to, len, want) in [
        ("10.0.0.1:53", 1_473, Errno::MessageSize),
        ("10.0.0.1:53", 70_000, Errno::MessageSize),
        ("10.0.0.1:0", 1, Errno::AddrNotAvailable),
        ("10.0.0.2:53", 1, Errno::AddrNotAvailable),
        ("0.0.0.0:53", 1, Errno::AddrNotAvailable),
        ("10.0.0.255:53", 1, Errno::AccessDenied),
        ("255.255.255.255:53", 1, Errno::AccessDenied),
        ("224.0.0.251:53", 1, Errno::AccessDenied),
        ("[ff02::1]:53", 1, Errno::AccessDenied),
        ("192.0.2.1:53", 1, Errno::NetworkUnreachable),
        ("[fd00::1]:53", 1, Errno::NetworkUnreachable),
    ] {
        let sent = net.send(1, b, &vec![0; len], to);
        assert_eq!(sent, Err(want), "{to} {len}");
        let connected = net.client.udp_connect(b, to.parse().unwrap());
        assert_eq!(connected.is_err(), want != Errno::MessageSize, "{to}");
    }
    assert_eq!(net.send(1, b, &[0; 1_472], "10.0.0.1:53"), Ok(1_472));
    let c = net.udp(1, "[fd00::2]:0");
    assert_eq!(
        net.send(1, c, &[0; 1_453], "[fd00::1]:53"),
        Err(Errno::MessageSize)
    );
    assert_eq!(net.send(1, c, &[0; 1_452], "[fd00::1]:53"), Ok(1_452));
    let listener = net.listen(&ListenOptions::default());
    assert_eq!(
        net.send(0, listener, b"", "10.0.0.2:5"),
        Err(Errno::Invalid)
    );
    net.client.close(b, net.now).unwrap();
    assert_eq!(net.send(1, b, b"x", "10.0.0.1:53"), Err(Errno::BadFd));
    net.settle();
}

#[test]
fn some_datagrams_wait_for_the_next_hop_and_a_silent_one_is_told() {
    let mut net = Net::new();
    let a = net.udp(0, "0.0.0.0:53");
    let (b, c) = (net.udp(1, "0.0.0.0:0"), net.udp(1, "0.0.0.0:0"));
    for i in 0..68u8 {
        net.send(1, b, &[i], "10.0.0.1:53").unwrap();
    }
    assert_eq!(net.count(1, "udp_unresolved_full"), 4);
    net.settle();
    // The oldest made room.
    for i in 4..68u8 {
        assert_eq!(net.recv(0, a).unwrap().0, [i]);
    }
    assert_eq!(net.recv(0, a), Err(Errno::WouldBlock));
    net.client
        .udp_connect(b, "10.0.0.77:53".parse().unwrap())
        .unwrap();
    net.send(1, b, b"x", "").unwrap();
    net.send(1, c, b"x", "10.0.0.77:53").unwrap();
    net.take_events(1);
    net.advance(Duration::from_secs(4));
    assert_eq!(net.told(1, b), Ready::READ | Ready::WRITE);
    assert_eq!(net.recv(1, b), Err(Errno::HostUnreachable));
    assert_eq!(net.recv(1, c), Err(Errno::WouldBlock));
    assert_eq!(
        net.send(1, c, b"x", "10.0.0.77:53"),
        Err(Errno::HostUnreachable)
    );
    assert_eq!(net.count(1, "neighbor_unreachable"), 3);
}

#[test]
fn unresolved_datagrams_are_bounded_over_all_hops() {
    let mut net = Net::new();
    let b = net.udp(1, "0.0.0.0:0");
    for hop in 3..43 {
        for _ in 0..10 {
            net.send(1, b, b"x", &format!("10.0.0.{hop}:53")).unwrap();
        }
    }
    assert_eq!(net.count(1, "udp_unresolved_full"), 400 - 256);
    net.advance(Duration::from_secs(10));
    assert_eq!(net.count(1, "neighbor_unreachable"), 256);
}

#[test]
fn a_full_ring_blocks_and_tells_when_it_has_room() {
    let mut net = Net::new();
    let a = net.udp(0, "0.0.0.0:53");
    let b = net.udp(1, "0.0.0.0:0");
    net.send(1, b, b"first", "10.0.0.1:53").unwrap();
    net.settle();
    net.recv(0, a).unwrap();
    net.take_events(1);
    net.wire.state().room[1] = 0;
    let mut sent = 0;
    while net.send(1, b, &[1], "10.0.0.1:53").is_ok() {
        sent += 1;
        assert!(sent < 10_000, "the outbox is bounded");
    }
    assert_eq!(net.send(1, b, &[1], "10.0.0.1:53"), Err(Errno::WouldBlock));
    for _ in 0..10 {
        net.now = net.now + Duration::from_millis(2);
        net.poll(1);
    }
    assert_eq!(net.told(1, b), Ready::empty());
    net.wire.state().room[1] = usize::MAX;
    net.advance(Duration::from_millis(10));
    assert_eq!(net.told(1, b), Ready::WRITE);
    assert_eq!(net.send(1, b, &[2], "10.0.0.1:53"), Ok(1));
    net.settle();
    for _ in 0..sent {
        assert_eq!(net.recv(0, a).unwrap().0, [1]);
    }
    assert_eq!(net.recv(0, a).unwrap().0, [2]);
}

#[test]
fn bad_datagrams_do_not_get_in() {
    let mut net = Net::new();
    let a = net.udp(0, "0.0.0.0:53");
    let good = datagram("10.0.0.9:9", "10.0.0.1:53", b"0123456789");
    let good_v6 = datagram("[fd00::9]:9", "[fd00::1]:53", b"0123456789");
    let edit = |frame: &[u8], change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = frame.to_vec();
        change(&mut frame);
        frame
    };
    for (what, frame) in [
        ("a bad checksum", edit(&good, &|f| f[42] ^= 1)),
        ("a bad checksum, IPv6", edit(&good_v6, &|f| f[62] ^= 1)),
        ("no checksum, IPv6", edit(&good_v6, &|f| f[60..62].fill(0))),
        (
            "a length beyond the packet",
            edit(&good, &|f| f[38..40].fill(0x7f)),
        ),
        (
            "a length within the header",
            edit(&good, &|f| f[38..40].copy_from_slice(&[0, 7])),
        ),
        ("a broadcast", datagram("10.0.0.9:9", "10.0.0.255:53", b"x")),
        (
            "everybody",
            datagram("10.0.0.9:9", "255.255.255.255:53", b"x"),
        ),
        (
            "our own address",
            datagram("10.0.0.1:9", "10.0.0.1:53", b"x"),
        ),
        (
            "a group as sender",
            datagram("224.0.0.1:9", "10.0.0.1:53", b"x"),
        ),
    ] {
        net.inject(frame);
        assert_eq!(net.recv(0, a), Err(Errno::WouldBlock), "{what}");
    }
    for len in 0..good.len() {
        net.inject(good[..len].to_vec());
    }
    assert_eq!(net.recv(0, a), Err(Errno::WouldBlock));
    // RFC 768: a checksum of zero is none, over IPv4.
    net.inject(edit(&good, &|f| f[40..42].fill(0)));
    assert_eq!(net.recv(0, a).unwrap().0, b"0123456789");
    net.inject(good_v6);
    assert_eq!(net.recv(0, a).unwrap().0, b"0123456789");
    assert_eq!(net.count(0, "udp_to_group"), 2);
}

#[test]
fn a_sum_of_zero_is_sent_as_all_ones() {
    // Two bytes of data that make the rest of the sum come out as all ones.
    let zero = datagram("10.0.0.9:9", "10.0.0.1:53", &[0, 0]);
    let data = [zero[40], zero[41]];
    let frame = datagram("10.0.0.9:9", "10.0.0.1:53", &data);
    assert_eq!(frame[40..42], [0xff, 0xff]);
}

#[test]
fn a_lost_device_fails_every_call() {
    let mut net = Net::new();
    let b = net.udp(1, "0.0.0.0:0");
    net.wire.state().broken[1] = true;
    net.settle();
    assert!(net.told(1, b).contains(Ready::READ));
    assert_eq!(net.recv(1, b), Err(Errno::NetworkDown));
    assert_eq!(net.recv(1, b), Err(Errno::NetworkDown));
    assert_eq!(net.send(1, b, b"x", "10.0.0.1:53"), Err(Errno::NetworkDown));
    let bound = net
        .client
        .udp_bind("0.0.0.0:0".parse().unwrap(), &UdpOptions::default());
    assert_eq!(bound, Err(Errno::NetworkDown));
    net.client.close(b, net.now).unwrap();
}
