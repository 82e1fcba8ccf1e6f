//! The contexts of requests: what ends them, in which order and how soon.

mod sim;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sim::{Client, STEP, simulate};
use wirepath::{LocalAddr, Request, RequestEnd, ResponseWriter, ServeMux, Server};
use wirepath_runtime::chan::{Receiver, channel};
use wirepath_runtime::context::{Context, ContextError};
use wirepath_runtime::net::{Network, TcpListener, TcpStream};
use wirepath_runtime::{Nanos, Runtime, after, go, now, select, sleep};

const GET: &str = "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n";
/// How long the handler works if nobody stops it.
const WORK: Duration = Duration::from_secs(10);

/// Why the request's context ended, and when.
type Ended = (Option<RequestEnd>, Nanos);

fn cause(context: &Context) -> Option<RequestEnd> {
    let cause = context.cause()?;
    cause.downcast_ref().copied()
}

/// A handler that works for ten seconds, or until its context ends, and tells
/// which; and what it tells.
fn waits() -> (ServeMux, Receiver<Ended>) {
    let (told, ends) = channel(16);
    let mut mux = ServeMux::new();
    mux.handle_func("/wait", move |_, r| {
        let work = after(WORK);
        select! {
            recv(work) -> _ => (),
            recv(r.context().done()) => (),
        };
        told.send((cause(r.context()), now())).unwrap();
    });
    (mux, ends)
}

/// What ends the context of a request in these bytes if the client does `act`
/// two seconds after it has sent them; and how long after that it ended.
fn ended_by(sent: &'static str, act: fn(&Client)) -> (Option<RequestEnd>, Duration) {
    let (mux, ends) = waits();
    let run = simulate(1, Server::builder(mux), move |peer, _| {
        let client = peer.connect();
        client.send(sent.as_bytes());
        client.wait(Duration::from_secs(2));
        let acted = now();
        act(&client);
        client.wait(Duration::from_secs(12));
        let (cause, at) = ends.recv().unwrap();
        assert!(at >= acted, "it ended before anything happened");
        (cause, at.since(acted))
    });
    run.value
}

