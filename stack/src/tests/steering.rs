//! A client of two queues, whose device gives it every frame on the other one
//! than it sends on.

use super::outgoing::icmp_error;
use super::*;
use crate::dns::tests::Reply;
use crate::{Family, UdpOptions};

/// The client sends on the first wire, which the server is at; what the server
/// sends comes to the client on the second.
struct Crossed {
    /// Queues of the client.
    wires: [Wire; 2],
    server: Stack,
    client: Stack,
    now: Nanos,
    events: Vec<Event>,
}

impl Crossed {
    fn new() -> Crossed {
        let wires = [Wire::new(), Wire::new()];
        let config = |mac, addrs: [&str; 2]| {
            let addrs = addrs.iter().map(|addr| addr.parse().unwrap());
            let mut config = Config::new(mac, addrs.collect());
            config.name_servers = vec!["10.0.0.1:53".parse().unwrap()];
            config
        };
        let server = config(SERVER_MAC, ["10.0.0.1/24", "fd00::1/64"]);
        let client = config(CLIENT_MAC, ["10.0.0.2/24", "fd00::2/64"]);
        let ends = wires.iter().map(|wire| wire.end(1)).collect();
        let mut net = Crossed {
            server: Stack::new(server, vec![wires[0].end(0)]).unwrap(),
            client: Stack::new(client, ends).unwrap(),
            wires,
            now: Nanos(1_000_000_000_000),
            events: Vec::new(),
        };
        for _ in 0..50 {
            net.now = net.now + Duration::from_millis(100);
            net.settle();
        }
        net
    }

    /// Moves frames until none moves.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            self.server.poll(0, self.now, 64, &mut Vec::new());
            self.server.flush(0, self.now);
            let arrived = std::mem::take(&mut self.wires[0].state().toward[1]);
            self.wires[1].state().toward[1].extend(arrived);
            for shard in [0, 1] {
                self.client.poll(shard, self.now, 64, &mut self.events);
                self.client.flush(shard, self.now);
            }
            // The second queue leads to the same link.
            let sent = std::mem::take(&mut self.wires[1].state().toward[0]);
            self.wires[0].state().toward[0].extend(sent);
            if self.wires.iter().all(Wire::is_quiet) {
                return;
            }
        }
        panic!("the wires never fell quiet");
    }

    fn told(&mut self, fd: Fd) -> Ready {
        let events = std::mem::take(&mut self.events);
        let of_fd = events.iter().filter(|e| e.fd == fd);
        of_fd.fold(Ready::empty(), |all, e| all | e.ready)
    }

    fn handed_over(&self) -> u64 {
        self.client.stats().get("handed_over").unwrap()
    }
}

#[test]
fn a_connection_gets_its_answers_from_the_other_queue() {
    for addr in [SERVER, SERVER_V6] {
        let mut net = Crossed::new();
        let any = "0.0.0.0:80".parse().unwrap();
        let listener = net.server.listen(any, &ListenOptions::default()).unwrap()[0];
        let fd = net
            .client
            .connect(0, addr.parse().unwrap(), net.now)
            .unwrap();
        net.client.register(fd, 3).unwrap();
        net.settle();
        assert_eq!(net.client.connect_result(fd), Ok(()));
        assert!(net.told(fd).contains(Ready::WRITE));
        let (peer, _) = net.server.accept(listener, net.now).unwrap();
        net.server.write(peer, b"hello", net.now).unwrap();
        net.settle();
        assert_eq!(net.told(fd), Ready::READ);
        let mut buf = [0; 8];
        assert_eq!(net.client.read(fd, &mut buf, net.now), Ok(5));
        assert!(net.handed_over() >= 2);
        assert_eq!(net.client.stats().get("no_flow"), Some(0));
    }
}

#[test]
fn a_closed_port_still_refuses() {
    let mut net = Crossed::new();
    let fd = net
        .client
        .connect(0, SERVER.parse().unwrap(), net.now)
        .unwrap();
    net.settle();
    let refused = Err(Errno::ConnectionRefused);
    assert_eq!(net.client.connect_result(fd), refused);
    // And the other way: what no shard of the client knows is answered.
    let to = "10.0.0.2:80".parse().unwrap();
    let fd = net.server.connect(0, to, net.now).unwrap();
    net.settle();
    assert_eq!(net.server.connect_result(fd), refused);
    assert_eq!(net.client.stats().get("no_flow_resets"), Some(1));
}

