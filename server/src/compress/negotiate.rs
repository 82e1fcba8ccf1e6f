//! Which coding a client gets (RFC 9110 §12.5.3).

use super::Coding;

/// Members of `Accept-Encoding` that are looked at: no client needs as many.
const MOST_MEMBERS: usize = 32;

/// A weight in thousandths (RFC 9110 §12.4.2).
fn weight(text: &str) -> Option<u16> {
    let (whole, digits) = text.split_once('.').unwrap_or((text, ""));
    if digits.len() > 3 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let thousandths = format!("{digits:0<3}").parse().ok()?;
    match (whole, thousandths) {
        ("0", n) => Some(n),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

/// A member's coding and weight; `None` if it is malformed.
fn member(text: &str) -> Option<(&str, u16)> {
    let (coding, parameter) = match text.split_once(';') {
        None => (text, None),
        Some((coding, parameter)) => (coding, Some(parameter.trim())),
    };
    let q = match parameter {
        None => 1000,
        Some(p) => weight(p.strip_prefix("q=").or_else(|| p.strip_prefix("Q="))?)?,
    };
    Some((coding.trim(), q))
}

/// The coding of those in `offered`, the best first, that a client with these
/// values of `Accept-Encoding` likes best; `None` for no coding.
///
/// No coding is what a client gets that accepts none of them, also one that
/// forbids that (`identity;q=0`): the RFC allows it, and an answer is of more
/// use than a refusal.
pub(super) fn negotiate<'a>(
    values: impl Iterator<Item = &'a str>,
    offered: &[Coding],
) -> Option<Coding> {
    let members: Vec<_> = values
        .flat_map(|value| value.split(','))
        .take(MOST_MEMBERS)
        .filter_map(|text| member(text.trim()))
        .collect();
    let listed = |is: &dyn Fn(&str) -> bool| {
        let named = members.iter().find(|(coding, _)| is(coding));
        named.map(|(_, q)| *q)
    };
    let any = listed(&|coding| coding == "*");
    let identity = listed(&|coding| coding.eq_ignore_ascii_case("identity"));
    // Unless it is listed it is what is left when nothing else is wanted.
    let least = identity.unwrap_or(0).max(1);
    let mut best: Option<(Coding, u16)> = None;
    for &coding in offered {
        let q = listed(&|name| coding.is_called(name)).or(any).unwrap_or(0);
        if q >= least && best.is_none_or(|(_, than)| q > than) {
            best = Some((coding, q));
        }
    }
    best.map(|(coding, _)| coding)
}

#[cfg(test)]
mod tests {
    use super::super::Coding::{Brotli, Gzip, Zstd};
    use super::*;

    #[test]
    fn the_client_chooses_and_the_server_breaks_ties() {
        let table = [
            ("", None),
            ("gzip", Some(Gzip)),
            ("x-gzip", Some(Gzip)),
            ("GZIP", Some(Gzip)),
            ("gzip, deflate, br, zstd", Some(Zstd)),
            ("gzip, br", Some(Brotli)),
            ("gzip;q=1.0, br;q=0.5", Some(Gzip)),
            ("gzip;q=0.501, br ; q=0.5", Some(Gzip)),
            ("gzip;q=0", None),
            ("gzip;q=0.000", None),
            ("*", Some(Zstd)),
            ("*;q=0", None),
            ("zstd;q=0, *", Some(Brotli)),
            ("gzip, *;q=0", Some(Gzip)),
            ("identity", None),
            ("identity;q=0", None),
            ("identity;q=0, *;q=0.1", Some(Zstd)),
            ("identity, gzip;q=0.9", None),
            ("identity;q=0.5, gzip;q=0.9", Some(Gzip)),
            ("identity, gzip", Some(Gzip)),
            ("deflate, compress", None),
            // Malformed members are as if they were not there.
            ("gzip;q=2, br;q=x, zstd;level=1", None),
            ("gzip;q=0.1234", None),
            ("gzip;q=1.001", None),
            (" , ,gzip", Some(Gzip)),
        ];
        for (value, want) in table {
            let got = negotiate([value].into_iter(), &[Zstd, Brotli, Gzip]);
            assert_eq!(got, want, "{value:?}");
        }
        let split = ["br;q=0.1", "gzip;q=0.2"];
        assert_eq!(negotiate(split.into_iter(), &[Brotli, Gzip]), Some(Gzip));
    }

    #[test]
    fn a_long_list_costs_no_more_than_its_beginning() {
        let long = format!("{}gzip", "x,".repeat(1000));
        assert_eq!(negotiate([long.as_str()].into_iter(), &[Gzip]), None);
    }
}
