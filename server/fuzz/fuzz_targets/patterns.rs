//! A mux of patterns, and the requests that they are for: what is registered
//! reads back, and a path that is asked for finds an answer.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wirepath::{RegisterError, Request, ResponseWriter, ServeMux, httptest};

fuzz_target!(|text: &str| {
    let mut mux = ServeMux::new();
    let mut lines = text.lines();
    let path = lines.next().unwrap_or_default();
    for pattern in lines.take(20) {
        let handler = |_: &mut ResponseWriter, _: &mut Request| ();
        if let Err(RegisterError::Conflict { example, .. }) = mux.try_handle(pattern, handler) {
            assert!(example.contains(" "));
        }
    }
    let Ok(r) = httptest::request("GET", path)
        .header("Host", "a")
        .try_build()
    else {
        return;
    };
    let found = mux.handler(&r).map(|(_, pattern)| pattern.to_owned());
    if let Some(pattern) = found {
        // Alone it matches too.
        let mut alone = ServeMux::new();
        alone.handle_func(&pattern, |_: &mut ResponseWriter, _: &mut Request| ());
        assert_eq!(alone.handler(&r).map(|(_, p)| p), Some(pattern.as_str()));
    }
});
