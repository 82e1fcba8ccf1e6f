use std::time::{Duration, SystemTime};

use super::*;
use crate::httptest;

fn at(secs: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
}

/// What Go's `Cookie.String` gives for the same.
#[test]
fn cookies_are_written_as_in_go() {
    let with = |change: fn(&mut Cookie)| {
        let mut cookie = Cookie::new("c", "v");
        change(&mut cookie);
        cookie
    };
    for (cookie, want) in [
        (Cookie::new("a", "1"), "a=1"),
        (Cookie::new("a", "x y"), "a=\"x y\""),
        (Cookie::new("a", "x,y"), "a=\"x,y\""),
        (Cookie::new("a", ""), "a="),
        (Cookie::new("a", "q\"u;o\\t\u{7}é"), "a=quot"),
        (Cookie::new("", "1"), ""),
        (Cookie::new("a b", "1"), ""),
        (Cookie::new("a\r\nX: y", "1"), ""),
        (with(|c| c.quoted = true), "c=\"v\""),
        (with(|c| c.path = "/;x\n".into()), "c=v; Path=/x"),
        (
            with(|c| c.domain = ".example.com".into()),
            "c=v; Domain=example.com",
        ),
        (
            with(|c| c.domain = "127.0.0.1".into()),
            "c=v; Domain=127.0.0.1",
        ),
        (with(|c| c.domain = "::1".into()), "c=v"),
        (with(|c| c.domain = "a b.com".into()), "c=v"),
        (with(|c| c.max_age = Some(60)), "c=v; Max-Age=60"),
        (with(|c| c.max_age = Some(-1)), "c=v; Max-Age=0"),
        (
            with(|c| c.expires = Some(at(1_257_894_000))),
            "c=v; Expires=Tue, 10 Nov 2009 23:00:00 GMT",
        ),
        (with(|c| c.http_only = true), "c=v; HttpOnly"),
        (
            with(|c| (c.secure, c.partitioned) = (true, true)),
            "c=v; Secure; Partitioned",
        ),
        (with(|c| c.same_site = SameSite::None), "c=v; SameSite=None"),
    ] {
        assert_eq!(cookie.to_string(), want, "{cookie:?}");
    }
}

#[test]
fn what_cannot_be_sent_is_told() {
    let with = |change: fn(&mut Cookie)| {
        let mut cookie = Cookie::new("c", "v");
        change(&mut cookie);
        cookie.validate()
    };
    assert_eq!(with(|_| ()), Ok(()));
    assert_eq!(with(|c| c.name.clear()), Err(CookieError::Name));
    assert_eq!(
        with(|c| c.value = "a\"".into()),
        Err(CookieError::Value(b'"'))
    );
    assert_eq!(with(|c| c.path = "/;".into()), Err(CookieError::Path(b';')));
    assert_eq!(
        with(|c| c.partitioned = true),
        Err(CookieError::Partitioned)
    );
    assert_eq!(
        with(
            |c| c.expires = SystemTime::UNIX_EPOCH.checked_sub(Duration::from_secs(11_644_473_601))
        ),
        Err(CookieError::Expires)
    );
    for (domain, is_one) in [
        ("example.com", true),
        (".example.com", true),
        ("a-b.c", true),
        ("example.com.", true),
        ("1.2.3.4", true),
        ("1.2.3", false),
        ("-a.com", false),
        ("a-.com", false),
        ("a..com", false),
        ("a_b.com", false),
        ("..com", false),
        ("ü.de", false),
    ] {
        assert_eq!(is_domain(domain), is_one, "{domain}");
    }
    assert!(!is_domain(&"a.".repeat(128)));
    assert!(!is_domain(&"a".repeat(64)));
}

