//! Name lookups.

use super::outgoing::icmp_error;
use super::*;
use crate::dns::tests::Reply;
use crate::udp::Outgoing;
use crate::{Family, UdpOptions};

/// A net whose server side answers names, its socket there, and a lookup.
struct Names {
    net: Net,
    server: Fd,
    lookup: Fd,
}

impl Names {
    fn new(servers: &[&str], family: Family) -> Names {
        let mut net = Net::with_name_servers(servers);
        let any = "0.0.0.0:53".parse().unwrap();
        let server = net.server.udp_bind(any, &UdpOptions::default()).unwrap()[0];
        let lookup = net.client.dns_query(0, "www.example.org", family, net.now);
        let lookup = lookup.unwrap();
        assert_eq!(net.client.register(lookup, 5), Ok(Ready::empty()));
        net.settle();
        Names {
            net,
            server,
            lookup,
        }
    }

    /// The queries that came to the server: message and sender.
    fn queries(&self) -> Vec<(Vec<u8>, SocketAddr)> {
        std::iter::from_fn(|| self.net.recv(0, self.server).ok()).collect()
    }

    #[track_caller]
    fn query(&self) -> (Vec<u8>, SocketAddr) {
        let [query] = self.queries().try_into().unwrap();
        query
    }

    fn reply(&mut self, to: SocketAddr, message: &[u8]) {
        let (net, fd) = (&mut self.net, self.server);
        net.server
            .udp_send_to(fd, message, Some(to), net.now)
            .unwrap();
        net.settle();
    }

    fn result(&self) -> Result<Vec<String>, Errno> {
        let addrs = self.net.client.dns_result(self.lookup)?;
        Ok(addrs.iter().map(IpAddr::to_string).collect())
    }

    /// The lookup ended and said so.
    #[track_caller]
    fn assert_ended(&mut self, want: Result<&[&str], Errno>) {
        let want = want.map(|addrs| addrs.iter().map(|a| (*a).to_owned()).collect());
        assert_eq!(self.result(), want);
        assert_eq!(self.net.told(1, self.lookup), Ready::READ);
        let (net, fd) = (&self.net, self.lookup);
        assert_eq!(net.client.register(fd, 5), Ok(Ready::READ));
        net.client.close(fd, net.now).unwrap();
        assert_eq!(net.client.dns_result(fd), Err(Errno::BadFd));
        assert_eq!(net.count(1, "lookups"), 0);
    }
}

const SERVER_53: &str = "10.0.0.1:53";

#[test]
fn a_name_is_asked_for_in_both_families() {
    for server in [SERVER_53, "[fd00::1]:53"] {
        let mut names = Names::new(&[server], Family::Any);
        let queries = names.queries();
        assert_eq!(queries.len(), 2);
        assert_ne!(queries[0].1.port(), queries[1].1.port());
        assert_eq!(names.result(), Err(Errno::WouldBlock));
        for (query, from) in &queries {
            let is_v6 = query[query.len() - 3] == 28;
            let addr = if is_v6 { "fd00::7" } else { "10.0.0.7" };
            let reply = Reply::to(query, 0).addr(None, addr).done();
            names.reply(*from, &reply);
        }
        names.assert_ended(Ok(&["fd00::7", "10.0.0.7"]));
        assert_eq!(names.net.count(1, "dns_answers"), 2);
    }
}

#[test]
fn addresses_without_a_route_come_last() {
    let mut names = Names::new(&[SERVER_53], Family::Any);
    for (query, from) in names.queries() {
        let is_v6 = query[query.len() - 3] == 28;
        let addr = if is_v6 { "2001:db8::7" } else { "10.0.0.7" };
        names.reply(from, &Reply::to(&query, 0).addr(None, addr).done());
    }
    names.assert_ended(Ok(&["10.0.0.7", "2001:db8::7"]));
}

