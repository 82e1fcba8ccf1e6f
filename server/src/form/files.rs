//! A multipart form read in full: values, and files in memory or in temporary
//! files.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom, Write};

use tempfile::SpooledTempFile;
use wirepath_runtime::blocking;

use super::{Form, MultipartError, MultipartReader, Part};
use crate::request::Fields;

/// Bytes that the values of a form may take beside the memory for its files. As
/// in Go.
const VALUES_BYTES: u64 = 10 << 20;
/// What is copied at once, in bytes.
const COPY_BYTES: usize = 64 * 1024;

/// A file that came with a form.
pub struct FormFile {
    /// The name of the form's field.
    pub field: String,
    /// The name that the file has at the client, without any path.
    pub name: String,
    /// The header fields of its part, such as `Content-Type`.
    pub headers: Fields,
    /// Its length in bytes.
    pub len: u64,
    content: SpooledTempFile,
}

impl FormFile {
    /// The file from its beginning. A large one is on the disk: read it in
    /// [`blocking`], so that a slow disk holds up nobody else.
    ///
    /// # Errors
    ///
    /// Those of the disk.
    pub fn open(&mut self) -> io::Result<impl Read + Seek> {
        self.content.seek(SeekFrom::Start(0))?;
        Ok(&mut self.content)
    }

    /// All of it.
    ///
    /// # Errors
    ///
    /// Those of the disk.
    pub fn bytes(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut file = self.open()?;
        blocking(|| file.read_to_end(&mut bytes))?;
        Ok(bytes)
    }
}

impl fmt::Debug for FormFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FormFile")
            .field("field", &self.field)
            .field("name", &self.name)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// Puts the parts of a body into a form. Those without a name are left out.
pub(super) fn read_parts<R: Read>(
    mut reader: MultipartReader<R>,
    form: &mut Form,
    max_memory: u64,
) -> Result<(), MultipartError> {
    let mut memory = max_memory;
    let mut values_left = max_memory.saturating_add(VALUES_BYTES);
    while let Some(mut part) = reader.next_part()? {
        let Some(field) = part.form_name().filter(|name| !name.is_empty()) else {
            continue;
        };
        match part.file_name() {
            Some(name) => {
                let file = read_file(part, field, name, memory)?;
                if !file.content.is_rolled() {
                    memory -= file.len;
                }
                form.files.push(file);
            }
            None => {
                let value = read_value(&mut part, values_left)?;
                values_left -= value.len() as u64;
                form.body.add(field, value);
            }
        }
    }
    Ok(())
}

fn read_value<R: Read>(part: &mut Part<'_, R>, left: u64) -> Result<Vec<u8>, MultipartError> {
    let mut value = Vec::new();
    part.take(left.saturating_add(1)).read_to_end(&mut value)?;
    match value.len() as u64 <= left {
        true => Ok(value),
        false => Err(MultipartError::ValuesTooLarge),
    }
}

