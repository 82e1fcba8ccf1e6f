//! What a server tells of its connections, and how it comes to an end.

mod sim;

use std::io::{ErrorKind, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sim::{Client, simulate};
use wirepath::{ConnInfo, ConnState, Request, ResponseWriter, ServeError, ServeMux, Server};
use wirepath_runtime::chan::channel;
use wirepath_runtime::net::TcpListener;
use wirepath_runtime::{go, now, sleep};
use wirepath_stack::Errno;

const SEC: Duration = Duration::from_secs(1);
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const LAST: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

fn hello(w: &mut ResponseWriter, _: &mut Request) {
    w.write_all(b"hello\n").unwrap();
}

fn site() -> ServeMux {
    let mut mux = ServeMux::new();
    mux.handle_func("/", hello);
    mux.handle_func("/slow/{seconds}", |w, r| {
        let seconds = r.path_value("seconds").parse().unwrap();
        sleep(Duration::from_secs(seconds));
        hello(w, r);
    });
    mux.handle_func("/panic", |_, _| panic!("as the test asks"));
    mux.handle_func("/hijack", |w, r| {
        let hijacked = w.hijack(r).unwrap();
        go(move || {
            sleep(Duration::from_secs(100));
            (&hijacked.conn).write_all(b"hijacked\n").unwrap();
        });
    });
    mux
}

fn stat(server: &Server, name: &str) -> u64 {
    let stats = server.stats();
    stats.iter().find(|(n, _)| *n == name).unwrap().1
}

/// The states of a connection whose client does `act`, and reads to the end.
fn states(act: impl FnOnce(&Client) + Send + 'static) -> Vec<&'static str> {
    let states = Arc::new(Mutex::new(Vec::new()));
    let seen = states.clone();
    let hook = move |conn: &ConnInfo, state: ConnState| {
        assert_eq!(conn.local_addr().port(), 80);
        let name = match state {
            ConnState::New => "new",
            ConnState::Active => "active",
            ConnState::Idle => "idle",
            ConnState::Hijacked => "hijacked",
            ConnState::Closed => "closed",
        };
        assert_eq!(state.to_string(), name);
        seen.lock().unwrap().push(name);
    };
    simulate(1, Server::builder(site()).conn_state(hook), |peer, _| {
        let client = peer.connect();
        act(&client);
        let _ = client.read_to_end();
        client.wait(SEC);
    });
    std::mem::take(&mut states.lock().unwrap())
}

#[test]
fn states_come_in_go_s_order() {
    let quiet = states(Client::finish);
    assert_eq!(quiet, ["new", "closed"]);
    let one = states(|client| client.send(LAST.as_bytes()));
    assert_eq!(one, ["new", "active", "closed"]);
    let one_and_gone = states(|client| {
        client.send(GET.as_bytes());
        client.read_until("hello\n");
        client.finish();
    });
    assert_eq!(one_and_gone, ["new", "active", "idle", "closed"]);
    let pipelined = states(|client| client.send([GET, LAST].concat().as_bytes()));
    assert_eq!(pipelined, ["new", "active", "idle", "active", "closed"]);
    let part = states(|client| {
        client.send(b"GET / HT");
        client.finish();
    });
    assert_eq!(part, ["new", "active", "closed"]);
    let refused = states(|client| client.send(b"GET\r\n\r\n"));
    assert_eq!(refused, ["new", "active", "closed"]);
    let panics = states(|client| client.send(b"GET /panic HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(panics, ["new", "active", "closed"]);
    let hijacks = states(|client| client.send(b"GET /hijack HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(hijacks, ["new", "active", "hijacked"]);
}

#[test]
fn a_shutdown_says_what_was_still_open() {
    simulate(1, Server::builder(site()), |peer, server| {
        let idle = peer.connect();
        idle.send(GET.as_bytes());
        idle.read_until("hello\n");
        let busy = peer.connect();
        busy.send(b"GET /slow/20?x=1 HTTP/1.1\r\nHost: a\r\n\r\n");
        busy.wait(SEC);
        assert_eq!(server.connections().len(), 2);
        let began = now();
        let (stopping, turning) = (server.clone(), busy.clone());
        let working = go(move || turning.wait(30 * SEC));
        let outcome = stopping.shutdown(5 * SEC);
        assert_eq!(now().since(began), 5 * SEC);
        assert!(!outcome.is_complete());
        let [open] = &outcome.open[..] else {
            panic!("{outcome:?}")
        };
        assert_eq!(open.state, ConnState::Active);
        assert_eq!(open.request.as_deref(), Some("GET /slow/20?x=1"));
        assert!((999..=1_000).contains(&began.since(open.since).as_millis()));
        assert!(
            open.to_string()
                .ends_with(" active for 6 s in GET /slow/20?x=1"),
            "{open}"
        );
        // The request is answered all the same, and is the last.
        let outcome = stopping.shutdown(60 * SEC);
        assert!(outcome.is_complete());
        assert_eq!(now().since(began).as_secs(), 19);
        working.join().unwrap();
        let (answer, end) = busy.read_to_end();
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        assert_eq!(end, Ok(()));
        assert_eq!(idle.read_to_end(), (String::new(), Ok(())));
    });
}

#[test]
fn a_shutdown_gives_new_connections_five_seconds() {
    simulate(1, Server::builder(site()), |peer, server| {
        let quiet = peer.connect();
        quiet.wait(2 * SEC);
        let late = peer.connect();
        late.wait(SEC);
        let began = now();
        let stopping = server.clone();
        let shutdown = go(move || stopping.shutdown(60 * SEC));
        late.wait(SEC);
        late.send(GET.as_bytes());
        let (answer, _) = late.read_to_end();
        assert!(answer.ends_with("hello\n"), "{answer}");
        assert_eq!(quiet.read_to_end(), (String::new(), Ok(())));
        assert!(shutdown.join().unwrap().is_complete());
        assert_eq!(now().since(began).as_secs(), 2);
    });
}

#[test]
fn functions_for_the_shutdown_are_called_once() {
    simulate(1, Server::builder(site()), |_, server| {
        // Until the server accepts.
        wirepath_runtime::simulation::wait();
        let (called, calls) = channel(9);
        let again = called.clone();
        server.register_on_shutdown(move || called.send("first").unwrap());
        server.register_on_shutdown(move || again.send("second").unwrap());
        for _ in 0..2 {
            assert!(server.shutdown(SEC).is_complete());
        }
        let mut names = [calls.recv().unwrap(), calls.recv().unwrap()];
        names.sort_unstable();
        assert_eq!(names, ["first", "second"]);
        assert!(calls.recv().is_err());
    });
}

#[test]
fn a_close_resets_what_is_open_but_for_what_was_taken_over() {
    simulate(1, Server::builder(site()), |peer, server| {
        let quiet = peer.connect();
        let idle = peer.connect();
        idle.send(GET.as_bytes());
        idle.read_until("hello\n");
        let busy = peer.connect();
        busy.send(b"GET /slow/20 HTTP/1.1\r\nHost: a\r\n\r\n");
        let taken = peer.connect();
        taken.send(b"GET /hijack HTTP/1.1\r\nHost: a\r\n\r\n");
        taken.wait(SEC);
        assert_eq!(server.connections().len(), 3);
        server.close();
        for client in [quiet, idle, busy] {
            assert_eq!(client.read_to_end().1, Err(Errno::ConnectionReset));
        }
        assert_eq!(taken.read_to_end(), ("hijacked\n".into(), Ok(())));
        assert_eq!(stat(server, "connections_open"), 0);
        let again = server.listen_and_serve("10.7.0.1:81");
        assert!(matches!(again, Err(ServeError::Closed)), "{again:?}");
    });
}

#[test]
fn without_keep_alives_each_response_is_the_last() {
    simulate(1, Server::builder(site()), |peer, server| {
        let idle = peer.connect();
        idle.send(GET.as_bytes());
        idle.read_until("hello\n");
        server.set_keep_alives_enabled(false);
        assert_eq!(idle.read_to_end(), (String::new(), Ok(())));
        let client = peer.connect();
        client.send(GET.as_bytes());
        let (answer, end) = client.read_to_end();
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        assert_eq!(end, Ok(()));
        server.set_keep_alives_enabled(true);
        let client = peer.connect();
        for _ in 0..2 {
            client.send(GET.as_bytes());
            let answer = client.read_until("hello\n");
            assert!(!answer.contains("Connection: close"), "{answer}");
        }
    });
}

#[test]
fn an_address_is_listened_on() {
    simulate(1, Server::builder(site()), |_, server| {
        for wrong in ["", "80", "host:80", "10.7.0.1:80"] {
            let error = server.listen_and_serve(wrong).unwrap_err();
            let ServeError::Listen { address, source } = &error else {
                panic!("{error:?}")
            };
            assert_eq!(address, wrong);
            let want = match wrong {
                "10.7.0.1:80" => ErrorKind::AddrInUse,
                _ => ErrorKind::InvalidInput,
            };
            assert_eq!(source.kind(), want, "{wrong:?}");
        }
        for address in ["10.7.0.1:81", ":82"] {
            let serving = server.clone();
            let _serving = go(move || serving.listen_and_serve(address).unwrap());
            wirepath_runtime::simulation::wait();
            let port = address[address.len() - 2..].parse::<u16>().unwrap();
            let taken = TcpListener::bind((sim::SERVER, port)).unwrap_err();
            assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        }
    });
}