#[test]
fn a_lookup_gets_its_answer_from_the_other_queue() {
    let mut net = Crossed::new();
    let any = "0.0.0.0:53".parse().unwrap();
    let server = net.server.udp_bind(any, &UdpOptions::default()).unwrap()[0];
    let fd = net
        .client
        .dns_query(0, "www.example.org", Family::Ipv4, net.now);
    let fd = fd.unwrap();
    net.client.register(fd, 5).unwrap();
    net.settle();
    let mut buf = [0; 512];
    let (len, _, from) = net.server.udp_recv_from(server, &mut buf).unwrap();
    let reply = Reply::to(&buf[..len], 0).addr(None, "10.0.0.7").done();
    net.server
        .udp_send_to(server, &reply, Some(from), net.now)
        .unwrap();
    net.settle();
    assert_eq!(net.told(fd), Ready::READ);
    assert_eq!(
        net.client.dns_result(fd),
        Ok(vec!["10.0.0.7".parse().unwrap()])
    );
}

#[test]
fn a_udp_socket_hears_on_every_queue() {
    let mut net = Crossed::new();
    let any = "0.0.0.0:53".parse().unwrap();
    let fds = net.client.udp_bind(any, &UdpOptions::default()).unwrap();
    assert_eq!(fds.len(), 2);
    assert_eq!(
        net.client.udp_bind(any, &UdpOptions::default()),
        Err(Errno::AddrInUse)
    );
    let server = net.server.udp_bind(any, &UdpOptions::default()).unwrap()[0];
    let to = "10.0.0.2:53".parse().unwrap();
    net.server
        .udp_send_to(server, b"x", Some(to), net.now)
        .unwrap();
    net.settle();
    let mut buf = [0; 8];
    assert_eq!(
        net.client.udp_recv_from(fds[0], &mut buf),
        Err(Errno::WouldBlock)
    );
    assert_eq!(net.client.udp_recv_from(fds[1], &mut buf).unwrap().0, 1);
    for fd in fds {
        net.client.close(fd, net.now).unwrap();
    }
    assert_eq!(net.client.stats().get("udp_sockets"), Some(0));
}

#[test]
fn an_icmp_error_finds_its_connection() {
    let mut net = Crossed::new();
    let fd = net
        .client
        .connect(0, SERVER.parse().unwrap(), net.now)
        .unwrap();
    // The SYN leaves when the neighbour is known, and is then lost.
    net.wires[0].lose(|side, frame| side == 1 && frame[23] == ip::TCP);
    net.wires[0].sent(1);
    net.settle();
    let syn = net.wires[0].sent(1).pop().unwrap();
    let error = icmp_error(1, &syn, |_| {});
    net.wires[1].state().toward[1].push_back(error);
    net.settle();
    assert_eq!(net.client.connect_result(fd), Err(Errno::HostUnreachable));
}

#[test]
fn a_flood_to_closed_ports_asks_the_other_shards_for_some_only() {
    let mut net = Crossed::new();
    let raw = Raw::new(5_000);
    let mut frame = raw.frame(TcpControl::None, 1, Some(1), PLAIN);
    // From the client's peer to the client.
    frame[..6].copy_from_slice(&CLIENT_MAC.0);
    frame[33] = 2;
    frame[24..26].fill(0);
    let checksum = crate::ip::checksum::Sum::of(&frame[14..34]).checksum();
    frame[24..26].copy_from_slice(&checksum);
    // The TCP checksum is off by the address, which it counts.
    let sum = u16::from_be_bytes([frame[50], frame[51]]);
    let sum = sum.checked_sub(1).unwrap_or(u16::MAX - 1);
    frame[50..52].copy_from_slice(&sum.to_be_bytes());
    for _ in 0..200 {
        net.wires[1].state().toward[1].push_back(frame.clone());
    }
    let turn = net.client.poll(1, net.now, 1_000, &mut net.events);
    assert!(turn.others);
    let stats = net.client.stats();
    assert_eq!(stats.get("no_flow"), Some(200));
    assert_eq!(stats.get("handed_over"), Some(0));
}
