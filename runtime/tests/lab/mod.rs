//! Two runtimes with a stack each, joined by a cable in memory.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use wirepath_driver::Queue;
use wirepath_driver::cable::{CableOptions, cable};
use wirepath_runtime::{Runtime, Stack};
use wirepath_stack::Config;

pub const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 7, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 7, 0, 2));

pub struct Lab {
    pub server: Runtime,
    pub client: Runtime,
}

impl Lab {
    pub fn new() -> Lab {
        let (near, far) = cable(CableOptions::default()).unwrap();
        Lab {
            server: runtime(1, SERVER, Box::new(near)),
            client: runtime(2, CLIENT, Box::new(far)),
        }
    }
}

fn runtime(number: u8, addr: IpAddr, queue: Box<dyn Queue>) -> Runtime {
    let mac = format!("02:00:00:00:00:0{number}").parse().unwrap();
    let config = Config::new(mac, vec![format!("{addr}/24").parse().unwrap()]);
    let stack = Stack::new(config, vec![queue]).unwrap();
    let builder = Runtime::builder().max_procs(2).stack(stack);
    builder.build().unwrap()
}

#[track_caller]
pub fn wait_until(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        let waited = start.elapsed();
        assert!(waited < Duration::from_secs(20), "waited too long");
        std::thread::yield_now();
    }
}
