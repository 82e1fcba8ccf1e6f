use super::*;

/// A response to a query, as a server writes it.
pub(crate) struct Reply {
    message: Vec<u8>,
    answers: u16,
}

impl Reply {
    /// Answers `query`, which it quotes, with an rcode.
    pub(crate) fn to(query: &[u8], rcode: u8) -> Reply {
        let mut message = query.to_vec();
        message[2] |= 0x80;
        message[3] = 0x80 | rcode;
        Reply {
            message,
            answers: 0,
        }
    }

    /// Adds a record of a type for a name, none for the question's.
    pub(crate) fn record(mut self, owner: Option<&str>, kind: u16, data: &[u8]) -> Reply {
        match owner {
            Some(owner) => self.message.extend(wire(owner)),
            None => self.message.extend([0xc0, 12]),
        }
        self.message.extend(kind.to_be_bytes());
        self.message.extend([0, 1, 0, 0, 0, 60]);
        let len = u16::try_from(data.len()).unwrap();
        self.message.extend(len.to_be_bytes());
        self.message.extend(data);
        self.answers += 1;
        self
    }

    pub(crate) fn addr(self, owner: Option<&str>, addr: &str) -> Reply {
        match addr.parse().unwrap() {
            IpAddr::V4(addr) => self.record(owner, 1, &addr.octets()),
            IpAddr::V6(addr) => self.record(owner, 28, &addr.octets()),
        }
    }

    pub(crate) fn alias(self, owner: Option<&str>, target: &str) -> Reply {
        self.record(owner, 5, &wire(target))
    }

    pub(crate) fn done(mut self) -> Vec<u8> {
        self.message[6..8].copy_from_slice(&self.answers.to_be_bytes());
        self.message
    }
}

/// A name on the wire.
pub(crate) fn wire(name: &str) -> Vec<u8> {
    Name::parse(name).unwrap().0
}

fn name() -> Name {
    Name::parse("www.example.org").unwrap()
}

fn read(message: &[u8]) -> Option<Answer> {
    answer(message, 77, &name(), DnsQueryType::A)
}

fn addrs(list: &[&str]) -> Option<Answer> {
    let list = list.iter().map(|addr| addr.parse().unwrap());
    Some(Answer::Addresses(list.collect()))
}

#[test]
fn names_that_can_be() {
    assert_eq!(wire("WWW.Example.org."), b"\x03www\x07example\x03org\0");
    let long = ["a".repeat(63).as_str(); 3].join(".");
    assert!(Name::parse(&format!("{long}.{}", "b".repeat(61))).is_some());
    for bad in [
        "",
        ".",
        "a..b",
        ".a",
        "a b",
        "é.org",
        "a..",
        &"a".repeat(64),
        &format!("{long}.{}", "b".repeat(62)),
    ] {
        assert_eq!(Name::parse(bad), None, "{bad}");
    }
}

#[test]
fn a_query_asks_for_recursion() {
    let message = query(77, &name(), DnsQueryType::Aaaa);
    assert_eq!(&message[..12], [0, 77, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(&message[12..], b"\x03www\x07example\x03org\0\0\x1c\0\x01");
}

#[test]
fn answers_are_read() {
    let query = query(77, &name(), DnsQueryType::A);
    let reply = |rcode| Reply::to(&query, rcode);
    let (www, cdn) = (Some("www.example.org"), Some("cdn.example.net"));
    for (what, message, want) in [
        ("none", reply(0).done(), addrs(&[])),
        (
            "two",
            reply(0)
                .addr(None, "192.0.2.1")
                .addr(www, "192.0.2.2")
                .done(),
            addrs(&["192.0.2.1", "192.0.2.2"]),
        ),
        (
            "another's, and another kind",
            reply(0).addr(cdn, "192.0.2.1").addr(None, "fd00::1").done(),
            addrs(&[]),
        ),
        (
            "an alias, in either order",
            reply(0)
                .addr(cdn, "192.0.2.9")
                .alias(None, "CDN.example.net")
                .done(),
            addrs(&["192.0.2.9"]),
        ),
        (
            "an alias of unknown address",
            reply(0).alias(None, "cdn.example.net").done(),
            Some(Answer::Alias(Name::parse("cdn.example.net").unwrap())),
        ),
        (
            "an alias of itself",
            reply(0).alias(None, "www.example.org").done(),
            Some(Answer::Refused),
        ),
        ("no such name", reply(3).done(), Some(Answer::NoSuchName)),
        ("server failure", reply(2).done(), Some(Answer::Refused)),
        ("refused", reply(5).done(), Some(Answer::Refused)),
    ] {
        assert_eq!(read(&message), want, "{what}");
    }
}

#[test]
fn an_answer_cut_short_counts_with_what_it_has() {
    let query = query(77, &name(), DnsQueryType::A);
    let mut cut = Reply::to(&query, 0)
        .addr(None, "192.0.2.1")
        .addr(None, "192.0.2.2")
        .done();
    cut[2] |= 2;
    cut.truncate(cut.len() - 5);
    assert_eq!(read(&cut), addrs(&["192.0.2.1"]));
    let mut empty = Reply::to(&query, 0).done();
    empty[2] |= 2;
    assert_eq!(read(&empty), Some(Answer::Refused));
}

#[test]
fn what_is_no_answer_to_the_question_is_ignored() {
    let query = query(77, &name(), DnsQueryType::A);
    let good = Reply::to(&query, 0).addr(None, "192.0.2.1").done();
    assert_eq!(read(&good), addrs(&["192.0.2.1"]));
    let changed = |at: usize, byte: u8| {
        let mut message = good.clone();
        message[at] = byte;
        message
    };
    for (what, message) in [
        ("another id", changed(1, 78)),
        ("a query", changed(2, 1)),
        ("another opcode", changed(2, 0x90)),
        ("two questions", changed(5, 2)),
        ("no question", changed(5, 0)),
        ("another name", changed(13, b'x')),
        ("another kind", changed(30, 28)),
        ("another class", changed(32, 3)),
        ("a pointer to itself", changed(34, 33)),
        ("a pointer out of the message", changed(33, 0xff)),
    ] {
        assert_eq!(read(&message), None, "{what}");
    }
    for len in 0..33 {
        assert_eq!(read(&good[..len]), None, "{len} bytes");
    }
}

#[test]
fn random_damage_does_no_harm() {
    let query = query(77, &name(), DnsQueryType::A);
    let good = Reply::to(&query, 0)
        .alias(None, "cdn.example.net")
        .addr(Some("cdn.example.net"), "192.0.2.1")
        .done();
    let mut random = crate::neighbor::Random::new(0xd15);
    let mut read_some = 0;
    for _ in 0..20_000 {
        let mut message = good.clone();
        for _ in 0..1 + random.below(4) {
            let at = random.below(message.len() as u64) as usize;
            message[at] = random.next() as u8;
        }
        message.truncate(random.below(message.len() as u64 * 4) as usize);
        read_some += usize::from(read(&message).is_some());
    }
    assert!(read_some > 100, "{read_some}");
}
