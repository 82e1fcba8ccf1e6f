//! HTTPS over the kernel's loopback, with curl, openssl and rustls as clients.
#![cfg(feature = "tls")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;
use wirepath::httptest::TestServer;
use wirepath::tls::{Certificates, ClientAuth, TlsConfig, TlsError, rustls};
use wirepath::{Request, ResponseWriter, ServeMux, Server};

/// An authority of the test's, and where it puts its files.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "an authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { issuer, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes `NAME.pem` and `NAME.key` of a certificate for these hosts.
    fn issue(&self, name: &str, hosts: &[&str]) -> (PathBuf, PathBuf) {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(hosts).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (cert_path, key_path) = (
            self.path(&format!("{name}.pem")),
            self.path(&format!("{name}.key")),
        );
        fs::write(&cert_path, certificate.pem()).unwrap();
        fs::write(&key_path, key.serialize_pem()).unwrap();
        (cert_path, key_path)
    }

    fn certificates(&self, name: &str, hosts: &[&str]) -> Arc<Certificates> {
        let (certificate, key) = self.issue(name, hosts);
        Arc::new(Certificates::from_files(certificate, key).unwrap())
    }

    fn roots(&self) -> Arc<RootCertStore> {
        ClientAuth::roots_from_pem(self.issuer.pem().as_bytes()).unwrap()
    }

    fn curl(&self, url: &str, args: &[&str]) -> Output {
        Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "30", "--cacert"])
            .arg(self.path("ca.pem"))
            .args(args)
            .arg(url)
            .output()
            .expect("curl is installed")
    }

    /// What curl prints, having succeeded.
    #[track_caller]
    fn fetch(&self, url: &str, args: &[&str]) -> String {
        let out = self.curl(url, args);
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{}: {said}", out.status);
        String::from_utf8(out.stdout).unwrap()
    }

    /// A client's session with the server at this URL, which it calls so.
    fn session(&self, url: &str, name: &str) -> StreamOwned<ClientConnection, TcpStream> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        let client = ClientConnection::new(Arc::new(config), name.to_string().try_into().unwrap());
        let stream = TcpStream::connect(address(url)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        StreamOwned::new(client.unwrap(), stream)
    }
}

fn address(url: &str) -> &str {
    url.strip_prefix("https://").unwrap()
}

/// How long what ought to happen at once is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

