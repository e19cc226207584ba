//! A program's bytes as printable ASCII.

/// In double quotes, as in C, with `...` behind what is cut off after `limit` bytes.
pub(super) fn quoted(bytes: &[u8], limit: usize) -> String {
    let shown = &bytes[..bytes.len().min(limit)];
    let dots = if shown.len() < bytes.len() { "..." } else { "" };
    format!("\"{}\"{dots}", escaped(shown))
}

/// Without quotes: for names of files and threads.
pub(super) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text
}

/// A JSON string of what is printable ASCII already.
pub(super) fn json(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        if matches!(letter, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_program_leaves_its_line_or_its_quotes() {
        let shown = quoted(b"a\n\"b\x1b[2J\\\xff", 64);
        assert_eq!(shown, r#""a\n\"b\x1b[2J\\\xff""#);
        assert_eq!(json(&shown), r#""\"a\\n\\\"b\\x1b[2J\\\\\\xff\"""#);
    }

    #[test]
    fn a_long_string_is_cut_and_says_so() {
        assert_eq!(quoted(b"abcdef", 4), "\"abcd\"...");
        assert_eq!(quoted(b"abcd", 4), "\"abcd\"");
    }
}
