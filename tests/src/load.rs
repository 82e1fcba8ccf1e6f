//! Clients that keep a server busy, whatever becomes of it.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::http::{Client, request};
use crate::netns::Netns;
use crate::wait::wait_until;

/// Requests of one client at most: a bound for a test with a wrong loop.
const LIMIT_REQUESTS: u64 = 2_000_000;

/// How long a client waits for a server that is gone before it tries anew.
const GIVE_UP: Duration = Duration::from_millis(500);

/// How long a client whose connection failed rests.
const REST: Duration = Duration::from_millis(10);

/// Clients that ask for a page again and again, each on a connection that it
/// keeps, and connect anew when that fails. Dropping it ends them.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts that many clients inside the namespace.
    pub fn start(net: &Netns, to: &str, path: &'static str, clients: usize) -> Load {
        let to: SocketAddr = to.parse().expect("a literal address");
        let stop = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicU64::new(0));
        let client = |_| {
            let (stop, served) = (stop.clone(), served.clone());
            net.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if ask(to, path, &stop, &served).is_err() {
                        std::thread::sleep(REST);
                    }
                }
            })
        };
        let clients = (0..clients).map(client).collect();
        Load {
            stop,
            served,
            clients,
        }
    }

    /// Requests that were answered so far.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Waits until this many more requests are answered.
    ///
    /// # Panics
    /// If they are not.
    #[track_caller]
    pub fn wait_for(&self, more: u64) {
        let want = self.served() + more;
        wait_until("requests under load are answered", || self.served() >= want);
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
    }
}

/// Asks on one connection until it fails or is told to stop.
fn ask(to: SocketAddr, path: &str, stop: &AtomicBool, served: &AtomicU64) -> io::Result<()> {
    let stream = TcpStream::connect_timeout(&to, GIVE_UP)?;
    stream.set_read_timeout(Some(GIVE_UP))?;
    stream.set_write_timeout(Some(GIVE_UP))?;
    stream.set_nodelay(true)?;
    let mut client = Client::new(stream);
    for _ in 0..LIMIT_REQUESTS {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        client.try_send(request("GET", path))?;
        client.reply()?;
        served.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
