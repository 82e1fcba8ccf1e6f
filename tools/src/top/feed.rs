//! The thread that asks the server for its state, again and again.

use std::io;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use wirepath::see::Wanted;
use wirepath::see::state::State;

use crate::control::Client;

/// Answers that nobody has looked at yet, at most: then the thread waits.
const AHEAD: usize = 2;

/// What the thread says.
pub enum News {
    /// The server's state.
    State(Box<State>),
    /// It does not answer, and why.
    Lost(String),
}

/// Begins to ask every `interval`. A server that is gone is looked for at its
/// path, as often, and nowhere else: another server is another one. The thread
/// ends once nobody listens.
pub fn start(mut client: Client, interval: Duration, wanted: Wanted) -> io::Result<Receiver<News>> {
    let (news, feed) = mpsc::sync_channel(AHEAD);
    let path = client.path().display().to_string();
    let ask = move || {
        loop {
            let told = match client.state(&wanted) {
                Ok(state) => News::State(Box::new(state)),
                Err(failure) => {
                    if let Ok(found) = Client::find(Some(&path)) {
                        client = found;
                    }
                    News::Lost(failure.to_string())
                }
            };
            if news.send(told).is_err() {
                return;
            }
            std::thread::sleep(interval);
        }
    };
    std::thread::Builder::new().name("feed".into()).spawn(ask)?;
    Ok(feed)
}
