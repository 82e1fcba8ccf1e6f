//! Opening: handshakes, backlogs, initial sequence numbers, stale descriptors.

use super::*;

#[test]
fn both_sides_get_there_over_either_family() {
    for addr in [SERVER, SERVER_V6] {
        let mut net = Net::new();
        let (listener, server, client) = net.connected_to(addr, &ListenOptions::default());
        let addr: SocketAddr = addr.parse().unwrap();
        assert_eq!(net.client.peer_addr(client), Ok(addr));
        assert_eq!(net.server.local_addr(server), Ok(addr));
        let peer = net.server.peer_addr(server);
        assert_eq!(peer, net.client.local_addr(client));
        let told = net.take_events(0);
        assert!(told.iter().any(|e| e.fd == listener && e.token == 1));
        assert_eq!(net.told(1, client), Ready::WRITE);
        assert_eq!(net.server.accept(listener, net.now), Err(Errno::WouldBlock));
    }
}

#[test]
fn the_number_on_the_wire_is_the_keyed_hash() {
    // What the shard computes is private to it, but its property shows: the
    // numbers of one 4-tuple grow by one each 4 µs, those of two differ.
    let mut net = Net::new();
    net.listen(&ListenOptions::default());
    let isn = |port: u16, net: &mut Net| {
        let raw = Raw::new(port);
        let answer = net.inject(raw.frame(TcpControl::Syn, 1_000, None, PLAIN));
        let isn = answer[0].seq;
        // Given up, so that the next SYN begins anew.
        net.inject(raw.frame(TcpControl::Rst, 1_001, None, PLAIN));
        isn
    };
    let (a, other) = (isn(5_000, &mut net), isn(5_001, &mut net));
    net.now = net.now + Duration::from_micros(4_000);
    let b = isn(5_000, &mut net);
    assert_eq!(b.wrapping_sub(a), 1_000);
    assert_ne!(a, other);
    assert_eq!(net.count(0, "half_open_reset"), 3);
    assert_eq!(net.count(0, "connections"), 0);
}

#[test]
fn syns_beyond_the_backlog_are_dropped_and_tried_again() {
    let mut net = Net::new();
    let options = ListenOptions {
        syn_backlog: 3,
        ..ListenOptions::default()
    };
    net.listen(&options);
    for port in 0..5 {
        let raw = Raw::new(5_000 + port);
        let answers = net.inject(raw.frame(TcpControl::Syn, 1_000, None, PLAIN));
        assert_eq!(answers.len(), usize::from(port < 3), "SYN {port}");
    }
    assert_eq!(net.count(0, "syn_backlog_full"), 2);
    assert_eq!(net.count(0, "half_open"), 3);
}

#[test]
fn a_final_ack_waits_for_room_in_the_accept_queue() {
    let mut net = Net::new();
    let options = ListenOptions {
        backlog: 1,
        ..ListenOptions::default()
    };
    let listener = net.listen(&options);
    // Both handshakes begin while there is room.
    let (first, second) = (Raw::new(5_000), Raw::new(5_001));
    let a = net.inject(first.frame(TcpControl::Syn, 1_000, None, PLAIN))[0].seq + 1;
    let b = net.inject(second.frame(TcpControl::Syn, 1_000, None, PLAIN))[0].seq + 1;
    net.inject(first.frame(TcpControl::None, 1_001, Some(a), PLAIN));
    net.inject(second.frame(TcpControl::None, 1_001, Some(b), PLAIN));
    assert_eq!(net.count(0, "accept_queue_full"), 1);
    assert_eq!(net.count(0, "half_open"), 1);
    let third = Raw::new(5_002);
    assert!(
        net.inject(third.frame(TcpControl::Syn, 1_000, None, PLAIN))
            .is_empty()
    );
    net.server.accept(listener, net.now).unwrap();
    // The SYN-ACK comes again by itself, and the ACK is taken now.
    net.now = net.now + Duration::from_millis(1_100);
    net.wire.sent(0);
    net.poll(0);
    net.flush(0);
    let peer = (second.mac, "10.0.0.9/24");
    let again = segments(peer, &net.wire.sent(0));
    assert_eq!((again.len(), again[0].seq.wrapping_add(1)), (1, b));
    net.inject(second.frame(TcpControl::None, 1_001, Some(b), PLAIN));
    assert!(net.server.accept(listener, net.now).is_ok());
}

#[test]
fn half_open_connections_end() {
    let mut net = Net::new();
    net.listen(&ListenOptions::default());
    net.inject(Raw::new(5_000).frame(TcpControl::Syn, 1_000, None, PLAIN));
    net.advance(Duration::from_secs(62));
    assert_eq!(net.count(0, "half_open"), 1);
    let frames = segments((Raw::new(1).mac, "10.0.0.9/24"), &net.wire.sent(0));
    assert_eq!(frames.len(), 5, "retransmissions of the SYN-ACK");
    net.advance(Duration::from_secs(5));
    assert_eq!(net.count(0, "half_open_expired"), 1);
    assert_eq!(net.count(0, "connections"), 0);
}

