//! `wirepath serve`: HTTP on an AF_XDP or TAP device, or over the kernel's
//! sockets, until told to stop.
//!
//! The order matters: what was asked for is checked ([`plan`]), what takes a
//! right is opened ([`device`]), all rights are given up ([`privileges`]), and
//! only then do threads start (the capture's writer, the runtime, signals).
//! Who manages services is told when it listens and when it stops ([`notify`]).

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use wirepath::runtime::net::{Network, TcpListener};
use wirepath::runtime::{self, Builder, Runtime};
use wirepath::see::recorder::Frames;
use wirepath::{ServeError, Server};
use wirepath_stack::Stack;

use crate::control::Listening;
use crate::device::{self, Opened};
use crate::failure::Failure;
use crate::privileges::{self, Successor};
use crate::{signals, site};

mod greeting;
mod ledger;
mod notify;
pub mod options;
mod plan;
pub(crate) mod recorder;
mod report;
#[cfg_attr(not(feature = "xdp"), path = "no_xdp.rs")]
mod xdp;

pub use options::Options;
use plan::Wish;
pub(crate) use recorder::parse_duration;
pub use report::Below;
use xdp::Card;

/// How long requests in flight may take once the server was told to stop.
const DRAIN: Duration = Duration::from_secs(30);

/// How many connections that were cut off are named.
const MOST_NAMED: usize = 10;

/// How long peers may take after that for what was written to them, and how often
/// to look.
const DELIVERY: Duration = Duration::from_secs(10);
const DELIVERY_LOOK: Duration = Duration::from_millis(2);

/// Makes the server that is to serve, once what it serves on is open. `Below`
/// is what is under it, unless that is the kernel.
pub type MakeServer<'m> = &'m dyn Fn(Option<Below>) -> Result<Server, Failure>;

/// Serves the demo site, or files, until a signal, then drains.
///
/// # Errors
///
/// What cannot be served on, or broke meanwhile.
pub fn run(options: &Options) -> Result<(), Failure> {
    if let Some(root) = options.root.as_deref().filter(|root| !root.is_dir()) {
        let root = root.display();
        return Err(Failure::refused(format!(
            "--root {root} is not a directory"
        )));
    }
    run_server(options, &|below| make_server(options, below))
}

/// Serves what `make` makes until a signal, then drains. The greeting names the
/// page of the path unless [`Options::no_debug_page`] is set.
///
/// # Errors
///
/// As [`run`].
pub fn run_server(options: &Options, make: MakeServer<'_>) -> Result<(), Failure> {
    match (options.kernel, &options.tap, &options.xdp.interface) {
        (Some(listen), ..) => {
            let control = Listening::open(options.control.as_ref())?;
            serve(
                options,
                make,
                None,
                None,
                listen,
                control,
                greeting::on_kernel,
            )
        }
        (None, Some(tap), _) => run_on_tap(options, make, tap),
        (None, None, Some(interface)) => run_on_xdp(options, make, interface),
        (None, None, None) => Err(Failure::refused(
            "nowhere to serve: give a network interface with --xdp INTERFACE or a device with \
             --tap NAME, and an address with --addr ADDR/PREFIX; or --kernel :8080 for the \
             kernel's sockets",
        )),
    }
}

fn run_on_tap(options: &Options, make: MakeServer<'_>, tap: &str) -> Result<(), Failure> {
    plan::on_tap(&options.addrs, options.listen, &options.gateways)?;
    let successor = successor(options)?;
    let opened = device::open_tap(&device::TapRequest {
        name: tap,
        queues: tap_queues(options)?,
        addrs: &options.addrs,
        gateways: &options.gateways,
        mac: options.mac,
        impair: options.impair.as_ref(),
        capture: &options.capture,
    })?;
    let mut greeting = greeting::on_tap(tap, &options.addrs, options.listen);
    if let Some(impair) = &options.impair {
        greeting += &format!("Frames are impaired on purpose: {}.\n", impair.text());
    }
    serve_on_device(options, make, opened, None, successor.as_ref(), greeting)
}

/// The queues of a TAP are made by opening it, so they count from 0.
fn tap_queues(options: &Options) -> Result<u32, Failure> {
    match options.queues.as_ref().map(|queues| &queues.0) {
        None => Ok(1),
        Some(queues) if *queues.start() == 0 => Ok(queues.end() + 1),
        Some(queues) => Err(Failure::refused(format!(
            "--queues {}-{}: a TAP's queues are made when it is opened and count from 0; give \
             --queues 0-{}",
            queues.start(),
            queues.end(),
            queues.end() - queues.start()
        ))),
    }
}