fn wait_until(condition: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn routes() -> ServeMux {
    let mut mux = ServeMux::new();
    mux.handle_func("/{$}", |w, _| w.write_all(b"hello\n").unwrap());
    mux.handle_func("/big", |w, _| w.write_all(&vec![b'x'; 3 << 20]).unwrap());
    mux.handle_func("POST /echo", |w, r| {
        std::io::copy(&mut r.body, w).unwrap();
    });
    mux.handle_func("/tls", |w: &mut ResponseWriter, r: &mut Request| {
        let tls = r.tls().expect("over TLS");
        let alpn = tls.alpn.as_deref().map(String::from_utf8_lossy);
        let (version, name) = (tls.version, &tls.server_name);
        let shown = tls.peer_certificates.len();
        write!(w, "{version:?} {alpn:?} {name:?} {shown}").unwrap();
    });
    mux.handle_func("/plain", |w, r| write!(w, "{}", r.tls().is_none()).unwrap());
    mux
}

#[test]
fn curl_gets_pages_over_each_version() {
    let authority = Authority::new();
    let tls = TlsConfig::new(authority.certificates("a", &["127.0.0.1", "localhost"])).unwrap();
    let server = TestServer::start(routes());
    let url = server.tls_url(&tls);
    assert_eq!(authority.fetch(&url, &[]), "hello\n");
    let max12 = authority.fetch(&format!("{url}/tls"), &["--tls-max", "1.2"]);
    assert_eq!(max12, "TLSv1_2 Some(\"http/1.1\") None 0");
    let at_localhost = url.replace("127.0.0.1", "localhost");
    let max13 = authority.fetch(&format!("{at_localhost}/tls"), &["--tlsv1.3"]);
    assert_eq!(max13, "TLSv1_3 Some(\"http/1.1\") Some(\"localhost\") 0");
    let twice = authority.fetch(&url, &["--write-out", "%{num_connects}", &url]);
    assert_eq!(
        twice, "hello\n1hello\n0",
        "the second goes over the first's connection"
    );
    assert_eq!(authority.fetch(&format!("{url}/big"), &[]).len(), 3 << 20);
    let body = authority.path("body");
    fs::write(&body, vec![b'y'; 1 << 20]).unwrap();
    let data = format!("@{}", body.display());
    let echo = authority.fetch(&format!("{url}/echo"), &["--data-binary", &data]);
    assert!(echo.len() == 1 << 20 && echo.bytes().all(|b| b == b'y'));
    let plain = authority.fetch(&format!("{}/plain", server.url()), &[]);
    assert_eq!(plain, "true");
}

#[test]
fn the_secrets_that_are_told_are_those_of_the_client() {
    let authority = Authority::new();
    let lines: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let told = lines.clone();
    let tls = TlsConfig::builder(authority.certificates("a", &["127.0.0.1"]))
        .key_log_to(move |line| {
            told.lock().unwrap().insert(line.to_owned());
        })
        .build()
        .unwrap();
    let server = TestServer::start(routes());
    let url = server.tls_url(&tls);
    let log = authority.path("keys");
    for version in ["1.2", "1.3"] {
        let out = Command::new("curl")
            .args(["--silent", "--max-time", "30", "--cacert"])
            .arg(authority.path("ca.pem"))
            .args(["--tls-max", version, &url])
            .env("SSLKEYLOGFILE", &log)
            .output()
            .expect("curl is installed");
        assert_eq!(out.stdout, b"hello\n");
    }
    let theirs = fs::read_to_string(&log).expect("this curl leaves its keys");
    let ours = lines.lock().unwrap();
    let is_known = |line: &&str| ours.contains(*line);
    // One of TLS 1.2, and of TLS 1.3 those of handshake and data, both ways.
    assert!(
        theirs.lines().filter(is_known).count() >= 5,
        "{theirs} {ours:?}"
    );
    let labels: BTreeSet<&str> = ours.iter().filter_map(|l| l.split(' ').next()).collect();
    assert!(labels.contains("CLIENT_RANDOM") && labels.contains("SERVER_TRAFFIC_SECRET_0"));
}

#[test]
fn only_tls13_refuses_tls12() {
    let authority = Authority::new();
    let certificates = authority.certificates("a", &["127.0.0.1"]);
    let tls = TlsConfig::builder(certificates)
        .only_tls13()
        .build()
        .unwrap();
    let server = TestServer::start(routes());
    let url = server.tls_url(&tls);
    assert!(!authority.curl(&url, &["--tls-max", "1.2"]).status.success());
    assert_eq!(authority.fetch(&url, &[]), "hello\n");
}

#[test]
fn plain_http_on_the_tls_port_is_told() {
    let authority = Authority::new();
    let tls = TlsConfig::new(authority.certificates("a", &["127.0.0.1"])).unwrap();
    let server = TestServer::start(routes());
    let url = server.tls_url(&tls);
    for cut in [1, 4, 7] {
        let mut stream = TcpStream::connect(address(&url)).unwrap();
        let (start, end) = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".split_at(cut);
        stream.write_all(start).unwrap();
        stream.write_all(end).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(
            answer,
            "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
        );
    }
    let mut stream = TcpStream::connect(address(&url)).unwrap();
    stream.write_all(b"SSH-2.0-client\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer.first(), Some(&21), "an alert: {answer:?}");
    wait_until(|| stat(&server, "connections_open") == 0);
}

fn stat(server: &TestServer, name: &str) -> u64 {
    let stats = server.server().stats();
    stats.iter().find(|(n, _)| *n == name).unwrap().1
}

#[test]
fn the_name_that_is_asked_for_chooses_the_certificate() {
    let authority = Authority::new();
    let (a, a_key) = authority.issue("a", &["a.example", "*.a.example"]);
    let (b, b_key) = authority.issue("b", &["b.example"]);
    let both = Certificates::from_files(&a, a_key).unwrap();
    let both = both.and_files(&b, b_key).unwrap();
    let tls = TlsConfig::new(Arc::new(both)).unwrap();
    let server = TestServer::start(routes());
    let url = server.tls_url(&tls);
    let shown = |name: &str| {
        let mut session = authority.session(&url, name);
        let asked = session.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let shown = session.conn.peer_certificates().map(|c| c[0].clone());
        (asked.is_ok(), shown)
    };
    let file = |path| Some(CertificateDer::from_pem_file(path).unwrap());
    assert_eq!(shown("a.example"), (true, file(&a)));
    assert_eq!(shown("www.a.example"), (true, file(&a)));
    assert_eq!(shown("b.example"), (true, file(&b)));
    assert!(!shown("c.example").0, "it gets the first, which it refuses");
}

#[test]
fn certificates_are_replaced_while_connections_stay() {
    let authority = Authority::new();
    let (path, key) = authority.issue("a", &["old.example"]);
    let certificates = Arc::new(Certificates::from_files(&path, &key).unwrap());
    let tls = TlsConfig::new(certificates.clone()).unwrap();
    let server = TestServer::start(routes());
    let url = server.tls_url(&tls);
    let ask = |session: &mut StreamOwned<_, _>| {
        session.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
        session.read(&mut [0; 4096])
    };
    let mut old = authority.session(&url, "old.example");
    ask(&mut old).unwrap();
    assert!(!certificates.reload_if_changed().unwrap());
    fs::write(&path, "no certificate").unwrap();
    let refused = certificates.reload_if_changed().unwrap_err();
    assert!(matches!(refused, TlsError::NoCertificate), "{refused}");
    ask(&mut authority.session(&url, "old.example")).unwrap();
    authority.issue("a", &["new.example"]);
    assert!(certificates.reload_if_changed().unwrap());
    ask(&mut authority.session(&url, "new.example")).unwrap();
    ask(&mut authority.session(&url, "old.example")).unwrap_err();
    ask(&mut old).unwrap();
    let (_, other_key) = authority.issue("b", &["b.example"]);
    fs::copy(other_key, &key).unwrap();
    let refused = certificates.reload().unwrap_err();
    assert!(matches!(refused, TlsError::Certificate(_)), "{refused}");
    ask(&mut authority.session(&url, "new.example")).unwrap();
}

#[test]
fn clients_show_certificates_where_they_must() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let server = TestServer::start(routes());
    let of = |auth| {
        let certificates = authority.certificates("server", &["127.0.0.1"]);
        let tls = TlsConfig::builder(certificates).client_auth(auth).build();
        server.tls_url(&tls.unwrap()) + "/tls"
    };
    let required = of(ClientAuth::Required(authority.roots()));
    let optional = of(ClientAuth::Optional(authority.roots()));
    let (certificate, key) = authority.issue("client", &["client.example"]);
    let show = [
        "--cert",
        certificate.to_str().unwrap(),
        "--key",
        key.to_str().unwrap(),
    ];
    for url in [&required, &optional] {
        assert!(!authority.fetch(url, &show).ends_with(" 0"));
    }
    assert!(authority.fetch(&optional, &[]).ends_with(" 0"));
    assert!(!authority.curl(&required, &[]).status.success());
    let (certificate, key) = stranger.issue("client", &["client.example"]);
    let show = [
        "--cert",
        certificate.to_str().unwrap(),
        "--key",
        key.to_str().unwrap(),
    ];
    assert!(!authority.curl(&optional, &show).status.success());
}

#[test]
fn a_cut_connection_is_not_taken_for_a_whole_body() {
    let authority = Authority::new();
    let tls = TlsConfig::new(authority.certificates("a", &["a.example"])).unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    let server = TestServer::start(move |_: &mut ResponseWriter, r: &mut Request| {
        let read = r.body.read_to_end(&mut Vec::new());
        send.send(read.map_err(|e| e.kind())).unwrap();
    });
    let url = server.tls_url(&tls);
    let half = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let mut cut = authority.session(&url, "a.example");
    cut.write_all(half).unwrap();
    cut.sock.shutdown(Shutdown::Write).unwrap();
    assert_eq!(
        receive.recv_timeout(PATIENCE).unwrap(),
        Err(ErrorKind::UnexpectedEof)
    );
    let mut whole = authority.session(&url, "a.example");
    whole.write_all(half).unwrap();
    whole.write_all(b"0\r\n\r\n").unwrap();
    assert_eq!(receive.recv_timeout(PATIENCE).unwrap(), Ok(5));
    // And the server says farewell itself, when it ends a connection.
    whole.write_all(b"nonsense\r\n\r\n").unwrap();
    whole
        .read_to_end(&mut Vec::new())
        .expect("close_notify, not only the end");
}

#[test]
fn a_handshake_has_the_time_of_a_head() {
    let authority = Authority::new();
    let tls = TlsConfig::new(authority.certificates("a", &["a.example"])).unwrap();
    let builder = Server::builder(routes()).read_header_timeout(Duration::from_millis(50));
    let server = TestServer::with(builder);
    let mut stream = TcpStream::connect(address(&server.tls_url(&tls))).unwrap();
    stream.write_all(&[22, 3, 1]).unwrap();
    assert_eq!(
        stream.read(&mut [0; 1]).unwrap(),
        0,
        "closed without a word"
    );
}

#[test]
fn a_thousand_records_and_pipelined_requests_are_all_answered() {
    let authority = Authority::new();
    let tls = TlsConfig::new(authority.certificates("a", &["a.example"])).unwrap();
    let server = TestServer::start(routes());
    let mut session = authority.session(&server.tls_url(&tls), "a.example");
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for byte in request {
        session.write_all(&[*byte]).unwrap();
    }
    session.write_all(&request.repeat(999)).unwrap();
    session
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answers = String::new();
    session.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("\r\n\r\nhello\n").count(), 1001);
}

