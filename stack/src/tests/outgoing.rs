//! Connections that we open.

use super::*;

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
fn ports_differ_and_are_dynamic() {
    let mut net = Net::new();
    net.listen(&ListenOptions::default());
    let mut ports = std::collections::HashSet::new();
    for _ in 0..200 {
        let fd = net.dial(SERVER);
        let port = net.client.local_addr(fd).unwrap().port();
        assert!(port >= 49_152 && ports.insert(port));
    }
}
