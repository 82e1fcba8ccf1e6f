//! The flight recorder: the trace's rings, always on, and what they held when
//! something went wrong, in files.
//!
//! What makes it write a file: a handler that took longer than a limit, a
//! handler that panicked, a storm of retransmissions, and [`Recorder::trigger`].
//! A thread of its own takes the recording a moment later, so that the end of
//! what went wrong is in it, and writes the file: the path is never held up. No
//! more files are kept than asked for, and none is written too soon after
//! another. When all goroutines wait for ever, the thread that found it writes
//! one before the process ends.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wirepath_runtime::Handle;
use wirepath_runtime::trace::{self, Event, Kind};

use super::recording::Recording;
use crate::alarm;
use crate::debug::Pages;
use crate::mux::ServeMux;
use crate::request::Request;
use crate::response::ResponseWriter;

/// Events that a thread's ring holds unless told otherwise: 8 MiB of them, some
/// ten seconds at a thousand requests a second.
pub const EVENTS: usize = 1 << 17;
/// How long after the trigger a recording is taken.
const SETTLE: Duration = Duration::from_millis(50);
/// How often retransmissions are counted.
const LOOK: Duration = Duration::from_secs(1);
/// A storm: so many segments sent again in a second, and one in so many of all.
const STORM_SEGMENTS: u64 = 100;
const STORM_SHARE: u64 = 20;
/// Ends the names of recordings.
const SUFFIX: &str = "wptrace";

/// Gives the last frames, as a pcapng file.
pub type Frames = Arc<dyn Fn() -> Vec<u8> + Send + Sync>;

/// When recordings are written, and where.
#[derive(Clone)]
pub struct Options {
    /// Where to.
    pub dir: PathBuf,
    /// A handler that takes longer makes one.
    pub slow: Option<Duration>,
    /// Files that are kept, the oldest of them going first.
    pub most_files: usize,
    /// The least time between two.
    pub pause: Duration,
    /// Frames that go into each.
    pub frames: Option<Frames>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("dir", &self.dir)
            .field("slow", &self.slow)
            .field("most_files", &self.most_files)
            .field("pause", &self.pause)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// Ten files at most in `dir`, ten seconds apart at least, and none for slow
    /// handlers.
    pub fn new(dir: impl Into<PathBuf>) -> Options {
        Options {
            dir: dir.into(),
            slow: None,
            most_files: 10,
            pause: Duration::from_secs(10),
            frames: None,
        }
    }
}

#[derive(Default)]
struct Wish {
    why: Option<&'static str>,
    /// The recorder is gone.
    ended: bool,
}

#[derive(Default)]
struct Shared {
    wish: Mutex<Wish>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Wish> {
        self.wish.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first of several reasons counts.
    fn trigger(&self, why: &'static str) {
        self.lock().why.get_or_insert(why);
        self.changed.notify_all();
    }
}

/// Writes recordings until it is dropped.
pub struct Recorder {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

impl Recorder {
    /// Begins to watch a runtime. The rings are to be on ([`trace::enable`]).
    ///
    /// # Errors
    /// The directory cannot be made or written to, or there is no thread.
    pub fn start(runtime: Handle, options: Options) -> io::Result<Recorder> {
        fs::create_dir_all(&options.dir)?;
        // That files can be made is better known now.
        drop(tempfile::tempfile_in(&options.dir)?);
        let shared = Arc::new(Shared::default());
        let to_tell = shared.clone();
        alarm::set(options.slow, move |why| to_tell.trigger(why));
        let last = options.clone();
        runtime.on_deadlock(move |runtime| record_deadlock(runtime, &last));
        let watched = shared.clone();
        std::thread::Builder::new()
            .name("wirepath-recorder".to_owned())
            .spawn(move || Watch::new(runtime, options).run(&watched))?;
        Ok(Recorder { shared })
    }

    /// Has a recording written.
    pub fn trigger(&self, why: &'static str) {
        self.shared.trigger(why);
    }

    /// [`Recorder::trigger`], for another thread.
    pub fn trigger_handle(&self) -> impl Fn(&'static str) + Send + Sync + use<> {
        let shared = self.shared.clone();
        move |why| shared.trigger(why)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
    }
}

/// The recorder's thread.
struct Watch {
    runtime: Handle,
    options: Options,
    written: Option<Instant>,
    number: u64,
    /// Segments sent, and sent again, when they were last counted.
    segments: (u64, u64),
}

impl Watch {
    fn new(runtime: Handle, options: Options) -> Watch {
        Watch {
            segments: segments(&runtime),
            runtime,
            options,
            written: None,
            number: 0,
        }
    }

