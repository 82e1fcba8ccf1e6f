//! Any file goes through all that `wirepath inspect` does with one: nothing
//! panics, and nothing is held that a bound does not allow.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    wirepath_tools::inspect::all_views(bytes.to_vec());
});
