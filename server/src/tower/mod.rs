//! Services of `tower`, and so routers of axum, as handlers (feature `tower`).
//!
//! ```
//! use axum::{Router, extract::Path, routing::get};
//! use wirepath::httptest;
//! use wirepath::tower::ServiceHandler;
//!
//! async fn user(Path(id): Path<u32>) -> String {
//!     format!("user {id}\n")
//! }
//!
//! let app = Router::new().route("/users/{id}", get(user));
//! let answer = httptest::request("GET", "/users/42").serve(&ServiceHandler::new(app));
//! assert_eq!(answer.text(), "user 42\n");
//! ```
//!
//! Each request's future runs in the goroutine of its connection, which parks
//! whenever the future waits. Neither body is held as a whole: a frame of the
//! request's is read when the service asks for it, and the next frame of the
//! response's is asked for once the client has taken the one before, or what of
//! it fits in the connection's buffer. A response is flushed whenever the
//! service has nothing more to say for now, so events go out as they come.
//!
//! # What the service finds in the request's extensions
//!
//! [`RemoteAddr`] and [`LocalAddr`], and what [`ServiceHandler::on_request`]
//! adds: for axum's extractor `ConnectInfo<SocketAddr>`
//!
//! ```
//! # use axum::{Router, extract::ConnectInfo};
//! # use wirepath::tower::ServiceHandler;
//! # let app: Router = Router::new();
//! ServiceHandler::new(app)
//!     .on_request(|r, to| {
//!         to.extensions_mut().insert(ConnectInfo(r.remote_addr()));
//!     });
//! ```
//!
//! # What needs a runtime of its own
//!
//! Wakers are all that is supplied: channels, streams and combinators work as
//! they are. Timers and sockets of tokio ask for tokio's context, and find it
//! with [`ServiceHandler::around_each_poll`]. An upgrade (`hyper::upgrade`, on
//! which axum's WebSockets rest) is not supported: see `websocket`.
//!
//! # Errors
//!
//! A head that `http`'s types cannot hold is answered without the service: 414
//! for a target, 431 for fields. An error of the service is answered with 500,
//! and so is one of the body before its first frame; a later one resets the
//! connection, so that the client does not take a part for the whole. A future
//! is dropped where it waits when its client has gone.

mod body;
mod drive;

use std::error::Error;
use std::net::SocketAddr;

use ::http_body::Body;
use bytes::Bytes;
use http::{StatusCode, Uri};
use tower_service::Service;

pub use body::RequestBody;

use crate::handler::Handler;
use crate::request::Request;
use crate::response::{ResponseWriter, error};
use body::Lent;
use drive::Drive;

/// What errors of services and bodies become.
type BoxError = Box<dyn Error + Send + Sync>;

/// Runs what it is given, once, in whatever context that needs.
type Around = dyn Fn(&mut dyn FnMut()) + Send + Sync;

/// Adds to a request.
type OnRequest = dyn Fn(&Request, &mut http::Request<RequestBody>) + Send + Sync;

/// Where a request came from: an extension of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteAddr(pub SocketAddr);

/// Where a request was received: an extension of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalAddr(pub SocketAddr);

/// A service as a handler: see [the module](self).
pub struct ServiceHandler<S> {
    service: S,
    around: Option<Box<Around>>,
    on_request: Vec<Box<OnRequest>>,
}

impl<S> ServiceHandler<S> {
    /// The service, of which each request gets a clone.
    pub fn new(service: S) -> ServiceHandler<S> {
        ServiceHandler {
            service,
            around: None,
            on_request: Vec::new(),
        }
    }

    /// Has each poll run inside of `around`, which must call what it is given.
    /// With tokio, whose threads stay its own:
    ///
    /// ```
    /// # use axum::Router;
    /// # use wirepath::tower::ServiceHandler;
    /// # let app: Router = Router::new();
    /// # let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    /// let tokio = runtime.handle().clone();
    /// ServiceHandler::new(app).around_each_poll(move |poll| {
    ///     let _entered = tokio.enter();
    ///     poll();
    /// });
    /// ```
    ///
    /// The context is left before the goroutine waits, as others run on its
    /// thread then; the service must not make the goroutine wait itself in the
    /// middle of a poll, with a call of [`crate::runtime`].
    #[must_use]
    pub fn around_each_poll(
        mut self,
        around: impl Fn(&mut dyn FnMut()) + Send + Sync + 'static,
    ) -> ServiceHandler<S> {
        self.around = Some(Box::new(around));
        self
    }

    /// Calls `add` for each request before the service, which may add to its
    /// extensions.
    #[must_use]
    pub fn on_request(
        mut self,
        add: impl Fn(&Request, &mut http::Request<RequestBody>) + Send + Sync + 'static,
    ) -> ServiceHandler<S> {
        self.on_request.push(Box::new(add));
        self
    }

    /// The head of `r` in the types of `http`, or how it is to be answered.
    fn convert(
        &self,
        r: &Request,
        body: RequestBody,
    ) -> Result<http::Request<RequestBody>, StatusCode> {
        let target = Bytes::copy_from_slice(r.target().as_bytes());
        let uri = Uri::from_maybe_shared(target).map_err(|_| match r.target().len() {
            0..MAX_URI_BYTES => StatusCode::BAD_REQUEST,
            _ => StatusCode::URI_TOO_LONG,
        })?;
        let headers = r.headers.to_header_map();
        let mut request = http::Request::new(body);
        *request.method_mut() = r.method().clone();
        *request.uri_mut() = uri;
        *request.version_mut() = r.version();
        *request.headers_mut() =
            headers.map_err(|_| StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)?;
        let extensions = request.extensions_mut();
        extensions.insert(RemoteAddr(r.remote_addr()));
        extensions.insert(LocalAddr(r.local_addr()));
        for add in &self.on_request {
            add(r, &mut request);
        }
        Ok(request)
    }
}

/// The length from which `http` refuses a URI, in bytes.
const MAX_URI_BYTES: usize = u16::MAX as usize - 1;

impl<S, B> Handler for ServiceHandler<S>
where
    S: Service<http::Request<RequestBody>, Response = http::Response<B>>,
    S: Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    B: Body,
    B::Error: Into<BoxError>,
{
    fn serve(&self, w: &mut ResponseWriter, r: &mut Request) {
        let lent = Lent::of(r);
        match self.convert(r, RequestBody::of(&lent)) {
            Ok(request) => {
                let mut drive = Drive::new(self.around.as_deref(), w, r, &lent);
                drive.answer(self.service.clone(), request);
            }
            Err(status) => error(w, status.canonical_reason().unwrap_or_default(), status),
        }
        match lent.take_back() {
            Some(body) => r.body = body,
            // It is still being read; what comes after it cannot be found.
            None => w.close_after(),
        }
    }
}

impl<S> std::fmt::Debug for ServiceHandler<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceHandler").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
