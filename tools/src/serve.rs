//! `wirepath serve`: HTTP on a TAP device, until told to stop.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use wirepath::runtime::net::TcpListener;
use wirepath::runtime::{self, Runtime};
use wirepath::{FileServer, ServeMux, Server};
use wirepath_stack::{Cidr, MacAddr};

use crate::device::{self, Attachment};
use crate::failure::Failure;
use crate::{signals, site};

/// How long requests in flight may take once the server was told to stop.
const DRAIN: Duration = Duration::from_secs(30);

/// Options of `wirepath serve`.
#[derive(Args)]
pub struct Options {
    /// The TAP device to serve on: made if there is none, else taken if it is
    /// persistent and its owner is you.
    #[arg(long, value_name = "NAME")]
    tap: String,
    /// An address of the server with its network, up to 8 times.
    #[arg(long = "addr", value_name = "ADDR/PREFIX", required = true)]
    addrs: Vec<Cidr>,
    /// Where to listen: a port of every address, or one address and port.
    #[arg(long, value_name = "[ADDR]:PORT", default_value = ":8080", value_parser = parse_listen)]
    listen: SocketAddr,
    /// The next hop for what no network covers, one for each family.
    #[arg(long = "gateway", value_name = "ADDR")]
    gateways: Vec<IpAddr>,
    /// The server's Ethernet address; by default one made from the device's
    /// name.
    #[arg(long)]
    mac: Option<MacAddr>,
    /// Threads that run goroutines at a time; by default WIREPATH_MAXPROCS or
    /// the cores that the process may use.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    maxprocs: Option<u16>,
    /// Write every frame that crosses the device to this file (pcapng).
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Serve the files of this directory instead of the demo site.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// `:8080`, `10.0.0.2:80`, `[fd00::2]:80`.
fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let given = match text.strip_prefix(':') {
        Some(port) => port
            .parse()
            .ok()
            .map(|p| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), p)),
        None => text.parse().ok(),
    };
    let given = given.filter(|addr: &SocketAddr| addr.port() != 0);
    given.ok_or_else(|| "write a port as :8080, or an address and a port as 10.0.0.2:8080".into())
}

/// Serves until a signal, then drains.
pub fn run(options: &Options) -> Result<(), Failure> {
    check_addresses(options)?;
    if let Some(root) = options.root.as_deref().filter(|root| !root.is_dir()) {
        let root = root.display();
        return Err(Failure::refused(format!(
            "--root {root} is not a directory"
        )));
    }
    let attachment = device::attach_tap(&device::TapRequest {
        name: &options.tap,
        addrs: &options.addrs,
        gateways: &options.gateways,
        mac: options.mac,
        pcap: options.pcap.as_deref(),
    })?;
    let mut builder = Runtime::builder().stack(attachment.stack.clone());
    if let Some(n) = options.maxprocs {
        builder = builder.max_procs(n.into());
    }
    let runtime = builder.build().map_err(|e| Failure::setup(&e))?;
    signals::on_quit(runtime.handle())
        .map_err(|e| Failure::running(format!("cannot wait for signals: {e}")))?;
    let server = make_server(options, &attachment)?;
    let served = {
        let server = server.clone();
        let greeting = greeting(options);
        let listen = options.listen;
        runtime.run(move || serve_until_stopped(&server, listen, &greeting))
    };
    served
        .map_err(|_| Failure::running("the server's main goroutine panicked; this is a bug"))??;
    runtime.shutdown(Duration::from_secs(1));
    print_totals(&server, attachment)
}

/// The server of the demo site or of files, with its counters.
fn make_server(options: &Options, attachment: &Attachment) -> Result<Server, Failure> {
    let stack = attachment.stack.clone();
    // The counters' handler is made before the server that it tells of.
    let server: Arc<OnceLock<Server>> = Arc::default();
    let counters = {
        let server = server.clone();
        move || counters(server.get(), &stack)
    };
    let mux = match &options.root {
        None => site::mux(counters),
        Some(root) => {
            let files = FileServer::new(root).map_err(|e| {
                Failure::refused(format!(
                    "cannot serve files of --root {}: {e}",
                    root.display()
                ))
            })?;
            let mut mux = ServeMux::new();
            mux.handle("/", files);
            site::add_counters(&mut mux, counters);
            mux
        }
    };
    Ok(server.get_or_init(|| Server::new(mux)).clone())
}

fn serve_until_stopped(server: &Server, listen: SocketAddr, greeting: &str) -> Result<(), Failure> {
    let listener = TcpListener::bind(listen)
        .map_err(|e| Failure::refused(format!("cannot listen on {listen}: {e}")))?;
    let runtime = runtime::Handle::current().expect("called on a goroutine");
    let to_stop = server.clone();
    let (drained, drain) = runtime::chan::channel(1);
    signals::on_stop(move || {
        eprintln!("stopping: requests in flight have {} s", DRAIN.as_secs());
        runtime.go(move || drained.send(to_stop.shutdown(DRAIN)));
    })
    .map_err(|e| Failure::running(format!("cannot wait for signals: {e}")))?;
    say!("{}", greeting.trim_end());
    server.serve(listener).map_err(|e| Failure::setup(&e))?;
    // Parks, and so leaves the thread to the requests that are bound to it.
    let outcome = drain
        .recv()
        .map_err(|_| Failure::running("the server stopped by itself; this is a bug"))?;
    if !outcome.is_complete() {
        eprintln!(
            "ended {} connections in the middle of a request",
            outcome.open.len()
        );
        server.close();
    }
    Ok(())
}

