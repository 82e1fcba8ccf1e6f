//! With tungstenite as the client, in memory.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use tungstenite::client::IntoClientRequest;
use wirepath_runtime::{chan, go, now, simulate};

use super::*;
use crate::httptest::{Client, TestServer, request};
use crate::{Request, ResponseWriter};

const OPTIONS: Options<'static> = Options {
    max_message_bytes: 1000,
    subprotocols: &["best", "good"],
    check_origin: |r| r.header("Origin").as_deref() == Some("https://example.org"),
};

fn echo(w: &mut ResponseWriter, r: &mut Request) {
    let Ok(mut socket) = upgrade(w, r, &OPTIONS) else {
        return;
    };
    while let Ok(Some(message)) = socket.recv() {
        match message.to_text() {
            Ok("bye") => return socket.close(CloseCode::Normal, "as you say").unwrap(),
            Ok("protocol") => socket.send(socket.subprotocol().unwrap_or("none").to_owned()),
            _ => socket.send(message),
        }
        .unwrap();
    }
}

type Peer = tungstenite::WebSocket<Client>;

fn connect(server: &TestServer, fields: &[(&'static str, &str)]) -> Peer {
    let mut request = "ws://example.org/".into_client_request().unwrap();
    for (name, value) in fields {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    tungstenite::client(request, server.connect()).unwrap().0
}

#[test]
fn messages_are_echoed() {
    let server = TestServer::start(echo);
    let mut peer = connect(&server, &[]);
    for message in [
        Message::from("text"),
        Message::from(vec![0xff; 1000]),
        Message::from(""),
    ] {
        peer.send(message.clone()).unwrap();
        assert_eq!(peer.read().unwrap(), message);
    }
    peer.send(Message::Ping("still there?".into())).unwrap();
    assert_eq!(peer.read().unwrap(), Message::Pong("still there?".into()));
}

#[test]
fn either_side_says_farewell_first() {
    let server = TestServer::start(echo);
    let mut peer = connect(&server, &[]);
    peer.close(None).unwrap();
    assert!(matches!(peer.read(), Ok(Message::Close(None))));
    assert!(matches!(peer.read(), Err(Error::ConnectionClosed)));
    let mut peer = connect(&server, &[]);
    peer.send("bye".into()).unwrap();
    let farewell = CloseFrame {
        code: CloseCode::Normal,
        reason: "as you say".into(),
    };
    assert_eq!(peer.read().unwrap(), Message::Close(Some(farewell)));
    assert!(matches!(peer.read(), Err(Error::ConnectionClosed)));
}

#[test]
fn a_client_that_breaks_the_rules_is_told_which() {
    let server = TestServer::start(echo);
    let masked = |opcode: u8, payload: &[u8]| {
        let mut frame = vec![0x80 | opcode, 0x80 | u8::try_from(payload.len()).unwrap()];
        frame.extend([0; 4]);
        frame.extend(payload);
        frame
    };
    for (bytes, code) in [
        (masked(1, b"\xff"), CloseCode::Invalid),
        (masked(3, b""), CloseCode::Protocol),
        (vec![0x81, 0x01, b'a'], CloseCode::Protocol),
        (vec![0x82, 0xfe, 0x04, 0x00, 0, 0, 0, 0], CloseCode::Size),
    ] {
        let mut peer = connect(&server, &[]);
        peer.get_mut().write_all(&bytes).unwrap();
        match peer.read().unwrap() {
            Message::Close(Some(close)) => assert_eq!(close.code, code),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_best_subprotocol_of_both_is_taken() {
    let server = TestServer::start(echo);
    for (offered, taken) in [
        ("good, best", "best"),
        ("bad,good", "good"),
        ("bad", "none"),
    ] {
        let fields = [("Sec-WebSocket-Protocol", offered)];
        let mut request = "ws://example.org/".into_client_request().unwrap();
        request
            .headers_mut()
            .insert(fields[0].0, offered.parse().unwrap());
        let Ok((mut peer, _)) = tungstenite::client(request, server.connect()) else {
            assert_eq!(taken, "none", "this client insists on one");
            continue;
        };
        peer.send("protocol".into()).unwrap();
        assert_eq!(peer.read().unwrap(), taken.into());
    }
}

#[test]
fn what_is_no_handshake_is_refused() {
    let handshake = |drop: &str, add: &[(&str, &str)]| {
        let fields = [
            ("Upgrade", "websocket"),
            ("Connection", "keep-alive, Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "AQIDBAUGBwgJCgsMDQ4PEA=="),
        ];
        let kept = fields.iter().filter(|(name, _)| *name != drop);
        let all = kept.chain(add);
        all.fold(request("GET", "/"), |r, (name, value)| {
            r.header(*name, value)
        })
    };
    let server = TestServer::start(echo);
    for (request, status) in [
        (handshake("", &[]), 101),
        (handshake("", &[("Origin", "https://example.org")]), 101),
        (handshake("", &[("Origin", "https://evil.example")]), 403),
        (handshake("Upgrade", &[]), 426),
        (handshake("Connection", &[]), 426),
        (handshake("Sec-WebSocket-Version", &[]), 426),
        (
            handshake("Sec-WebSocket-Version", &[("Sec-WebSocket-Version", "8")]),
            426,
        ),
        (handshake("Sec-WebSocket-Key", &[]), 400),
        (
            handshake("Sec-WebSocket-Key", &[("Sec-WebSocket-Key", "AQID")]),
            400,
        ),
        (
            handshake("", &[("Sec-WebSocket-Key", "AQIDBAUGBwgJCgsMDQ4PEA==")]),
            400,
        ),
        (handshake("", &[]).body("x"), 400),
        (handshake("", &[]).http_10().header("Host", "a"), 400),
    ] {
        let answer = server.connect().send(&request).unwrap();
        assert_eq!(answer.status(), status, "{request:?}");
        if status == 101 {
            let accept = answer.header("Sec-WebSocket-Accept").unwrap();
            let key = b"AQIDBAUGBwgJCgsMDQ4PEA==";
            assert_eq!(accept, tungstenite::handshake::derive_accept_key(key));
        }
        if status == 426 {
            assert_eq!(answer.header("Sec-WebSocket-Version"), Some("13"));
        }
    }
}

#[test]
fn pages_of_the_same_host_may_connect() {
    for (origin, may) in [
        ("https://example.com", true),
        ("http://EXAMPLE.com", true),
        ("https://example.com:8443", false),
        ("https://example.com.evil.example", false),
        ("null", false),
    ] {
        let r = request("GET", "/").header("Origin", origin).build();
        assert_eq!((Options::default().check_origin)(&r), may, "{origin}");
    }
}

#[test]
fn one_goroutine_receives_while_another_sends() {
    let run = simulate(5, || {
        let server = TestServer::start(|w: &mut ResponseWriter, r: &mut Request| {
            let (mut receiver, mut sender) = upgrade(w, r, &OPTIONS).unwrap().split();
            let (send, events) = chan::channel::<String>(0);
            let sending = go(move || {
                for i in 0..100 {
                    sender.send(format!("tick {i}")).unwrap();
                }
                for event in events.iter() {
                    sender.send(event).unwrap();
                }
            });
            while let Some(message) = receiver.recv().unwrap() {
                send.send(message.into_text().unwrap().to_string()).unwrap();
            }
            drop(send);
            sending.join().unwrap();
        });
        let mut peer = connect(&server, &[]);
        for i in 0..100 {
            peer.send(Message::Ping("x".into())).unwrap();
            peer.send(format!("word {i}").into()).unwrap();
        }
        let (mut pongs, mut texts) = (0, Vec::new());
        while pongs < 100 || texts.len() < 200 {
            match peer.read().unwrap() {
                Message::Pong(_) => pongs += 1,
                message => texts.push(message.into_text().unwrap().to_string()),
            }
        }
        let of = |start: &str| texts.iter().filter(|t| t.starts_with(start)).count();
        assert_eq!((of("tick"), of("word")), (100, 100));
    });
    run.unwrap();
}

#[test]
fn a_silent_client_is_left_at_the_deadline() {
    let run = simulate(5, || {
        let server = TestServer::start(|w: &mut ResponseWriter, r: &mut Request| {
            let mut socket = upgrade(w, r, &OPTIONS).unwrap();
            socket.set_read_deadline(Some(now() + Duration::from_secs(60)));
            let late = socket.recv().unwrap_err();
            assert!(matches!(late, Error::Io(e) if e.kind() == ErrorKind::TimedOut));
            let long = socket.send(Message::Ping(vec![0; 126].into()));
            assert!(matches!(long, Err(Error::Protocol(_))));
            // It says farewell, and waits five seconds in vain.
            socket.close(CloseCode::Away, "").unwrap_err();
        });
        let mut peer = connect(&server, &[]);
        let mut got = Vec::new();
        peer.get_mut().read_to_end(&mut got).unwrap();
        assert_eq!(got, [0x88, 2, 0x03, 0xe9]);
    });
    assert_eq!(run.unwrap().elapsed, Duration::from_secs(65));
}
