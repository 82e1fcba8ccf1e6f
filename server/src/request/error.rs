//! Why a request head is refused, and with what status.

use http::StatusCode;

/// Why a request's head was refused. Its text is in the log, and where Go says
/// more than the status to the client, in the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// The head is longer than allowed.
    #[error("request head too large")]
    TooLarge,
    /// The head has more fields than allowed.
    #[error("too many header fields")]
    TooManyFields,
    /// The client ended its half of the connection before the head's end.
    #[error("the head was cut short")]
    Cut,
    /// The line is not `method SP target SP version`.
    #[error("malformed request line")]
    RequestLine,
    /// The method is not a token.
    #[error("invalid method")]
    Method,
    /// The version is not `HTTP/D.D`.
    #[error("malformed HTTP version")]
    MalformedVersion,
    /// The version is not 1.x.
    #[error("unsupported protocol version")]
    UnsupportedVersion,
    /// The target has none of the four forms (RFC 9112 §3.2), or an improper
    /// escape in its path.
    #[error("malformed request target")]
    Target,
    /// A line ends in LF without CR (RFC 9112 §2.2).
    #[error("bare LF")]
    BareLf,
    /// A CR that no LF follows.
    #[error("bare CR")]
    BareCr,
    /// A field that goes on in the next line (RFC 9112 §5.2).
    #[error("folded header line")]
    Fold,
    /// Whitespace between a field's name and its colon (RFC 9112 §5.1).
    #[error("whitespace before colon")]
    SpaceBeforeColon,
    /// A field's name is not a token.
    #[error("invalid header name")]
    FieldName,
    /// A control byte in a field's value.
    #[error("invalid header value")]
    FieldValue,
    /// No `Host` in an HTTP/1.1 request (RFC 9112 §3.2).
    #[error("missing required Host header")]
    MissingHost,
    /// More than one `Host`.
    #[error("too many Host headers")]
    DuplicateHost,
    /// A `Host` that no host can have.
    #[error("malformed Host header")]
    Host,
    /// A `Content-Length` that is no number, or several that differ.
    #[error("invalid Content-Length")]
    ContentLength,
    /// Both `Content-Length` and `Transfer-Encoding`: a smuggling attempt
    /// (RFC 9112 §6.3).
    #[error("Content-Length with Transfer-Encoding")]
    LengthAndEncoding,
    /// A `Transfer-Encoding` other than one `chunked`.
    #[error("unsupported transfer encoding")]
    TransferEncoding,
    /// A `Transfer-Encoding` in an HTTP/1.0 request (RFC 9112 §6.1).
    #[error("Transfer-Encoding in an HTTP/1.0 request")]
    EncodingIn10,
    /// `Trailer` names a field that no trailer may have (RFC 9110 §6.5.1).
    #[error("Trailer names a field that frames the message")]
    TrailerName,
}

impl HeadError {
    /// The status that the client gets.
    pub fn status(self) -> StatusCode {
        match self {
            HeadError::TooLarge | HeadError::TooManyFields => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            HeadError::UnsupportedVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            HeadError::TransferEncoding => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// A short name that does not change, for logs. The server's counters have
    /// it after `refused_`.
    pub fn code(self) -> &'static str {
        &self.counter()["refused_".len()..]
    }

    /// The name of the counter of such refusals.
    pub(crate) fn counter(self) -> &'static str {
        match self {
            HeadError::TooLarge => "refused_head_too_large",
            HeadError::TooManyFields => "refused_too_many_fields",
            HeadError::Cut => "refused_cut",
            HeadError::RequestLine => "refused_request_line",
            HeadError::Method => "refused_method",
            HeadError::MalformedVersion => "refused_malformed_version",
            HeadError::UnsupportedVersion => "refused_unsupported_version",
            HeadError::Target => "refused_target",
            HeadError::BareLf => "refused_bare_lf",
            HeadError::BareCr => "refused_bare_cr",
            HeadError::Fold => "refused_folded_line",
            HeadError::SpaceBeforeColon => "refused_space_before_colon",
            HeadError::FieldName => "refused_field_name",
            HeadError::FieldValue => "refused_field_value",
            HeadError::MissingHost => "refused_missing_host",
            HeadError::DuplicateHost => "refused_duplicate_host",
            HeadError::Host => "refused_host",
            HeadError::ContentLength => "refused_content_length",
            HeadError::LengthAndEncoding => "refused_length_and_encoding",
            HeadError::TransferEncoding => "refused_transfer_encoding",
            HeadError::EncodingIn10 => "refused_encoding_in_10",
            HeadError::TrailerName => "refused_trailer_name",
        }
    }

    /// What the reply's status line and body say beyond the status, as Go
    /// tells it.
    pub(crate) fn public_text(self) -> Option<&'static str> {
        match self {
            HeadError::UnsupportedVersion => Some("unsupported protocol version"),
            HeadError::MissingHost => Some("missing required Host header"),
            HeadError::Host => Some("malformed Host header"),
            HeadError::SpaceBeforeColon => Some("invalid header name"),
            _ => None,
        }
    }
}