#[test]
fn idle_connections_hold_no_stack() {
    let authority = Authority::new();
    let tls = TlsConfig::new(authority.certificates("a", &["a.example"])).unwrap();
    let server = TestServer::start(routes());
    let url = server.tls_url(&tls);
    let sessions: Vec<_> = (0..100)
        .map(|_| {
            let mut session = authority.session(&url, "a.example");
            session
                .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                .unwrap();
            assert!(session.read(&mut [0; 4096]).unwrap() > 0);
            session
        })
        .collect();
    assert_eq!(stat(&server, "connections_open"), sessions.len() as u64);
    // In the middle of a step a goroutine has a stack, and is bound to its
    // thread; between steps it has neither.
    let bound = || {
        let metrics = server.runtime().metrics();
        let found = metrics.iter().find(|(name, _)| *name == "goroutines_bound");
        found.unwrap().1
    };
    wait_until(|| bound() < 10);
}

#[test]
fn openssl_agrees() {
    let authority = Authority::new();
    let tls = TlsConfig::new(authority.certificates("a", &["a.example"])).unwrap();
    let server = TestServer::start(routes());
    let url = server.tls_url(&tls);
    let ca = authority.path("ca.pem");
    for (version, says) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let mut client = Command::new("openssl")
            .args([
                "s_client",
                "-quiet",
                "-brief",
                "-verify_return_error",
                version,
            ])
            .args(["-servername", "a.example", "-verify_hostname", "a.example"])
            .args(["-alpn", "http/1.1", "-connect", address(&url), "-CAfile"])
            .arg(&ca)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssl is installed");
        let mut stdin = client.stdin.take().unwrap();
        stdin
            .write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
            .unwrap();
        let out = client.wait_with_output().unwrap();
        drop(stdin);
        let (got, said) = (
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr),
        );
        assert!(got.ends_with("\r\n\r\nhello\n"), "{got}\n{said}");
        assert!(said.contains(says), "{said}");
    }
    // HTTP/2 is not spoken, and no other protocol taken for HTTP/1.1.
    let out = Command::new("openssl")
        .args([
            "s_client",
            "-brief",
            "-alpn",
            "h2",
            "-connect",
            address(&url),
        ])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("no application protocol"), "{said}");
}

