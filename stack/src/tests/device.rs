//! Queues: several, broken, and what is not TCP on them.

use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, UdpPacket, UdpRepr};

use super::*;

#[test]
fn a_device_that_is_gone_fails_every_connection() {
    let mut net = Net::new();
    let (listener, server, _) = net.connected();
    net.wire.state().broken[0] = true;
    net.poll(0);
    let events = net.take_events(0);
    let told = |fd, ready| events.iter().any(|e| e.fd == fd && e.ready.contains(ready));
    assert!(told(server, Ready::HANGUP));
    assert!(told(listener, Ready::READ));
    let accepted = net.server.accept(listener, net.now);
    assert_eq!(accepted, Err(Errno::NetworkDown));
    assert_eq!(net.read(0, server, 1), Err(Errno::NetworkDown));
    assert_eq!(net.write(0, server, b"x"), Err(Errno::NetworkDown));
    let again = net
        .server
        .connect(0, "10.0.0.2:80".parse().unwrap(), net.now);
    assert_eq!(again, Err(Errno::NetworkDown));
    net.server.close(server, net.now).unwrap();
    assert_eq!(net.count(0, "connections"), 0);
    assert_eq!(net.server.flush(0, net.now), 0);
}

#[test]
fn every_shard_listens_and_keeps_its_own_flows() {
    let wires = [Wire::new(), Wire::new()];
    let queues = wires.iter().map(|wire| wire.end(0)).collect();
    let config = Config::new(SERVER_MAC, vec!["10.0.0.1/24".parse().unwrap()]);
    let stack = Stack::new(config, queues).unwrap();
    let options = ListenOptions::default();
    let fds = stack
        .listen("0.0.0.0:80".parse().unwrap(), &options)
        .unwrap();
    assert_eq!(fds.iter().map(|fd| fd.shard()).collect::<Vec<_>>(), [0, 1]);
    let (now, raw) = (Nanos(1_000_000_000), Raw::new(5_000));
    let turn = |frame: Vec<u8>| {
        wires[1].state().toward[0].push_back(frame);
        stack.poll(1, now, 64, &mut Vec::new());
        stack.flush(1, now);
        segments((raw.mac, "10.0.0.9/24"), &wires[1].sent(0))
    };
    let syn_ack = turn(raw.frame(TcpControl::Syn, 1_000, None, PLAIN));
    let next = syn_ack[0].seq.wrapping_add(1);
    turn(raw.frame(TcpControl::None, 1_001, Some(next), PLAIN));
    assert_eq!(stack.accept(fds[0], now), Err(Errno::WouldBlock));
    let (fd, peer) = stack.accept(fds[1], now).unwrap();
    assert_eq!((fd.shard(), peer), (1, raw.local));
    assert_eq!(stack.stats().get("accepted"), Some(1));
}

/// An IPv4 packet from the raw peer in a frame for the server.
fn frame(protocol: IpProtocol, len: usize, emit: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let raw = Raw::new(7);
    let (src, dst) = (raw.local.ip().into(), raw.remote.ip().into());
    let ip = IpRepr::new(src, dst, protocol, len, 64);
    let mut frame = vec![0; HEADER_LEN + ip.buffer_len()];
    ether::write_header(&mut frame, SERVER_MAC, raw.mac, ether::IPV4);
    ip.emit(&mut frame[HEADER_LEN..], &ChecksumCapabilities::default());
    emit(&mut frame[HEADER_LEN + ip.header_len()..]);
    frame
}

#[test]
fn ping_is_answered_and_udp_refused() {
    let mut net = Net::new();
    let checksums = ChecksumCapabilities::default();
    let echo = Icmpv4Repr::EchoRequest {
        ident: 3,
        seq_no: 4,
        data: b"ping",
    };
    let ping = frame(IpProtocol::Icmp, echo.buffer_len(), |bytes| {
        echo.emit(&mut Icmpv4Packet::new_unchecked(bytes), &checksums);
    });
    let udp = UdpRepr {
        src_port: 5,
        dst_port: 53,
    };
    let raw = Raw::new(7);
    let (src, dst) = (raw.local.ip().into(), raw.remote.ip().into());
    let datagram = frame(IpProtocol::Udp, 8 + 4, |bytes| {
        let mut packet = UdpPacket::new_unchecked(bytes);
        let fill = |payload: &mut [u8]| payload.copy_from_slice(b"name");
        udp.emit(&mut packet, &src, &dst, 4, fill, &checksums);
    });
    for (request, kind) in [(ping, 0), (datagram, 3)] {
        net.wire.state().toward[0].push_back(request);
        net.poll(0);
        let sent = net.wire.sent(0);
        assert_eq!(sent.len(), 1, "an answer of kind {kind}");
        assert_eq!(sent[0][..6], raw.mac.0);
        assert_eq!(sent[0][34], kind);
    }
    assert_eq!(net.count(0, "echo_replies"), 1);
    assert_eq!(net.count(0, "udp_no_port"), 1);
}

#[test]
fn senseless_configurations_are_refused() {
    let config = |mac: MacAddr, addr: &str, gateway: Option<&str>| {
        let mut config = Config::new(mac, vec![addr.parse().unwrap()]);
        config.gateways = gateway.iter().map(|g| g.parse().unwrap()).collect();
        Stack::new(config, vec![Wire::new().end(0)])
            .map(|_| ())
            .map_err(|e| e.to_string())
    };
    let ok = config(SERVER_MAC, "10.0.0.1/24", Some("10.0.0.254"));
    assert_eq!(ok, Ok(()));
    for (mac, addr, gateway, word) in [
        (MacAddr::BROADCAST, "10.0.0.1/24", None, "station"),
        (SERVER_MAC, "224.0.0.1/24", None, "224.0.0.1"),
        (SERVER_MAC, "::/64", None, "host"),
        (SERVER_MAC, "10.0.0.1/24", Some("10.9.0.1"), "10.9.0.1"),
    ] {
        let error = config(mac, addr, gateway).unwrap_err();
        assert!(error.contains(word), "{error}");
    }
    let none = Stack::new(Config::new(SERVER_MAC, vec![]), vec![]);
    assert!(none.is_err());
}