#[test]
fn closing_a_listener_resets_who_was_not_accepted() {
    let mut net = Net::new();
    let listener = net.listen(&ListenOptions::default());
    let client = net.dial(SERVER);
    net.inject(Raw::new(5_000).frame(TcpControl::Syn, 1_000, None, PLAIN));
    assert_eq!(net.count(0, "connections"), 2);
    net.server.close(listener, net.now).unwrap();
    net.settle();
    assert_eq!(net.read(1, client, 10), Err(Errno::ConnectionReset));
    assert_eq!(net.count(0, "connections"), 0);
    assert_eq!(net.count(0, "half_open"), 0);
    assert_eq!(net.server.accept(listener, net.now), Err(Errno::BadFd));
    // The port is free again.
    net.listen(&ListenOptions::default());
}

#[test]
fn a_descriptor_outlives_its_connection_only_as_an_error() {
    let mut net = Net::new();
    let (listener, server, client) = net.connected();
    net.server.abort(server, net.now).unwrap();
    net.settle();
    assert_eq!(net.client.close(client, net.now), Ok(()));
    let client = net.dial(SERVER);
    let (next, _) = net.server.accept(listener, net.now).unwrap();
    assert_eq!(next.slot(), server.slot(), "the slot is used again");
    let now = net.now;
    assert_eq!(net.read(0, server, 1), Err(Errno::BadFd));
    assert_eq!(net.write(0, server, b"x"), Err(Errno::BadFd));
    assert_eq!(net.server.close(server, now), Err(Errno::BadFd));
    assert_eq!(net.server.register(server, 9), Err(Errno::BadFd));
    assert_eq!(net.write(0, next, b"x"), Ok(1));
    net.settle();
    assert_eq!(net.read(1, client, 9).unwrap(), b"x");
    assert_eq!(net.server.accept(next, now), Err(Errno::Invalid));
    assert_eq!(
        net.server.read(listener, &mut [0], now),
        Err(Errno::Invalid)
    );
}

#[test]
fn addresses_are_taken_once_and_ports_are_found() {
    let net = Net::new();
    let options = ListenOptions::default();
    let listen = |addr: &str| net.server.listen(addr.parse().unwrap(), &options);
    listen("10.0.0.1:80").unwrap();
    assert_eq!(listen("10.0.0.1:80"), Err(Errno::AddrInUse));
    assert_eq!(listen("0.0.0.0:80"), Err(Errno::AddrInUse));
    assert_eq!(listen("10.0.0.7:80"), Err(Errno::AddrNotAvailable));
    listen("[fd00::1]:80").unwrap();
    let free = listen("[::]:0").unwrap()[0];
    let port = net.server.local_addr(free).unwrap().port();
    assert!(port >= 49_152);
}

#[test]
fn what_would_end_a_live_connection_is_challenged() {
    let mut net = Net::new();
    let listener = net.listen(&ListenOptions::default());
    let raw = Raw::new(5_000);
    let next = net.raw_handshake(&raw, None);
    let (fd, _) = net.server.accept(listener, net.now).unwrap();
    let answer = net.inject(raw.frame(TcpControl::Syn, 77_000, None, PLAIN));
    assert_eq!(answer.len(), 1);
    assert_eq!(
        (answer[0].flags, answer[0].seq, answer[0].ack),
        (TcpFlags::ACK, next, 1_001)
    );
    // Once a second at most.
    assert!(
        net.inject(raw.frame(TcpControl::Syn, 77_000, None, PLAIN))
            .is_empty()
    );
    // A reset that only guessed the window is challenged too.
    net.now = net.now + Duration::from_secs(2);
    let answer = net.inject(raw.frame(TcpControl::Rst, 1_005, None, PLAIN));
    assert_eq!((answer[0].flags, answer[0].ack), (TcpFlags::ACK, 1_001));
    assert_eq!(net.state(0, fd), "ESTABLISHED");
    // A peer that lost the connection then resets it.
    net.inject(raw.frame(TcpControl::Rst, 1_001, None, PLAIN));
    assert_eq!(net.read(0, fd, 1), Err(Errno::ConnectionReset));
}

