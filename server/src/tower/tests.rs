//! axum's routers and bare services, in memory.

use std::convert::Infallible;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body as AxumBody;
use axum::extract::{ConnectInfo, Path, Query};
use axum::response::sse::{Event, Sse};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use futures::channel::mpsc;
use futures::{StreamExt, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use serde::{Deserialize, Serialize};
use wirepath_runtime::simulate;

use super::*;
use crate::httptest::{TestServer, request};

#[derive(Deserialize, Serialize)]
struct Item {
    name: String,
    count: u32,
}

async fn double(Json(item): Json<Item>) -> Json<Item> {
    let count = item.count * 2;
    Json(Item { count, ..item })
}

#[derive(Deserialize)]
struct Page {
    page: u32,
}

async fn chars(Path((id, rest)): Path<(u32, String)>, Query(page): Query<Page>) -> String {
    format!("{id} {rest} {}", page.page)
}

fn app() -> Router {
    Router::new()
        .route("/", get(async || "hello\n"))
        .route("/items/{id}/{*rest}", get(chars))
        .route("/double", post(double))
        .route(
            "/panic",
            get(async || -> String { panic!("as the test asks") }),
        )
        .route("/echo", post(async |body: AxumBody| body))
        .route("/ignore", post(async || "ignored\n"))
}

fn handler() -> ServiceHandler<Router> {
    ServiceHandler::new(app())
}

#[test]
fn routes_answer() {
    let handler = handler();
    let hello = request("GET", "/").serve(&handler);
    assert_eq!((hello.status(), &*hello.text()), (200, "hello\n"));
    assert_eq!(hello.header("Content-Length"), Some("6"));
    let head = request("HEAD", "/").serve(&handler);
    assert_eq!(
        (head.status(), head.header("Content-Length")),
        (200, Some("6"))
    );
    let items = request("GET", "/items/7/a/b%20c?page=3").serve(&handler);
    assert_eq!(items.text(), "7 a/b c 3");
    assert_eq!(request("GET", "/nowhere").serve(&handler).status(), 404);
    assert_eq!(request("PUT", "/").serve(&handler).status(), 405);
    let double = request("POST", "/double").header("Content-Type", "application/json");
    let doubled = double.body(r#"{"name":"a","count":21}"#).serve(&handler);
    assert_eq!(doubled.text(), r#"{"name":"a","count":42}"#);
    assert_eq!(doubled.header("Content-Type"), Some("application/json"));
}

#[test]
fn connections_go_on_after_any_use_of_a_body() {
    let server = TestServer::start(handler());
    let mut client = server.connect();
    let body = "x".repeat(100_000);
    for request in [
        request("POST", "/echo").body(body.as_str()),
        request("POST", "/echo").body(body.as_str()).chunked(),
        request("POST", "/ignore").body(body.as_str()),
        request("POST", "/ignore").body(body.as_str()).chunked(),
        request("GET", "/"),
    ] {
        let answer = client.send(&request).unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.text() == body || answer.body.len() < 10);
    }
}

#[test]
fn a_panic_ends_its_connection_only() {
    let server = TestServer::start(handler());
    let gone = server.get("/panic").unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(server.get("/").unwrap().status(), 200);
}

#[test]
fn a_body_is_answered_while_it_comes() {
    let run = simulate(3, || {
        let server = TestServer::start(handler());
        let mut client = server.connect();
        let head = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.write_all(head).unwrap();
        let mut got = Vec::new();
        for word in ["one", "two", "three"] {
            write!(client, "{:x}\r\n{word}\r\n", word.len()).unwrap();
            while !got.ends_with(format!("{word}\r\n").as_bytes()) {
                let mut buf = [0; 512];
                let n = client.read(&mut buf).unwrap();
                got.extend_from_slice(&buf[..n]);
            }
        }
        client.write_all(b"0\r\n\r\n").unwrap();
        let mut end = [0; 5];
        client.read_exact(&mut end).unwrap();
        assert_eq!(&end, b"0\r\n\r\n");
    });
    run.unwrap();
}

#[test]
fn a_client_is_told_to_go_on_when_its_body_is_asked_for() {
    let server = TestServer::start(handler());
    let head = |path| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
    };
    let mut client = server.connect();
    client.write_all(head("/echo").as_bytes()).unwrap();
    let mut told = [0; 25];
    client.read_exact(&mut told).unwrap();
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"hi").unwrap();
    assert_eq!(client.response_to("POST").unwrap().text(), "hi");
    let mut client = server.connect();
    client.write_all(head("/ignore").as_bytes()).unwrap();
    let answer = client.response_to("POST").unwrap();
    assert_eq!((answer.status(), answer.informational.len()), (200, 0));
    assert_eq!(answer.header("Connection"), Some("close"));
}