#[test]
fn a_fin_or_a_reset_ends_the_context_while_the_handler_works() {
    let upload = "PUT /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nfour";
    let two = concat!(
        "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    );
    for sent in [GET, upload, two] {
        for act in [Client::finish as fn(&Client), Client::reset] {
            let (cause, after) = ended_by(sent, act);
            assert_eq!(cause, Some(RequestEnd::ClientGone), "{sent:?}");
            assert!(after <= 2 * STEP, "{sent:?}: {after:?}");
        }
    }
}

#[test]
fn a_client_that_stays_ends_nothing() {
    let (cause, after) = ended_by(GET, |_| {});
    assert_eq!(cause, None);
    assert!(after >= WORK - Duration::from_secs(3), "{after:?}");
}

#[test]
fn an_end_that_came_before_the_context_was_asked_for_is_seen() {
    let (told, ends) = channel(1);
    let mut mux = ServeMux::new();
    mux.handle_func("/wait", move |_, r| {
        sleep(Duration::from_secs(1));
        let before = now();
        let _ = r.context().done().unwrap().recv();
        told.send((cause(r.context()), now().since(before)))
            .unwrap();
    });
    simulate(1, Server::builder(mux), move |peer, _| {
        let client = peer.connect();
        client.send(GET.as_bytes());
        client.finish();
        client.wait(Duration::from_secs(2));
        let want = (Some(RequestEnd::ClientGone), Duration::ZERO);
        assert_eq!(ends.recv().unwrap(), want);
    });
}

#[test]
fn each_request_of_a_connection_has_a_context_of_its_own() {
    let seen = Arc::new(Mutex::new(Vec::<Context>::new()));
    let contexts = seen.clone();
    let mux = move |w: &mut ResponseWriter, r: &mut Request| {
        contexts.lock().unwrap().push(r.context().clone());
        assert_eq!(r.context().err(), None);
        w.write_all(b"ok").unwrap();
    };
    simulate(1, Server::builder(mux), move |peer, _| {
        let client = peer.connect();
        for _ in 0..3 {
            client.send(GET.as_bytes());
            client.read_until("ok");
        }
        let contexts = seen.lock().unwrap();
        assert_eq!(contexts.len(), 3);
        for context in &*contexts {
            assert_eq!(context.err(), Some(ContextError::Cancelled));
            assert_eq!(cause(context), Some(RequestEnd::HandlerReturned));
        }
    });
}

#[test]
fn a_close_of_the_server_ends_contexts() {
    let (mux, ends) = waits();
    simulate(1, Server::builder(mux), move |peer, server| {
        let client = peer.connect();
        client.send(GET.as_bytes());
        client.wait(Duration::from_secs(1));
        let closed = now();
        server.close();
        let want = (Some(RequestEnd::ServerClosed), closed);
        assert_eq!(ends.recv().unwrap(), want);
    });
}

/// A value of the base context.
struct Base(&'static str);
/// And one of the connection's.
struct Conn(u64);

#[test]
fn contexts_have_the_values_of_the_hooks() {
    let handler = |w: &mut ResponseWriter, r: &mut Request| {
        let context = r.context();
        let server = context.value::<Server>().unwrap();
        let stats = server.stats();
        let open = stats.iter().find(|(name, _)| *name == "connections_open");
        let LocalAddr(local) = context.value().unwrap();
        let (base, conn) = (context.value::<Base>(), context.value::<Conn>());
        let (base, conn) = (base.unwrap().0, conn.unwrap().0);
        write!(w, "{base} {conn} {local} {}.", open.unwrap().1).unwrap();
    };
    let builder = Server::builder(handler)
        .base_context(|listener| {
            assert_eq!(listener.local_addr().unwrap().port(), 80);
            Context::background().with_value(Base("base"))
        })
        .conn_context(|context, conn| {
            assert!(context.value::<Base>().is_some() && context.value::<Server>().is_some());
            context.with_value(Conn(conn.id() + 7))
        });
    simulate(1, builder, |peer, _| {
        for id in ["7", "8"] {
            let client = peer.connect();
            client.send(GET.as_bytes());
            let answer = client.read_until(".");
            let want = format!(
                "\r\n\r\nbase {id} 10.7.0.1:80 {}.",
                id.parse::<u64>().unwrap() - 6
            );
            assert!(answer.ends_with(&want), "{answer}");
        }
    });
}

#[test]
fn a_replaced_context_is_what_others_see() {
    let handler = |w: &mut ResponseWriter, r: &mut Request| {
        let context = r.context().with_value(Base("replaced"));
        r.set_context(context);
        w.write_all(r.context().value::<Base>().unwrap().0.as_bytes())
            .unwrap();
    };
    simulate(1, Server::builder(handler), |peer, _| {
        let client = peer.connect();
        client.send(GET.as_bytes());
        client.read_until("replaced");
    });
}

#[test]
fn who_takes_a_request_away_is_told_when_the_handler_has_returned() {
    let (told, ends) = channel(1);
    let handler = move |w: &mut ResponseWriter, r: &mut Request| {
        let taken = std::mem::take(r);
        let told = told.clone();
        w.write_all(b"ok").unwrap();
        go(move || {
            sleep(Duration::from_secs(1));
            told.send(cause(taken.context())).unwrap();
        });
    };
    simulate(1, Server::builder(handler), move |peer, _| {
        let client = peer.connect();
        client.send(GET.as_bytes());
        client.wait(Duration::from_secs(2));
        assert_eq!(ends.recv().unwrap(), Some(RequestEnd::HandlerReturned));
    });
}

#[test]
fn a_client_in_memory_is_missed_too() {
    let run = wirepath_runtime::simulate(1, || {
        let (mux, ends) = waits();
        let server = wirepath::httptest::TestServer::start(mux);
        let mut client = server.connect();
        client.write_all(GET.as_bytes()).unwrap();
        sleep(Duration::from_secs(2));
        let gone = now();
        drop(client);
        let want = (Some(RequestEnd::ClientGone), gone);
        assert_eq!(ends.recv().unwrap(), want);
    });
    run.unwrap();
}

/// The same over sockets of the kernel, in real time.
#[test]
fn the_kernel_s_fin_and_reset_end_the_context_too() {
    let runtime = Runtime::builder().max_procs(2).build().unwrap();
    let run = runtime.run(|| {
        let (mux, ends) = waits();
        let listener = TcpListener::bind_on(Network::Kernel, SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = listener.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = Server::new(mux);
        let serving = server.clone();
        let accepting = go(move || serving.serve(listener).unwrap());
        for reset in [false, true] {
            let mut stream = TcpStream::connect_on(Network::Kernel, addr).unwrap();
            stream.write_all(GET.as_bytes()).unwrap();
            match reset {
                true => stream.abort(),
                false => stream.shutdown(std::net::Shutdown::Write).unwrap(),
            }
            assert_eq!(ends.recv().unwrap().0, Some(RequestEnd::ClientGone));
            if !reset {
                // It can still be answered.
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            }
        }
        server.close();
        accepting.join().unwrap();
    });
    run.unwrap();
}
