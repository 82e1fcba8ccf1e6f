//! Testing handlers and whole servers, as Go's `net/http/httptest` does.
//!
//! # A handler alone
//!
//! [`request`] begins a request. It is written out and read by the server's own
//! parser, so what a handler sees is what it would see on a wire, and a request
//! that the server would refuse is refused here. [`RequestBuilder::serve`] hands
//! it to a handler and returns what a client would get of the answer,
//! [`RequestBuilder::record`] what the handler did itself: whether it flushed,
//! for one. There is no runtime and no connection.
//!
//! ```
//! use std::io::Write;
//! use wirepath::{Request, ResponseWriter, ServeMux, httptest};
//!
//! fn user(w: &mut ResponseWriter, r: &mut Request) {
//!     let _ = writeln!(w, "user {}", r.path_value("id"));
//! }
//!
//! let mut mux = ServeMux::new();
//! mux.handle_func("GET /users/{id}", user);
//! let answer = httptest::request("GET", "/users/42").serve(&mux);
//! assert_eq!(answer.status(), 200);
//! assert_eq!(answer.text(), "user 42\n");
//! assert_eq!(httptest::request("POST", "/users/42").serve(&mux).status(), 405);
//! ```
//!
//! # A server
//!
//! [`TestServer`] is a whole server in the test's process, with keep-alive,
//! time-outs and all else that is between a handler and a client. Its
//! connections are pipes in memory; it opens a port of the kernel's loopback
//! only when it is asked for its [`url`](TestServer::url). (Of a client in
//! memory that closes early a handler learns by reading or writing, not by
//! [`Request::context`](crate::Request::context); over the port by that too.)
//!
//! ```
//! use std::io::Write;
//! use wirepath::httptest::TestServer;
//!
//! let server = TestServer::start(|w: &mut wirepath::ResponseWriter, _: &mut wirepath::Request| {
//!     let _ = w.write_all(b"hello\n");
//! });
//! assert_eq!(server.get("/").unwrap().text(), "hello\n");
//! ```

mod canned;
mod client;
mod pipe;
mod raw;
mod request;
mod response;
mod server;

pub use client::Client;
pub use raw::answer_to;
pub use request::{RequestBuilder, request};
pub use response::Response;
pub use server::TestServer;

#[cfg(test)]
mod tests;
