//! `Range`: what is taken lies inside the file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wirepath::file::parse_ranges;

fuzz_target!(|data: (u64, &[u8])| {
    let (size, field) = data;
    let Ok(ranges) = parse_ranges(field, size) else {
        return;
    };
    for range in ranges {
        let end = range.start.checked_add(range.len);
        assert!(end.is_some_and(|end| end <= size), "{range:?} of {size}");
    }
});
