//! Lists of directories, as Go's.

use std::io::{self, Write};

use http::StatusCode;
use wirepath_runtime::blocking;

use super::fs::{DirEntry, File};
use crate::path;
use crate::response::{self, ResponseWriter, escape_html};

/// Names in a list. A directory with more is listed in part, and says so: the
/// list is made in memory, some 200 bytes for each.
const MAX_LISTED: usize = 65_536;

/// Answers with the names in a directory, sorted by their bytes. `shows` says
/// which may be seen.
pub(super) fn list(
    w: &mut ResponseWriter,
    directory: &dyn File,
    shows: impl Fn(&DirEntry) -> bool,
) -> io::Result<()> {
    let mut entries = match blocking(|| directory.entries(MAX_LISTED + 1)) {
        Ok(entries) => entries,
        Err(e) => {
            tracing::warn!("a directory was not listed: {e}");
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            response::error(w, "Error reading directory", status);
            return Ok(());
        }
    };
    let is_cut = entries.len() > MAX_LISTED;
    entries.truncate(MAX_LISTED);
    entries.retain(shows);
    entries.sort_unstable();
    w.header("Content-Type", "text/html; charset=utf-8");
    w.write_all(page(&entries, is_cut).as_bytes())
}

fn page(entries: &[DirEntry], is_cut: bool) -> String {
    let mut page = String::from(
        "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n",
    );
    for DirEntry { name, is_dir } in entries {
        let slash = if *is_dir { "/" } else { "" };
        let link = escape_html(&relative_url(name));
        let text = String::from_utf8_lossy(name);
        let text = escape_html(&text);
        page.push_str(&format!("<a href=\"{link}{slash}\">{text}{slash}</a>\n"));
    }
    if is_cut {
        page.push_str("and more, which are not listed\n");
    }
    page.push_str("</pre>\n");
    page
}

/// A name as a URL that is relative to its directory.
pub(super) fn relative_url(name: &[u8]) -> String {
    let escaped = path::escape(name);
    let text = String::from_utf8(escaped).expect("an escaped path is ASCII");
    let first = text.split('/').next().unwrap_or_default();
    match first.contains(':') {
        // It would be taken for a scheme (RFC 3986 §4.2).
        true => format!("./{text}"),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_twice_over() {
        let entry = |name: &[u8], is_dir| DirEntry {
            name: name.to_vec(),
            is_dir,
        };
        let entries = [
            entry(b"a:b", true),
            entry(b"<i>&'?#%\"", false),
            entry(b"\xff", false),
        ];
        let page = page(&entries, true);
        let lines: Vec<_> = page.lines().skip(3).collect();
        assert_eq!(
            lines,
            [
                "<a href=\"./a:b/\">a:b/</a>",
                "<a href=\"%3Ci%3E&amp;%27%3F%23%25%22\">&lt;i&gt;&amp;&#39;?#%&#34;</a>",
                "<a href=\"%FF\">\u{fffd}</a>",
                "and more, which are not listed",
                "</pre>",
            ]
        );
    }
}
