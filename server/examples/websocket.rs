//! A WebSocket that echoes, and a page that talks to it.
//!
//! ```console
//! $ cargo run -p wirepath --features websocket --example websocket &
//! $ curl -i http://127.0.0.1:8080/echo
//! HTTP/1.1 426 Upgrade Required
//! ```
//!
//! Open <http://127.0.0.1:8080/> in a browser. On other networks: see
//! `common/mod.rs`.

mod common;

use std::io::Write;

use common::Failed;
use wirepath::websocket::{Options, upgrade};
use wirepath::{Request, ResponseWriter, ServeMux, Server};

const PAGE: &str = r#"<!doctype html>
<title>WebSocket echo</title>
<form><input id="say" autofocus> <button>Say</button></form>
<ul id="list"></ul>
<script>
  const show = (text) => {
    const item = document.createElement("li");
    item.textContent = text;
    document.getElementById("list").append(item);
  };
  const socket = new WebSocket(location.href.replace("http", "ws") + "echo");
  socket.onopen = () => socket.send("hello from the page");
  socket.onmessage = (event) => show("echo: " + event.data);
  socket.onclose = (event) => show("closed with " + event.code);
  document.forms[0].onsubmit = (event) => {
    event.preventDefault();
    socket.send(say.value);
  };
</script>
"#;

fn page(w: &mut ResponseWriter, _: &mut Request) {
    // A client that has gone is no failure of ours.
    let _ = w.write_all(PAGE.as_bytes());
}

fn echo(w: &mut ResponseWriter, r: &mut Request) {
    // A request that is no handshake was answered already.
    let Ok(mut socket) = upgrade(w, r, &Options::default()) else {
        return;
    };
    while let Ok(Some(message)) = socket.recv() {
        if socket.send(message).is_err() {
            return;
        }
    }
}

fn main() -> Result<(), Failed> {
    common::run(|place| {
        let mut mux = ServeMux::new();
        mux.handle_func("GET /{$}", page);
        mux.handle_func("GET /echo", echo);
        Ok(Server::new(mux).serve(place.listen("http")?)?)
    })
}