/// An address that belongs to nobody here is refused before a device is made.
fn check_addresses(options: &Options) -> Result<(), Failure> {
    for gateway in &options.gateways {
        if !options.addrs.iter().any(|cidr| cidr.contains(*gateway)) {
            return Err(Failure::refused(format!(
                "--gateway {gateway} is in none of the networks given with --addr; give a gateway \
                 on the link"
            )));
        }
    }
    let host = options.listen.ip();
    if !host.is_unspecified() && !options.addrs.iter().any(|cidr| cidr.addr == host) {
        return Err(Failure::refused(format!(
            "--listen {} is none of the addresses given with --addr; give one of them, or only a \
             port as :{}",
            options.listen,
            options.listen.port()
        )));
    }
    Ok(())
}

/// What to print at the start: where it listens and how to get there.
fn greeting(options: &Options) -> String {
    let mut text = String::new();
    let port = options.listen.port();
    let listening: Vec<_> = options
        .addrs
        .iter()
        .map(|cidr| cidr.addr)
        .filter(|addr| options.listen.ip().is_unspecified() || options.listen.ip() == *addr)
        .map(|addr| SocketAddr::new(addr, port))
        .collect();
    for addr in &listening {
        text += &format!("listening on http://{addr}/ (device {})\n", options.tap);
    }
    text += "\nTo reach it from this machine, in another shell:\n";
    let tap = &options.tap;
    for cidr in &options.addrs {
        if let Some(peer) = peer_addr(*cidr) {
            text += &format!("  sudo ip addr add {peer} dev {tap}\n");
        }
    }
    text += &format!("  sudo ip link set {tap} up\n");
    for addr in &listening {
        text += &format!("  curl http://{addr}/\n");
    }
    text += "\nCtrl-C ends it once requests in flight are answered.\n";
    text
}

/// An address for the kernel's end of the link: the first of the network that
/// is not the server's.
fn peer_addr(cidr: Cidr) -> Option<Cidr> {
    let candidate = |n: u32| -> Option<IpAddr> {
        match cidr.addr {
            IpAddr::V4(a) => {
                let mask = u32::MAX
                    .checked_shl(32 - u32::from(cidr.prefix))
                    .unwrap_or(0);
                let addr = Ipv4Addr::from_bits((a.to_bits() & mask).checked_add(n)?);
                // The last address of a network is its broadcast address.
                (addr.to_bits() | mask != u32::MAX).then_some(addr.into())
            }
            IpAddr::V6(a) => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(cidr.prefix))
                    .unwrap_or(0);
                let bits = (a.to_bits() & mask).checked_add(n.into())?;
                Some(std::net::Ipv6Addr::from_bits(bits).into())
            }
        }
    };
    (1..=2)
        .filter_map(candidate)
        .find(|addr| *addr != cidr.addr && cidr.contains(*addr))
        .map(|addr| Cidr {
            addr,
            prefix: cidr.prefix,
        })
}

fn counters(server: Option<&Server>, stack: &wirepath_stack::Stack) -> Value {
    let stats = stack.stats();
    let queues = stats.shards.iter().map(|shard| {
        let mut queue = device::object(|put| shard.each(put));
        queue["queue"] = shard.queue.clone().into();
        queue
    });
    json!({
        "server": server.map(|server| device::named(server.stats())),
        "stack": device::object(|put| stats.each(put)),
        "queues": queues.collect::<Vec<_>>(),
        "runtime": device::named(runtime::metrics()),
        "long_runs": site::long_runs(),
    })
}

fn print_totals(server: &Server, attachment: Attachment) -> Result<(), Failure> {
    say!("totals:");
    for (name, value) in server.stats() {
        say!("  {name:<28}{value}");
    }
    attachment.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_end_gets_a_free_address_of_the_network() {
        for (ours, want) in [
            ("10.0.0.2/24", Some("10.0.0.1/24")),
            ("10.0.0.1/24", Some("10.0.0.2/24")),
            ("fd00::2/64", Some("fd00::1/64")),
            ("10.0.0.1/32", None),
        ] {
            let got = peer_addr(ours.parse().unwrap()).map(|c| c.to_string());
            assert_eq!(got.as_deref(), want, "{ours}");
        }
    }

    #[test]
    fn listen_takes_a_port_or_an_address() {
        assert_eq!(parse_listen(":80").unwrap().to_string(), "0.0.0.0:80");
        assert_eq!(parse_listen("[fd00::2]:80").unwrap().port(), 80);
        for bad in ["", ":", "80", ":99999", "host:80", ":0"] {
            assert!(parse_listen(bad).is_err(), "{bad}");
        }
    }
}
