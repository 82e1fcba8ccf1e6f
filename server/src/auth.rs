//! What small fields of a request say: who asks, and from where.

use std::borrow::Cow;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::request::Request;

impl Request {
    /// The user and the password of Basic authentication (RFC 7617); `None`
    /// without, or when the field is malformed. Compare a password in constant
    /// time.
    ///
    /// ```
    /// use wirepath::httptest;
    ///
    /// let r = httptest::request("GET", "/").header("Authorization", "Basic YTpiOmM=").build();
    /// assert_eq!(r.basic_auth(), Some(("a".to_owned(), "b:c".to_owned())));
    /// ```
    pub fn basic_auth(&self) -> Option<(String, String)> {
        let field = self.headers.get_bytes("Authorization")?;
        let (scheme, credentials) = field.split_at_checked("Basic ".len())?;
        if !scheme.eq_ignore_ascii_case(b"Basic ") {
            return None;
        }
        let decoded = BASE64_STANDARD.decode(credentials).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (user, password) = text.split_once(':')?;
        Some((user.to_owned(), password.to_owned()))
    }

    /// The page that led here, as it was called when the field was named.
    pub fn referer(&self) -> Option<Cow<'_, str>> {
        self.header("Referer")
    }

    /// What asks.
    pub fn user_agent(&self) -> Option<Cow<'_, str>> {
        self.header("User-Agent")
    }
}

#[cfg(test)]
mod tests {
    use crate::httptest;

    #[test]
    fn basic_authentication_is_read() {
        for (field, want) in [
            (
                "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
                Some(("Aladdin", "open sesame")),
            ),
            ("bAsIc Og==", Some(("", ""))),
            ("Basic QQ==", None),
            ("Basic QTpC!", None),
            ("Basic  QTpC", None),
            ("BasicQTpC", None),
            ("Bearer QTpC", None),
            ("Basic", None),
            ("Basic /zpC", None),
        ] {
            let r = httptest::request("GET", "/")
                .header("Authorization", field)
                .build();
            let got = r.basic_auth();
            let got = got
                .as_ref()
                .map(|(user, password)| (user.as_str(), password.as_str()));
            assert_eq!(got, want, "{field}");
        }
        assert_eq!(httptest::request("GET", "/").build().basic_auth(), None);
    }
}
