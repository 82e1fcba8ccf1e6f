//! Forms: in the query, and in the body of a request.

mod files;
mod multipart;

use std::borrow::Cow;
use std::io::{self, Read};

use http::Method;

pub use files::FormFile;
pub use multipart::{MultipartError, MultipartReader, Part};

use crate::request::{Body, Request};
use crate::values::{QueryError, Values};

/// Bytes of a form in a body, unless the handler set a bound of its own
/// ([`Body::limit`](crate::Body::limit)). As in Go.
const MAX_FORM_BYTES: u64 = 10 << 20;

/// Memory for files where the handler does not say. As in Go.
const MAX_MEMORY_BYTES: u64 = 32 << 20;

/// The values that a request brings.
#[derive(Debug, Default)]
pub struct Form {
    /// Those of the query.
    pub query: Values,
    /// Those of the body.
    pub body: Values,
    /// The files of a multipart body, in order.
    pub files: Vec<FormFile>,
}

impl Form {
    /// The first value of `name`: of the body, or else of the query.
    pub fn get(&self, name: &str) -> Option<String> {
        let value = self.body.get(name).or_else(|| self.query.get(name));
        value.map(Cow::into_owned)
    }

    /// The first file of the field `name`.
    pub fn file(&mut self, name: &str) -> Option<&mut FormFile> {
        self.files.iter_mut().find(|file| file.field == name)
    }
}

