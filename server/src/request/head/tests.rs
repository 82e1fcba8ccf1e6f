use super::*;

const MAX: usize = 1 << 16;

fn parse_all(bytes: &[u8], max_fields: usize) -> Result<(Head, Fields), HeadError> {
    match HeadScanner::default().scan(bytes, MAX)? {
        Scan::Partial => panic!("no whole head: {bytes:?}"),
        Scan::Complete(range) => {
            let mut fields = Fields::default();
            fields.set_raw(&bytes[range]);
            let mut head = Head::default();
            parse(&mut fields, max_fields, &mut head).map(|()| (head, fields))
        }
    }
}

#[track_caller]
fn refused(bytes: &[u8]) -> HeadError {
    match parse_all(bytes, 500) {
        Ok((head, _)) => panic!("{} gave {head:?}", bytes.escape_ascii()),
        Err(e) => e,
    }
}

/// A head with this after the `Host` line.
fn with(fields: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
}

#[test]
fn what_smuggles_is_refused() {
    use HeadError as E;
    for (fields, want) in [
        ("X: a\n", E::BareLf),
        ("X: a\rb\r\n", E::BareCr),
        ("X: a\r\n b\r\n", E::Fold),
        ("X: a\r\n\tb\r\n", E::Fold),
        ("X : a\r\n", E::SpaceBeforeColon),
        ("X\t: a\r\n", E::SpaceBeforeColon),
        ("X\r\n", E::FieldName),
        (": a\r\n", E::FieldName),
        ("X(: a\r\n", E::FieldName),
        ("X: \0\r\n", E::FieldValue),
        ("X: \x1b\r\n", E::FieldValue),
        ("X: \x7f\r\n", E::FieldValue),
        ("Host: a\r\n", E::DuplicateHost),
        ("hOST: b\r\n", E::DuplicateHost),
        ("Content-Length: 1, 1\r\n", E::ContentLength),
        (
            "Content-Length: 1\r\nContent-Length: 2\r\n",
            E::ContentLength,
        ),
        (
            "Content-Length: 1\r\nContent-Length: 01\r\n",
            E::ContentLength,
        ),
        (
            "Transfer-Encoding: chunked\r\nTrailer: X, content-length\r\n",
            E::TrailerName,
        ),
        ("Content-Length: +1\r\n", E::ContentLength),
        ("Content-Length: -1\r\n", E::ContentLength),
        ("Content-Length: 1 1\r\n", E::ContentLength),
        ("Content-Length: 0x1\r\n", E::ContentLength),
        ("Content-Length: \u{661}\r\n", E::ContentLength),
        ("Content-Length:\r\n", E::ContentLength),
        ("Content-Length: 9223372036854775808\r\n", E::ContentLength),
        (
            "Content-Length: 99999999999999999999999\r\n",
            E::ContentLength,
        ),
        (
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            E::LengthAndEncoding,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
            E::LengthAndEncoding,
        ),
        (
            "Transfer-Encoding: chunked, identity\r\n",
            E::TransferEncoding,
        ),
        ("Transfer-Encoding: xchunked\r\n", E::TransferEncoding),
        ("Transfer-Encoding: \"chunked\"\r\n", E::TransferEncoding),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
            E::TransferEncoding,
        ),
        (
            "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n",
            E::TransferEncoding,
        ),
        ("Transfer-Encoding\r\n: chunked\r\n", E::FieldName),
        ("Transfer-Encoding:\x0bchunked\r\n", E::FieldValue),
    ] {
        assert_eq!(refused(&with(fields)), want, "{fields:?}");
    }
    let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(refused(old), E::EncodingIn10);
}

