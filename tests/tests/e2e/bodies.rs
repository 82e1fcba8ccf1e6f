//! Large bodies, both ways at once, and readers that do not read.

use std::io::Write;

use rustix::net::sockopt::set_socket_recv_buffer_size;
use wirepath_tests::http::{post_head, request};
use wirepath_tests::pattern::{self, Check};
use wirepath_tests::{Lab, Serve, Server};

on_every_device! {
    a_hundred_mebibytes_up_and_down,
    a_chunked_body_up_and_down,
    curl_sends_and_gets_a_file_whole,
    a_reader_that_stops_holds_up_nobody_and_loses_nothing,
}

const MIB: u64 = 1 << 20;

fn a_hundred_mebibytes_up_and_down(lab: &Lab) {
    const LENGTH: u64 = 100 * MIB;
    let server = Serve::new(lab).without_capture().start();
    let mut client = server.client();
    let mut writer = client.socket().try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            writer
                .write_all(post_head("/echo", LENGTH).as_bytes())
                .unwrap();
            pattern::send(LENGTH, &mut writer).unwrap();
        });
        let reply = client.head().unwrap();
        assert_eq!(reply.status, 200);
        let mut check = Check::default();
        client.body(&reply, &mut check).unwrap();
        assert_eq!(check.seen(), LENGTH);
    });
    // The body's end was found to the byte: the next request is understood.
    assert_eq!(client.get("/").status, 200);
}

fn a_chunked_body_up_and_down(lab: &Lab) {
    const LENGTH: u64 = 8 * MIB;
    let server = Serve::new(lab).without_capture().start();
    let mut client = server.client();
    let mut writer = client.socket().try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            writer
                .write_all(
                    b"POST /echo HTTP/1.1\r\nHost: lab\r\nTransfer-Encoding: chunked\r\n\r\n",
                )
                .unwrap();
            // Sizes that are coprime to every buffer there is.
            pattern::send(
                LENGTH,
                &mut Chunks {
                    to: &mut writer,
                    size: 997,
                },
            )
            .unwrap();
            writer.write_all(b"0\r\n\r\n").unwrap();
        });
        let reply = client.head().unwrap();
        assert_eq!(reply.status, 200);
        let mut check = Check::default();
        client.body(&reply, &mut check).unwrap();
        assert_eq!(check.seen(), LENGTH);
    });
    assert_eq!(client.get("/").status, 200);
}

/// Puts what is written into chunks.
struct Chunks<W> {
    to: W,
    size: usize,
}

impl<W: Write> Write for Chunks<W> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        let mut framed = Vec::with_capacity(buf.len() + buf.len() / 50);
        for chunk in buf.chunks(self.size) {
            write!(framed, "{:x}\r\n", chunk.len())?;
            framed.extend(chunk);
            framed.extend(b"\r\n");
        }
        self.to.write_all(&framed)?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

fn curl_sends_and_gets_a_file_whole(lab: &Lab) {
    let _server = Serve::new(lab).without_capture().start();
    let [sent, got] = ["sent", "got"].map(|name| lab.dir().join(name));
    let mut file = std::fs::File::create(&sent).unwrap();
    pattern::send(32 * MIB, &mut file).unwrap();
    let data = format!("@{}", sent.display());
    let url = format!("http://{}/echo", Server::V4);
    let to = got.to_str().unwrap();
    let args = [
        "-sS",
        "--max-time",
        "60",
        "--data-binary",
        &data,
        "-o",
        to,
        &url,
    ];
    lab.run("curl", &args).ok();
    lab.run("cmp", &[sent.to_str().unwrap(), to]).ok();
}

fn a_reader_that_stops_holds_up_nobody_and_loses_nothing(lab: &Lab) {
    const PAGES: usize = 8;
    let server = Serve::new(lab)
        .without_capture()
        .args(&["--maxprocs", "1"])
        .start();
    let mut client = server.client();
    set_socket_recv_buffer_size(client.socket(), 4096).unwrap();
    for _ in 0..PAGES {
        client.send(request("GET", "/big"));
    }
    let first = client.head().unwrap();
    // Nothing more of 8 MiB is read now, which no buffer between can hold.
    for _ in 0..20 {
        server.check_alive();
    }
    let mut pages = vec![Vec::new()];
    client.body(&first, &mut pages[0]).unwrap();
    for _ in 1..PAGES {
        pages.push(client.reply().unwrap().body);
    }
    assert!(pages.iter().all(|page| page.len() == 1 << 20));
    assert!(pages.iter().all(|page| *page == pages[0]));
}
