//! What the tests need of the machine: root, a network namespace, a socket.

use std::io::Write;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, socket, sockopt, xdp::XdpUmemReg};

use crate::xdp::filter::{Filter, sys};

/// Whether the test may do what it is to do; says loudly why not.
///
/// # Panics
/// Instead of returning false, with `WIREPATH_REQUIRE_LAB=1` set.
pub fn may(test: &str) -> bool {
    let Err(reason) = set_up() else {
        return true;
    };
    assert!(
        std::env::var_os("WIREPATH_REQUIRE_LAB").is_none_or(|v| v != "1"),
        "WIREPATH_REQUIRE_LAB=1, and {test} cannot run: {reason}"
    );
    // Past the test harness, which keeps what a passing test prints to itself.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
    false
}

fn set_up() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("BPF and network namespaces need root (try `sudo make test`)".into());
    }
    sys::map_create(sys::MAP_TYPE_ARRAY, 4, 1, 0, "wp_lab")
        .map(drop)
        .map_err(|e| format!("bpf(2) is not to be had here: {e}"))
}

/// Runs `body` on a thread in a network namespace of its own, which ends with
/// it. A panic goes on in the caller.
pub fn in_namespace(test: &str, body: impl FnOnce() + Send) {
    if !may(test) {
        return;
    }
    on_a_thread(|| {
        // SAFETY: only the network namespace of this thread changes.
        let left = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert_eq!(left, 0, "{}", std::io::Error::last_os_error());
        body();
    });
}

/// Runs `ip ARGS` in the namespace of the thread.
#[track_caller]
pub fn ip(args: &str) -> String {
    let output = Command::new("ip").args(args.split(' ')).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {args}: {words}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A veth `wpf0` and its peer `wpf1`, both up; the number of the first.
pub fn veth() -> u32 {
    ip(
        "link add wpf0 numrxqueues 2 numtxqueues 2 type veth peer name wpf1 numrxqueues 2 numtxqueues 2",
    );
    ip("link set wpf0 up");
    ip("link set wpf1 up");
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
    rustix::net::netdevice::name_to_index(socket, "wpf0").unwrap()
}

/// Waits until `done`, for seconds at most.
#[track_caller]
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "{what}: not within 20 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// An AF_XDP socket that a map of sockets takes: it has memory and rings, and
/// is bound to nothing.
pub fn xdp_socket() -> OwnedFd {
    const SLOTS: usize = 16;
    const SLOT: u32 = 4096;
    let fd = socket(AddressFamily::XDP, SocketType::RAW, None).unwrap();
    // The kernel keeps these pages for the socket, which may outlive the test.
    let pages = vec![0u8; (SLOTS + 1) * SLOT as usize].leak();
    let start = (pages.as_ptr() as u64).next_multiple_of(u64::from(SLOT));
    let memory = XdpUmemReg {
        addr: start,
        len: SLOTS as u64 * u64::from(SLOT),
        chunk_size: SLOT,
        headroom: 0,
        flags: rustix::net::xdp::XdpUmemRegFlags::empty(),
        tx_metadata_len: 0,
    };
    sockopt::set_xdp_umem_reg(&fd, memory).unwrap();
    sockopt::set_xdp_umem_fill_ring_size(&fd, SLOTS as u32).unwrap();
    sockopt::set_xdp_umem_completion_ring_size(&fd, SLOTS as u32).unwrap();
    sockopt::set_xdp_rx_ring_size(&fd, SLOTS as u32).unwrap();
    fd
}

/// A socket in slot 0.
pub fn with_socket(filter: &Filter) -> OwnedFd {
    let socket = xdp_socket();
    filter.set_socket(0, socket.as_fd()).unwrap();
    assert!(socket.as_raw_fd() >= 0);
    socket
}

/// Runs `body` on a thread that has lost every privilege.
pub fn as_nobody<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    const NOBODY: libc::c_long = 65534;
    on_a_thread(|| {
        // SAFETY: the call itself, unlike libc's function, changes this thread
        // alone.
        let left = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
        assert_eq!(left, 0, "{}", std::io::Error::last_os_error());
        body()
    })
}

/// Runs `body` on a thread that has these capabilities alone, by number.
pub fn with_capabilities<T: Send>(numbers: &[u32], body: impl FnOnce() -> T + Send) -> T {
    // `_LINUX_CAPABILITY_VERSION_3`, of the calling thread.
    let header: [u32; 2] = [0x2008_0522, 0];
    let set: u64 = numbers.iter().map(|number| 1 << number).sum();
    let [low, high] = [set as u32, (set >> 32) as u32];
    // Effective, permitted, inheritable: of the low numbers, then the high.
    let data = [low, low, 0, high, high, 0];
    on_a_thread(|| {
        // SAFETY: capset(2) reads both arrays, which are as long as version 3
        // says, and changes this thread alone.
        let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, &raw const data) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
        body()
    })
}

/// Runs `body` on a thread of its own. A panic goes on in the caller.
fn on_a_thread<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    let result = std::thread::scope(|scope| scope.spawn(body).join());
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
