//! The document: markup, style, script and the texts of the stages, put together
//! once, with the policy that lets a browser run just these.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::see::stages::{STAGES, Stage, WALK};

const MARKUP: &str = include_str!("web/page.html");
const STYLE: &str = include_str!("web/page.css");

/// The parts of the script, which share one scope: each uses what stands before
/// it.
const SCRIPT: [&str; 9] = [
    include_str!("web/dom.js"),
    include_str!("web/live.js"),
    include_str!("web/geometry.js"),
    include_str!("web/beads.js"),
    include_str!("web/drawing.js"),
    include_str!("web/panels.js"),
    include_str!("web/requests.js"),
    include_str!("web/guide.js"),
    include_str!("web/main.js"),
];

/// The page as it is sent.
pub(super) struct Document {
    pub text: String,
    /// Its `Content-Security-Policy`.
    pub policy: String,
    /// Its `ETag`, with quotes: it changes with every byte of the text.
    pub etag: String,
}

/// What the script knows of the stages.
#[derive(Serialize)]
struct Texts {
    stages: &'static [Stage],
    walk: &'static [u8],
}

impl Document {
    pub fn new() -> Document {
        let script = SCRIPT.join("\n");
        let text = MARKUP
            .replacen("{{style}}", STYLE, 1)
            .replacen("{{stages}}", &texts(), 1)
            .replacen("{{script}}", &script, 1);
        Document {
            etag: format!("\"{}\"", &digest(&text)[..22]),
            policy: policy(&script, STYLE),
            text,
        }
    }
}

/// The texts as JSON that may stand in a `script` element: HTML's parser, which
/// comes first, would take `</script` or `<!--` in them for its own.
fn texts() -> String {
    let texts = Texts {
        stages: &STAGES,
        walk: &WALK,
    };
    let json = serde_json::to_string(&texts).expect("strings and numbers can be written");
    json.replace('<', "\\u003c")
}

/// Nothing from elsewhere, nothing inline but this script and this style (CSP
/// Level 3 §6.7.3), no frame around it.
fn policy(script: &str, style: &str) -> String {
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        digest(script),
        digest(style),
    )
}

fn digest(text: &str) -> String {
    STANDARD.encode(Sha256::digest(text))
}