#[test]
fn a_family_alone_is_asked_for_alone() {
    for (family, addr) in [(Family::Ipv4, "10.0.0.7"), (Family::Ipv6, "fd00::7")] {
        let mut names = Names::new(&[SERVER_53], family);
        let (query, from) = names.query();
        names.reply(from, &Reply::to(&query, 0).addr(None, addr).done());
        names.assert_ended(Ok(&[addr]));
    }
}

#[test]
fn aliases_are_followed_through_another_question() {
    let mut names = Names::new(&[SERVER_53], Family::Ipv4);
    let (query, from) = names.query();
    names.reply(
        from,
        &Reply::to(&query, 0).alias(None, "cdn.example.net").done(),
    );
    let (query, again) = names.query();
    assert!(query.windows(4).any(|part| part == b"\x03cdn"));
    assert_ne!(from.port(), again.port());
    names.reply(again, &Reply::to(&query, 0).addr(None, "10.0.0.7").done());
    names.assert_ended(Ok(&["10.0.0.7"]));
}

#[test]
fn aliases_without_end_are_given_up() {
    let mut names = Names::new(&[SERVER_53], Family::Ipv4);
    let mut asked = 0;
    while let Some((query, from)) = names.queries().pop() {
        let target = format!("n{asked}.example.net");
        names.reply(from, &Reply::to(&query, 0).alias(None, &target).done());
        asked += 1;
        assert!(asked < 100, "a chain of aliases is bounded");
    }
    names.assert_ended(Err(Errno::NameServerFailed));
}

#[test]
fn what_a_server_says_decides() {
    for (rcode, addr, want) in [
        (3, None, Err(Errno::NameNotFound)),
        (0, None, Err(Errno::NameNotFound)),
        (2, None, Err(Errno::NameServerFailed)),
        (5, None, Err(Errno::NameServerFailed)),
        (0, Some("10.0.0.7"), Ok(&["10.0.0.7"][..])),
    ] {
        let mut names = Names::new(&[SERVER_53], Family::Ipv4);
        let mut rounds = 0;
        while let Some((query, from)) = names.queries().pop() {
            let mut reply = Reply::to(&query, rcode);
            if let Some(addr) = addr {
                reply = reply.addr(None, addr);
            }
            names.reply(from, &reply.done());
            rounds += 1;
        }
        let is_final = rcode == 0 || rcode == 3;
        assert_eq!(rounds, if is_final { 1 } else { 3 }, "rcode {rcode}");
        names.assert_ended(want);
    }
}

#[test]
fn a_silent_server_is_asked_thrice_with_other_ids_and_ports() {
    let mut names = Names::new(&[SERVER_53], Family::Ipv4);
    names.net.advance(Duration::from_millis(6_900));
    assert_eq!(names.result(), Err(Errno::WouldBlock));
    let queries = names.queries();
    assert_eq!(queries.len(), 3);
    let mut ids: Vec<(u16, &[u8])> = queries.iter().map(|(q, f)| (f.port(), &q[..2])).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    // The answer to a message that was given up comes to a closed port.
    let (query, from) = &queries[0];
    names.reply(*from, &Reply::to(query, 0).addr(None, "10.0.0.7").done());
    assert_eq!(names.result(), Err(Errno::WouldBlock));
    names.net.advance(Duration::from_millis(200));
    names.assert_ended(Err(Errno::TimedOut));
    assert_eq!(names.net.count(1, "dns_failed"), 1);
    assert_eq!(
        names
            .net
            .client
            .next_event(0)
            .filter(|at| *at <= names.net.now),
        None
    );
}

