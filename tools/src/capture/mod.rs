//! Captures of what crosses a device: options, files, filters, comments.
//!
//! [`CaptureArgs`] are the options of every command that opens a device. What
//! they ask for is opened while the process has its rights ([`Prepared`]), and
//! started when it has given them up ([`Recording`]), since that takes a thread.
//! The driver writes the file; its frames pass through [`sift::TraceSift`], which
//! knows the trace.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use wirepath_driver::Queue;
use wirepath_driver::capture::{CaptureFile, CaptureOptions, CaptureSummary, Sift};

use crate::failure::Failure;

pub mod command;
mod comment;
mod files;
pub(crate) mod filter;
pub mod live;
mod options;
pub(crate) mod packet;
mod sift;
mod split;
mod told;

pub use options::{CaptureArgs, WhatArgs};

use files::Destination;
use sift::Notes;

/// A capture whose file is open.
pub struct Prepared {
    destination: Destination,
    options: CaptureOptions,
    what: WhatArgs,
}

impl Prepared {
    /// Starts it.
    ///
    /// # Errors
    /// There is no thread for it, or the files that follow the first cannot be
    /// made.
    pub fn start(self) -> Result<Recording, Failure> {
        self.destination.check_next()?;
        let shown = self.destination.shown();
        let (sift, notes) = boxed(&self.what);
        let file = CaptureFile::start_in(Box::new(self.destination), self.options, sift)
            .map_err(|e| Failure::setup(&e))?;
        Ok(Recording { file, shown, notes })
    }
}

/// A sift, and what it tells, if there is one.
fn boxed(what: &WhatArgs) -> (Option<Box<dyn Sift>>, Option<Arc<Notes>>) {
    match what.sift() {
        Some((sift, notes)) => (Some(Box::new(sift)), Some(notes)),
        None => (None, None),
    }
}

/// A capture under way.
pub struct Recording {
    file: CaptureFile,
    shown: String,
    notes: Option<Arc<Notes>>,
}

impl Recording {
    /// Captures a queue.
    pub fn wrap(&self, queue: Box<dyn Queue>) -> Box<dyn Queue> {
        Box::new(self.file.wrap(queue))
    }

    /// Ends it, says what is in it, and gives its name, if it is one file.
    ///
    /// # Errors
    /// It is not whole.
    pub fn finish(self) -> Result<Option<String>, Failure> {
        let shown = self.shown;
        let summary = self
            .file
            .finish()
            .map_err(|e| Failure::running(format!("the capture {shown} is incomplete: {e}")))?;
        say!("capture: {shown}, {}", told_of(&summary));
        for (cause, frames) in &summary.causes {
            say!("  left out {frames}: {cause}");
        }
        let is_one = summary.files == 1;
        let lost = self
            .notes
            .map_or(0, |n| n.events_lost.load(Ordering::Relaxed));
        if lost > 0 {
            say!(
                "  {lost} events of the trace were overwritten before they were read: some frames \
                  have no comment, and a filter may not have seen their status"
            );
        }
        Ok(is_one.then_some(shown))
    }
}

/// What a capture holds, in words.
fn told_of(summary: &CaptureSummary) -> String {
    let mut text = format!("{} frames, {} left out", summary.written, summary.left_out);
    if summary.filtered > 0 {
        text += &format!(", {} filtered", summary.filtered);
    }
    if summary.files > 1 {
        text += &format!(", {} files", summary.files);
    }
    text
}
