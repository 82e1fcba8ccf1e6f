//! End to end: `wirepath serve` on a device, a kernel as its client.
//!
//! One file for each theme. Each test has a lab, and a server, of its own;
//! where the machine lacks the rights it skips, and says so (see
//! [`wirepath_tests::Lab::new`]).
//!
//! What is true of a server on any device is written once, as a function of
//! the lab, and named in its file's `on_every_device!`, which makes of it a
//! test for each [`wirepath_tests::Device`]: `routes::tap::the_front_page`,
//! `routes::xdp_native::the_front_page`, and so on. A function left out of the
//! list is dead code, which the lints refuse.

/// Makes a test for each device of functions that take a lab.
macro_rules! on_every_device {
    ($($test:ident),* $(,)?) => {
        mod tap {
            $(on_device!(Tap, 1, $test);)*
        }
        #[cfg(feature = "xdp")]
        on_xdp! { $($test),* }
    };
}

/// Makes two tests, one for each mode of the filter program, of functions that
/// take a lab, whose cable has one queue each way unless told otherwise.
#[cfg(feature = "xdp")]
macro_rules! on_xdp {
    (queues $queues:literal: $($test:ident),* $(,)?) => {
        mod xdp_native {
            $(on_device!(XdpNative, $queues, $test);)*
        }
        mod xdp_generic {
            $(on_device!(XdpGeneric, $queues, $test);)*
        }
    };
    ($($test:ident),* $(,)?) => {
        on_xdp! { queues 1: $($test),* }
    };
}

macro_rules! on_device {
    ($device:ident, $queues:literal, $test:ident) => {
        #[test]
        fn $test() {
            let device = wirepath_tests::Device::$device;
            if let Some(lab) = wirepath_tests::Lab::with_queues(device, stringify!($test), $queues)
            {
                super::$test(&lab);
            }
        }
    };
}

/// Sets up the lab with a TAP of a test, named as the test is, or returns from
/// the test.
macro_rules! lab {
    ($name:literal) => {
        lab!(new $name)
    };
    ($constructor:ident $name:literal) => {
        match wirepath_tests::Lab::$constructor(wirepath_tests::Device::Tap, $name) {
            Some(lab) => lab,
            None => return,
        }
    };
}

mod bad_frames;
mod bad_http;
mod bodies;
mod capture;
mod captures;
mod client;
mod connections;
mod control;
mod curl;
mod deadlines;
mod demo;
mod doctor;
mod examples;
mod files;
mod inspect;
mod keep_alive;
mod kernel;
mod lab;
mod mux;
mod oracle;
mod page;
mod ping;
mod replay;
mod routes;
mod seeing;
mod service;
mod shutdown;
mod trace;
mod usage;
mod vanishing;
#[cfg(feature = "xdp")]
mod xdp;
