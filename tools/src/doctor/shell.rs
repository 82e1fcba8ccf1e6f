//! Commands as one types them, and text as one may print it.
//!
//! The names of interfaces may hold what a shell or a terminal takes for a
//! command (the kernel forbids only space, `/` and `:` in them), and a peer's
//! may be chosen by whoever owns its network namespace.

/// A command as one types it into a shell.
pub fn shell(words: &[String]) -> String {
    let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
    words.join(" ")
}

/// A word as one types it into a shell.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Text without what a terminal would obey.
pub fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_quoted_for_a_shell() {
        for (word, want) in [
            ("eth0", "eth0"),
            ("", "''"),
            ("echo 2 > /sys/x", "'echo 2 > /sys/x'"),
            ("it's", r"'it'\''s'"),
            ("$(id)", "'$(id)'"),
        ] {
            assert_eq!(quoted(word), want);
        }
    }

    #[test]
    fn nothing_is_left_for_a_terminal_to_obey() {
        assert_eq!(printable("a\x1b[2Jb\u{9b}c"), "a\u{fffd}[2Jb\u{fffd}c");
    }
}
