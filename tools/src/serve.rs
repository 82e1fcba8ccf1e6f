//! `wirepath serve`: HTTP on a TAP device, or over the kernel's sockets, until
//! told to stop.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use wirepath::runtime::net::{Network, TcpListener};
use wirepath::runtime::{self, Builder, Runtime};
use wirepath::{FileServer, ServeMux, Server};
use wirepath_stack::{Cidr, MacAddr, Stack};

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
    tap: Option<String>,
    /// An address of the server with its network, up to 8 times.
    #[arg(long = "addr", value_name = "ADDR/PREFIX")]
    addrs: Vec<Cidr>,
    /// Serve over the kernel's sockets instead of a device and a stack of its
    /// own, at a port of every address, or at one address and port; needs no
    /// rights. Port 0 takes a free one.
    #[arg(
        long,
        value_name = "[ADDR]:PORT",
        value_parser = parse_kernel_listen,
        conflicts_with_all = ["tap", "addrs", "listen", "gateways", "mac", "pcap"]
    )]
    kernel: Option<SocketAddr>,
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
    let given = parse_kernel_listen(text)?;
    let given = Some(given).filter(|addr| addr.port() != 0);
    given.ok_or_else(|| LISTEN_FORM.into())
}

const LISTEN_FORM: &str = "write a port as :8080, or an address and a port as 10.0.0.2:8080";

/// As [`parse_listen`], or `:0` for a free port.
fn parse_kernel_listen(text: &str) -> Result<SocketAddr, String> {
    let given = match text.strip_prefix(':') {
        Some(port) => port
            .parse()
            .ok()
            .map(|p| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), p)),
        None => text.parse().ok(),
    };
    given.ok_or_else(|| LISTEN_FORM.into())
}

/// Serves until a signal, then drains.
pub fn run(options: &Options) -> Result<(), Failure> {
    if let Some(root) = options.root.as_deref().filter(|root| !root.is_dir()) {
        let root = root.display();
        return Err(Failure::refused(format!(
            "--root {root} is not a directory"
        )));
    }
    match (options.kernel, &options.tap) {
        (Some(listen), _) => serve(options, None, listen, kernel_greeting),
        (None, Some(tap)) => run_on_tap(options, tap),
        (None, None) => Err(Failure::refused(
            "nowhere to serve: give a device with --tap NAME and its address with --addr \
             ADDR/PREFIX, or --kernel :8080 for the kernel's sockets",
        )),
    }
}

fn run_on_tap(options: &Options, tap: &str) -> Result<(), Failure> {
    check_addresses(options)?;
    let attachment = device::attach_tap(&device::TapRequest {
        name: tap,
        addrs: &options.addrs,
        gateways: &options.gateways,
        mac: options.mac,
        pcap: options.pcap.as_deref(),
    })?;
    let greeting = tap_greeting(tap, &options.addrs, options.listen);
    serve(options, Some(attachment), options.listen, |_| greeting)
}

/// Serves over the attachment's stack, or without one over the kernel's
/// sockets. `greet` gets the address that it listens on.
fn serve(
    options: &Options,
    attachment: Option<Attachment>,
    listen: SocketAddr,
    greet: impl FnOnce(SocketAddr) -> String + Send + 'static,
) -> Result<(), Failure> {
    let stack = attachment.as_ref().map(|a| a.stack.clone());
    let runtime = builder(options, stack.clone())
        .build()
        .map_err(|e| Failure::setup(&e))?;
    signals::on_quit(runtime.handle())
        .map_err(|e| Failure::running(format!("cannot wait for signals: {e}")))?;
    let server = make_server(options, stack)?;
    let served = {
        let server = server.clone();
        runtime.run(move || serve_until_stopped(&server, listen, greet))
    };
    served
        .map_err(|_| Failure::running("the server's main goroutine panicked; this is a bug"))??;
    runtime.shutdown(Duration::from_secs(1));
    print_totals(&server);
    attachment.map_or(Ok(()), Attachment::finish)
}

fn builder(options: &Options, stack: Option<Stack>) -> Builder {
    let mut builder = Runtime::builder();
    if let Some(stack) = stack {
        builder = builder.stack(stack);
    }
    if let Some(n) = options.maxprocs {
        builder = builder.max_procs(n.into());
    }
    builder
}

