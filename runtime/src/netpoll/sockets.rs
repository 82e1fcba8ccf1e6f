//! The kernel's sockets of this process, for a dump: from a descriptor's number
//! to its addresses, TCP state and queues.
//!
//! They are read from the tables in /proc/net, once for a dump and only when a
//! goroutine in it waits for a descriptor of the kernel; the table names a
//! socket by its inode, as /proc/self/fd does. `TCP_INFO` tells of one socket at
//! less cost, but has neither addresses nor queues, and no crate here wraps it.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::RawFd;

use procfs::net::{TcpNetEntry, TcpState, UdpNetEntry};

/// From a socket's inode to what there is to say of it.
#[derive(Default)]
pub(crate) struct KernelSockets(OnceCell<HashMap<u64, Words>>);

/// A socket in words, and whether it accepts connections.
type Words = (String, bool);

/// The state's name in RFC 9293, as the stack's own sockets have it.
fn state_name(state: &TcpState) -> &'static str {
    match state {
        TcpState::Established => "ESTABLISHED",
        TcpState::SynSent => "SYN-SENT",
        TcpState::SynRecv | TcpState::NewSynRecv => "SYN-RECEIVED",
        TcpState::FinWait1 => "FIN-WAIT-1",
        TcpState::FinWait2 => "FIN-WAIT-2",
        TcpState::TimeWait => "TIME-WAIT",
        TcpState::Close => "CLOSED",
        TcpState::CloseWait => "CLOSE-WAIT",
        TcpState::LastAck => "LAST-ACK",
        TcpState::Listen => "LISTEN",
        TcpState::Closing => "CLOSING",
    }
}

fn tcp(entry: &TcpNetEntry) -> String {
    let (local, remote) = (entry.local_address, entry.remote_address);
    match entry.state {
        // Its receive queue is the accept queue (tcp_get_info in the kernel).
        TcpState::Listen => format!("tcp {local} LISTEN, accept-q {}", entry.rx_queue),
        _ => format!(
            "tcp {local} -> {remote} {}, recv-q {}, send-q {}",
            state_name(&entry.state),
            entry.rx_queue,
            entry.tx_queue
        ),
    }
}

fn udp(entry: &UdpNetEntry) -> String {
    let to = |addr: SocketAddr| match addr.port() {
        0 => String::new(),
        _ => format!(" -> {addr}"),
    };
    format!(
        "udp {}{}, recv-q {}, send-q {}",
        entry.local_address,
        to(entry.remote_address),
        entry.rx_queue,
        entry.tx_queue
    )
}

/// All that can be read; what cannot is left out.
fn read() -> HashMap<u64, Words> {
    let tcps = [procfs::net::tcp(), procfs::net::tcp6()];
    let tcps = tcps.into_iter().flatten().flatten();
    let udps = [procfs::net::udp(), procfs::net::udp6()];
    let udps = udps.into_iter().flatten().flatten();
    let tcps = tcps.map(|entry| (entry.inode, (tcp(&entry), entry.state == TcpState::Listen)));
    let udps = udps.map(|entry| (entry.inode, (udp(&entry), false)));
    tcps.chain(udps).collect()
}

/// The inode in `socket:[4026]`.
fn inode(link: &str) -> Option<u64> {
    let number = link.strip_prefix("socket:[")?.strip_suffix(']')?;
    number.parse().ok()
}

/// What /proc calls descriptor `fd` of this process: `socket:[4026]`,
/// `pipe:[4027]`. None: it is closed.
pub(crate) fn link(fd: RawFd) -> Option<String> {
    let link = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

impl KernelSockets {
    /// The descriptor of that name in words, and whether it accepts
    /// connections.
    pub(crate) fn describe(&self, link: &str) -> Words {
        let socket = inode(link).and_then(|inode| self.0.get_or_init(read).get(&inode));
        socket.cloned().unwrap_or_else(|| (link.to_owned(), false))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd;

    fn described(fd: &impl AsRawFd) -> Words {
        KernelSockets::default().describe(&link(fd.as_raw_fd()).unwrap())
    }

    #[test]
    fn sockets_of_the_kernel_are_told_by_their_descriptors() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(server).unwrap();
        let here = client.local_addr().unwrap();
        let listens = format!("tcp {server} LISTEN, accept-q 1");
        assert_eq!(described(&listener), (listens, true));

        let (stream, _) = listener.accept().unwrap();
        client.write_all(b"four").unwrap();
        let waits = format!("tcp {server} -> {here} ESTABLISHED, recv-q 4, send-q 0");
        let start = std::time::Instant::now();
        while described(&stream) != (waits.clone(), false) {
            let now = described(&stream);
            assert!(start.elapsed().as_secs() < 20, "{now:?} for {waits}");
        }
    }

    #[test]
    fn other_descriptors_are_called_as_proc_does() {
        let udp = UdpSocket::bind("[::1]:0").or_else(|_| UdpSocket::bind("127.0.0.1:0"));
        let udp = udp.unwrap();
        let want = format!("udp {}, recv-q 0, send-q 0", udp.local_addr().unwrap());
        assert_eq!(described(&udp), (want, false));
        let (reader, _writer) = std::io::pipe().unwrap();
        let (pipe, _) = described(&reader);
        assert!(pipe.starts_with("pipe:["), "{pipe}");
        assert_eq!(link(-1), None);
    }
}
