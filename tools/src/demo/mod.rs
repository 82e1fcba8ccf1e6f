//! `wirepath demo`: one request, from the ring to its handler and back.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use clap::Args;
use wirepath::Server;
use wirepath::runtime::{self, Runtime, net};
use wirepath_driver::cable::{CableOptions, cable};
use wirepath_driver::trace::{self, Kind};
use wirepath_stack::{Cidr, Config};

use crate::capture::CaptureArgs;
use crate::device::{self, Attachment, Opened};
use crate::failure::Failure;
use crate::{signals, site};

pub mod journey;
mod namespace;

use journey::Journey;

/// Options of `wirepath demo`.
#[derive(Args)]
pub struct Options {
    /// Use the in-memory cable even where a TAP could be had.
    #[arg(long)]
    cable: bool,
    /// What is captured: into demo.pcapng unless told otherwise.
    #[command(flatten)]
    capture: CaptureArgs,
}

/// Where the capture goes.
const CAPTURE: &str = "demo.pcapng";

const TAP: &str = "wp0";
const SERVER: &str = "10.0.0.2/24";
const SERVER_6: &str = "fd00::2/64";
const CLIENT: &str = "10.0.0.1/24";
const PORT: u16 = 80;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: 10.0.0.2\r\nUser-Agent: demo\r\n\r\n";
/// A client that waits longer has met a bug.
const PATIENCE: Duration = Duration::from_secs(5);

fn cidr(text: &str) -> Cidr {
    text.parse()
        .expect("the demo's own addresses are well formed")
}

fn server_addr() -> SocketAddr {
    SocketAddr::new(cidr(SERVER).addr, PORT)
}

/// Runs the demo on a TAP, or says why that cannot be and uses the cable.
pub fn run(options: &Options) -> Result<(), Failure> {
    let mut capture = options.capture.clone();
    capture.pcap.get_or_insert_with(|| CAPTURE.into());
    let made = make(options.cable, &capture, &mut |words| say!("{words}"))?;
    made.tell();
    if let Some(file) = made.attachment.finish()? {
        say!("Open it with Wireshark, or: tshark -r {file}");
    }
    Ok(())
}

/// The way of a request that is made now.
///
/// # Errors
///
/// It was not answered.
pub fn journey(cable: bool) -> Result<Journey, Failure> {
    let made = make(cable, &CaptureArgs::default(), &mut |_| {})?;
    Ok(made.journey)
}

/// Makes two requests on a TAP, or on the cable; `tell` is told where.
fn make(cable: bool, capture: &CaptureArgs, tell: &mut dyn FnMut(&str)) -> Result<Made, Failure> {
    if cable {
        return on_cable(capture, tell);
    }
    match tap_in_namespace(capture) {
        Ok(attachment) => {
            tell(&format!(
                "A request on its way from the kernel's TCP through the TAP {TAP}, in a network\n\
                 namespace of its own, to a handler and back:\n"
            ));
            show(attachment, ask_from_kernel)
        }
        Err(refusal) => {
            tell(&format!("No TAP here: {refusal}.\n"));
            on_cable(capture, tell)
        }
    }
}

/// Enters the namespace, makes the TAP there and gives the kernel its end.
/// An error is something that the machine refuses and a person may allow.
fn tap_in_namespace(capture: &CaptureArgs) -> Result<Attachment, Failure> {
    let setup = |e: namespace::NamespaceError| Failure::setup(&e);
    namespace::enter().map_err(setup)?;
    may_open_tun()?;
    let attachment = device::open_tap(&device::TapRequest {
        name: TAP,
        queues: 1,
        addrs: &[cidr(SERVER), cidr(SERVER_6)],
        gateways: &[],
        mac: None,
        impair: None,
        capture,
    })?
    .assemble()?;
    let kernel = namespace::Rtnetlink::open().map_err(setup)?;
    let index = namespace::index_of(TAP).map_err(setup)?;
    kernel.set_up(index).map_err(setup)?;
    kernel.add_addr(index, cidr(CLIENT)).map_err(setup)?;
    Ok(attachment)
}

/// A TAP in a namespace of one's own takes no right but this.
fn may_open_tun() -> Result<(), Failure> {
    use rustix::fs::{Access, access};
    match access("/dev/net/tun", Access::READ_OK | Access::WRITE_OK) {
        // Whatever else is wrong shows when it is opened, with its own advice.
        Err(rustix::io::Errno::ACCESS) => Err(Failure::refused(
            "this user may not open /dev/net/tun; most distributions allow everybody to, which \
             `sudo chmod a+rw /dev/net/tun` does until the next start",
        )),
        _ => Ok(()),
    }
}

