//! What the examples share: the network that they serve on.
//!
//! ```console
//! $ cargo run -p wirepath --example rest                             # 127.0.0.1:8080
//! $ cargo run -p wirepath --example rest -- --kernel [::1]:8081      # the kernel's sockets
//! $ cargo run -p wirepath --example rest -- --tap wp0 --addr 10.0.0.2/24
//! ```
//!
//! The last serves on port 8080 of a stack of its own, over a TAP that is set up
//! as `hello.rs` says.

use std::error::Error;
use std::io;
use std::net::SocketAddr;

use wirepath::runtime::Runtime;
use wirepath::runtime::net::TcpListener;
use wirepath_driver::tap::{Tap, TapOptions};
use wirepath_stack::{Cidr, Config, MacAddr, Stack};

/// What may pass between threads.
pub type Failed = Box<dyn Error + Send + Sync>;

/// The port on a TAP.
const PORT: u16 = 8080;

/// Where an example serves.
pub struct Place {
    addr: SocketAddr,
    /// The arguments that do not say where.
    #[allow(dead_code, reason = "few examples have any")]
    pub rest: Vec<String>,
}

impl Place {
    /// Listens there, and says so.
    pub fn listen(&self, scheme: &str) -> io::Result<TcpListener> {
        let listener = TcpListener::bind(self.addr)?;
        println!("listening on {scheme}://{}", listener.local_addr()?);
        Ok(listener)
    }
}

/// Runs `main` in a goroutine, on the network that the arguments say.
pub fn run(main: impl FnOnce(Place) -> Result<(), Failed> + Send + 'static) -> Result<(), Failed> {
    let (mut kernel, mut tap, mut cidr, mut rest) = (None, None, None, Vec::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let place = match arg.as_str() {
            "--kernel" => &mut kernel,
            "--tap" => &mut tap,
            "--addr" => &mut cidr,
            _ => {
                rest.push(arg);
                continue;
            }
        };
        let value = args.next().ok_or_else(|| format!("{arg} wants a value"))?;
        *place = Some(value);
    }
    let (addr, builder) = match (tap, cidr) {
        (Some(tap), Some(cidr)) => {
            let cidr: Cidr = cidr.parse()?;
            let addr = SocketAddr::new(cidr.addr, PORT);
            let mac: MacAddr = "02:00:00:00:00:02".parse()?;
            let tap = Tap::open(&TapOptions::new(&tap))?;
            let stack = Stack::new(Config::new(mac, vec![cidr]), vec![Box::new(tap)])?;
            (addr, Runtime::builder().stack(stack))
        }
        (None, None) => {
            let addr = kernel.as_deref().unwrap_or("127.0.0.1:8080").parse()?;
            (addr, Runtime::builder())
        }
        _ => return Err("--tap and --addr go together".into()),
    };
    let runtime = builder.build()?;
    let served = runtime.run(move || main(Place { addr, rest }));
    served.unwrap_or_else(|_| Err("the example panicked".into()))
}
