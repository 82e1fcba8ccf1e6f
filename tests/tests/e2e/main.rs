//! End to end: `wirepath serve` on a TAP, the kernel as its client.
//!
//! One file for each theme. Each test has a lab, and a server, of its own;
//! where the machine lacks the rights it skips, and says so (see
//! [`wirepath_tests::Lab::new`]).

/// Sets up the lab of a test, named as the test is, or returns from the test.
macro_rules! lab {
    ($name:literal) => {
        lab!(new $name)
    };
    ($constructor:ident $name:literal) => {
        match wirepath_tests::Lab::$constructor($name) {
            Some(lab) => lab,
            None => return,
        }
    };
}

mod bad_frames;
mod bodies;
mod capture;
mod client;
mod connections;
mod curl;
mod deadlines;
mod demo;
mod files;
mod keep_alive;
mod kernel;
mod lab;
mod ping;
mod routes;
mod seeing;
mod shutdown;
mod usage;
mod vanishing;
