//! Types of files, by the extensions of their names.
//!
//! Go's own table first, then a larger one instead of the tables of the
//! machine that Go looks into: a file has the same type wherever it is served.

use std::borrow::Cow;

/// Extensions whose type in Go's table is not that of `mime_guess`.
const GO: &[(&str, &str)] = &[
    ("com", "application/octet-stream"),
    ("ehtml", "text/html"),
    ("ico", "image/vnd.microsoft.icon"),
    ("m4a", "audio/mp4"),
    ("mjs", "text/javascript"),
    ("pjp", "image/jpeg"),
    ("pjpeg", "image/jpeg"),
    ("xbl", "text/xml"),
];

/// The type that goes with the extension of `name`, in any case; text is
/// UTF-8. `None` if it has none that is known.
///
/// ```
/// use wirepath::file::type_by_extension;
///
/// assert_eq!(type_by_extension(b"a/b.HTML").unwrap(), "text/html; charset=utf-8");
/// assert_eq!(type_by_extension(b"b.tar.gz").unwrap(), "application/gzip");
/// assert_eq!(type_by_extension(b"a.d/README"), None);
/// ```
pub fn type_by_extension(name: &[u8]) -> Option<Cow<'static, str>> {
    let base = name.rsplit(|&b| b == b'/').next().unwrap_or_default();
    let dot = memchr::memrchr(b'.', base)?;
    let extension = str::from_utf8(&base[dot + 1..]).ok()?;
    let is_it = |(of, _): &&(&str, &str)| of.eq_ignore_ascii_case(extension);
    let kind = match GO.iter().find(is_it) {
        Some((_, kind)) => kind,
        None => mime_guess::from_ext(extension).first_raw()?,
    };
    Some(match kind.starts_with("text/") {
        true => Cow::Owned(format!("{kind}; charset=utf-8")),
        false => Cow::Borrowed(kind),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_gos() {
        for (name, want) in [
            ("a.css", Some("text/css; charset=utf-8")),
            ("a.JS", Some("text/javascript; charset=utf-8")),
            ("a.mjs", Some("text/javascript; charset=utf-8")),
            ("a.json", Some("application/json")),
            ("a.svg", Some("image/svg+xml")),
            ("a.wasm", Some("application/wasm")),
            ("favicon.ico", Some("image/vnd.microsoft.icon")),
            ("a.xml", Some("text/xml; charset=utf-8")),
            (".png", Some("image/png")),
            ("a.", None),
            ("a", None),
            ("dir.png/a", None),
            ("", None),
        ] {
            assert_eq!(
                type_by_extension(name.as_bytes()).as_deref(),
                want,
                "{name}"
            );
        }
        assert_eq!(type_by_extension(b"a.\xff"), None);
    }
}