#[test]
fn no_more_is_made_than_the_client_takes() {
    let made = Arc::new(AtomicUsize::new(0));
    let counter = made.clone();
    let app = Router::new().route(
        "/",
        get(async move || {
            let frames = stream::iter(0..1000).map(move |_| {
                counter.fetch_add(1, Ordering::SeqCst);
                Ok::<_, Infallible>(vec![b'x'; 4096])
            });
            AxumBody::from_stream(frames)
        }),
    );
    let run = simulate(1, move || {
        let server = TestServer::start(ServiceHandler::new(app));
        let mut client = server.connect();
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        wirepath_runtime::sleep(Duration::from_secs(1));
        let before = made.load(Ordering::SeqCst);
        assert!(
            (16..32).contains(&before),
            "{before} frames for 64 KiB of room"
        );
        assert_eq!(client.response_to("GET").unwrap().body.len(), 4_096_000);
        assert_eq!(made.load(Ordering::SeqCst), 1000);
    });
    run.unwrap();
}

#[test]
fn events_go_out_as_they_come() {
    let (send, receive) = mpsc::unbounded::<&str>();
    let receive = Arc::new(std::sync::Mutex::new(Some(receive)));
    let app = Router::new().route(
        "/",
        get(move || {
            let events = receive.lock().unwrap().take().expect("asked once");
            let events = events.map(|data| Ok::<_, Infallible>(Event::default().data(data)));
            async { Sse::new(events) }
        }),
    );
    let server = TestServer::start(ServiceHandler::new(app));
    let mut client = server.connect();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let mut got = String::new();
    let mut read_to = |end: &str| {
        while !got.ends_with(end) {
            let mut buf = [0; 512];
            let n = client.read(&mut buf).unwrap();
            got.push_str(str::from_utf8(&buf[..n]).unwrap());
        }
    };
    read_to("\r\n\r\n");
    for word in ["one", "two"] {
        send.unbounded_send(word).unwrap();
        read_to(&format!("data: {word}\n\n\r\n"));
    }
    drop(send);
    read_to("\r\n0\r\n\r\n");
    assert!(got.contains("content-type: text/event-stream\r\n"), "{got}");
}

type Frames<E> = stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, E>>>;

/// A response of these frames.
fn frames<E>(frames: Vec<Result<Frame<Bytes>, E>>) -> http::Response<StreamBody<Frames<E>>> {
    http::Response::new(StreamBody::new(stream::iter(frames)))
}

#[test]
fn errors_are_told_as_far_as_they_can_be() {
    let service = ::tower::service_fn(async |r: http::Request<RequestBody>| {
        let data = |text: &'static str| Ok(Frame::data(Bytes::from_static(text.as_bytes())));
        let (held, large) = (data("some"), Ok(Frame::data(vec![b'x'; 4000].into())));
        match r.uri().path() {
            "/call" => Err("the call"),
            "/first" => Ok(frames(vec![Err("the body")])),
            "/later" => Ok(frames(vec![held, large, Err("the body")])),
            _ => Ok(frames(vec![data("fine")])),
        }
    });
    let server = TestServer::start(ServiceHandler::new(service));
    assert_eq!(server.get("/").unwrap().text(), "fine");
    assert_eq!(server.get("/call").unwrap().status(), 500);
    assert_eq!(server.get("/first").unwrap().status(), 500);
    let reset = server.get("/later").unwrap_err();
    assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn trailers_go_both_ways() {
    let service = ::tower::service_fn(async |r: http::Request<RequestBody>| {
        let mut body = std::pin::pin!(r.into_body());
        let mut frames = Vec::new();
        while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            frames.push(Ok::<_, std::io::Error>(frame?));
        }
        let body = StreamBody::new(stream::iter(frames));
        let response = http::Response::builder().header("Trailer", "X-Sum");
        Ok::<_, std::io::Error>(response.body(body).unwrap())
    });
    let server = TestServer::start(ServiceHandler::new(service));
    let answer = server
        .send(&request("POST", "/").body("data").trailer("X-Sum", "42"))
        .unwrap();
    assert_eq!(answer.text(), "data");
    assert_eq!(answer.trailers["x-sum"], "42");
}

