//! Files over both networks: that a slow disk holds nobody up, and that a file
//! arrives as it is, whichever way its bytes went.

#[path = "../../runtime/tests/lab/mod.rs"]
mod lab;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream as StdStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex};

use lab::{Lab, SERVER, wait_until};
use wirepath::file::{DirEntry, File, FileInfo};
use wirepath::{FileServer, FileSystem, Handler, Server};
use wirepath_runtime::chan::channel;
use wirepath_runtime::net::{Network, TcpListener, TcpStream};
use wirepath_runtime::{JoinHandle, Runtime};

const ADDR: (std::net::IpAddr, u16) = (SERVER, 80);

/// A disk on which what is opened or read as `/slow…` takes until it is let go.
#[derive(Clone, Default)]
struct SlowDisk {
    is_let_go: Arc<(Mutex<bool>, Condvar)>,
}

struct OnDisk {
    disk: SlowDisk,
    reads_slowly: bool,
}

impl SlowDisk {
    /// Waits as a system call does: with the thread.
    fn wait(&self) {
        let (is_let_go, changed) = &*self.is_let_go;
        let guard = is_let_go.lock().unwrap();
        let _gone = changed.wait_while(guard, |gone| !*gone).unwrap();
    }

    fn let_go(&self) {
        let (is_let_go, changed) = &*self.is_let_go;
        *is_let_go.lock().unwrap() = true;
        changed.notify_all();
    }

    fn file(&self, path: &[u8]) -> Box<dyn File> {
        Box::new(OnDisk {
            disk: self.clone(),
            reads_slowly: path.starts_with(b"/slow-read"),
        })
    }
}

impl FileSystem for SlowDisk {
    fn open(&self, path: &[u8]) -> io::Result<Box<dyn File>> {
        self.wait();
        Ok(self.file(path))
    }

    fn try_open(&self, path: &[u8]) -> io::Result<Box<dyn File>> {
        match path.starts_with(b"/slow-open") {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => Ok(self.file(path)),
        }
    }
}

impl File for OnDisk {
    fn info(&self) -> io::Result<FileInfo> {
        Ok(FileInfo::file(5, None))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.wait();
        (&b"bytes"[offset as usize..]).read(buf)
    }

    fn try_read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.reads_slowly {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => (&b"bytes"[offset as usize..]).read(buf),
        }
    }

    fn entries(&self, _limit: usize) -> io::Result<Vec<DirEntry>> {
        Err(io::ErrorKind::NotADirectory.into())
    }
}

fn ask(lab: &Lab, target: &'static str) -> JoinHandle<String> {
    lab.client.go(move || {
        let mut stream = TcpStream::connect(SocketAddr::from(ADDR)).unwrap();
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    })
}

/// Requests that wait for the disk have given up the only P, by what the
/// runtime counts: with it, none of the others would be answered.
#[test]
fn a_slow_disk_holds_nobody_up() {
    for slow in ["/slow-open.txt", "/slow-read.txt", "/slow-read"] {
        let lab = Lab::with_cables(1, 1);
        let disk = SlowDisk::default();
        let files = FileServer::of(disk.clone());
        let (ready, listens) = channel::<()>(1);
        lab.server.go(move || {
            let listener = TcpListener::bind(SocketAddr::from(ADDR)).unwrap();
            ready.send(()).unwrap();
            let _ = Server::new(files).serve(listener);
        });
        listens.recv().unwrap();
        let blocking = || {
            let metrics = lab.server.metrics();
            metrics
                .iter()
                .find(|m| m.0 == "threads_blocking")
                .unwrap()
                .1
        };
        let waiting: Vec<_> = (0..2).map(|_| ask(&lab, slow)).collect();
        wait_until(|| blocking() == 2);
        for _ in 0..3 {
            let answer = ask(&lab, "/fast.txt").join().unwrap();
            assert!(answer.ends_with("\r\n\r\nbytes"), "{slow}: {answer}");
        }
        assert_eq!(blocking(), 2, "{slow}");
        disk.let_go();
        for asked in waiting {
            let answer = asked.join().unwrap();
            assert!(answer.ends_with("\r\n\r\nbytes"), "{slow}: {answer}");
        }
    }
}

/// Serves over a socket of the kernel.
fn serve_on_kernel(runtime: &Runtime, handler: impl Handler) -> SocketAddr {
    let (ready, listens) = channel(1);
    runtime.go(move || {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpListener::bind_on(Network::Kernel, loopback).unwrap();
        ready.send(listener.local_addr().unwrap()).unwrap();
        let _ = Server::new(handler).serve(listener);
    });
    listens.recv().unwrap()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

/// The body of the next response on the connection, and its head.
fn read_response(stream: &mut StdStream) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.split("Content-Length: ").nth(1).unwrap();
    let length = length.split("\r\n").next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (head, body)
}