#[test]
fn the_next_server_is_asked_when_one_is_silent_or_not_there() {
    // The first has no service there: it is passed over when it says so.
    let mut names = Names::new(&["10.0.0.1:54", SERVER_53], Family::Ipv4);
    let (query, from) = names.query();
    names.reply(from, &Reply::to(&query, 0).addr(None, "10.0.0.7").done());
    names.assert_ended(Ok(&["10.0.0.7"]));
    // The first does not even have a station.
    let mut names = Names::new(&["10.0.0.77:53", SERVER_53], Family::Ipv4);
    assert_eq!(names.queries(), []);
    names.net.advance(Duration::from_millis(1_100));
    let (query, from) = names.query();
    names.reply(from, &Reply::to(&query, 0).addr(None, "10.0.0.7").done());
    names.assert_ended(Ok(&["10.0.0.7"]));
    // Nobody can be reached: no need to wait for all rounds.
    let mut names = Names::new(&["10.0.0.77:53", "192.0.2.1:53"], Family::Any);
    names.net.advance(Duration::from_secs(5));
    let failed = names.result().unwrap_err();
    let kinds = [Errno::HostUnreachable, Errno::NetworkUnreachable];
    assert!(kinds.contains(&failed), "{failed}");
}

#[test]
fn forged_answers_are_ignored() {
    let mut names = Names::new(&[SERVER_53, "10.0.0.9:53"], Family::Ipv4);
    let (query, to) = names.query();
    let evil = Reply::to(&query, 0).addr(None, "10.0.0.66").done();
    let edit = |at: usize, byte: u8| {
        let mut message = evil.clone();
        message[at] ^= byte;
        message
    };
    let port = SocketAddr::new(to.ip(), to.port() ^ 1);
    for (what, from, to, message) in [
        ("another id", SERVER_53, to, edit(1, 1)),
        ("another question", SERVER_53, to, edit(14, 1)),
        ("another type", SERVER_53, to, edit(query.len() - 3, 1)),
        ("a query", SERVER_53, to, edit(2, 0x80)),
        ("another server", "10.0.0.9:53", to, evil.clone()),
        ("a stranger", "10.0.0.8:53", to, evil.clone()),
        (
            "another port of the server",
            "10.0.0.1:54",
            to,
            evil.clone(),
        ),
        ("another port of ours", SERVER_53, port, evil.clone()),
        ("a cut one", SERVER_53, to, evil[..20].to_vec()),
        ("an empty one", SERVER_53, to, Vec::new()),
    ] {
        let datagram = Outgoing {
            src: from.parse().unwrap(),
            dst: to,
            data: &message,
        };
        let mut frame = vec![0; datagram.frame_len()];
        datagram.emit(&mut frame, MacAddr([2, 0, 0, 0, 0, 8]), CLIENT_MAC);
        names.net.inject_to_client(frame);
        assert_eq!(names.result(), Err(Errno::WouldBlock), "{what}");
    }
    assert_eq!(names.net.count(1, "dns_ignored"), 9);
    // The true one still counts.
    names.reply(to, &Reply::to(&query, 0).addr(None, "10.0.0.7").done());
    names.assert_ended(Ok(&["10.0.0.7"]));
}

#[test]
fn lookups_that_cannot_begin() {
    let net = Net::new();
    let ask = |net: &Net, name: &str| net.client.dns_query(0, name, Family::Any, net.now);
    assert_eq!(ask(&net, "www.example.org"), Err(Errno::NoNameServer));
    let net = Net::with_name_servers(&[SERVER_53]);
    for name in ["", "a..b", "with space.org", &"a".repeat(64)] {
        assert_eq!(ask(&net, name), Err(Errno::NameNotFound), "{name}");
    }
    let fds: Vec<Fd> = (0..1_024).map(|_| ask(&net, "a.org").unwrap()).collect();
    assert_eq!(ask(&net, "a.org"), Err(Errno::NoBuffers));
    net.client.close(fds[0], net.now).unwrap();
    assert!(ask(&net, "a.org").is_ok());
}

