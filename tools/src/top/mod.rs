//! `wirepath top`: a running server, live in the terminal.
//!
//! A thread asks the server ([`feed`]), so that keys are answered while the
//! server is not; [`app`] holds what is looked at, [`view`] draws it, [`rates`]
//! tells what grew. A server that ended is said so, and waited for.

mod app;
mod feed;
mod rates;
mod view;

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use wirepath::see::Wanted;

use crate::control::Client;
use crate::failure::Failure;
use crate::serve::parse_duration;
use app::App;
use rates::Rates;

/// The longest that a key waits to be seen.
const KEY_LOOK: Duration = Duration::from_millis(50);
/// The least time between two questions: more would be the server's work.
const LEAST_INTERVAL: Duration = Duration::from_millis(100);
/// How much later than that an answer may come before it is missed.
const PATIENCE: Duration = Duration::from_secs(1);
/// What is asked for: more than a screen shows, and little enough to be quick.
const WANTED: Wanted = Wanted {
    flows: 500,
    goroutines: 1000,
    requests: 50,
};
/// The frame of `--once`, columns and rows.
const ONCE_SIZE: (u16, u16) = (100, 40);

/// Options of `wirepath top`.
#[derive(Args)]
pub struct Options {
    /// The server: its process number, or the path of its control socket. By
    /// default the only one that is running.
    #[arg(value_name = "PID|PATH")]
    target: Option<String>,
    /// How often to ask: 500ms, 2s.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1s")]
    interval: Duration,
    /// Print one frame as text, of the time of one interval, and end.
    #[arg(long)]
    once: bool,
    /// With --once: print the state and the rates as JSON.
    #[arg(long, requires = "once")]
    json: bool,
}

/// Shows the server until `q`.
pub fn run(options: &Options) -> Result<(), Failure> {
    let interval = options.interval.max(LEAST_INTERVAL);
    let client = Client::find(options.target.as_deref())?;
    if options.once {
        return once(client, interval, options.json);
    }
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::refused(
            "stdin and stdout are to be a terminal; `wirepath top --once` prints one frame",
        ));
    }
    watch(client, interval)
}

fn once(mut client: Client, interval: Duration, json: bool) -> Result<(), Failure> {
    let mut app = App::new(false);
    app.take(client.state(&WANTED)?);
    std::thread::sleep(interval);
    app.take(client.state(&WANTED)?);
    match json {
        true => say!("{}", json!({ "state": app.state, "rates": app.rates })),
        false => say!("{}", text_of(&mut app, ONCE_SIZE)),
    }
    Ok(())
}

/// A frame as text, without the empty rest.
fn text_of(app: &mut App, (width, height): (u16, u16)) -> String {
    let mut terminal =
        Terminal::new(TestBackend::new(width, height)).unwrap_or_else(|never| match never {});
    terminal
        .draw(|frame| view::draw(frame, app))
        .unwrap_or_else(|never| match never {});
    let buffer = terminal.backend().buffer();
    let rows = buffer.content.chunks(width.into());
    let row = |cells: &[ratatui::buffer::Cell]| {
        let text: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        text.trim_end().to_owned()
    };
    let rows: Vec<String> = rows.map(row).collect();
    rows.join("\n").trim_end().to_owned()
}

fn watch(client: Client, interval: Duration) -> Result<(), Failure> {
    let failed = |e: io::Error| Failure::running(format!("the terminal cannot be used: {e}"));
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::flag::register(signal, ended.clone()).map_err(failed)?;
    }
    let feed = feed::start(client, interval, WANTED).map_err(failed)?;
    // Has a panic restore the terminal too.
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let mut heard = Instant::now();
    let mut app = App::new(std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()));
    let shown = (|| {
        while !app.is_done && !ended.load(Ordering::Relaxed) {
            for news in feed.try_iter() {
                app.hear(news);
                heard = Instant::now();
            }
            app.silence = Some(heard.elapsed()).filter(|silence| *silence > interval + PATIENCE);
            terminal.draw(|frame| view::draw(frame, &mut app))?;
            if event::poll(KEY_LOOK)?
                && let Event::Key(key) = event::read()?
                && key.kind == KeyEventKind::Press
            {
                app.press(key);
            }
        }
        Ok(())
    })();
    ratatui::restore();
    shown.map_err(failed)
}