#[test]
fn a_file_is_whole_over_a_kernel_socket() {
    let root = tempfile::tempdir().unwrap();
    // More than the socket's buffers hold, so that the sender waits for room.
    let large = pattern(20 << 20);
    fs::write(root.path().join("large.bin"), &large).unwrap();
    fs::write(root.path().join("small.bin"), &large[..100]).unwrap();
    let runtime = Runtime::builder().max_procs(1).build().unwrap();
    let addr = serve_on_kernel(&runtime, FileServer::new(root.path()).unwrap());
    let mut stream = StdStream::connect(addr).unwrap();
    let range = "Range: bytes=1000003-5000007\r\n";
    let parts = "Range: bytes=5-200004,7000000-\r\n";
    for (name, field) in [
        ("large", ""),
        ("small", ""),
        ("large", range),
        ("large", parts),
    ] {
        write!(stream, "GET /{name}.bin HTTP/1.1\r\nHost: a\r\n{field}\r\n").unwrap();
    }
    let (head, body) = read_response(&mut stream);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(body == large);
    assert_eq!(read_response(&mut stream).1, large[..100]);
    let (head, body) = read_response(&mut stream);
    assert!(head.starts_with("HTTP/1.1 206 "), "{head}");
    assert!(body == large[1_000_003..=5_000_007]);
    let (head, body) = read_response(&mut stream);
    let boundary = head.split("boundary=").nth(1).unwrap();
    let boundary = boundary.split("\r\n").next().unwrap();
    let part = |first: usize, last: usize, lead: &str| {
        let head = format!(
            "{lead}--{boundary}\r\nContent-Range: bytes {first}-{last}/{}\r\n\
             Content-Type: application/octet-stream\r\n\r\n",
            large.len()
        );
        [head.as_bytes(), &large[first..=last]].concat()
    };
    let end = format!("\r\n--{boundary}--\r\n");
    let want = [
        part(5, 200_004, ""),
        part(7_000_000, large.len() - 1, "\r\n"),
        end.into_bytes(),
    ];
    assert!(body == want.concat());
}

#[test]
fn a_file_that_is_on_the_disk_only_is_read_from_there() {
    let root = tempfile::tempdir().unwrap();
    let bytes = pattern(3_000_000);
    let path = root.path().join("cold.bin");
    fs::write(&path, &bytes).unwrap();
    let file = fs::File::open(&path).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let runtime = Runtime::builder().max_procs(1).build().unwrap();
    let addr = serve_on_kernel(&runtime, FileServer::new(root.path()).unwrap());
    let mut stream = StdStream::connect(addr).unwrap();
    stream
        .write_all(b"GET /cold.bin HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    assert!(read_response(&mut stream).1 == bytes);
}

/// A file of this machine that has become shorter since it was looked at, on a
/// file system that tells what it has in memory, or does not.
struct Shrunk {
    file: fs::File,
    tells: bool,
}

impl FileSystem for Shrunk {
    fn open(&self, _path: &[u8]) -> io::Result<Box<dyn File>> {
        Ok(Box::new(Shrunk {
            file: self.file.try_clone()?,
            tells: self.tells,
        }))
    }
}

impl File for Shrunk {
    fn info(&self) -> io::Result<FileInfo> {
        let len = self.file.metadata()?.len();
        Ok(FileInfo::file(len + 1_000_000, None))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.file, buf, offset)
    }

    fn try_read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.tells {
            true => self.read_at(buf, offset),
            false => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn entries(&self, _limit: usize) -> io::Result<Vec<DirEntry>> {
        Err(io::ErrorKind::NotADirectory.into())
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}

#[test]
fn a_file_that_shrank_ends_the_connection() {
    for tells in [true, false] {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&pattern(300_000)).unwrap();
        let runtime = Runtime::builder().max_procs(1).build().unwrap();
        let files = FileServer::of(Shrunk { file, tells });
        let addr = serve_on_kernel(&runtime, files);
        let mut stream = StdStream::connect(addr).unwrap();
        stream
            .write_all(b"GET /x.bin HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let (head, body) = answer.split_at(end.unwrap() + 4);
        let length = "Content-Length: 1300000\r\n";
        assert!(String::from_utf8_lossy(head).contains(length));
        assert!(body == pattern(300_000), "{tells}");
    }
}