/// Why a request's form could not be read in full.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormError {
    /// The query, or the form in the body, is malformed in some part.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The body could not be read, or is too long.
    #[error("reading the form in the request's body failed")]
    Body(#[from] io::Error),
    /// The multipart body could not be read.
    #[error(transparent)]
    Multipart(#[from] MultipartError),
}

impl Request {
    /// Reads the query, and the body if it is a form
    /// (`application/x-www-form-urlencoded`) and the method is POST, PUT or
    /// PATCH. Later calls give the same.
    ///
    /// ```
    /// use wirepath::httptest;
    ///
    /// let mut r = httptest::request("POST", "/?lang=de&q=1")
    ///     .header("Content-Type", "application/x-www-form-urlencoded")
    ///     .body("q=2")
    ///     .build();
    /// let form = r.parse_form().unwrap();
    /// assert_eq!(form.get("q").as_deref(), Some("2"));
    /// assert_eq!(form.get("lang").as_deref(), Some("de"));
    /// ```
    ///
    /// # Errors
    ///
    /// [`FormError`]; what could be read is there for later calls.
    pub fn parse_form(&mut self) -> Result<&Form, FormError> {
        let mut outcome = Ok(());
        if self.form.is_none() {
            let mut form = Form::default();
            outcome = self.read_form(&mut form);
            self.form = Some(Box::new(form));
        }
        outcome.map(|()| self.form())
    }

    /// What [`Request::parse_form`] read.
    fn form(&self) -> &Form {
        self.form.as_ref().expect("parsed before")
    }

    /// Reads the parts of a `multipart/form-data` body as they come.
    ///
    /// ```
    /// use std::io::Read;
    /// use wirepath::httptest;
    ///
    /// let mut r = httptest::request("POST", "/")
    ///     .header("Content-Type", "multipart/form-data; boundary=x")
    ///     .body("--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--x--\r\n")
    ///     .build();
    /// let mut reader = r.multipart_reader().unwrap();
    /// while let Some(mut part) = reader.next_part().unwrap() {
    ///     let mut text = String::new();
    ///     part.read_to_string(&mut text).unwrap();
    ///     assert_eq!((part.form_name().as_deref(), text.as_str()), (Some("a"), "1"));
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`MultipartError::ContentType`] or [`MultipartError::Boundary`].
    pub fn multipart_reader(&mut self) -> Result<MultipartReader<&mut Body>, MultipartError> {
        let kind = self.headers.get_bytes("Content-Type").unwrap_or_default();
        MultipartReader::new(kind, &mut self.body)
    }

    /// As [`Request::parse_form`], and reads a `multipart/form-data` body too.
    /// Its files take up to `max_memory` bytes of memory together, and what is
    /// more goes to temporary files, which are gone with the form: at the
    /// latest with the connection's next request. Its values may take 10 MiB
    /// besides, as in Go. [`Body::limit`] bounds all of it.
    ///
    /// # Errors
    ///
    /// [`FormError`]; what could be read is there for later calls.
    pub fn parse_multipart_form(&mut self, max_memory: u64) -> Result<&mut Form, FormError> {
        let mut outcome = Ok(());
        if self.form.is_none() {
            outcome = self.parse_form().map(|_| ());
            if self.media_type() == b"multipart/form-data" {
                let mut form = self.form.take().expect("parsed before");
                let read = self
                    .multipart_reader()
                    .and_then(|reader| files::read_parts(reader, &mut form, max_memory));
                self.form = Some(form);
                outcome = outcome.and(read.map_err(FormError::from));
            }
        }
        outcome.map(|()| &mut **self.form.as_mut().expect("parsed before"))
    }

    /// The first value of `name` in the body's form, or else in the query;
    /// empty if there is none, or what is there cannot be read.
    pub fn form_value(&mut self, name: &str) -> String {
        // What was read of a faulty form is used, as in Go.
        let _ = self.parse_multipart_form(MAX_MEMORY_BYTES);
        self.form().get(name).unwrap_or_default()
    }

    /// As [`Request::form_value`], of the body alone.
    pub fn post_form_value(&mut self, name: &str) -> String {
        let _ = self.parse_multipart_form(MAX_MEMORY_BYTES);
        let value = self.form().body.get(name);
        value.unwrap_or_default().into_owned()
    }

    fn read_form(&mut self, form: &mut Form) -> Result<(), FormError> {
        let body = match self.has_form() {
            true => self.read_body_form(&mut form.body),
            false => Ok(()),
        };
        let query = form.query.extend_from(self.query().as_bytes());
        body.and(query.map_err(FormError::from))
    }

    fn has_form(&self) -> bool {
        let may_have = [Method::POST, Method::PUT, Method::PATCH].contains(self.method());
        may_have && self.media_type() == b"application/x-www-form-urlencoded"
    }

    /// The type in `Content-Type`, in lower case, without its parameters.
    pub(crate) fn media_type(&self) -> Vec<u8> {
        let field = self.headers.get_bytes("Content-Type").unwrap_or_default();
        let kind = field.split(|&b| b == b';').next().unwrap_or_default();
        kind.trim_ascii().to_ascii_lowercase()
    }

    fn read_body_form(&mut self, values: &mut Values) -> Result<(), FormError> {
        self.body.limit_unless_set(MAX_FORM_BYTES);
        let mut text = Vec::new();
        self.body.read_to_end(&mut text)?;
        Ok(values.extend_from(&text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MaxBytesError, httptest};

    const FORM: &str = "application/x-www-form-urlencoded";

    fn post(kind: &str, body: &str) -> Request {
        httptest::request("POST", "/?q=query&only=1")
            .header("Content-Type", kind)
            .body(body)
            .build()
    }

    #[test]
    fn the_body_goes_before_the_query() {
        let mut r = post(FORM, "q=body&z=2");
        assert_eq!(r.form_value("q"), "body");
        assert_eq!(
            (r.form_value("only"), r.post_form_value("only")),
            ("1".into(), String::new())
        );
        assert_eq!(r.post_form_value("z"), "2");
        assert_eq!(r.form_value("none"), "");
    }

    #[test]
    fn other_bodies_are_left_alone() {
        for kind in ["application/json", "text/plain", ""] {
            let mut r = post(kind, "q=body");
            assert_eq!(r.form_value("q"), "query", "{kind}");
            let mut body = String::new();
            r.body.read_to_string(&mut body).unwrap();
            assert_eq!(body, "q=body");
        }
        let mut r = post("Application/X-WWW-Form-Urlencoded; charset=utf-8", "q=body");
        assert_eq!(r.form_value("q"), "body");
        let get = httptest::request("GET", "/?a=1").header("Content-Type", FORM);
        assert_eq!(get.build().form_value("a"), "1");
    }

    #[test]
    fn faults_are_told_and_the_rest_is_kept() {
        let mut r = post(FORM, "a=%zz&b=2");
        let told = r.parse_form().map(|_| ()).unwrap_err();
        assert!(
            matches!(told, FormError::Query(QueryError::Escape)),
            "{told}"
        );
        assert_eq!(
            (r.form_value("b"), r.form_value("q")),
            ("2".into(), "query".into())
        );
        let mut r = httptest::request("GET", "/?a=1;b&c=3").build();
        assert!(matches!(
            r.parse_form(),
            Err(FormError::Query(QueryError::Semicolon))
        ));
        assert_eq!(r.form_value("c"), "3");
    }

    #[test]
    fn a_form_is_bounded() {
        let long = format!("a={}", "x".repeat(10 << 20));
        let mut r = post(FORM, &long);
        let Err(FormError::Body(e)) = r.parse_form() else {
            panic!("taken");
        };
        assert!(MaxBytesError::is_in(&e), "{e}");
        let mut r = post(FORM, &long);
        r.body.limit(11 << 20);
        assert_eq!(r.form_value("a").len(), 10 << 20);
    }
}