fn read_file<R: Read>(
    mut part: Part<'_, R>,
    field: String,
    name: String,
    memory: u64,
) -> Result<FormFile, MultipartError> {
    let mut content = SpooledTempFile::new(usize::try_from(memory).unwrap_or(usize::MAX));
    let mut chunk = vec![0; COPY_BYTES];
    let mut len = 0;
    loop {
        let n = part.read(&mut chunk)?;
        if n == 0 {
            break;
        }
        len += n as u64;
        match content.is_rolled() || len > memory {
            true => blocking(|| content.write_all(&chunk[..n]))?,
            false => content.write_all(&chunk[..n])?,
        }
    }
    Ok(FormFile {
        field,
        name,
        headers: std::mem::take(&mut part.headers),
        len,
        content,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::form::FormError;
    use crate::{MaxBytesError, Request, httptest};

    const KIND: &str = "multipart/form-data; boundary=\"b b\"";

    fn part(disposition: &str, body: &str) -> String {
        format!("--b b\r\nContent-Disposition: {disposition}\r\n\r\n{body}\r\n")
    }

    fn post(body: &str) -> Request {
        httptest::request("POST", "/?v=query")
            .header("Content-Type", KIND)
            .body(body)
            .build()
    }

    fn sample() -> String {
        [
            "preamble, with \r\n--b but no delimiter\r\n",
            &part("form-data; name=v", "1"),
            &part(
                "form-data; name=\"a file\"; filename=\"C:\\dir\\x.txt\"",
                "text\r\n--b",
            ),
            &part("form-data; name=v", ""),
            &part(
                "form-data; name=u; filename*=UTF-8''%c3%a9.txt; filename=e",
                "é",
            ),
            &part("form-data; filename=nameless", "left out"),
            &part("attachment; name=w", "left out"),
            "--b b--\r\nepilogue",
        ]
        .concat()
    }

    fn check(form: &mut Form) {
        let values: Vec<_> = form.body.iter().collect();
        let want: [(&[u8], &[u8]); 2] = [(b"v", b"1"), (b"v", b"")];
        assert_eq!(values, want);
        let names: Vec<_> = form
            .files
            .iter()
            .map(|f| (f.field.as_str(), f.name.as_str()))
            .collect();
        assert_eq!(names, [("a file", "x.txt"), ("u", "é.txt")]);
        assert_eq!(
            form.file("a file").unwrap().bytes().unwrap(),
            b"text\r\n--b"
        );
        assert_eq!(form.file("u").unwrap().len, 2);
        assert!(form.file("none").is_none());
    }

    #[test]
    fn a_form_has_values_and_files() {
        for memory in [0, 3, 1 << 20] {
            let mut r = post(&sample());
            let form = r.parse_multipart_form(memory).unwrap();
            check(form);
            assert_eq!(form.files[0].content.is_rolled(), memory < 9);
            assert_eq!(
                (r.form_value("v"), r.post_form_value("v")),
                ("1".into(), "1".into())
            );
        }
    }

    /// Gives a byte, then another, as the worst of networks.
    struct Cut<'b>(&'b [u8], usize);

    impl Read for Cut<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let n = self.0.len().min(self.1).min(into.len());
            into[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    #[test]
    fn however_it_is_cut_it_is_the_same() {
        let sample = sample();
        for size in 1..40 {
            let reader = MultipartReader::new(KIND.as_bytes(), Cut(sample.as_bytes(), size));
            let mut form = Form::default();
            read_parts(reader.unwrap(), &mut form, 100).unwrap();
            check(&mut form);
        }
    }

    #[test]
    fn a_body_that_breaks_off_anywhere_is_told() {
        let sample = sample();
        let end = sample.len() - "\r\nepilogue".len();
        for len in 0..end {
            let reader = MultipartReader::new(KIND.as_bytes(), &sample.as_bytes()[..len]);
            let told = read_parts(reader.unwrap(), &mut Form::default(), 100).unwrap_err();
            let MultipartError::Body(e) = told else {
                panic!("{len}: {told}");
            };
            assert_eq!(e.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn hostile_bodies_are_refused() {
        let many = part("form-data; name=v", "").repeat(1_001) + "--b b--";
        let fields = format!("--b b\r\n{}\r\n\r\n--b b--", "a: b\r\n".repeat(2_000));
        let long = format!("--b b\r\na: {}\r\n\r\n--b b--", "x".repeat(20_000));
        let folded = "--b b\r\na: b\r\n c\r\n\r\n--b b--".to_owned();
        let junk = "--b b \t x\r\n\r\n--b b--".to_owned();
        for (body, want) in [
            (many, "more than 1000 parts"),
            (long, "the head of a part is longer"),
            (folded, "the head of a part is malformed"),
            (junk, "a delimiter between parts is malformed"),
            (fields, ""),
        ] {
            let mut r = post(&body);
            let told = r.parse_multipart_form(100).err().map(|e| e.to_string());
            assert!(
                told.as_deref().unwrap_or_default().starts_with(want),
                "{told:?}, not {want}"
            );
        }
        let mut r = post(&sample());
        r.body.limit(100);
        let Err(FormError::Multipart(MultipartError::Body(e))) = r.parse_multipart_form(100) else {
            panic!("taken");
        };
        assert!(MaxBytesError::is_in(&e));
    }

    #[test]
    fn values_are_bounded() {
        let value = "x".repeat((10 << 20) + 1);
        let body = part("form-data; name=v", &value) + "--b b--";
        let told = post(&body).parse_multipart_form(0).unwrap_err().to_string();
        assert_eq!(told, "the values of the form are larger than allowed");
        assert!(post(&body).parse_multipart_form(1).is_ok());
    }

    #[test]
    fn a_boundary_is_needed() {
        for (kind, is_one) in [
            ("multipart/form-data; boundary=x", true),
            ("Multipart/Form-Data;charset=x; boundary=\"a b\"", true),
            ("multipart/form-data", false),
            ("multipart/form-data; boundary=", false),
            ("multipart/form-data; boundary=\"a \"", false),
            ("multipart/form-data; boundary=a\u{e9}", false),
            ("multipart/mixed; boundary=x", false),
            ("", false),
        ] {
            let reader = MultipartReader::new(kind.as_bytes(), io::empty());
            assert_eq!(reader.is_ok(), is_one, "{kind}");
        }
        let long = format!("multipart/form-data; boundary={}", "x".repeat(71));
        assert!(MultipartReader::new(long.as_bytes(), io::empty()).is_err());
    }
}