fn run_on_xdp(options: &Options, make: MakeServer<'_>, interface: &str) -> Result<(), Failure> {
    xdp::available(interface)?;
    let wish = Wish {
        interface,
        addrs: &options.addrs,
        share_host: options.xdp.share_host,
        ports: options.xdp.ports.as_ref().map(|list| &list.0[..]),
        listen: options.listen,
        gateways: &options.gateways,
    };
    let plan = plan::on_interface(&wish, &plan::host_addrs()?)?;
    let successor = successor(options)?;
    let (opened, card) = xdp::open(options, interface, &plan)?;
    let greeting = greeting::on_xdp(interface, &plan, options.listen, &card.given());
    serve_on_device(
        options,
        make,
        opened,
        Some(card),
        successor.as_ref(),
        greeting,
    )
}

fn successor(options: &Options) -> Result<Option<Successor>, Failure> {
    let find = |name| Successor::find(name).map_err(|e| Failure::setup(&e));
    options.user.as_deref().map(find).transpose()
}

/// Gives up all rights, and only then starts anything.
fn serve_on_device(
    options: &Options,
    make: MakeServer<'_>,
    opened: Opened,
    card: Option<Card>,
    successor: Option<&Successor>,
    greeting: String,
) -> Result<(), Failure> {
    let opened = opened.can_be_asked();
    let control = Listening::open(options.control.as_ref())?;
    privileges::drop_all(successor).map_err(|e| Failure::setup(&e))?;
    let attachment = opened
        .keep_frames(options.recorder.record_frames)?
        .assemble()?;
    let frames = attachment.frames.clone().map(|ring| {
        let take = move || ring.lock().unwrap_or_else(PoisonError::into_inner).take();
        Arc::new(take) as Frames
    });
    let below = Below {
        stack: attachment.stack.clone(),
        card,
    };
    let listen = options.listen;
    serve(options, make, Some(&below), frames, listen, control, |_| {
        greeting
    })?;
    attachment.finish()?;
    Ok(())
}

/// Serves over the stack below, or without one over the kernel's sockets.
/// `greet` gets the address that it listens on, `control` is answered while it
/// serves.
fn serve(
    options: &Options,
    make: MakeServer<'_>,
    below: Option<&Below>,
    frames: Option<Frames>,
    listen: SocketAddr,
    control: Option<Listening>,
    greet: impl FnOnce(SocketAddr) -> String + Send + 'static,
) -> Result<(), Failure> {
    options.recorder.enable()?;
    let stack = below.map(|below| below.stack.clone());
    let runtime = builder(options, stack)
        .build()
        .map_err(|e| Failure::setup(&e))?;
    signals::on_quit(runtime.handle())
        .map_err(|e| Failure::running(format!("cannot wait for signals: {e}")))?;
    let _recorder = options.recorder.watch(&runtime.handle(), frames)?;
    let server = make(below.cloned())?;
    let scene = report::scene(runtime.handle(), &server, below);
    let _control = control.map(|socket| socket.answer(scene)).transpose()?;
    let served = {
        let server = server.clone();
        let device = options
            .xdp
            .interface
            .clone()
            .or_else(|| options.tap.clone());
        let stack = below.map(|below| below.stack.clone());
        let shows_page = options.shows_page();
        runtime.run(move || {
            let greet = |bound| match shows_page {
                true => greeting::with_page(&greet(bound)),
                false => greet(bound),
            };
            serve_until_stopped(&server, listen, device.as_deref(), greet)?;
            if let Some(stack) = stack {
                deliver(&stack);
            }
            Ok(())
        })
    };
    served
        .map_err(|_| Failure::running("the server's main goroutine panicked; this is a bug"))??;
    runtime.shutdown(Duration::from_secs(1));
    say!("{}", report::totals(&server, below).trim_end());
    Ok(())
}

fn builder(options: &Options, stack: Option<Stack>) -> Builder {
    let mut builder = Runtime::builder();
    let stack_queues = stack.as_ref().map_or(0, Stack::shards);
    if let Some(stack) = stack {
        builder = builder.stack(stack);
    }
    if let Some(n) = procs(options, stack_queues) {
        builder = builder.max_procs(n);
    }
    builder
}

