//! The type of content, from its first bytes: the MIME Sniffing Standard's
//! rules for a resource whose type is not given (sections 6 and 7.1), in the
//! order and selection that Go's `DetectContentType` has.

/// Bytes that are looked at (section 5.2 says 1,445; Go looks at 512).
const SNIFF_BYTES: usize = 512;

/// What a signature compares.
enum Rule {
    /// The content begins with this.
    Exact(&'static [u8]),
    /// The content, under the mask, begins with this.
    Masked(&'static [u8], &'static [u8]),
    /// The content, after white space, begins with this tag in any case, and
    /// the tag ends there.
    Html(&'static [u8]),
    /// The content, after white space, begins with this.
    AfterSpace(&'static [u8]),
    /// An MP4 file type box.
    Mp4,
    /// No byte that text does not have.
    Text,
}

const HTML: &str = "text/html; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// `RIFF`, four bytes of length, and a form type of 4 or 6 bytes.
const RIFF_MASK: &[u8] = &[255, 255, 255, 255, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255];
const RIFF_MASK_4: &[u8] = &[255, 255, 255, 255, 0, 0, 0, 0, 255, 255, 255, 255];

/// In order: the first that matches wins.
const RULES: &[(Rule, &str)] = &[
    (Rule::Html(b"<!DOCTYPE HTML"), HTML),
    (Rule::Html(b"<HTML"), HTML),
    (Rule::Html(b"<HEAD"), HTML),
    (Rule::Html(b"<SCRIPT"), HTML),
    (Rule::Html(b"<IFRAME"), HTML),
    (Rule::Html(b"<H1"), HTML),
    (Rule::Html(b"<DIV"), HTML),
    (Rule::Html(b"<FONT"), HTML),
    (Rule::Html(b"<TABLE"), HTML),
    (Rule::Html(b"<A"), HTML),
    (Rule::Html(b"<STYLE"), HTML),
    (Rule::Html(b"<TITLE"), HTML),
    (Rule::Html(b"<B"), HTML),
    (Rule::Html(b"<BODY"), HTML),
    (Rule::Html(b"<BR"), HTML),
    (Rule::Html(b"<P"), HTML),
    (Rule::Html(b"<!--"), HTML),
    (Rule::AfterSpace(b"<?xml"), "text/xml; charset=utf-8"),
    (Rule::Exact(b"%PDF-"), "application/pdf"),
    (Rule::Exact(b"%!PS-Adobe-"), "application/postscript"),
    (Rule::Exact(b"\xfe\xff"), "text/plain; charset=utf-16be"),
    (Rule::Exact(b"\xff\xfe"), "text/plain; charset=utf-16le"),
    (Rule::Exact(b"\xef\xbb\xbf"), PLAIN),
    (Rule::Exact(b"\x00\x00\x01\x00"), "image/x-icon"),
    (Rule::Exact(b"\x00\x00\x02\x00"), "image/x-icon"),
    (Rule::Exact(b"BM"), "image/bmp"),
    (Rule::Exact(b"GIF87a"), "image/gif"),
    (Rule::Exact(b"GIF89a"), "image/gif"),
    (Rule::Masked(RIFF_MASK, b"RIFF\0\0\0\0WEBPVP"), "image/webp"),
    (Rule::Exact(b"\x89PNG\r\n\x1a\n"), "image/png"),
    (Rule::Exact(b"\xff\xd8\xff"), "image/jpeg"),
    (Rule::Masked(RIFF_MASK_4, b"FORM\0\0\0\0AIFF"), "audio/aiff"),
    (Rule::Exact(b"ID3"), "audio/mpeg"),
    (Rule::Exact(b"OggS\0"), "application/ogg"),
    (Rule::Exact(b"MThd\0\0\0\x06"), "audio/midi"),
    (Rule::Masked(RIFF_MASK_4, b"RIFF\0\0\0\0AVI "), "video/avi"),
    (Rule::Masked(RIFF_MASK_4, b"RIFF\0\0\0\0WAVE"), "audio/wave"),
    (Rule::Mp4, "video/mp4"),
    (Rule::Exact(b"\x1a\x45\xdf\xa3"), "video/webm"),
    (
        // 34 bytes of anything, then "LP".
        Rule::Masked(&EOT_MASK, &EOT_PATTERN),
        "application/vnd.ms-fontobject",
    ),
    (Rule::Exact(b"\x00\x01\x00\x00"), "font/ttf"),
    (Rule::Exact(b"OTTO"), "font/otf"),
    (Rule::Exact(b"ttcf"), "font/collection"),
    (Rule::Exact(b"wOFF"), "font/woff"),
    (Rule::Exact(b"wOF2"), "font/woff2"),
    (Rule::Exact(b"\x1f\x8b\x08"), "application/x-gzip"),
    (Rule::Exact(b"PK\x03\x04"), "application/zip"),
    (
        Rule::Exact(b"Rar!\x1a\x07\x00"),
        "application/x-rar-compressed",
    ),
    (
        Rule::Exact(b"Rar!\x1a\x07\x01\x00"),
        "application/x-rar-compressed",
    ),
    (Rule::Exact(b"\0asm"), "application/wasm"),
    (Rule::Text, PLAIN),
];

const EOT_MASK: [u8; 36] = end_with([255, 255]);
const EOT_PATTERN: [u8; 36] = end_with(*b"LP");

const fn end_with(end: [u8; 2]) -> [u8; 36] {
    let mut bytes = [0; 36];
    bytes[34] = end[0];
    bytes[35] = end[1];
    bytes
}

/// The MIME type of content that begins with `data`; at worst
/// `application/octet-stream`.
pub fn detect_content_type(data: &[u8]) -> &'static str {
    let data = &data[..data.len().min(SNIFF_BYTES)];
    let after_space = data.trim_ascii_start();
    RULES
        .iter()
        .find(|(rule, _)| rule.matches(data, after_space))
        .map_or("application/octet-stream", |(_, kind)| kind)
}

impl Rule {
    fn matches(&self, data: &[u8], after_space: &[u8]) -> bool {
        match self {
            Rule::Exact(prefix) => data.starts_with(prefix),
            Rule::Masked(mask, pattern) => {
                data.len() >= mask.len()
                    && data
                        .iter()
                        .zip(*mask)
                        .map(|(byte, mask)| byte & mask)
                        .zip(*pattern)
                        .all(|(byte, want)| byte == *want)
            }
            Rule::Html(tag) => match after_space.split_at_checked(tag.len()) {
                Some((start, [b' ' | b'>', ..])) => start.eq_ignore_ascii_case(tag),
                _ => false,
            },
            Rule::AfterSpace(prefix) => after_space.starts_with(prefix),
            Rule::Mp4 => is_mp4(data),
            Rule::Text => !after_space
                .iter()
                .any(|b| matches!(b, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f)),
        }
    }
}

/// Section 6.2.1: an `ftyp` box with a brand that begins with `mp4`.
fn is_mp4(data: &[u8]) -> bool {
    let Some((size, rest)) = data.split_first_chunk::<4>() else {
        return false;
    };
    let size = u32::from_be_bytes(*size) as usize;
    if !size.is_multiple_of(4) || data.len() < size || data.len() < 12 || !rest.starts_with(b"ftyp")
    {
        return false;
    }
    (8..size)
        .step_by(4)
        // The minor version is between the major brand and the others.
        .filter(|at| *at != 12)
        .any(|at| data[at..].starts_with(b"mp4"))
}
