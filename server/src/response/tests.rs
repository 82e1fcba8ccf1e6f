use super::*;
use crate::conn::testing::exchange;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn header_fields_are_replaced_added_and_checked() {
    let mut lines = HeaderLines::default();
    lines.set("X-A", b"1").unwrap();
    lines.set("X-B", b" b ").unwrap();
    lines.append("x-a", b"2").unwrap();
    lines.set("X-C", b"c").unwrap();
    assert_eq!(lines.get("x-b"), Some(b"b".as_slice()));
    lines.set("X-a", b"3").unwrap();
    assert_eq!(lines.as_bytes(), b"X-B: b\r\nX-C: c\r\nX-a: 3\r\n");
    lines.remove("X-C");
    assert_eq!(lines.get("x-c"), None);
    for bad in [b"a\r\nb".as_slice(), b"a\0", b"\x7f", b"\n"] {
        assert_eq!(lines.set("X", bad), Err(HeaderError::Value));
    }
    for bad in ["", "a b", "a:", "a\r\n", "\u{e9}"] {
        assert_eq!(lines.append(bad, b""), Err(HeaderError::Name));
    }
    assert_eq!(lines.as_bytes(), b"X-B: b\r\nX-a: 3\r\n");
}

#[test]
fn a_refused_field_leaves_the_response_whole() {
    let handler = |w: &mut ResponseWriter, _: &mut Request| {
        w.header("X-Bad", "a\r\nSet-Cookie: b")
            .header("X-Good", "c");
    };
    let (sent, _) = exchange(handler, &[GET]);
    assert!(
        !sent.contains("Cookie") && sent.contains("X-Good: c\r\n"),
        "{sent}"
    );
}

#[test]
fn writes_past_the_limits_are_told() {
    let handler = |w: &mut ResponseWriter, _: &mut Request| {
        w.header("Content-Length", "3");
        w.write_all(b"ab").unwrap();
        let e = w.write(b"cd").unwrap_err();
        assert_eq!(
            e.get_ref().unwrap().downcast_ref(),
            Some(&WriteError::ContentLength)
        );
        let none = |w: &mut ResponseWriter| w.write(b"").unwrap();
        assert_eq!(none(w), 0);
    };
    let (sent, outcome) = exchange(handler, &[GET]);
    assert!(sent.ends_with("\r\n\r\nab"), "{sent}");
    assert_eq!(outcome, crate::conn::Outcome::Done);
    let handler = |w: &mut ResponseWriter, _: &mut Request| {
        w.write_header(StatusCode::NO_CONTENT);
        let e = w.write(b"x").unwrap_err();
        assert_eq!(
            e.get_ref().unwrap().downcast_ref(),
            Some(&WriteError::BodyNotAllowed)
        );
    };
    let (sent, outcome) = exchange(handler, &[GET]);
    assert!(sent.starts_with("HTTP/1.1 204 No Content\r\n") && !sent.contains("Content-"));
    assert_eq!(outcome, crate::conn::Outcome::Readable);
}

#[test]
fn what_is_flushed_goes_in_chunks() {
    let handler = |w: &mut ResponseWriter, _: &mut Request| {
        for part in ["one", "two"] {
            w.write_all(part.as_bytes()).unwrap();
            w.flush().unwrap();
        }
        w.write_all(&[b'x'; 20_000]).unwrap();
        w.write_all(b"tail").unwrap();
    };
    let (sent, _) = exchange(handler, &[GET]);
    let want = format!(
        "Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n4e20\r\n{}\r\n4\r\ntail\r\n0\r\n\r\n",
        "x".repeat(20_000)
    );
    assert!(sent.ends_with(&want), "{sent}");
    let (sent, _) = exchange(handler, &[b"GET / HTTP/1.0\r\n\r\n"]);
    let want = format!("\r\n\r\nonetwo{}tail", "x".repeat(20_000));
    assert!(sent.ends_with(&want) && !sent.contains("chunked"), "{sent}");
    let (sent, _) = exchange(handler, &[b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"]);
    assert!(
        sent.ends_with("\r\n\r\n") && !sent.contains("chunked"),
        "{sent}"
    );
}

#[test]
fn status_and_fields_are_sealed_once_written() {
    let handler = |w: &mut ResponseWriter, _: &mut Request| {
        w.write_header(StatusCode::CREATED);
        w.write_header(StatusCode::BAD_REQUEST);
        w.header("X-Late", "1");
    };
    let (sent, _) = exchange(handler, &[GET]);
    assert!(sent.starts_with("HTTP/1.1 201 Created\r\n"), "{sent}");
    assert!(!sent.contains("X-Late"));
}

#[test]
fn content_is_recognized() {
    for (data, want) in [
        (b"".as_slice(), "text/plain; charset=utf-8"),
        (b"\n<!doctype HTML>", "text/html; charset=utf-8"),
        (b"<!-->", "text/html; charset=utf-8"),
        (b"<bx", "text/plain; charset=utf-8"),
        (b" <?xml v", "text/xml; charset=utf-8"),
        (b"%PDF-1", "application/pdf"),
        (b"\xff\xfea", "text/plain; charset=utf-16le"),
        (b"GIF89a", "image/gif"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"RIFF\x01\x02\x03\x04WEBPVP8 ", "image/webp"),
        (b"RIFF\x01\x02\x03\x04WAVE", "audio/wave"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "video/mp4"),
        (b"\0\0\0\x14ftypisom\0\0\0\0mp41", "video/mp4"),
        (b"\0\0\0\x18ftypmp4", "application/octet-stream"),
        (b"PK\x03\x04", "application/zip"),
        (b"\0asm\x01", "application/wasm"),
        (b"\x01", "application/octet-stream"),
        (b"text\x1b", "text/plain; charset=utf-8"),
    ] {
        assert_eq!(detect_content_type(data), want, "{}", data.escape_ascii());
    }
    let mut font = [1; 36];
    font[34..].copy_from_slice(b"LP");
    assert_eq!(detect_content_type(&font), "application/vnd.ms-fontobject");
}
