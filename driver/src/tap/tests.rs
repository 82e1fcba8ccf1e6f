use super::*;
use crate::frame::Offload;

#[test]
fn names_are_checked_before_the_kernel_sees_them() {
    use NameFault::{Character, Dots, Empty, Pattern, TooLong};
    for (name, want) in [
        ("wp0", Ok(())),
        ("wp%d", Ok(())),
        ("fifteen-bytes-x", Ok(())),
        ("", Err(Empty)),
        ("sixteen-bytes-xx", Err(TooLong)),
        ("a\0b", Err(Character('\0'))),
        ("a/b", Err(Character('/'))),
        ("a b", Err(Character(' '))),
        ("a:1", Err(Character(':'))),
        ("wp%s", Err(Pattern)),
        ("%d%d", Err(Pattern)),
        ("..", Err(Dots)),
    ] {
        assert_eq!(open::check_name(name), want, "{name:?}");
    }
    let text = Tap::open(&TapOptions::new("a\nb")).unwrap_err().to_string();
    assert!(text.contains(r"'a\nb'"), "{text}");
}

#[test]
fn each_refusal_says_what_to_do() {
    for (errno, advice) in [
        (libc::ENOENT, "modprobe tun"),
        (libc::ENODEV, "modprobe tun"),
        (
            libc::EPERM,
            "sudo ip tuntap add dev wp0 mode tap user $USER",
        ),
        (libc::EACCES, "CAP_NET_ADMIN"),
        (libc::EBUSY, "another process holds it"),
        (libc::EINVAL, "not a TAP"),
        (libc::EMFILE, "open files"),
    ] {
        let error = open::explain("wp0", io::Error::from_raw_os_error(errno));
        let text = error.to_string();
        assert!(text.contains(advice) && !text.contains('\n'), "{text}");
        assert!(std::error::Error::source(&error).is_some());
    }
}

/// A datagram socket pair behaves as a TAP's fd does: a frame a call, cut when
/// it does not fit, `EAGAIN` when there is none.
fn on_socket() -> (Tap, OwnedFd) {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::DGRAM, flags, None).unwrap();
    let pool = FramePool::new(512, 2048, 128).unwrap();
    (Tap::from_fd(ours, "wp0".to_owned(), 0, 1500, pool), theirs)
}

fn offered(tap: &Tap, count: usize) -> VecDeque<Frame> {
    let make = |i| {
        let mut frame = tap.pool().take_tx().unwrap();
        assert!(frame.fill(&[i as u8; 60]));
        frame
    };
    (0..count).map(make).collect()
}

#[test]
fn the_header_asks_for_checksums_and_for_segments() {
    let pool = FramePool::new(4, 2048, 1).unwrap();
    let frame = |ip: &[u8], segment_len| {
        let mut frame = pool.take_tx().unwrap();
        let mut bytes = vec![0; 14];
        bytes.extend_from_slice(ip);
        bytes.extend_from_slice(&[0; 12]);
        // A TCP header of 32 bytes.
        bytes.extend_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0]);
        assert!(frame.fill(&bytes));
        frame.meta.offload = Offload::CHECKSUM_PARTIAL;
        frame.meta.segment_len = segment_len;
        frame
    };
    let mut v4 = [0; 20];
    v4[0] = 0x45;
    let mut v6 = [0; 40];
    v6[0] = 0x60;
    let parts = |frame: &Frame| {
        let header = vnet::header(frame);
        let word = |at| u16::from_ne_bytes([header[at], header[at + 1]]);
        (header[0], header[1], [word(2), word(4), word(6), word(8)])
    };
    assert_eq!(parts(&frame(&v4, 1_448)), (1, 1, [66, 1_448, 34, 16]));
    assert_eq!(parts(&frame(&v6, 1_428)), (1, 4, [86, 1_428, 54, 16]));
    assert_eq!(parts(&frame(&v4, 0)), (1, 0, [0, 0, 34, 16]));
    let mut whole = frame(&v4, 0);
    whole.meta.offload = Offload::empty();
    assert_eq!(vnet::header(&whole), [0; 10]);
    assert_eq!(vnet::offload(&[2, 0]), Offload::CHECKSUM_VALID);
    assert_eq!(vnet::offload(&[0, 0]), Offload::empty());
}

#[test]
fn frames_of_a_wrong_length_are_counted_and_their_slots_reused() {
    let (mut tap, kernel) = on_socket();
    for len in [13, 14, 2047, 2048, 3000] {
        rustix::io::write(&kernel, &vec![1; len]).unwrap();
    }
    let mut got = Vec::new();
    assert_eq!(tap.rx_burst(Nanos(9), &mut got).unwrap(), 2);
    assert_eq!(got.iter().map(|f| f.len()).collect::<Vec<_>>(), [14, 2047]);
    assert!(
        got.iter()
            .all(|f| f.meta.polled_at == Nanos(9) && f.meta.rx_at.is_none())
    );
    assert_eq!((tap.stats().rx_frames, tap.stats().rx_bad_len), (2, 3));
}

#[test]
fn an_empty_pool_leaves_frames_with_the_kernel() {
    let (mut tap, kernel) = on_socket();
    rustix::io::write(&kernel, &[5; 60]).unwrap();
    let held: Vec<Frame> = std::iter::from_fn(|| tap.pool().take_rx()).collect();
    let mut got = Vec::new();
    assert_eq!(tap.rx_burst(Nanos(0), &mut got).unwrap(), 0);
    assert_eq!(tap.stats().rx_no_frame, 1);
    drop(held);
    assert_eq!(tap.rx_burst(Nanos(0), &mut got).unwrap(), 1);
}

#[test]
fn a_busy_kernel_gets_the_frames_later_and_in_order() {
    let (mut tap, kernel) = on_socket();
    rustix::net::sockopt::set_socket_send_buffer_size(&tap.fd, 1).unwrap();
    let mut out = offered(&tap, 200);
    while !out.is_empty() {
        tap.tx_burst(Nanos(0), &mut out).unwrap();
    }
    tap.kick(Nanos(0)).unwrap();
    assert!(tap.stats().tx_frames < 200, "the socket's queue is short");
    let mut seen = 0u8;
    let mut buffer = [0; 64];
    while seen < 200 {
        while rustix::io::read(&kernel, &mut buffer).is_ok() {
            assert_eq!(buffer[0], seen);
            seen += 1;
        }
        if let Some(at) = tap.next_event() {
            tap.rx_burst(at, &mut Vec::new()).unwrap();
        }
    }
    assert_eq!(tap.stats().tx_frames, 200);
    assert_eq!(tap.next_event(), None);
    let spare = std::iter::from_fn(|| tap.spares.take()).count();
    assert!(spare > 0);
    assert_eq!(tap.pool().free(), 512);
}

#[test]
fn the_ring_is_bounded_and_says_when_it_is_full() {
    let (mut tap, _kernel) = on_socket();
    let mut out = offered(&tap, TX_RING_FRAMES + 1);
    let mut taken = 0;
    while out.len() > 1 {
        taken += tap.tx_burst(Nanos(0), &mut out).unwrap();
    }
    assert_eq!((taken, tap.stats().tx_ring_full), (TX_RING_FRAMES, 0));
    assert_eq!(tap.tx_burst(Nanos(0), &mut out).unwrap(), 0);
    assert_eq!((out.len(), tap.stats().tx_ring_full), (1, 1));
}
