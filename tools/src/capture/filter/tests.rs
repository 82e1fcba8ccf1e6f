use std::collections::BTreeSet;

use super::*;

#[derive(Default)]
struct Known {
    fd: Option<u32>,
    statuses: BTreeSet<u16>,
    routes: Vec<&'static str>,
    is_over: bool,
}

impl Connection for Known {
    fn fd(&self) -> Option<u32> {
        self.fd
    }
    fn was_answered(&self, statuses: &RangeInclusive<u16>) -> bool {
        self.statuses.range(statuses.clone()).next().is_some()
    }
    fn had_route(&self, pattern: &str) -> bool {
        self.routes.contains(&pattern)
    }
    fn is_over(&self) -> bool {
        self.is_over
    }
}

fn packet() -> Packet {
    Packet {
        direction: Direction::In,
        protocol: Protocol::Tcp,
        ends: Some((
            "10.0.0.1:50000".parse().unwrap(),
            "10.0.0.2:8080".parse().unwrap(),
        )),
        tcp: None,
    }
}

#[test]
fn tests_of_the_frame_itself() {
    for (text, want) in [
        ("host 10.0.0.1", Yes),
        ("host 10.0.0.3", No),
        ("net 10.0.0.0/8", Yes),
        ("net fd00::/8", No),
        ("port 8080", Yes),
        ("port 80-90", No),
        ("port 49999-50001", Yes),
        ("flow 10.0.0.1:50000", Yes),
        ("flow 10.0.0.1:50001", No),
        ("tcp and in", Yes),
        ("tcp and out", No),
        ("udp or arp or icmp", No),
        ("not udp", Yes),
        ("!udp && !(out || arp)", Yes),
        // `and` binds more closely.
        ("tcp or udp and out", Yes),
        ("(tcp or udp) and out", No),
    ] {
        let filter: Filter = text.parse().unwrap();
        assert_eq!(filter.judge_alone(&packet()), want, "{text}");
        assert!(!filter.asks_trace(), "{text}");
    }
}

#[test]
fn tests_of_the_connection_are_known_later() {
    let young = Known::default();
    let answered = Known {
        fd: Some(3),
        statuses: [200, 503].into(),
        routes: vec!["/users/{id}"],
        is_over: false,
    };
    let over = Known {
        is_over: true,
        statuses: [200].into(),
        ..Known::default()
    };
    for (text, wants) in [
        ("status 5xx", [NotYet, Yes, No]),
        ("status 503", [NotYet, Yes, No]),
        ("status 400-499", [NotYet, NotYet, No]),
        ("not status 200", [NotYet, No, No]),
        ("not status 5xx", [NotYet, No, Yes]),
        ("route /users/{id}", [NotYet, Yes, No]),
        ("route \"/users/{id}\"", [NotYet, Yes, No]),
        ("fd 3", [NotYet, Yes, No]),
        ("fd 4", [NotYet, No, No]),
        ("status 5xx and port 80", [No, No, No]),
        ("port 80 and status 5xx", [No, No, No]),
        ("status 5xx or port 8080", [Yes, Yes, Yes]),
        ("status 5xx or status 4xx", [NotYet, Yes, No]),
        ("status 5xx and status 2xx", [NotYet, Yes, No]),
    ] {
        let filter: Filter = text.parse().unwrap();
        assert!(filter.asks_trace(), "{text}");
        for (known, want) in [&young, &answered, &over].into_iter().zip(wants) {
            assert_eq!(filter.judge(&packet(), Some(known)), want, "{text}");
        }
        let none = filter.judge(&packet(), None);
        assert_ne!(none, NotYet, "{text}: a frame of no connection");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_column() {
    let many = "not ".repeat(100) + "tcp";
    let long = "tcp or ".repeat(1000) + "tcp";
    for (text, column, says) in [
        ("", 1, "the filter ends here"),
        ("prot 80", 1, "«prot» is no test; write host"),
        ("port", 5, "a port as 80"),
        ("port 80 port 90", 9, "join tests with and, or"),
        ("port 99999", 6, "«99999» should be a port"),
        ("port 9-1", 6, "«9-1» should be a port"),
        ("host example", 6, "an address as"),
        ("net 10.0.0.1", 5, "a network as"),
        ("status 6", 8, "5xx"),
        ("status xxx", 8, "5xx"),
        ("tcp and", 8, "the filter ends here"),
        ("(tcp or udp", 12, "a ) is missing for the ( in column 1"),
        ("tcp)", 4, "«)» cannot stand here"),
        ("route \"/a b", 7, "do not end"),
        ("\"tcp\"", 1, "is no test"),
        (&many, 257, "64 deep at most"),
        (&long, 4097, "4096 characters"),
    ] {
        let error = text.parse::<Filter>().unwrap_err();
        assert_eq!(error.column, column, "{text}: {error}");
        assert!(error.what.contains(says), "{text}: {error}");
    }
}

#[test]
fn columns_are_of_characters_and_patterns_may_have_spaces() {
    let error = "route /ü and port x".parse::<Filter>().unwrap_err();
    assert_eq!(error.column, 19);
    let filter: Filter = "route \"GET /{$}\"".parse().unwrap();
    assert_eq!(filter.test, Test::Route("GET /{$}".into()));
}
