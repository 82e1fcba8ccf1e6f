//! A goroutine that waits for what nobody sends: once the last thread has ended
//! that might have, the process says so and ends, and the flight recorder leaves
//! a recording in the directory that is given.

use std::time::Duration;

use wirepath::runtime::{Runtime, chan, trace};
use wirepath::see::{Recorder, recorder};

fn main() {
    let dir = std::env::args().nth(1).expect("give a directory");
    trace::enable(1 << 10);
    let runtime = Runtime::builder()
        .max_procs(2)
        .build()
        .expect("a runtime can be made");
    let options = recorder::Options::new(dir);
    let _recorder =
        Recorder::start(runtime.handle(), options).expect("the directory can be written to");
    let waited = runtime.run(|| {
        std::thread::spawn(|| std::thread::sleep(Duration::from_millis(200)));
        let (_send, recv) = chan::channel::<()>(0);
        recv.recv()
    });
    println!("it was woken: {waited:?}");
}