#[test]
fn what_http_cannot_hold_is_refused() {
    let server = TestServer::start(handler());
    let long = format!("/{}", "a".repeat(70_000));
    assert_eq!(server.get(&long).unwrap().status(), 414);
    assert_eq!(server.get("/a<b").unwrap().status(), 400);
    let name = "n".repeat(70_000);
    let wide = request("GET", "/").header(name, "1");
    assert_eq!(server.send(&wide).unwrap().status(), 431);
}

#[test]
fn extensions_tell_where_a_request_came_from() {
    async fn who(
        ConnectInfo(peer): ConnectInfo<SocketAddr>,
        Extension(RemoteAddr(remote)): Extension<RemoteAddr>,
        Extension(LocalAddr(local)): Extension<LocalAddr>,
    ) -> String {
        assert_eq!(peer, remote);
        format!("{remote} {local}")
    }
    let app = Router::new().route("/", get(who));
    let handler = ServiceHandler::new(app).on_request(|r, to| {
        to.extensions_mut().insert(ConnectInfo(r.remote_addr()));
    });
    let answer = request("GET", "/").serve(&handler);
    assert_eq!(answer.text(), "192.0.2.1:1234 192.0.2.2:80");
}

#[test]
fn tokio_is_found_in_a_poll_and_left_after_it() {
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    let handle = tokio.handle().clone();
    let app = Router::new().route(
        "/",
        get(async || {
            tokio::time::sleep(Duration::from_millis(1)).await;
            tokio::spawn(async { "from a task" }).await.unwrap()
        }),
    );
    let handler = ServiceHandler::new(app).around_each_poll(move |poll| {
        let _entered = handle.enter();
        poll();
        drop(_entered);
    });
    let server = TestServer::start(move |w: &mut ResponseWriter, r: &mut Request| {
        handler.serve(w, r);
        assert!(tokio::runtime::Handle::try_current().is_err());
    });
    for _ in 0..10 {
        assert_eq!(server.get("/").unwrap().text(), "from a task");
    }
}

#[test]
fn a_body_may_be_read_elsewhere() {
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let handle = tokio.handle().clone();
    let app = Router::new().route(
        "/",
        post(async |body: AxumBody| {
            let read = axum::body::to_bytes(body, usize::MAX);
            tokio::spawn(read).await.unwrap().unwrap()
        }),
    );
    let handler = ServiceHandler::new(app).around_each_poll(move |poll| {
        let _entered = handle.enter();
        poll();
    });
    let server = TestServer::start(handler);
    let body = "y".repeat(1 << 20);
    let answer = server
        .send(&request("POST", "/").body(body.as_str()))
        .unwrap();
    assert!(answer.text() == body);
}

/// How long what ought to happen at once is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Tells when it is dropped.
struct Dropped(std::sync::mpsc::Sender<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.send(()).unwrap();
    }
}

#[test]
fn a_future_is_dropped_when_its_client_has_gone() {
    let (send, receive) = std::sync::mpsc::channel();
    let (began, begun) = std::sync::mpsc::channel();
    let service = ::tower::service_fn(move |_: http::Request<RequestBody>| {
        let dropped = Dropped(send.clone());
        began.send(()).unwrap();
        async move {
            let _dropped = dropped;
            std::future::pending::<Result<http::Response<AxumBody>, Infallible>>().await
        }
    });
    let server = TestServer::start(ServiceHandler::new(service));
    let url = server.url();
    let mut stream = std::net::TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    drop(stream);
    let dropped = receive.recv_timeout(PATIENCE);
    dropped.expect("the future, while the server goes on");
    // It is dropped by the panic that is counted after it.
    let panics = || {
        server
            .server()
            .stats()
            .iter()
            .find(|s| s.0 == "panics")
            .unwrap()
            .1
    };
    let begun = Instant::now();
    while panics() == 0 && begun.elapsed() < PATIENCE {
        std::thread::yield_now();
    }
    assert_eq!(panics(), 1);
}
