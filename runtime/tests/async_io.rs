//! Connections under asynchronous crates, over sockets of the kernel.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use wirepath_runtime::net::{TcpListener, TcpStream};
use wirepath_runtime::{Runtime, block_on, go, now};

fn runtime() -> Runtime {
    Runtime::builder().max_procs(2).build().unwrap()
}

fn listen() -> (Arc<TcpListener>, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    (Arc::new(listener), addr)
}

fn pair() -> (TcpStream, TcpStream) {
    let (listener, addr) = listen();
    let near = TcpStream::connect(addr).unwrap();
    let (far, _) = listener.accept().unwrap();
    (near, far)
}

#[test]
fn bytes_are_copied_both_ways_at_once() {
    const LEN: usize = 4 << 20;
    runtime()
        .run(|| {
            let (near, far) = pair();
            let echo = go(move || {
                let copied = block_on(futures::io::copy(&far, &mut &far)).unwrap();
                block_on(AsyncWriteExt::close(&mut &far)).unwrap();
                copied
            });
            let sent: Vec<u8> = (0..LEN).map(|i| (i / 7) as u8).collect();
            let mut back = Vec::new();
            // One goroutine, both directions: more than the sockets' buffers
            // hold, so each direction waits for the other.
            block_on(async {
                let write = async {
                    (&near).write_all(&sent).await.unwrap();
                    AsyncWriteExt::close(&mut &near).await.unwrap();
                };
                let mut reader = &near;
                let (read, ()) = futures::join!(reader.read_to_end(&mut back), write);
                assert_eq!(read.unwrap(), LEN);
            });
            assert!(back == sent);
            assert_eq!(echo.join().unwrap(), LEN as u64);
        })
        .unwrap();
}

#[test]
fn a_deadline_and_a_close_end_a_poll() {
    runtime()
        .run(|| {
            let (near, _far) = pair();
            near.set_read_deadline(Some(now() + Duration::from_millis(5)));
            let late = block_on((&near).read(&mut [0; 8])).unwrap_err();
            assert_eq!(late.kind(), std::io::ErrorKind::TimedOut);
            near.set_read_deadline(None);
            let near = Arc::new(near);
            let closes = near.clone();
            let closer = go(move || {
                wirepath_runtime::sleep(Duration::from_millis(5));
                closes.close();
            });
            let closed = block_on((&*near).read(&mut [0; 8])).unwrap_err();
            assert_eq!(closed.kind(), std::io::ErrorKind::ConnectionAborted);
            closer.join().unwrap();
        })
        .unwrap();
}

#[test]
fn another_poller_takes_over() {
    runtime()
        .run(|| {
            let (near, far) = pair();
            let (near, far) = (Arc::new(near), Arc::new(far));
            // Polled once and dropped, as by a select that chose another.
            block_on(async {
                let mut room = [0; 4];
                let mut reader = &*near;
                let read = reader.read(&mut room);
                let ready = futures::future::ready(());
                futures::future::select(Box::pin(read), ready).await;
            });
            let reads = go(move || {
                let mut room = [0; 4];
                block_on((&*near).read_exact(&mut room)).unwrap();
                room
            });
            let writes = go(move || block_on((&*far).write_all(b"late")).unwrap());
            assert_eq!(&reads.join().unwrap(), b"late");
            writes.join().unwrap();
        })
        .unwrap();
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut all = path.into_bytes();
    all.extend_from_slice(&body);
    Ok(Response::new(Full::new(all.into())))
}

fn serve(listener: &TcpListener, connections: usize) {
    for _ in 0..connections {
        let (stream, _) = listener.accept().unwrap();
        go(move || {
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(stream, service_fn(answer));
            block_on(connection).unwrap();
        });
    }
}

#[test]
fn a_hyper_client_talks_to_a_hyper_server() {
    const CLIENTS: usize = 8;
    runtime()
        .run(|| {
            let (listener, addr) = listen();
            let server = go(move || serve(&listener, CLIENTS));
            let client = move |number: usize| {
                let stream = TcpStream::connect(addr).unwrap();
                let (mut sender, connection) =
                    block_on(hyper::client::conn::http1::handshake(stream)).unwrap();
                let driver = go(move || block_on(connection).unwrap());
                for round in 0..10 {
                    let body = vec![b'x'; number * 10_000 + round];
                    let request = Request::builder()
                        .method(Method::POST)
                        .uri(format!("/{number}/{round}"))
                        .header("host", "localhost")
                        .body(Full::new(Bytes::from(body.clone())))
                        .unwrap();
                    let response = block_on(sender.send_request(request)).unwrap();
                    assert_eq!(response.status(), StatusCode::OK);
                    let got = block_on(response.into_body().collect()).unwrap().to_bytes();
                    let want = [format!("/{number}/{round}").as_bytes(), &body].concat();
                    assert!(got == want, "client {number} round {round}");
                }
                drop(sender);
                driver.join().unwrap();
            };
            let clients: Vec<_> = (0..CLIENTS).map(|n| go(move || client(n))).collect();
            clients.into_iter().for_each(|c| c.join().unwrap());
            server.join().unwrap();
        })
        .unwrap();
}