/// The server of the demo site or of files, with its counters.
fn make_server(options: &Options, stack: Option<Stack>) -> Result<Server, Failure> {
    let network = match stack {
        Some(_) => Network::Stack,
        None => Network::Kernel,
    };
    // The counters' handler is made before the server that it tells of.
    let server: Arc<OnceLock<Server>> = Arc::default();
    let counters = {
        let server = server.clone();
        move || counters(server.get(), stack.as_ref())
    };
    let mux = match &options.root {
        None => site::mux(network, counters),
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

fn serve_until_stopped(
    server: &Server,
    listen: SocketAddr,
    greet: impl FnOnce(SocketAddr) -> String,
) -> Result<(), Failure> {
    let listener = TcpListener::bind(listen).map_err(|e| cannot_listen(listen, &e))?;
    let greeting = greet(listener.local_addr().map_err(|e| Failure::setup(&e))?);
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

fn cannot_listen(listen: SocketAddr, error: &io::Error) -> Failure {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => "; stop who has it (see `ss -ltnp`) or take another port",
        io::ErrorKind::PermissionDenied => "; ports below 1024 are root's: take a higher one",
        io::ErrorKind::AddrNotAvailable => "; give an address of this machine, or only a port",
        _ => "",
    };
    Failure::refused(format!("cannot listen on {listen}: {error}{advice}"))
}

/// An address that belongs to nobody here is refused before a device is made.
fn check_addresses(options: &Options) -> Result<(), Failure> {
    if options.addrs.is_empty() {
        return Err(Failure::refused(
            "the server needs an address on the device: give one with --addr 10.0.0.2/24",
        ));
    }
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
fn tap_greeting(tap: &str, addrs: &[Cidr], listen: SocketAddr) -> String {
    let mut text = String::new();
    let listening: Vec<_> = addrs
        .iter()
        .map(|cidr| cidr.addr)
        .filter(|addr| listen.ip().is_unspecified() || listen.ip() == *addr)
        .map(|addr| SocketAddr::new(addr, listen.port()))
        .collect();
    for addr in &listening {
        text += &format!("listening on http://{addr}/ (device {tap})\n");
    }
    text += "\nTo reach it from this machine, in another shell:\n";
    for cidr in addrs {
        if let Some(peer) = peer_addr(*cidr) {
            text += &format!("  sudo ip addr add {peer} dev {tap}\n");
        }
    }
    text += &format!("  sudo ip link set {tap} up\n");
    for addr in &listening {
        text += &format!("  curl http://{addr}/\n");
    }
    text + HOW_TO_END
}

const HOW_TO_END: &str = "\nCtrl-C ends it once requests in flight are answered.\n";

/// As [`tap_greeting`], of the kernel's socket that is bound to `bound`.
fn kernel_greeting(bound: SocketAddr) -> String {
    let port = bound.port();
    let (at, of) = match bound.ip() {
        ip if !ip.is_unspecified() => (bound, String::new()),
        IpAddr::V4(_) => (
            (Ipv4Addr::LOCALHOST, port).into(),
            format!(" and port {port} of every other address of this machine"),
        ),
        // It takes both families.
        IpAddr::V6(_) => (
            (Ipv4Addr::LOCALHOST, port).into(),
            format!(
                ", http://{}/ and port {port} of every other address of this machine",
                SocketAddr::from((Ipv6Addr::LOCALHOST, port))
            ),
        ),
    };
    format!(
        "listening on http://{at}/{of} (the kernel's sockets)\n\nTo reach it from this machine, \
         in another shell:\n  curl http://{at}/\n{HOW_TO_END}"
    )
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

fn counters(server: Option<&Server>, stack: Option<&Stack>) -> Value {
    let mut all = json!({
        "network": if stack.is_some() { "stack" } else { "kernel" },
        "server": server.map(|server| device::named(server.stats())),
        "runtime": device::named(runtime::metrics()),
        "long_runs": site::long_runs(),
    });
    if let Some(stack) = stack {
        let stats = stack.stats();
        let queues = stats.shards.iter().map(|shard| {
            let mut queue = device::object(|put| shard.each(put));
            queue["queue"] = shard.queue.clone().into();
            queue
        });
        all["queues"] = queues.collect();
        all["stack"] = device::object(|put| stats.each(put));
    }
    all
}

fn print_totals(server: &Server) {
    say!("totals:");
    for (name, value) in server.stats() {
        say!("  {name:<28}{value}");
    }
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
        assert_eq!(parse_kernel_listen(":0").unwrap().port(), 0);
    }

    #[test]
    fn the_kernels_greeting_says_where() {
        for (bound, first) in [
            (
                "127.0.0.1:80",
                "listening on http://127.0.0.1:80/ (the kernel's",
            ),
            (
                "[fd00::2]:80",
                "listening on http://[fd00::2]:80/ (the kernel's",
            ),
            (
                "0.0.0.0:80",
                "listening on http://127.0.0.1:80/ and port 80 of every",
            ),
            (
                "[::]:80",
                "listening on http://127.0.0.1:80/, http://[::1]:80/ and port 80",
            ),
        ] {
            let text = kernel_greeting(bound.parse().unwrap());
            assert!(text.starts_with(first), "{text}");
        }
    }
}
