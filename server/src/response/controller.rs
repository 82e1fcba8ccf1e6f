//! Go's `ResponseController`: what a handler may ask of the connection.

use std::io;

use wirepath_runtime::Nanos;

use super::ResponseWriter;
use crate::hijack::{HijackError, Hijacked};
use crate::request::Request;

/// What a handler may ask of the connection under a response. Each of its
/// methods is one of [`ResponseWriter`] too, under the same name but for
/// [`ResponseWriter::flush_now`]; this is for who looks for it where Go has it.
#[derive(Debug)]
pub struct ResponseController<'w>(&'w mut ResponseWriter);

impl<'w> ResponseController<'w> {
    /// The controller of a response.
    pub fn new(w: &'w mut ResponseWriter) -> ResponseController<'w> {
        ResponseController(w)
    }

    /// Sends what is held back, the head included.
    ///
    /// # Errors
    ///
    /// When the connection failed.
    pub fn flush(&mut self) -> io::Result<()> {
        self.0.flush_now()
    }

    /// Takes the connection over: see [`ResponseWriter::hijack`].
    ///
    /// # Errors
    ///
    /// [`HijackError`].
    pub fn hijack(&mut self, r: &mut Request) -> Result<Hijacked, HijackError> {
        self.0.hijack(r)
    }

    /// Bounds the reading of the request's body: see
    /// [`ResponseWriter::set_read_deadline`].
    pub fn set_read_deadline(&mut self, at: Option<Nanos>) {
        self.0.set_read_deadline(at);
    }

    /// Bounds the writing of the response: see
    /// [`ResponseWriter::set_write_deadline`].
    pub fn set_write_deadline(&mut self, at: Option<Nanos>) {
        self.0.set_write_deadline(at);
    }

    /// Lets a handler go on reading the request after it began the response. A
    /// handler may always do so here; the method is there for code that comes
    /// from Go, where the server would otherwise read the request to its end
    /// first.
    pub fn enable_full_duplex(&mut self) {}
}