#[test]
fn request_lines_are_strict() {
    use HeadError as E;
    for (line, want) in [
        ("GET", E::RequestLine),
        ("GET /", E::RequestLine),
        ("GET  / HTTP/1.1", E::MalformedVersion),
        ("GET /  HTTP/1.1", E::MalformedVersion),
        ("GET / HTTP/1.1 ", E::MalformedVersion),
        ("GET / HTTP/11", E::MalformedVersion),
        ("GET / http/1.1", E::MalformedVersion),
        ("GET / HTTP/2.0", E::UnsupportedVersion),
        ("GET / HTTP/0.9", E::UnsupportedVersion),
        (" GET / HTTP/1.1", E::Method),
        ("G\tT / HTTP/1.1", E::Method),
        ("GET a HTTP/1.1", E::Target),
        ("GET /\x01 HTTP/1.1", E::Target),
        ("GET /% HTTP/1.1", E::Target),
        ("GET http:///a HTTP/1.1", E::Target),
        ("GET http://u@h/a HTTP/1.1", E::Target),
        ("GET 1http://h/a HTTP/1.1", E::Target),
        ("CONNECT a/b HTTP/1.1", E::Target),
        ("GET /\rHost: b HTTP/1.1", E::BareCr),
    ] {
        let head = format!("{line}\r\nHost: a\r\n\r\n");
        assert_eq!(refused(head.as_bytes()), want, "{line:?}");
    }
    assert_eq!(refused(b"GET / HTTP/1.1\r\n\r\n"), E::MissingHost);
    assert_eq!(refused(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"), E::Target);
    for host in ["a b", "a/b", "a@b", "a\u{e9}", "a#b", "a?b"] {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(refused(head.as_bytes()), E::Host, "{host}");
    }
}

#[test]
fn framing_and_intent_are_read() {
    let read = |fields: &str| parse_all(&with(fields), 500).unwrap().0;
    assert_eq!(read("").framing, Framing::None);
    assert_eq!(read("Content-Length: 0\r\n").framing, Framing::None);
    assert_eq!(read("content-length: 7 \r\n").framing, Framing::Length(7));
    let twice = "Content-Length: 7\r\nContent-Length: 7\r\n";
    assert_eq!(read(twice).framing, Framing::Length(7));
    assert_eq!(
        read("transfer-encoding: CHUNKED\r\n").framing,
        Framing::Chunked
    );
    assert!(read("Connection: a, Close ,b\r\n").close);
    assert!(!read("Connection: closed\r\n").close);
    assert_eq!(read("Expect: 100-Continue\r\n").expect, Expect::Continue);
    assert_eq!(read("Expect: other\r\n").expect, Expect::Unknown);
}

#[test]
fn targets_have_four_forms() {
    for (line, host, path, query) in [
        ("GET /a?b?c HTTP/1.1", "", "/a", "b?c"),
        ("GET http://h:1/a?b HTTP/1.1", "h:1", "/a", "b"),
        ("GET http://h?b HTTP/1.1", "h", "", "b"),
        ("CONNECT h:443 HTTP/1.1", "h:443", "", ""),
        ("CONNECT /a HTTP/1.1", "", "/a", ""),
        ("OPTIONS * HTTP/1.1", "", "*", ""),
    ] {
        let head = format!("{line}\r\nHost: a\r\n\r\n");
        let (head, fields) = parse_all(head.as_bytes(), 500).unwrap();
        let text = |r: &Range<usize>| str::from_utf8(&fields.raw()[r.clone()]).unwrap().to_owned();
        let target = &head.target;
        let got = [&target.host, &target.path, &target.query].map(text);
        assert_eq!(got, [host, path, query], "{line}");
    }
}

#[test]
fn targets_hosts_are_as_net_url_has_them() {
    for host in [
        "[::1", "[::1]x", "[::1]%25", "a:b", "a:b:1", "a%zz", "a%2fb", "a%", "::1", "a:-1",
    ] {
        let head = format!("GET http://{host}/ HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(refused(head.as_bytes()), HeadError::Target, "{host}");
        let head = format!("CONNECT {host} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(refused(head.as_bytes()), HeadError::Target, "{host}");
    }
    for host in [
        "a",
        "a:",
        "a:80",
        "[::1]",
        "[::1]:80",
        "[fe80::1%25en0]:80",
        "a%c3%a9",
    ] {
        let head = format!("GET http://{host}/ HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(parse_all(head.as_bytes(), 500).is_ok(), "{host}");
    }
}

#[test]
fn fields_are_counted_and_found_in_any_case() {
    let many = "X-A: 1\r\nx-a:2\r\nX-B:  v \r\n".to_owned() + &"F: f\r\n".repeat(96);
    let (_, fields) = parse_all(&with(&many), 100).unwrap();
    assert_eq!(fields.len(), 100);
    assert_eq!(fields.get_all("X-a").collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!(fields.get("x-b").unwrap(), "v");
    assert!(fields.get("x").is_none());
    assert_eq!(
        fields.to_header_map().unwrap().get_all("f").iter().count(),
        96
    );
    assert_eq!(
        parse_all(&with(&many), 99).unwrap_err(),
        HeadError::TooManyFields
    );
    assert_eq!(
        parse_all(&with("A: 1\r\n"), 1).unwrap_err(),
        HeadError::TooManyFields
    );
}

#[test]
fn the_end_is_found_at_the_same_place_for_every_cut() {
    let good = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nrest\r\n\r\n".as_slice();
    let bad = b"GET / HTTP/1.1\r\nHost: a\n\r\n".as_slice();
    let empty = b"\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n".as_slice();
    let mut random = 1_u64;
    for bytes in [good, bad, empty] {
        let want = HeadScanner::default().scan(bytes, MAX);
        for cuts in 0..1_000 {
            let mut scanner = HeadScanner::default();
            let mut end = 0;
            let got = loop {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(cuts);
                end = (end + (random >> 60) as usize).min(bytes.len());
                match scanner.scan(&bytes[..end], MAX) {
                    Ok(Scan::Partial) if end < bytes.len() => {}
                    other => break other,
                }
            };
            assert_eq!(got, want);
        }
    }
    assert_eq!(
        HeadScanner::default().scan(good, MAX),
        Ok(Scan::Complete(2..29))
    );
    assert_eq!(
        HeadScanner::default().scan(empty, MAX),
        Err(HeadError::RequestLine)
    );
}

#[test]
fn a_head_has_a_limit() {
    let head = with("X: y\r\n");
    let len = head.len();
    let scan = |bytes: &[u8], max| HeadScanner::default().scan(bytes, max);
    assert_eq!(scan(&head, len), Ok(Scan::Complete(0..len)));
    assert_eq!(scan(&head, len - 1), Err(HeadError::TooLarge));
    assert_eq!(scan(&head[..len - 1], len - 2), Err(HeadError::TooLarge));
}