#[test]
fn a_lookup_given_up_leaves_nothing() {
    let mut names = Names::new(&[SERVER_53], Family::Any);
    let (net, fd) = (&mut names.net, names.lookup);
    net.client.close(fd, net.now).unwrap();
    assert_eq!(net.count(1, "lookups"), 0);
    net.wire.sent(1);
    net.advance(Duration::from_secs(20));
    assert_eq!(net.count(1, "dns_queries"), 2);
}

#[test]
fn a_lost_device_ends_a_lookup() {
    let mut names = Names::new(&[SERVER_53], Family::Any);
    names.net.wire.state().broken[1] = true;
    names.net.settle();
    names.assert_ended(Err(Errno::NetworkDown));
    let again = names
        .net
        .client
        .dns_query(0, "a.org", Family::Any, names.net.now);
    assert_eq!(again, Err(Errno::NetworkDown));
}

#[test]
fn senseless_name_servers_are_refused() {
    let addrs = vec!["10.0.0.2/24".parse().unwrap()];
    let config = Config::new(CLIENT_MAC, addrs);
    for servers in [
        &["0.0.0.0:53"][..],
        &["10.0.0.1:0"],
        &["224.0.0.1:53"],
        &["10.0.0.1:53"; 4],
    ] {
        let mut config = config.clone();
        config.name_servers = servers.iter().map(|s| s.parse().unwrap()).collect();
        let made = Stack::new(config, vec![Wire::new().end(1)]);
        assert!(made.is_err(), "{servers:?}");
    }
}

/// Damaged answers, ICMP errors and datagrams: nothing panics, nothing leaks, and
/// the true answer still counts.
#[test]
fn damaged_frames_do_a_lookup_no_harm() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let mut names = Names::new(&[SERVER_53], Family::Ipv4);
        let (query, to) = names.query();
        let good = Reply::to(&query, 0)
            .alias(None, "cdn.example.net")
            .addr(Some("cdn.example.net"), "10.0.0.66")
            .done();
        let answer = Outgoing {
            src: SERVER_53.parse().unwrap(),
            dst: to,
            data: &good,
        };
        let mut answered = vec![0; answer.frame_len()];
        answer.emit(&mut answered, SERVER_MAC, CLIENT_MAC);
        let sent = Outgoing {
            src: to,
            dst: SERVER_53.parse().unwrap(),
            data: &query,
        };
        let mut asked = vec![0; sent.frame_len()];
        sent.emit(&mut asked, CLIENT_MAC, SERVER_MAC);
        for _ in 0..500 {
            let mut frame = match random.below(2) {
                0 => answered.clone(),
                _ => icmp_error(random.below(16) as u8, &asked, |quoted| {
                    // Of no port of ours.
                    quoted[20] ^= 1;
                    quoted.truncate(random.below(quoted.len() + 1).max(20));
                }),
            };
            for _ in 0..1 + random.below(4) {
                let at = random.below(frame.len());
                frame[at] ^= 1 << random.below(8);
            }
            frame.truncate(1 + random.below(2 * frame.len()));
            names.net.inject_to_client(frame);
            names.net.flush(1);
        }
        // Damage that cancels out in the checksum may have ended it; it ends in
        // any case, and the next one is not hurt.
        names.net.advance(Duration::from_secs(8));
        assert_ne!(names.result(), Err(Errno::WouldBlock), "seed {seed}");
        let net = &mut names.net;
        net.client.close(names.lookup, net.now).unwrap();
        assert_eq!(net.count(1, "lookups"), 0);
        names.queries();
        let net = &mut names.net;
        let again = net
            .client
            .dns_query(0, "www.example.org", Family::Ipv4, net.now);
        names.lookup = again.unwrap();
        assert_eq!(net.client.register(names.lookup, 5), Ok(Ready::empty()));
        net.settle();
        let (query, to) = names.query();
        names.reply(to, &Reply::to(&query, 0).addr(None, "10.0.0.7").done());
        names.assert_ended(Ok(&["10.0.0.7"]));
    }
}