#[test]
fn ten_thousand_flows_are_told_apart() {
    let mut net = Net::new();
    let options = ListenOptions {
        backlog: 20_000,
        syn_backlog: 20_000,
        recv_buffer: 4_096,
        send_buffer: 4_096,
    };
    let listener = net.listen(&options);
    let mut peers = Vec::new();
    for i in 0..10_000u16 {
        let mut raw = Raw::new(2_000 + i % 5_000);
        if i >= 5_000 {
            raw.local.set_ip(IpAddr::from([10, 0, 0, 10]));
        }
        let frame = raw.frame(TcpControl::Syn, 1_000, None, PLAIN);
        net.wire.state().toward[0].push_back(frame);
        peers.push(raw);
    }
    net.settle();
    let syn_acks = net.wire.sent(0);
    let mut acks = Vec::new();
    for (raw, frame) in peers.iter().zip(&syn_acks) {
        let who = format!("{}/24", raw.local.ip());
        let syn_ack = &segments((raw.mac, &who), std::slice::from_ref(frame))[0];
        assert_eq!(syn_ack.dst_port, raw.local.port());
        let next = syn_ack.seq.wrapping_add(1);
        let name = raw.local.to_string();
        let more = More {
            payload: name.as_bytes(),
            ..PLAIN
        };
        acks.push(raw.frame(TcpControl::Psh, 1_001, Some(next), more));
    }
    net.wire.state().toward[0].extend(acks);
    net.settle();
    assert_eq!(net.count(0, "established"), 10_000);
    for raw in &peers {
        let (fd, peer) = net.server.accept(listener, net.now).unwrap();
        assert_eq!(peer, raw.local);
        assert_eq!(
            net.read(0, fd, 100).unwrap(),
            raw.local.to_string().as_bytes()
        );
    }
}

/// Beside the host's own stack: what is for our port is answered at once, the
/// host's is left to it, and nothing is asked whose answer it would get.
#[test]
fn with_shared_addresses_only_connections_are_taken() {
    let wire = Wire::new();
    let addrs = ["10.0.0.1/24", "fd00::1/64"].map(|addr| addr.parse().unwrap());
    let mut config = Config::new(SERVER_MAC, addrs.to_vec());
    config.shared_addrs = true;
    config.name_servers = vec!["10.0.0.53:53".parse().unwrap()];
    let server = Stack::new(config, vec![wire.end(0)]).unwrap();
    let mut net = Net::new();
    let client = std::mem::replace(&mut net.wire, wire.clone());
    drop(client);
    net.server = server;
    net.now = net.now + Duration::from_secs(1);
    let now = net.now;

    for remote in ["10.0.0.9:80", "[fd00::9]:80"] {
        let refused = net.server.connect(0, remote.parse().unwrap(), now);
        assert_eq!(refused.unwrap_err(), Errno::NotSupported);
    }
    let options = crate::UdpOptions::default();
    let refused = net.server.udp_bind("0.0.0.0:53".parse().unwrap(), &options);
    assert_eq!(refused.unwrap_err(), Errno::NotSupported);

    net.server.poll(0, now, 64, &mut Vec::new());
    assert!(
        net.wire.sent(0).is_empty(),
        "it neither probes nor announces"
    );
    net.listen(&ListenOptions::default());
    for peer in [5_000, 5_001] {
        let raw = Raw::new(peer);
        net.raw_handshake(&raw, None);
    }
    net.server
        .poll(0, now + Duration::from_secs(9), 64, &mut Vec::new());
    let sent = net.wire.sent(0);
    let is_tcp = |frame: &Vec<u8>| frame[12..14] == [8, 0] && frame[23] == 6;
    assert!(sent.iter().all(is_tcp), "no ARP, no neighbour discovery");
}

#[test]
fn the_number_of_a_capture_is_taken_where_it_has_one() {
    let opening = |given: crate::Given, port: u16| {
        let mut net = Net::new();
        let mut config = Config::new(SERVER_MAC, vec!["10.0.0.1/24".parse().unwrap()]);
        config.given = Some(given);
        net.server = Stack::new(config, vec![net.wire.end(0)]).unwrap();
        net.advance(Duration::from_secs(5));
        net.listen(&ListenOptions::default());
        let raw = Raw::new(port);
        let answer = net.inject(raw.frame(TcpControl::Syn, 1_000, None, PLAIN));
        answer[0].seq
    };
    let given = crate::Given {
        key: [7; 16],
        isn: std::sync::Arc::new(|local, remote, seq| {
            assert_eq!((local.port(), seq), (80, 1_000));
            (remote.port() == 5_000).then_some(0xdead_beef)
        }),
    };
    assert_eq!(opening(given.clone(), 5_000), 0xdead_beef);
    // The others' numbers come from the key, the same each time.
    let other = opening(given.clone(), 5_001);
    assert_eq!(other, opening(given.clone(), 5_001));
    let key = [8; 16];
    assert_ne!(other, opening(crate::Given { key, ..given }, 5_001));
}
