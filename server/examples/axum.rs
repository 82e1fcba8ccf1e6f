//! A router of axum, served by goroutines.
//!
//! ```console
//! $ cargo run -p wirepath --features tower --example axum &
//! $ curl http://127.0.0.1:8080/users/42
//! user 42
//! $ curl --json '{"a":1,"b":2}' http://127.0.0.1:8080/sum
//! {"sum":3}
//! $ curl http://127.0.0.1:8080/later
//! a timer of tokio's went off
//! ```
//!
//! On a TAP, where no kernel socket is under it: see `common/mod.rs`.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{ConnectInfo, Path};
use axum::routing::{get, post};
use axum::{Json, Router};
use common::Failed;
use serde::{Deserialize, Serialize};
use wirepath::Server;
use wirepath::tower::ServiceHandler;

#[derive(Deserialize)]
struct Pair {
    a: i64,
    b: i64,
}

#[derive(Serialize)]
struct Sum {
    sum: i64,
}

async fn user(Path(id): Path<u64>) -> String {
    format!("user {id}\n")
}

async fn sum(Json(pair): Json<Pair>) -> Json<Sum> {
    Json(Sum {
        sum: pair.a.saturating_add(pair.b),
    })
}

async fn whoami(ConnectInfo(peer): ConnectInfo<SocketAddr>) -> String {
    format!("{peer}\n")
}

async fn later() -> &'static str {
    tokio::time::sleep(Duration::from_millis(100)).await;
    "a timer of tokio's went off\n"
}

fn main() -> Result<(), Failed> {
    // For what asks for tokio's context: its timers, here. Without such, leave
    // it and `around_each_poll` away.
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()?;
    let handle = tokio.handle().clone();
    let app = Router::new()
        .route("/users/{id}", get(user))
        .route("/sum", post(sum))
        .route("/whoami", get(whoami))
        .route("/later", get(later));
    let handler = ServiceHandler::new(app)
        .on_request(|r, to| {
            to.extensions_mut().insert(ConnectInfo(r.remote_addr()));
        })
        .around_each_poll(move |poll| {
            let _entered = handle.enter();
            poll();
        });
    common::run(move |place| Ok(Server::new(handler).serve(place.listen("http")?)?))
}