fn on_cable(capture: &CaptureArgs, tell: &mut dyn FnMut(&str)) -> Result<Made, Failure> {
    tell(
        "A request on its way from a client on a second stack of ours, over an in-memory\n\
         cable, to a handler and back:\n",
    );
    let (near, far) = cable(CableOptions::default()).map_err(|e| Failure::setup(&e))?;
    let config = |text| Config::new(device::mac_for(text), vec![cidr(text)]);
    let attachment = Opened::new(vec![Box::new(near)], config(SERVER), capture)?.assemble()?;
    let none = CaptureArgs::default();
    let client = Opened::new(vec![Box::new(far)], config(CLIENT), &none)?.assemble()?;
    let client_runtime = Runtime::builder()
        .stack(client.stack)
        .max_procs(1)
        .build()
        .map_err(|e| Failure::setup(&e))?;
    show(attachment, move || {
        let asked = client_runtime.run(|| {
            let mut stream = net::TcpStream::connect(server_addr())?;
            stream.set_deadline(Some(runtime::now() + PATIENCE));
            ask(&mut stream)
        });
        client_runtime.shutdown(Duration::from_secs(1));
        asked
            .map_err(|_| Failure::running("the client panicked; this is a bug"))?
            .map_err(|e| unanswered(&e))
    })
}

/// What the client saw.
struct Answers {
    /// The last answer.
    text: String,
    /// From its last byte sent to the last received: of the first request, and
    /// of the second.
    took: [Duration; 2],
}

fn unanswered(error: &std::io::Error) -> Failure {
    Failure::running(format!("the request was not answered: {error}"))
}

fn ask_from_kernel() -> Result<Answers, Failure> {
    let asked = || {
        let mut stream = TcpStream::connect_timeout(&server_addr(), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        ask(&mut stream)
    };
    asked().map_err(|e| unanswered(&e))
}

/// Sends two requests on one connection, the second once the first is answered.
fn ask(stream: &mut (impl Read + Write)) -> std::io::Result<Answers> {
    let (_, first) = ask_once(stream)?;
    // Until the server's goroutine waits for its next request, as a keep-alive
    // connection's does nearly always.
    std::thread::sleep(Duration::from_millis(20));
    let (text, second) = ask_once(stream)?;
    Ok(Answers {
        text,
        took: [first, second],
    })
}

/// Sends one request and reads the answer up to the end of its body.
fn ask_once(stream: &mut (impl Read + Write)) -> std::io::Result<(String, Duration)> {
    stream.write_all(REQUEST)?;
    let sent_at = Instant::now();
    let mut answer = Vec::new();
    let mut buf = [0; 4096];
    while !answer.ends_with(b"Hello, World!\n") {
        match stream.read(&mut buf)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => answer.extend_from_slice(&buf[..n]),
        }
    }
    let took = sent_at.elapsed();
    Ok((String::from_utf8_lossy(&answer).into_owned(), took))
}

/// Requests that were made and answered.
struct Made {
    /// The second one's way.
    journey: Journey,
    answers: Answers,
    attachment: Attachment,
}

/// Serves the demo site, has `client` ask, and finds the second request's way.
fn show(
    attachment: Attachment,
    client: impl FnOnce() -> Result<Answers, Failure>,
) -> Result<Made, Failure> {
    trace::enable(1 << 14);
    let runtime = Runtime::builder()
        .stack(attachment.stack.clone())
        .build()
        .map_err(|e| Failure::setup(&e))?;
    signals::on_quit(runtime.handle())
        .map_err(|e| Failure::running(format!("cannot wait for signals: {e}")))?;
    let server = Server::new(site::mux(net::Network::Stack));
    let (serving, ready) = std::sync::mpsc::channel();
    let main = {
        let server = server.clone();
        runtime.go(move || {
            let listener = net::TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], PORT)))?;
            // The other end waits just below; it is gone only when it panicked.
            let _ = serving.send(());
            server.serve(listener).map_err(std::io::Error::other)
        })
    };
    if ready.recv().is_err() {
        return Err(Failure::running("the server did not start; this is a bug"));
    }
    let answers = client()?;
    let closing = server.clone();
    // A panic of either would show in the trace that is told below.
    let _ = runtime
        .go(move || closing.shutdown(Duration::from_secs(1)))
        .join();
    let _ = main.join();
    trace::disable();
    runtime.shutdown(Duration::from_secs(1));
    let journey = second_request(&attachment)?;
    Ok(Made {
        journey,
        answers,
        attachment,
    })
}

fn second_request(attachment: &Attachment) -> Result<Journey, Failure> {
    let snapshot = trace::snapshot();
    // One connection: the flow is that of the handler.
    let handled = snapshot.events.iter().find(|e| e.kind == Kind::HttpHandler);
    handled
        .and_then(|e| {
            let offset = REQUEST.len() as u64;
            Journey::of_request(&snapshot.events, e.flow, offset, &attachment.device)
        })
        .ok_or_else(|| Failure::running("the trace does not hold the request; this is a bug"))
}

impl Made {
    fn tell(&self) {
        say!("{}", self.journey);
        let answers = &self.answers;
        let status = answers.text.lines().next().unwrap_or_default();
        let [first, second] = answers.took.map(|took| took.as_nanos() as f64 / 1e3);
        say!(
            "The client sent {} bytes and had all {} of «{status}» {second:.1} µs later. It was the\n\
             second request of its connection; the first, with everything cold, took {first:.1} µs.\n",
            REQUEST.len(),
            answers.text.len(),
        );
    }
}
