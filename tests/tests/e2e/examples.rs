//! The server's examples, each asked for what its first lines promise: over the
//! kernel's sockets, and over a TAP.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use wirepath::websocket::Message;
use wirepath::websocket::tungstenite;
use wirepath_tests::process::{self, Daemon, Finished};
use wirepath_tests::{Lab, bin};

/// An example that runs, and where its client is.
struct Example<'lab> {
    daemon: Daemon,
    /// Its address.
    addr: SocketAddr,
    /// None: on this machine's loopback.
    lab: Option<&'lab Lab>,
}

impl<'lab> Example<'lab> {
    /// Starts an example, and waits until it listens.
    #[track_caller]
    fn start(name: &str, lab: Option<&'lab Lab>, args: &[&str]) -> Example<'lab> {
        let mut command = match lab {
            Some(lab) => lab.server_net().command("setpriv"),
            None => Command::new("setpriv"),
        };
        // It dies with the test.
        command
            .args(["--pdeathsig", "KILL"])
            .arg(bin::example(name));
        match lab {
            Some(_) => command.args(["--tap", "wp0", "--addr", "10.0.0.2/24"]),
            None => command.args(["--kernel", "127.0.0.1:0"]),
        };
        let mut daemon = Daemon::start(command.args(args)).expect("a program can be started");
        daemon.wait_for("listening on");
        let output = daemon.output();
        let addr = output.lines().find_map(|line| line.split_once("://"));
        let addr = addr.expect("it says where").1.parse();
        Example {
            daemon,
            addr: addr.expect("an address and a port"),
            lab,
        }
    }

    fn run(&self, program: &str, args: &[&str]) -> Finished {
        match self.lab {
            Some(lab) => lab.run(program, args),
            None => process::run(Command::new(program).args(args)),
        }
    }

    /// What curl prints that asks for `path`.
    #[track_caller]
    fn curl(&self, path: &str, args: &[&str]) -> String {
        let url = format!("http://{}{path}", self.addr);
        let common = ["-sS", "--max-time", "60", &url];
        self.run("curl", &[&common, args].concat()).ok().text()
    }

    fn connect(&self) -> TcpStream {
        match self.lab {
            Some(lab) => lab.net().connect(self.addr),
            None => TcpStream::connect(self.addr),
        }
        .expect("it listens")
    }
}

/// The status that curl prints.
const STATUS: [&str; 2] = ["-w", "%{http_code}"];

fn rest(lab: Option<&Lab>) {
    let example = Example::start("rest", lab, &[]);
    let note = r#"{"id":1,"text":"buy milk"}"#;
    assert_eq!(
        example.curl("/notes", &["-d", r#"{"text":"buy milk"}"#]),
        note
    );
    assert_eq!(example.curl("/notes", &[]), format!("[{note}]"));
    let deleted = example.curl("/notes/1", &["-X", "DELETE", STATUS[0], STATUS[1]]);
    assert_eq!(deleted, "204");
    assert!(example.curl("/notes/1", &STATUS).ends_with("404"));
}

fn files(lab: Option<&Lab>) {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
    let example = Example::start("files", lab, &[docs]);
    assert!(example.curl("/", &[]).contains("ARCHITECTURE.md"));
    let whole = fs::read_to_string(format!("{docs}/ARCHITECTURE.md")).unwrap();
    assert_eq!(example.curl("/ARCHITECTURE.md", &[]), whole);
    assert_eq!(
        example.curl("/ARCHITECTURE.md", &["-r", "2-9"]),
        whole[2..10]
    );
}

fn sse(lab: Option<&Lab>) {
    let example = Example::start("sse", lab, &[]);
    assert!(example.curl("/", &[]).contains("EventSource"));
    let url = format!("http://{}/events", example.addr);
    // It ends after the first events, as it has to be told to.
    let got = example
        .run("curl", &["-sN", "--max-time", "3", &url])
        .text();
    assert!(
        got.starts_with("id: 0\ndata: 0 s since the page was opened\n\nid: 1\n"),
        "{got}"
    );
}

fn websocket(lab: Option<&Lab>) {
    let example = Example::start("websocket", lab, &[]);
    assert!(example.curl("/", &[]).contains("new WebSocket"));
    assert!(example.curl("/echo", &STATUS).ends_with("426"));
    let url = format!("ws://{}/echo", example.addr);
    let (mut socket, _) = tungstenite::client(url, example.connect()).unwrap();
    for text in ["hello", &"x".repeat(100_000)] {
        socket.send(text.into()).unwrap();
        assert_eq!(socket.read().unwrap(), Message::from(text));
    }
    socket.close(None).unwrap();
    assert!(matches!(socket.read(), Ok(Message::Close(_))));
}

fn axum(lab: Option<&Lab>) {
    let example = Example::start("axum", lab, &[]);
    assert_eq!(example.curl("/users/42", &[]), "user 42\n");
    assert_eq!(
        example.curl("/sum", &["--json", r#"{"a":1,"b":2}"#]),
        r#"{"sum":3}"#
    );
    assert_eq!(example.curl("/later", &[]), "a timer of tokio's went off\n");
    let ip = if lab.is_some() {
        "10.0.0.1:"
    } else {
        "127.0.0.1:"
    };
    assert!(example.curl("/whoami", &[]).starts_with(ip));
}

/// A certificate for the examples' addresses, and its key, in a folder.
fn certificate(dir: &std::path::Path) -> [PathBuf; 2] {
    let paths = [dir.join("cert.pem"), dir.join("key.pem")];
    let [certificate, key] = paths.each_ref().map(|path| path.to_str().unwrap());
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "30"]);
    command.args([
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-subj",
        "/CN=localhost",
    ]);
    command.args(["-addext", "subjectAltName=IP:127.0.0.1,IP:10.0.0.2"]);
    process::run(command.args(["-keyout", key, "-out", certificate])).ok();
    paths
}

fn tls(lab: Option<&Lab>) {
    let dir = tempfile::tempdir().unwrap();
    let paths = certificate(dir.path());
    let [certificate_path, key_path] = paths.each_ref().map(|path| path.to_str().unwrap());
    let mut example = Example::start("tls", lab, &[certificate_path, key_path]);
    let url = format!("https://{}/", example.addr);
    let ask = [
        "-sS",
        "--max-time",
        "60",
        "--cacert",
        certificate_path,
        &url,
    ];
    let said = example.run("curl", &ask).ok().text();
    assert!(said.starts_with("TLSv1_3 with TLS13_"), "{said}");
    let plain = example.curl("/", &["--http0.9"]);
    assert_eq!(plain, "Client sent an HTTP request to an HTTPS server.\n");
    certificate(dir.path());
    example.daemon.wait_for("the certificate was read again");
    example.run("curl", &ask).ok();
}

fn graceful_shutdown(lab: Option<&Lab>) {
    let mut example = Example::start("graceful_shutdown", lab, &[]);
    let url = format!("http://{}/slow", example.addr);
    let mut command = match lab {
        Some(lab) => lab.net().command("curl"),
        None => Command::new("curl"),
    };
    let mut curl = Daemon::start(command.args(["-sS", "--max-time", "60", &url])).unwrap();
    example.daemon.wait_for("a request began");
    example.daemon.signal(Signal::TERM);
    let (status, said) = curl.wait();
    assert!(
        status.success() && said.contains("done after 3 s"),
        "{said}"
    );
    let (status, said) = example.daemon.wait();
    assert!(status.success(), "{said}");
    assert!(
        said.ends_with("shutting down\nevery request was answered\n"),
        "{said}"
    );
}

/// Makes two tests of each function: over the kernel's sockets, and a TAP.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod kernel {
            $(#[test]
            fn $test() {
                super::$test(None);
            })*
        }
        mod tap {
            $(#[test]
            fn $test() {
                let name = concat!("example_", stringify!($test));
                let lab = wirepath_tests::Lab::new(wirepath_tests::Device::Tap, name);
                if let Some(lab) = lab {
                    super::$test(Some(&lab));
                }
            })*
        }
    };
}

on_both!(axum, files, graceful_shutdown, rest, sse, tls, websocket);
