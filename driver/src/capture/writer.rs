//! The capture's writer thread: records off the queue, through the sift, blocks
//! into the files.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::pcapng::{Blocks, Counts};
use super::{Captured, Files, Interface, Record, Shared, Sift, Sifted, checksum, lock};
use crate::clock::{self, Nanos};

/// How long a frame waits at most before it is in the file, give or take a
/// scheduling delay: what someone who follows the file sees.
const FLUSH_EVERY: Duration = Duration::from_millis(100);

/// Frames between two looks at the clock.
const CLOCK_FRAMES: u32 = 32;

/// Bytes gathered before a write.
const BUFFER: usize = 256 << 10;

type Sink = BufWriter<Box<dyn Write + Send>>;

/// Writes until the capture is closed. After an error it writes no more, but
/// goes on taking records off the queue and counting them.
pub(super) fn run(
    shared: &Shared,
    files: Box<dyn Files>,
    sift: Option<Box<dyn Sift>>,
) -> io::Result<()> {
    let mut writer = Writer::new(shared, files, sift);
    let result = writer.run();
    if result.is_err() {
        writer.leave_out_the_rest();
        shared.failed.store(true, Ordering::Relaxed);
        while !shared.closed.load(Ordering::Acquire) {
            discard(shared);
            std::thread::park_timeout(FLUSH_EVERY);
        }
        discard(shared);
    }
    result
}

/// What waits will not be written any more: it is left out.
fn discard(shared: &Shared) {
    while let Some(record) = shared.records.pop() {
        let interfaces = shared.interfaces();
        count(&interfaces[record.interface as usize].left_out, 1);
        drop(interfaces);
        release(shared, record);
    }
}

fn release(shared: &Shared, record: Record) {
    release_bytes(shared, record.bytes);
}

fn release_bytes(shared: &Shared, bytes: Vec<u8>) {
    shared
        .waiting_bytes
        .fetch_sub(bytes.len(), Ordering::Relaxed);
    shared.give_back(bytes);
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// An interface, as the writer knows it.
struct Known {
    interface: Arc<Interface>,
    /// Frames and their bytes written since the last flush.
    unflushed: (u64, u64),
    /// Frames that the sift has, neither written nor given up.
    held: u64,
    /// Frames left out since the last one written.
    left_out: u64,
    /// What earlier files have told of it.
    told: Told,
}

#[derive(Clone, Copy, Default)]
struct Told {
    seen: u64,
    filtered: u64,
    left_out: u64,
    written: u64,
}

impl Known {
    fn new(interface: Arc<Interface>) -> Known {
        Known {
            interface,
            unflushed: (0, 0),
            held: 0,
            left_out: 0,
            told: Told::default(),
        }
    }

    /// What the file that ends now has to tell.
    fn counts(&mut self, since: Nanos) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let now = Told {
            seen: get(&self.interface.seen),
            filtered: get(&self.interface.filtered),
            left_out: get(&self.interface.left_out),
            written: get(&self.interface.written),
        };
        let told = std::mem::replace(&mut self.told, now);
        Counts {
            since: since.max(self.interface.since),
            seen: now.seen - told.seen,
            filtered: now.filtered - told.filtered,
            left_out: now.left_out - told.left_out,
            written: now.written - told.written,
        }
    }
}

/// The file being written.
struct Current {
    blocks: Blocks<Sink>,
    /// Interfaces that are described in it.
    described: usize,
    frames: u64,
    began: Instant,
    since: Nanos,
}

struct Writer<'a> {
    shared: &'a Shared,
    files: Box<dyn Files>,
    sift: Option<Box<dyn Sift>>,
    sifted: Sifted,
    known: Vec<Known>,
    current: Option<Current>,
    flushed: Instant,
    dirty: bool,
}