/// What Go's `ParseCookie` gives.
#[test]
fn a_cookie_field_is_read_strictly() {
    type Want<'a> = Result<&'a [(&'a str, &'a str, bool)], CookieError>;
    let table: &[(&str, Want<'_>)] = &[
        ("a=1", Ok(&[("a", "1", false)])),
        ("a=1; b=2", Ok(&[("a", "1", false), ("b", "2", false)])),
        (
            "a=1;b=\"x y\"",
            Ok(&[("a", "1", false), ("b", "x y", true)]),
        ),
        ("a=", Ok(&[("a", "", false)])),
        ("a=b=c", Ok(&[("a", "b=c", false)])),
        ("a=\"", Err(CookieError::Value(b'"'))),
        ("", Err(CookieError::Blank)),
        (" \t", Err(CookieError::Blank)),
        ("a", Err(CookieError::NoEquals)),
        ("a=1;", Err(CookieError::NoEquals)),
        ("=1", Err(CookieError::Name)),
        ("a =1", Err(CookieError::Name)),
        ("a=\\", Err(CookieError::Value(b'\\'))),
        ("a=é", Err(CookieError::Value(0xc3))),
    ];
    for (line, want) in table {
        let got = parse_cookie(line);
        let got = got.as_ref().map_err(|e| *e).map(|cookies| {
            let parts = cookies.iter();
            let parts = parts.map(|c| (c.name.as_str(), c.value.as_str(), c.quoted));
            parts.collect::<Vec<_>>()
        });
        assert_eq!(got, want.map(<[_]>::to_vec), "{line:?}");
    }
    let many = vec!["a=1"; MAX_COOKIES + 1].join(";");
    assert_eq!(parse_cookie(&many), Err(CookieError::TooMany));
}

#[test]
fn set_cookie_fields_are_read() {
    // A space before the quote is part of the value.
    let spaced = parse_set_cookie("a= \"1\"");
    assert_eq!(spaced, Err(CookieError::Value(b'"')));
    let cookie = parse_set_cookie(
        " a =\"1\" ; Path=/x; DOMAIN=.b.c; Expires=Tue, 10-Nov-2009 23:00:00 GMT; max-age=0; \
         secure; HttpOnly; SameSite=strict; Partitioned; Priority=High; max-age=007; Path=\"",
    )
    .unwrap();
    assert_eq!((cookie.name.as_str(), cookie.value.as_str()), ("a", "1"));
    assert!(cookie.quoted && cookie.secure && cookie.http_only && cookie.partitioned);
    assert_eq!(
        (cookie.path.as_str(), cookie.domain.as_str()),
        ("/x", ".b.c")
    );
    assert_eq!(cookie.expires, Some(at(1_257_894_000)));
    assert_eq!(
        (cookie.max_age, cookie.same_site),
        (Some(0), SameSite::Strict)
    );
    assert_eq!(cookie.unparsed, ["Priority=High", "max-age=007", "Path=\""]);
    for (line, want) in [
        ("", CookieError::Blank),
        (";", CookieError::NoEquals),
        ("a", CookieError::NoEquals),
        ("a b=1", CookieError::Name),
        ("a=\u{1}", CookieError::Value(1)),
    ] {
        assert_eq!(parse_set_cookie(line), Err(want), "{line:?}");
    }
}

#[test]
fn a_request_has_cookies_and_leaves_out_what_is_none() {
    let names = |w: &mut ResponseWriter, r: &mut Request| {
        let all = r.cookies();
        let text: Vec<_> = all
            .iter()
            .map(|c| format!("{}={}", c.name, c.value))
            .collect();
        assert_eq!(r.cookie("b").map(|c| c.value).as_deref(), Some("x y"));
        assert_eq!(r.cookies_named("a").len(), 2);
        assert_eq!(r.cookie("none"), None);
        set_cookie(w, &Cookie::new("s", text.join("|")));
        set_cookie(w, &Cookie::new("bad name", ""));
    };
    let answer = httptest::request("GET", "/")
        .header("Cookie", "a=1; bad; ;=; c d=1; b=\"x y\"; q=\"")
        .header("Cookie", "a=2; lone")
        .serve(&names);
    assert_eq!(
        answer.header("Set-Cookie"),
        Some("s=\"a=1|bad=|b=x y|a=2|lone=\"")
    );
}

#[test]
fn too_many_cookies_are_none() {
    let many = vec!["a=1"; MAX_COOKIES].join(";");
    let count = |w: &mut ResponseWriter, r: &mut Request| {
        w.header("X-Count", r.cookies().len().to_string());
    };
    let ask = |lines: &[&str]| {
        let mut request = httptest::request("GET", "/");
        for line in lines {
            request = request.header("Cookie", line);
        }
        request.serve(&count).header("X-Count").map(str::to_owned)
    };
    assert_eq!(ask(&[&many]).as_deref(), Some("3000"));
    assert_eq!(ask(&[&many, "b=1"]).as_deref(), Some("0"));
}
