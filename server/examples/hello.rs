//! A server of two pages on the TAP wp0, put together by hand: device, stack,
//! runtime, mux.
//!
//! ```console
//! $ sudo ip tuntap add dev wp0 mode tap user $USER
//! $ sudo ip addr add 10.0.0.1/24 dev wp0
//! $ sudo ip link set wp0 up
//! $ cargo run --release -p wirepath --example hello &
//! $ curl http://10.0.0.2:8080/users/42
//! user 42
//! ```

use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;

use wirepath::runtime::{Runtime, net::TcpListener};
use wirepath::{Request, ResponseWriter, ServeMux, Server};
use wirepath_driver::tap::{Tap, TapOptions};
use wirepath_stack::{Config, MacAddr, Stack};

fn hello(w: &mut ResponseWriter, _: &mut Request) {
    let _ = writeln!(w, "Hello, World!");
}

fn user(w: &mut ResponseWriter, r: &mut Request) {
    let _ = writeln!(w, "user {}", r.path_value("id"));
}

/// What may pass between threads.
type Failed = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failed> {
    let tap = Tap::open(&TapOptions::new("wp0"))?;
    let mac: MacAddr = "02:00:00:00:00:02".parse()?;
    let config = Config::new(mac, vec!["10.0.0.2/24".parse()?]);
    let stack = Stack::new(config, vec![Box::new(tap)])?;
    let runtime = Runtime::builder().stack(stack).build()?;

    let served = runtime.run(|| -> Result<(), Failed> {
        let mut mux = ServeMux::new();
        mux.handle_func("/{$}", hello);
        mux.handle_func("GET /users/{id}", user);
        let listener = TcpListener::bind(SocketAddr::from(([10, 0, 0, 2], 8080)))?;
        Server::new(mux).serve(listener)?;
        Ok(())
    });
    served.unwrap_or_else(|_| Err("the server panicked".into()))
}
