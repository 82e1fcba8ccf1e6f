//! A Go-style HTTP server on goroutines.
//!
//! [`Server`] speaks HTTP/1.1 and 1.0 over the runtime's TCP streams;
//! [`ServeMux`] chooses the handler; a handler is a plain function of a
//! [`ResponseWriter`] and a [`Request`]. Names and rules are those of Go's
//! `net/http`; where Go is lenient and request smuggling lives, this server
//! refuses.
//!
//! ```no_run
//! use std::io::Write;
//! use std::time::Duration;
//! use wirepath::{Request, ResponseWriter, ServeMux, Server};
//! use wirepath_runtime::net::TcpListener;
//!
//! fn user(w: &mut ResponseWriter, r: &mut Request) {
//!     let _ = writeln!(w, "user {}", r.path_value("id"));
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // In a goroutine of a runtime:
//! let mut mux = ServeMux::new();
//! mux.handle_func("GET /users/{id}", user);
//! let server = Server::builder(mux)
//!     .idle_timeout(Duration::from_secs(30))
//!     .build();
//! server.serve(TcpListener::bind(([10, 0, 0, 2], 80))?)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Map
//!
//! `conn`: one connection, request after request. `request` and `response`:
//! the two halves of an exchange. `mux`: patterns and routing. `server`:
//! accepting and shutting down. `file`: files of a directory. `tls`: HTTPS.
//! `websocket`: what a connection may become. `tower`: services as handlers.
//! `httptest`: for the tests of who uses all this. Nothing here knows of the
//! stack below the runtime; `conn` knows of a byte stream only through a small
//! trait, so it is tested in memory.
//!
//! HTTP/2 is not spoken.

#![forbid(unsafe_code)]

mod admission;
mod alarm;
mod auth;
mod bytes;
#[cfg(feature = "compression")]
pub mod compress;
mod conn;
mod context;
mod cookie;
mod cross_origin;
pub mod debug;
pub mod file;
mod form;
mod handler;
mod hijack;
mod hooks;
pub mod httptest;
#[cfg(feature = "json")]
mod json;
mod log;
#[cfg(feature = "metrics")]
pub mod metrics;
mod mux;
mod net;
mod panic;
mod path;
mod request;
mod response;
#[cfg(feature = "see")]
pub mod see;
mod server;
mod service;
mod spans;
pub mod sse;
mod stats;
mod targets;
mod timeout;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "tower")]
pub mod tower;
mod values;
#[cfg(feature = "websocket")]
pub mod websocket;
mod wrap;

pub use conn::{MinRate, TooSlow};
pub use context::{LocalAddr, RequestEnd};
pub use cookie::{Cookie, CookieError, MAX_COOKIES, SameSite};
pub use cookie::{parse_cookie, parse_set_cookie, set_cookie};
pub use cross_origin::{CrossOriginError, CrossOriginProtection, OriginError};
pub use file::{Dir, FileServer, FileSystem};
pub use file::{serve_content, serve_file, serve_file_fs};
pub use form::{Form, FormError, FormFile, MultipartError, MultipartReader, Part};
pub use handler::{Handler, HandlerFunc};
pub use hijack::{HijackError, Hijacked, HijackedConn};
pub use hooks::{ConnInfo, ConnState, OpenConnection};
pub use http;
#[cfg(feature = "json")]
pub use json::JsonError;
pub use log::{LogEntry, RequestLog};
pub use mux::{Answer, Explanation, Match};
pub use mux::{PatternError, PatternErrorKind, RegisterError, ServeMux};
pub use panic::AbortHandler;
pub use request::{Body, ChunkError, Fields, HeadError, HeaderMapError, MaxBytesError, Request};
pub use response::{
    BodyFilter, HeaderError, Recorded, ResponseController, ResponseHead, ResponseWriter,
    WriteError, detect_content_type, error, not_found, redirect,
};
pub use server::{ServeError, Server, ServerBuilder, ShutdownOutcome};
pub use timeout::TimeoutHandler;
pub use values::{MAX_VALUES, QueryError, Values};
pub use wirepath_runtime as runtime;
pub use wrap::{allow_query_semicolons, max_bytes_handler, redirect_handler, strip_prefix};
