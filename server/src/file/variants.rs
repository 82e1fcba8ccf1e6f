//! Files that are there compressed as well: `app.js.br` beside `app.js`.

use crate::request::Request;

/// A coding, and the extension of files in it. In order of preference among
/// those that a client likes as much.
pub(super) struct Coding {
    pub name: &'static str,
    pub extension: &'static [u8],
}

const CODINGS: [Coding; 3] = [
    Coding {
        name: "br",
        extension: b".br",
    },
    Coding {
        name: "zstd",
        extension: b".zst",
    },
    Coding {
        name: "gzip",
        extension: b".gz",
    },
];

/// The codings that the client takes and likes no less than none, the best
/// first (RFC 9110 §12.5.3).
pub(super) fn accepted(r: &Request) -> Vec<&'static Coding> {
    let fields: Vec<&[u8]> = r.headers.get_all("Accept-Encoding").collect();
    accepted_of(&fields)
}

fn accepted_of(fields: &[&[u8]]) -> Vec<&'static Coding> {
    let weight = |name: &str| {
        let exact = weight_of(fields, name);
        exact.or_else(|| weight_of(fields, "*")).unwrap_or(0)
    };
    let identity = weight_of(fields, "identity").unwrap_or(0);
    let mut codings: Vec<_> = CODINGS
        .iter()
        .map(|coding| (weight(coding.name), coding))
        .filter(|(weight, _)| *weight > 0 && *weight >= identity)
        .collect();
    // It is stable: those of one weight stay in our order.
    codings.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    codings.into_iter().map(|(_, coding)| coding).collect()
}

/// The weight in thousandths that the fields give to `name`; `None` if they do
/// not say, 0 if it is no number.
fn weight_of(fields: &[&[u8]], name: &str) -> Option<u16> {
    let items = fields.iter().flat_map(|field| field.split(|&b| b == b','));
    let mut found = items.filter_map(|item| {
        let mut parts = item.split(|&b| b == b';').map(<[u8]>::trim_ascii);
        let is_it = parts.next()?.eq_ignore_ascii_case(name.as_bytes());
        is_it.then(|| parts.next().map_or(Some(1000), thousandths).unwrap_or(0))
    });
    found.next()
}

/// `q=0.5` as 500 (RFC 9110 §12.4.2).
fn thousandths(parameter: &[u8]) -> Option<u16> {
    let value = parameter
        .strip_prefix(b"q=")
        .or_else(|| parameter.strip_prefix(b"Q="))?;
    let (whole, fraction) = value.split_first()?;
    let digits = fraction.strip_prefix(b".").unwrap_or(fraction);
    if digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let part = [100, 10, 1]
        .iter()
        .zip(digits)
        .map(|(place, digit)| place * u16::from(digit - b'0'))
        .sum::<u16>();
    match whole {
        b'0' => Some(part),
        b'1' => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_that_is_accepted_comes_first() {
        for (field, want) in [
            ("gzip, deflate, br", "br gzip"),
            ("gzip;q=1.0, br;q=0.5", "gzip br"),
            ("GZIP", "gzip"),
            ("*", "br zstd gzip"),
            ("*;q=0.1, br;q=0", "zstd gzip"),
            ("gzip;q=0", ""),
            ("gzip;q=0.000", ""),
            ("gzip;q=x", ""),
            ("gzip;q=0.2, identity;q=0.5", ""),
            ("gzip ; q=0.5", "gzip"),
            ("gzipped", ""),
            ("identity", ""),
            ("", ""),
        ] {
            let names: Vec<_> = accepted_of(&[field.as_bytes()])
                .iter()
                .map(|coding| coding.name)
                .collect();
            assert_eq!(names.join(" "), want, "{field}");
        }
        assert!(accepted_of(&[]).is_empty());
        assert_eq!(accepted_of(&[b"deflate", b"gzip"]).len(), 1);
    }
}