#[test]
fn what_is_no_certificate_is_refused_with_words() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("a", &["a.example"]);
    let (cert_pem, key_pem) = (fs::read(&certificate).unwrap(), fs::read(&key).unwrap());
    let refused = |cert: &[u8], key: &[u8]| Certificates::from_pem(cert, key).unwrap_err();
    assert!(matches!(
        refused(&key_pem, &key_pem),
        TlsError::NoCertificate
    ));
    assert!(matches!(refused(&cert_pem, &cert_pem), TlsError::NoKey));
    let (_, other) = authority.issue("b", &["b.example"]);
    let other = fs::read(other).unwrap();
    assert!(matches!(
        refused(&cert_pem, &other),
        TlsError::Certificate(_)
    ));
    let missing = Certificates::from_files(&certificate, "/nowhere/key.pem").unwrap_err();
    assert_eq!(missing.to_string(), "cannot read /nowhere/key.pem");
    assert!(PrivateKeyDer::from_pem_slice(&key_pem).is_ok());
}

/// What each side sends while the other does.
const DUPLEX_BYTES: usize = 4 << 20;

/// Takes the connection over, and reads on one goroutine while it writes on
/// another.
fn duplex(w: &mut ResponseWriter, r: &mut Request) {
    let hijacked = w.hijack(r).unwrap();
    let conn = Arc::new(hijacked.conn);
    let writer = conn.clone();
    let writing = wirepath::runtime::go(move || {
        for _ in 0..DUPLEX_BYTES >> 12 {
            (&*writer).write_all(&[b'x'; 1 << 12]).unwrap();
        }
    });
    let mut got = hijacked.buffered.len();
    let mut buf = [0; 1 << 12];
    while got < DUPLEX_BYTES {
        got += (&*conn).read(&mut buf).unwrap();
    }
    writing.join().unwrap();
    (&*conn).write_all(b"both").unwrap();
}

