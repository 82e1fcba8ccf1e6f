//! Bodies as the types of serde (feature `json`).

use std::io::{self, Read, Write};

use http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::request::{MaxBytesError, Request};
use crate::response::{self, ResponseWriter};

/// Why a body was not taken for a value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// `Content-Type` is not `application/json`, nor one that ends in `+json`.
    #[error("the body is not JSON: send it as application/json")]
    ContentType,
    /// It is longer than allowed.
    #[error(transparent)]
    TooLarge(MaxBytesError),
    /// It is not JSON, or not what is asked for: where, and why.
    #[error("{0}")]
    Malformed(#[source] serde_json::Error),
    /// It could not be read.
    #[error("reading the body failed")]
    Body(#[source] io::Error),
}

impl JsonError {
    /// The status to answer with.
    pub fn status(&self) -> StatusCode {
        match self {
            JsonError::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            JsonError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            JsonError::Malformed(_) | JsonError::Body(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// Answers with the status and the text.
    pub fn respond(&self, w: &mut ResponseWriter) {
        response::error(w, &self.to_string(), self.status());
    }
}

impl Request {
    /// The body, which is JSON of up to `max_bytes`. Nothing may follow the
    /// value.
    ///
    /// ```
    /// use wirepath::{Request, ResponseWriter, httptest};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct User {
    ///     name: String,
    /// }
    ///
    /// fn add(w: &mut ResponseWriter, r: &mut Request) {
    ///     match r.json::<User>(10_000) {
    ///         Ok(user) => w.json(&[user.name]),
    ///         Err(e) => e.respond(w),
    ///     }
    /// }
    ///
    /// let post = |body| httptest::request("POST", "/").json(&body).serve(&add);
    /// assert_eq!(post(serde_json::json!({"name": "Ada"})).text(), "[\"Ada\"]\n");
    /// assert_eq!(post(serde_json::json!({"nom": "Ada"})).status(), 400);
    /// ```
    ///
    /// # Errors
    ///
    /// [`JsonError`], which can answer for itself.
    pub fn json<T: DeserializeOwned>(&mut self, max_bytes: u64) -> Result<T, JsonError> {
        let kind = self.media_type();
        if kind != b"application/json" && !kind.ends_with(b"+json") {
            return Err(JsonError::ContentType);
        }
        self.body.limit(max_bytes);
        let mut text = Vec::new();
        self.body
            .read_to_end(&mut text)
            .map_err(|e| match MaxBytesError::is_in(&e) {
                true => JsonError::TooLarge(MaxBytesError { limit: max_bytes }),
                false => JsonError::Body(e),
            })?;
        serde_json::from_slice(&text).map_err(JsonError::Malformed)
    }
}

impl ResponseWriter {
    /// Answers with a value as JSON, and a line's end. One that JSON has no form
    /// for is answered with 500, and logged.
    pub fn json(&mut self, value: &(impl Serialize + ?Sized)) {
        let mut text = match serde_json::to_vec(value) {
            Ok(text) => text,
            Err(e) => {
                tracing::error!("a value cannot be written as JSON: {e}");
                return response::error(
                    self,
                    "Internal Server Error",
                    StatusCode::INTERNAL_SERVER_ERROR,
                );
            }
        };
        text.push(b'\n');
        self.header("Content-Type", "application/json");
        // A connection that failed is noticed by the server.
        let _ = self.write_all(&text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::httptest;

    fn status(kind: &str, body: &str) -> (u16, String) {
        let handler = |w: &mut ResponseWriter, r: &mut Request| match r.json::<Vec<u8>>(20) {
            Ok(value) => w.json(&value),
            Err(e) => e.respond(w),
        };
        let request = httptest::request("POST", "/").header("Content-Type", kind);
        let answer = request.body(body).serve(&handler);
        (answer.status(), answer.text().into_owned())
    }

    #[test]
    fn bodies_are_taken_or_refused_with_a_reason() {
        let json = "application/json";
        assert_eq!(status(json, "[1, 2]"), (200, "[1,2]\n".into()));
        assert_eq!(status("application/vnd.x+json; charset=utf-8", "[]").0, 200);
        assert_eq!(status("text/plain", "[]").0, 415);
        assert_eq!(status("", "[]").0, 415);
        assert_eq!(status(json, "[1, 2, 3, 4, 5, 6, 7]").0, 413);
        for (body, why) in [
            ("", "EOF while parsing a value at line 1 column 0"),
            ("[1] 2", "trailing characters at line 1 column 5"),
            (
                "[300]",
                "invalid value: integer `300`, expected u8 at line 1 column 4",
            ),
        ] {
            assert_eq!(status(json, body), (400, format!("{why}\n")), "{body}");
        }
        let deep = "[".repeat(20);
        assert_eq!(status(json, &deep).0, 400);
    }

    #[test]
    fn what_json_cannot_say_is_an_error_of_ours() {
        let handler = |w: &mut ResponseWriter, _: &mut Request| {
            w.json(&std::collections::HashMap::from([((1, 2), 3)]));
        };
        assert_eq!(httptest::request("GET", "/").serve(&handler).status(), 500);
    }
}
