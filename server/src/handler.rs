//! What answers a request.

use std::sync::Arc;

use crate::request::Request;
use crate::response::ResponseWriter;

/// Answers requests. Plain functions and closures are handlers:
///
/// ```
/// use wirepath::{Request, ResponseWriter};
/// use std::io::Write;
///
/// fn about(w: &mut ResponseWriter, r: &mut Request) {
///     let _ = writeln!(w, "you asked for {}", r.path());
/// }
/// # let _: &dyn wirepath::Handler = &about;
/// ```
///
/// A handler that returns has answered: status 200 and no body if it wrote
/// nothing. One that panics has its connection closed.
pub trait Handler: Send + Sync + 'static {
    /// Answers `r` through `w`.
    fn serve(&self, w: &mut ResponseWriter, r: &mut Request);
}

impl<F> Handler for F
where
    F: Fn(&mut ResponseWriter, &mut Request) + Send + Sync + 'static,
{
    fn serve(&self, w: &mut ResponseWriter, r: &mut Request) {
        self(w, r);
    }
}

impl Handler for Box<dyn Handler> {
    fn serve(&self, w: &mut ResponseWriter, r: &mut Request) {
        (**self).serve(w, r);
    }
}

impl<H: Handler + ?Sized> Handler for Arc<H> {
    fn serve(&self, w: &mut ResponseWriter, r: &mut Request) {
        (**self).serve(w, r);
    }
}

/// A handler that is a plain function.
pub type HandlerFunc = fn(&mut ResponseWriter, &mut Request);