#[test]
fn both_directions_go_on_at_once() {
    let authority = Authority::new();
    let tls = TlsConfig::new(authority.certificates("a", &["a.example"])).unwrap();
    let server = TestServer::start(duplex);
    let mut client = Command::new("openssl")
        .args([
            "s_client",
            "-quiet",
            "-connect",
            address(&server.tls_url(&tls)),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl is installed");
    let mut stdin = client.stdin.take().unwrap();
    let feeding = std::thread::spawn(move || {
        stdin
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        stdin.write_all(&vec![b'y'; DUPLEX_BYTES]).unwrap();
        stdin
    });
    let out = client.wait_with_output().unwrap().stdout;
    feeding.join().unwrap();
    assert_eq!(out.len(), DUPLEX_BYTES + 4);
    assert!(out.ends_with(b"xboth"));
}

#[cfg(feature = "websocket")]
#[test]
fn websockets_go_over_tls() {
    use wirepath::websocket::{Message, Options, tungstenite, upgrade};
    let authority = Authority::new();
    let tls = TlsConfig::new(authority.certificates("a", &["a.example"])).unwrap();
    let server = TestServer::start(|w: &mut ResponseWriter, r: &mut Request| {
        let mut socket = upgrade(w, r, &Options::default()).unwrap();
        while let Some(message) = socket.recv().unwrap() {
            socket.send(message).unwrap();
        }
    });
    let session = authority.session(&server.tls_url(&tls), "a.example");
    let (mut socket, _) = tungstenite::client("wss://a.example/", session).unwrap();
    for len in [1, 100, 100_000] {
        let message = Message::from("z".repeat(len));
        socket.send(message.clone()).unwrap();
        assert_eq!(socket.read().unwrap(), message);
    }
}
