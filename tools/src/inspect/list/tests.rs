use super::*;
use crate::inspect::fixture::Frame;

fn frame(payload: &[u8], flags: u8, options: &[u8]) -> Vec<u8> {
    Frame {
        from: (1, 40_000),
        to: (2, 8080),
        seq: 1_001,
        ack: 501,
        flags,
        window: 502,
        options: options.to_vec(),
        payload: payload.to_vec(),
    }
    .bytes()
}

#[track_caller]
fn line(link: u32, bytes: &[u8], bases: Bases, wanted: &str) {
    let mut lines = Lines::new(TimeZone::UTC, false);
    let net = Net::of(link, bytes, bytes.len() as u32);
    let line = lines.of(86_399_123_456_789, &net, bases);
    let line = std::str::from_utf8(line).unwrap();
    assert_eq!(line, format!("23:59:59.123456 {wanted}\n"));
}

/// What `tcpdump -nn` prints of the same bytes.
#[test]
fn segments() {
    let base = Some((1_000, 500));
    line(
        1,
        &frame(
            b"",
            0x02,
            &[
                2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7,
            ],
        ),
        None,
        "IP 10.0.0.1.40000 > 10.0.0.2.8080: Flags [S], seq 1001, win 502, options [mss 1460,sackOK,TS val 9 ecr 0,nop,wscale 7], length 0",
    );
    line(
        1,
        &frame(b"GET /a HTTP/1.1\r\nHost", 0x18, &[]),
        base,
        "IP 10.0.0.1.40000 > 10.0.0.2.8080: Flags [P.], seq 1:22, ack 1, win 502, length 21: HTTP: GET /a HTTP/1.1",
    );
    line(
        1,
        &frame(b"\x1b[31m", 0x18, &[]),
        base,
        "IP 10.0.0.1.40000 > 10.0.0.2.8080: Flags [P.], seq 1:6, ack 1, win 502, length 5: HTTP",
    );
    line(
        1,
        &frame(b"", 0x10, &[1, 1, 5, 10, 0, 0, 1, 0xf5, 0, 0, 1, 0xff]),
        base,
        "IP 10.0.0.1.40000 > 10.0.0.2.8080: Flags [.], ack 1, win 502, options [nop,nop,sack 1 {1:11}], length 0",
    );
    line(
        1,
        &frame(b"", 0x11, &[]),
        base,
        "IP 10.0.0.1.40000 > 10.0.0.2.8080: Flags [F.], seq 1, ack 1, win 502, length 0",
    );
    line(
        1,
        &frame(b"", 0, &[]),
        base,
        "IP 10.0.0.1.40000 > 10.0.0.2.8080: Flags [none], win 502, length 0",
    );
}

#[test]
fn other_packets() {
    let arp = [
        &[0xff; 6][..],
        &[
            2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1,
        ],
        &[0; 6],
        &[10, 0, 0, 2],
    ]
    .concat();
    line(
        1,
        &arp,
        None,
        "ARP, Request who-has 10.0.0.2 tell 10.0.0.1, length 28",
    );
    let raw = &frame(b"", 0x10, &[])[14..];
    line(
        101,
        raw,
        Some((1_000, 500)),
        "IP 10.0.0.1.40000 > 10.0.0.2.8080: Flags [.], ack 1, win 502, length 0",
    );
    let tagged = [&[0; 12][..], &[0x81, 0, 0, 7, 8, 0], raw].concat();
    line(
        1,
        &tagged,
        Some((1_000, 500)),
        "IP 10.0.0.1.40000 > 10.0.0.2.8080: Flags [.], ack 1, win 502, length 0",
    );
    line(105, raw, None, "link type 105, not read");
    line(1, &[0; 4], None, "[cut within the Ethernet header]");
    line(
        1,
        &frame(b"", 0x10, &[])[..40],
        None,
        "IP 10.0.0.1 > 10.0.0.2: [cut within the TCP header]",
    );
}

#[test]
fn every_cut_of_a_frame_has_a_line() {
    let whole = frame(
        b"HTTP/1.1 200 OK\r\n",
        0x18,
        &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
    );
    let mut lines = Lines::new(TimeZone::UTC, true);
    for link in [0, 1, 101, 113, 276] {
        for len in 0..=whole.len() {
            let net = Net::of(link, &whole[..len], whole.len() as u32);
            assert!(lines.of(0, &net, None).ends_with(b"\n"));
        }
    }
}

#[test]
fn a_segment_longer_than_its_length_can_say_is_known_by_the_capture() {
    let mut bytes = frame(&[7; 100], 0x10, &[]);
    bytes[16..18].copy_from_slice(&[0, 0]);
    let net = Net::of(1, &bytes, bytes.len() as u32);
    assert_eq!(net.tcp().unwrap().2.len, 100);
}
