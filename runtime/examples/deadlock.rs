//! Two goroutines that wait for each other: the runtime says so, lists them,
//! and ends the process with code 2, as Go does.

use wirepath_runtime::chan::channel;
use wirepath_runtime::{Runtime, go_named};

fn main() {
    let runtime = Runtime::builder().build().expect("the runtime starts");
    let result = runtime.run(|| {
        let (ask, asked) = channel::<()>(0);
        let (answer, answered) = channel::<()>(0);
        let other = go_named("other", move || {
            let _ = answered.recv();
            let _ = ask.send(());
        });
        let _ = asked.recv();
        let _ = answer.send(());
        other.join()
    });
    println!("not reached: {}", result.is_ok());
}
