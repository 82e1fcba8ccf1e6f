//! A Go-style HTTP server on goroutines.
#![forbid(unsafe_code)]

mod conn;
mod file;
mod handler;
mod mux;
mod net;
mod path;
mod request;
mod response;
mod server;
mod service;
mod stats;

pub use conn::AbortHandler;
pub use file::{FileServer, serve_file_at};
pub use handler::{Handler, HandlerFunc};
pub use http;
pub use mux::{PatternError, PatternErrorKind, RegisterError, ServeMux};
pub use request::{Body, ChunkError, Fields, HeadError, HeaderMapError, Request};
pub use response::{
    HeaderError, ResponseWriter, WriteError, detect_content_type, error, not_found, redirect,
};
pub use server::{ServeError, Server, ServerBuilder, ShutdownOutcome};