impl<'a> Writer<'a> {
    fn new(shared: &'a Shared, files: Box<dyn Files>, sift: Option<Box<dyn Sift>>) -> Writer<'a> {
        Writer {
            shared,
            files,
            sift,
            sifted: Sifted::default(),
            known: Vec::new(),
            current: None,
            flushed: Instant::now(),
            dirty: false,
        }
    }

    fn run(&mut self) -> io::Result<()> {
        self.begin()?;
        loop {
            // Read first: what was pushed before closing is then drained.
            let closed = self.shared.closed.load(Ordering::Acquire);
            self.meet();
            self.shared.busy.store(true, Ordering::Release);
            let drained = self.drain(closed);
            self.shared.busy.store(false, Ordering::Release);
            drained?;
            if closed {
                break;
            }
            self.tick()?;
            std::thread::park_timeout(FLUSH_EVERY);
        }
        if let Some(sift) = &mut self.sift {
            sift.end(&mut self.sifted);
            self.settle()?;
        }
        self.end()
    }

    /// Writes what waits. With the capture closed that is at most what the
    /// queue holds, whatever is still pushed.
    fn drain(&mut self, closed: bool) -> io::Result<()> {
        let mut left = match closed {
            true => self.shared.records.capacity(),
            false => usize::MAX,
        };
        let mut taken = 0u32;
        while left > 0
            && let Some(record) = self.shared.records.pop()
        {
            left -= 1;
            self.take(record)?;
            taken = taken.wrapping_add(1);
            // The clock costs as much as a frame.
            if taken.is_multiple_of(CLOCK_FRAMES) && self.flushed.elapsed() >= FLUSH_EVERY {
                self.tick()?;
            }
        }
        Ok(())
    }

    /// A record goes through the sift, or into the file at once.
    fn take(&mut self, record: Record) -> io::Result<()> {
        let number = record.interface as usize;
        if number >= self.known.len() {
            self.meet();
        }
        self.known[number].left_out += record.left_out_before;
        self.known[number].held += 1;
        let Some(sift) = &mut self.sift else {
            let frame = captured(record);
            let written = self.write(&frame);
            release_bytes(self.shared, frame.bytes);
            return written;
        };
        // The path needs its buffer, however long the sift holds the frame.
        let mut frame = captured(record);
        let own = frame.bytes.as_slice().to_vec();
        release_bytes(self.shared, std::mem::replace(&mut frame.bytes, own));
        sift.frame(frame, &mut self.sifted);
        self.settle()
    }

    /// Does with frames what the sift said.
    fn settle(&mut self) -> io::Result<()> {
        for number in self.sifted.refused.drain(..) {
            let known = &mut self.known[number as usize];
            known.held -= 1;
            count(&known.interface.filtered, 1);
        }
        if !self.sifted.lost.is_empty() {
            self.settle_lost();
        }
        let mut kept = std::mem::take(&mut self.sifted.kept);
        let written = kept.drain(..).try_for_each(|frame| self.write(&frame));
        self.sifted.kept = kept;
        written
    }

    fn settle_lost(&mut self) {
        let mut causes = lock(&self.shared.causes);
        for (number, cause) in self.sifted.lost.drain(..) {
            let known = &mut self.known[number as usize];
            known.held -= 1;
            known.left_out += 1;
            count(&known.interface.left_out, 1);
            *causes.entry(cause).or_default() += 1;
        }
    }

    /// Several times a second: the sift's time, the file's age, what others see
    /// of the file.
    fn tick(&mut self) -> io::Result<()> {
        if let Some(sift) = &mut self.sift {
            sift.tick(clock::now(), &mut self.sifted);
            self.settle()?;
        }
        self.flush()?;
        let limit = self.shared.options.file_age;
        let is_due = |current: &Current| {
            current.frames > 0 && limit.is_some_and(|limit| current.began.elapsed() >= limit)
        };
        if self.current.as_ref().is_some_and(is_due) {
            self.rotate()?;
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.end()?;
        self.begin()
    }

    /// Begins the next file.
    fn begin(&mut self) -> io::Result<()> {
        let sink = BufWriter::with_capacity(BUFFER, self.files.next()?);
        count(&self.shared.files, 1);
        self.current = Some(Current {
            blocks: Blocks::begin(sink, self.shared.wall_offset_ns)?,
            described: 0,
            frames: 0,
            began: Instant::now(),
            since: clock::now(),
        });
        self.dirty = true;
        self.write_secrets(true)?;
        self.describe()
    }

    /// Ends the file: what waits in memory, and the counts.
    fn end(&mut self) -> io::Result<()> {
        self.flush()?;
        let Some(mut current) = self.current.take() else {
            return Ok(());
        };
        let now = clock::now();
        for (number, known) in (0u32..).zip(&mut self.known[..current.described]) {
            let counts = known.counts(current.since);
            current.blocks.statistics(number, now, &counts)?;
        }
        current.blocks.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flushed = Instant::now();
        if std::mem::take(&mut self.dirty)
            && let Some(current) = &mut self.current
        {
            current.blocks.flush()?;
        }
        for known in &mut self.known {
            let (frames, bytes) = std::mem::take(&mut known.unflushed);
            count(&known.interface.written, frames);
            count(&known.interface.written_bytes, bytes);
        }
        Ok(())
    }

    /// After an error: what was written since the last flush may not be in the
    /// file, and what the sift holds will not be.
    fn leave_out_the_rest(&mut self) {
        for known in &mut self.known {
            let (frames, _) = std::mem::take(&mut known.unflushed);
            let held = std::mem::take(&mut known.held);
            count(&known.interface.left_out, frames + held);
        }
        self.sift = None;
        self.current = None;
    }

    /// Takes up the interfaces that were added since the last time.
    fn meet(&mut self) {
        let all = self.shared.interfaces();
        let new = all.iter().skip(self.known.len()).cloned().map(Known::new);
        self.known.extend(new);
    }

    /// Describes interfaces that the file does not know yet.
    fn describe(&mut self) -> io::Result<()> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        for known in &self.known[current.described..] {
            let snap_len = self.shared.options.snap_len;
            current.blocks.interface(&known.interface.name, snap_len)?;
            current.described += 1;
            self.dirty = true;
        }
        Ok(())
    }

    fn write_secrets(&mut self, is_new_file: bool) -> io::Result<()> {
        let lines = self.shared.secrets.take(is_new_file);
        if let Some(current) = &mut self.current
            && !lines.is_empty()
        {
            current.blocks.secrets(&lines)?;
            self.dirty = true;
        }
        Ok(())
    }

    fn write(&mut self, frame: &Captured) -> io::Result<()> {
        self.make_room()?;
        self.write_secrets(false)?;
        self.describe()?;
        let known = &mut self.known[frame.interface as usize];
        let current = self.current.as_mut().expect("a file is open while it runs");
        current.blocks.frame(frame, known.left_out)?;
        current.frames += 1;
        self.dirty = true;
        known.left_out = 0;
        known.held -= 1;
        known.unflushed.0 += 1;
        known.unflushed.1 += frame.bytes.len() as u64;
        Ok(())
    }

    /// Begins another file when this one is long enough.
    fn make_room(&mut self) -> io::Result<()> {
        let (Some(limit), Some(current)) = (self.shared.options.file_bytes, &mut self.current)
        else {
            return Ok(());
        };
        if current.frames > 0 && current.blocks.bytes() >= limit {
            self.rotate()?;
        }
        Ok(())
    }
}

/// What the sift and the file see of a record.
fn captured(record: Record) -> Captured {
    let mut bytes = record.bytes;
    if record.is_partial {
        checksum::complete(&mut bytes, record.original_len);
    }
    Captured {
        interface: record.interface,
        direction: record.direction,
        at: record.at,
        original_len: record.original_len,
        bytes,
        tag: record.tag,
        comment: String::new(),
    }
}
