//! Credentials that stand in URLs, shown nowhere, kept nowhere; and names of variables that hold some.

use std::ops::Range;

/// `text` with what stands before the `@` of its URLs replaced by `***`.
pub fn masked(text: &str) -> String {
    replace(text, |_| "***".to_owned())
}

/// The same with as many bytes as before, for texts with places in them.
pub fn masked_in_place(text: &str) -> String {
    replace(text, |secret| "*".repeat(secret.len()))
}

fn replace(text: &str, mask: impl Fn(&str) -> String) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut end = 0;
    for secret in secrets(text) {
        shown.push_str(&text[end..secret.start]);
        shown.push_str(&mask(&text[secret.clone()]));
        end = secret.end;
    }
    shown.push_str(&text[end..]);
    shown
}

/// Where users and passwords stand. A name before the `@` of ssh is no secret: git@host.
fn secrets(text: &str) -> Vec<Range<usize>> {
    const SCHEME: &str = "://";
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(position) = text[at..].find(SCHEME) {
        let start = at + position + SCHEME.len();
        let ends = |c: char| c.is_whitespace() || "/?#\"'<>\\".contains(c);
        let end = text[start..].find(ends).map_or(text.len(), |n| start + n);
        if let Some(user_info) = text[start..end].rfind('@') {
            let secret = start..start + user_info;
            let is_name = text[..start - SCHEME.len()]
                .to_ascii_lowercase()
                .ends_with("ssh")
                && !text[secret.clone()].contains(':');
            if !is_name && !secret.is_empty() {
                found.push(secret);
            }
        }
        at = start;
    }
    found
}

/// Whether a word of the name, between `_`, is one for secrets and none says that it is harmless
/// (S15).
pub fn is_secret_name(name: &str) -> bool {
    const SECRET: [&str; 10] = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    const HARMLESS: [&str; 3] = ["public", "file", "version"];
    let lower = name.to_ascii_lowercase();
    let has = |known: &[&str]| lower.split('_').any(|word| known.contains(&word));
    has(&SECRET) && !has(&HARMLESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_not_shown() {
        for (text, expected) in [
            ("ADD https://u:p@h/x /", "ADD https://***@h/x /"),
            ("https://token@h", "https://***@h"),
            ("https://a@b:c@h/d@e", "https://***@h/d@e"),
            ("http://u:p@h http://u:p@h", "http://***@h http://***@h"),
            ("ssh://git@h/x", "ssh://git@h/x"),
            ("ssh://git:p@h/x", "ssh://***@h/x"),
            ("https://h/x?a=b@c", "https://h/x?a=b@c"),
            (
                "[\"https://u:p@h/x\", \"/\"]",
                "[\"https://***@h/x\", \"/\"]",
            ),
            ("git@h:x", "git@h:x"),
            ("https://@h", "https://@h"),
            ("ä://ö@ü", "ä://***@ü"),
        ] {
            assert_eq!(masked(text), expected);
            assert_eq!(masked_in_place(text).len(), text.len());
            assert_eq!(masked_in_place(text) == text, expected == text);
        }
    }

    #[test]
    fn s15_names_of_secrets() {
        for (name, expected) in [
            ("API_KEY", true),
            ("apikey", true),
            ("DB_PASSWORD", true),
            ("secret_message", true),
            ("AUTH", true),
            ("KEYBOARD", false),
            ("PUBLIC_KEY", false),
            ("PASSWORD_FILE", false),
            ("TOKEN_VERSION", false),
            ("monkey", false),
            ("TOKENS", false),
        ] {
            assert_eq!(is_secret_name(name), expected, "{name}");
        }
    }
}