    fn run(&mut self, shared: &Shared) {
        let _watching = self.runtime.watching();
        loop {
            let waiting = shared.lock();
            let idle = |wish: &mut Wish| wish.why.is_none() && !wish.ended;
            let waited = shared.changed.wait_timeout_while(waiting, LOOK, idle);
            let (mut wish, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if wish.ended {
                return;
            }
            let why = wish.why.take();
            drop(wish);
            if let Some(why) = why.or_else(|| self.storm()) {
                self.record(why);
            }
        }
    }

    fn storm(&mut self) -> Option<&'static str> {
        let (sent, again) = segments(&self.runtime);
        let (sent_before, again_before) = std::mem::replace(&mut self.segments, (sent, again));
        let (sent, again) = (
            sent.saturating_sub(sent_before),
            again.saturating_sub(again_before),
        );
        let is_storm = again >= STORM_SEGMENTS && again * STORM_SHARE >= sent;
        is_storm.then_some("retransmissions")
    }

    fn record(&mut self, why: &'static str) {
        let pause = self.options.pause;
        if self.written.is_some_and(|at| at.elapsed() < pause) {
            return tracing::info!(why, "no recording: the last is less than {pause:?} old");
        }
        std::thread::sleep(SETTLE);
        self.number += 1;
        write(&self.runtime, &self.options, self.number, why);
        self.written = Some(Instant::now());
        self.tidy();
    }

    /// Removes the oldest of this process's files beyond those to be kept.
    fn tidy(&self) {
        let Ok(entries) = fs::read_dir(&self.options.dir) else {
            return;
        };
        let mine = format!("wirepath-{}-", std::process::id());
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<_> = names
            .filter(|name| name.starts_with(&mine) && name.ends_with(SUFFIX))
            .collect();
        names.sort();
        let beyond = names.len().saturating_sub(self.options.most_files.max(1));
        for name in &names[..beyond] {
            // One that cannot be removed is met again the next time.
            let _ = fs::remove_file(self.options.dir.join(name));
        }
    }
}

/// Takes a recording and writes it.
fn write(runtime: &Handle, options: &Options, number: u64, why: &'static str) {
    trace::emit(Event::new(trace::stamp(), Kind::Mark, 0).labelled(trace::label(why)));
    let mut recording = Recording::take(runtime, why);
    if let Some(frames) = &options.frames {
        recording = recording.with_frames(frames());
    }
    let pid = recording.meta.pid;
    let path = options
        .dir
        .join(format!("wirepath-{pid}-{number:04}-{why}.{SUFFIX}"));
    let shown = path.display();
    match save(&recording, &path) {
        Ok(()) => {
            tracing::warn!(path = %shown, why, events = recording.events.len(), "recording written");
        }
        Err(error) => {
            tracing::warn!(path = %shown, why, %error, "the recording could not be written");
        }
    }
}

/// The last recording of a process; its number comes after all others.
fn record_deadlock(runtime: &Handle, options: &Options) {
    write(runtime, options, 9999, "deadlock");
}

/// Segments that the stack has sent, and those of them that were sent again.
fn segments(runtime: &Handle) -> (u64, u64) {
    let queues = runtime.look_at_queues();
    queues.iter().fold((0, 0), |(sent, again), queue| {
        let counters = &queue.counters;
        (
            sent + counters.tcp_segments_sent,
            again + counters.tcp_retransmits,
        )
    })
}

/// Under another name until it is whole.
fn save(recording: &Recording, path: &Path) -> io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    let written = (|| {
        let mut file = BufWriter::new(File::create(&unfinished)?);
        recording.write(&mut file)?;
        file.flush()?;
        fs::rename(&unfinished, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written
}

/// Registers `/debug/wirepath/trace`, which answers with a recording of the
/// runtime that the request runs in, for who may see `pages`.
pub fn register(mux: &mut ServeMux, pages: &Pages) {
    let download = |w: &mut ResponseWriter, _: &mut Request| {
        let runtime = Handle::current().expect("handlers run on goroutines");
        let recording = Recording::take(&runtime, "asked");
        let name = format!("wirepath-{}.{SUFFIX}", recording.meta.pid);
        w.header("Content-Type", "application/octet-stream");
        w.header(
            "Content-Disposition",
            format!("attachment; filename=\"{name}\""),
        );
        w.header("Cache-Control", "no-store");
        // An error says that the client is gone.
        let _ = w.write_all(&recording.to_bytes());
    };
    mux.handle("GET /debug/wirepath/trace", pages.guard(download));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_files_go_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let pid = std::process::id();
        let names = |numbers: &[u32]| -> Vec<String> {
            let name = |n| format!("wirepath-{pid}-{n:04}-asked.{SUFFIX}");
            numbers.iter().map(name).collect()
        };
        for name in names(&[1, 2, 3, 4]) {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::write(dir.path().join("wirepath-1-0001-asked.wptrace"), "").unwrap();
        let runtime = wirepath_runtime::Runtime::builder().build().unwrap();
        let options = Options {
            most_files: 2,
            ..Options::new(dir.path())
        };
        let watch = Watch::new(runtime.handle(), options);
        watch.tidy();
        let left = |name: &String| dir.path().join(name).exists();
        assert_eq!(
            names(&[1, 2, 3, 4]).iter().map(left).collect::<Vec<_>>(),
            [false, false, true, true]
        );
        assert!(dir.path().join("wirepath-1-0001-asked.wptrace").exists());
        runtime.shutdown(Duration::from_secs(1));
    }
}