/// As many as were asked for, else the environment's number; else one for each
/// queue of a card, whose owner it then is, and the runtime's default (the
/// cores) for what is not a card.
fn procs(options: &Options, queues: usize) -> Option<usize> {
    match options.maxprocs {
        Some(n) => Some(n.into()),
        None if std::env::var_os(runtime::MAX_PROCS_VAR).is_some() => None,
        None => options.xdp.interface.is_some().then_some(queues),
    }
}

/// The server of the demo site or of files, with its counters.
fn make_server(options: &Options, below: Option<Below>) -> Result<Server, Failure> {
    let network = match below {
        Some(_) => Network::Stack,
        None => Network::Kernel,
    };
    // The counters' handler is made before the server that it tells of.
    let server: Arc<OnceLock<Server>> = Arc::default();
    let counters = {
        let server = server.clone();
        let below = below.clone();
        move || report::counters(server.get(), below.as_ref())
    };
    let scene = {
        let (server, below) = (server.clone(), below.clone());
        move || {
            let server = server.get().expect("it is made before it serves");
            let runtime = runtime::Handle::current().expect("pages are asked for on goroutines");
            report::scene(runtime, server, below.as_ref())
        }
    };
    let mut mux = site::of(network, options.root.as_deref())?;
    site::add_counters(&mut mux, &options.debug_from, counters);
    if options.shows_page() {
        site::add_page(&mut mux, &options.debug_from, scene);
    }
    let make = || match options.metrics {
        true => {
            let metrics = report::metrics(below);
            site::add_metrics(&mut mux, &options.debug_from, &metrics);
            Server::new(metrics.measure(mux))
        }
        false => Server::new(mux),
    };
    Ok(server.get_or_init(make).clone())
}

fn serve_until_stopped(
    server: &Server,
    listen: SocketAddr,
    device: Option<&str>,
    greet: impl FnOnce(SocketAddr) -> String,
) -> Result<(), Failure> {
    let listener = TcpListener::bind(listen).map_err(|e| cannot_listen(listen, &e))?;
    let greeting = greet(listener.local_addr().map_err(|e| Failure::setup(&e))?);
    let runtime = runtime::Handle::current().expect("called on a goroutine");
    let to_stop = server.clone();
    let (drained, drain) = runtime::chan::channel(1);
    signals::on_stop(move || {
        let stopping = format!("stopping: requests in flight have {} s", DRAIN.as_secs());
        eprintln!("{stopping}");
        notify::stopping(&stopping);
        runtime.go(move || drained.send(to_stop.shutdown(DRAIN)));
    })
    .map_err(|e| Failure::running(format!("cannot wait for signals: {e}")))?;
    say!("{}", greeting.trim_end());
    notify::ready(greeting.lines().next().unwrap_or_default());
    server
        .serve(listener)
        .map_err(|e| cannot_accept(&e, device))?;
    // Parks, and so leaves the thread to the requests that are bound to it.
    let outcome = drain
        .recv()
        .map_err(|_| Failure::running("the server stopped by itself; this is a bug"))?;
    if !outcome.is_complete() {
        eprintln!(
            "ended {} connections in the middle of a request",
            outcome.open.len()
        );
        for open in outcome.open.iter().take(MOST_NAMED) {
            eprintln!("  {open}");
        }
        server.close();
    }
    Ok(())
}

/// Waits until peers have all that was written to them. A kernel's sockets go on
/// after their process; these end with it.
fn deliver(stack: &Stack) {
    let is_under_way = || stack.stats().shards.iter().any(|s| s.gauges.delivering > 0);
    let end = Instant::now() + DELIVERY;
    while is_under_way() && Instant::now() < end {
        runtime::sleep(DELIVERY_LOOK);
    }
}

/// Why a server that listened no longer does.
fn cannot_accept(error: &ServeError, device: Option<&str>) -> Failure {
    match (error, device) {
        (ServeError::Accept(cause), Some(device)) if cause.kind() == io::ErrorKind::NetworkDown => {
            Failure::running(format!(
                "the interface {device} is gone, and every connection with it; 'ip -br link' \
                 lists those that are there: start again on one of them, or when it is back"
            ))
        }
        (ServeError::Accept(cause), _) => Failure::running(format!("{error}: {cause}")),
        _ => Failure::setup(error),
    }
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
