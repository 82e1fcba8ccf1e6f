//! Cookies and queries: what is read is written so that it reads the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wirepath::{Values, parse_cookie, parse_set_cookie};

fuzz_target!(|data: &[u8]| {
    let (values, _) = Values::parse(data);
    let (again, error) = Values::parse(values.encode().as_bytes());
    assert_eq!((error, again.len()), (None, values.len()));
    assert_eq!(again.encode(), values.encode());
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    for cookie in parse_cookie(text).unwrap_or_default() {
        let again = parse_cookie(&cookie.to_string()).expect("it was one");
        assert_eq!(
            (&again[0].name, &again[0].value),
            (&cookie.name, &cookie.value)
        );
    }
    if let Ok(cookie) = parse_set_cookie(text) {
        let again = parse_set_cookie(&cookie.to_string()).expect("it was one");
        assert_eq!((&again.name, &again.value), (&cookie.name, &cookie.value));
    }
});
