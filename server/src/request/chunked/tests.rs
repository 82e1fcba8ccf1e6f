use std::sync::Arc;

use super::*;
use crate::conn::testing::MemoryConn;

/// What a body in these pieces decodes to, and what is buffered after it.
fn decode(pieces: &[&[u8]], room: usize) -> io::Result<(Vec<u8>, Fields, Vec<u8>)> {
    let conn = Arc::new(MemoryConn::default());
    pieces.iter().for_each(|piece| conn.arrive(piece));
    let wire = Wire::new(conn);
    let (mut input, mut trailer) = (Input::default(), Fields::default());
    let mut chunked = Chunked::default();
    let (mut body, mut buf) = (Vec::new(), vec![0; room]);
    loop {
        match chunked.read(&mut input, &wire, &mut buf, &mut trailer)? {
            0 => return Ok((body, trailer, input.buffered().to_vec())),
            n => body.extend_from_slice(&buf[..n]),
        }
    }
}

#[track_caller]
fn refused(body: &str) -> ChunkError {
    let e = decode(&[body.as_bytes()], 100).map(|_| ()).unwrap_err();
    *e.get_ref().expect("of the coding").downcast_ref().unwrap()
}

#[test]
fn every_cut_decodes_to_the_same() {
    let body = b"3\r\nabc\r\n0A;x=\"y\"\r\n0123456789\r\n000\r\nX-T: v\r\nX-U: w\r\n\r\nGET";
    for cut in 0..body.len() {
        for room in [1, 3, 100] {
            let (start, end) = body.split_at(cut);
            let (got, trailer, rest) = decode(&[start, end], room).unwrap();
            assert_eq!(got, b"abc0123456789");
            assert_eq!(trailer.get("x-t").unwrap(), "v");
            assert_eq!(trailer.len(), 2);
            assert!(b"GET".starts_with(&rest), "{rest:?}");
        }
    }
}

#[test]
fn what_is_malformed_is_told() {
    use ChunkError as E;
    let long_line = format!("1;{}\r\n", "x".repeat(5000));
    let long_trailer = format!("0\r\nX: {}\r\n\r\n", "x".repeat(5000));
    let many = format!("0\r\n{}\r\n", "X:\r\n".repeat(65));
    let extensions = format!("1;{}\r\nx\r\n", "x".repeat(4000)).repeat(6);
    for (body, want) in [
        ("3\nabc\r\n", E::LineEnd),
        ("3\r\r\nabc", E::LineEnd),
        ("3\r\nabcd\r\n", E::DataEnd),
        ("3\r\nabc\n\n", E::DataEnd),
        ("\r\n", E::Size),
        ("g\r\n", E::Size),
        ("-1\r\n", E::Size),
        ("+1\r\n", E::Size),
        ("0x1\r\n", E::Size),
        (" 1\r\n", E::Size),
        ("1 ;x\r\n", E::Size),
        ("10000000000000000\r\n", E::Size),
        ("1;\x01\r\n", E::Extension),
        (&long_line, E::LineTooLong),
        (&long_trailer, E::LineTooLong),
        (&extensions, E::TooMuchOverhead),
        (&many, E::Trailer(HeadError::TooManyFields)),
        (
            "0\r\nX : a\r\n\r\n",
            E::Trailer(HeadError::SpaceBeforeColon),
        ),
        ("0\r\nX: a\r\n b\r\n\r\n", E::Trailer(HeadError::Fold)),
        ("0\r\nContent-Length: 3\r\n\r\n", E::ForbiddenTrailer),
        ("0\r\nhost: b\r\n\r\n", E::ForbiddenTrailer),
    ] {
        assert_eq!(refused(body), want, "{body:.40}");
    }
}

#[test]
fn a_byte_a_chunk_is_allowed() {
    let body = "1\r\nx\r\n".repeat(100_000) + "0\r\n\r\n";
    assert_eq!(decode(&[body.as_bytes()], 4096).unwrap().0.len(), 100_000);
}
