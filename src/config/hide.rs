//! Secrets that were written where a place should be, known by how they look.
//!
//! A token that was pasted as a path would be repeated by the very fault that says that there is no such
//! file, into a terminal, a ticket, a journal. So each fault goes through [`hidden`], and what looks like
//! a secret under a key for a place is refused before it becomes one.

/// How GitHub's tokens begin (GitHub docs, "GitHub's token formats").
pub(crate) const GITHUB_TOKENS: [&str; 6] = ["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"];
/// How those of other forges and clouds, JWTs and PEM keys (RFC 7468) begin, and the addresses of
/// brokers, which hold a password.
const BEGINNINGS: [&str; 10] = [
    "glpat-",
    "eyJ",
    "AKIA",
    "xoxb-",
    "-----BEGIN",
    "PRIVATE KEY-----",
    "amqp://",
    "amqps://",
    "mongodb://",
    "mongodb+srv://",
];
/// What is shown in a secret's place.
const HIDDEN: &str = "(hidden)";
/// Digits of a hexadecimal text that is no name any more: 128 bits.
const HEX_LENGTH: usize = 32;
/// Characters of any other text without a pause that is no name any more.
const OPAQUE_LENGTH: usize = 20;

/// Whether a text is a secret by its beginning.
pub(super) fn is_secret(text: &str) -> bool {
    GITHUB_TOKENS.iter().chain(&BEGINNINGS).any(|beginning| text.starts_with(beginning))
}

/// Whether a text that should be the name of a place is more likely a secret: it begins like one, or it
/// is long, of one piece, and no words.
pub(super) fn may_be_secret(text: &str) -> bool {
    let text = text.trim();
    if is_secret(text) {
        return true;
    }
    let count = |is: fn(&u8) -> bool| text.bytes().filter(is).count();
    let hex = text.len() >= HEX_LENGTH && text.bytes().all(|b| b.is_ascii_hexdigit());
    let one_piece = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=_-".contains(&b));
    let mixed = count(u8::is_ascii_digit) >= 2
        && count(u8::is_ascii_lowercase) >= 2
        && count(u8::is_ascii_uppercase) >= 2;
    let path = text.starts_with('/') || text.contains("//");
    hex || (text.len() >= OPAQUE_LENGTH && one_piece && mixed && !path)
}

/// A text for people without what is a secret by its beginning, and without the user and password of
/// an address.
pub(super) fn hidden(text: &str) -> String {
    if !may_hold_a_secret(text) {
        return text.to_owned();
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, address, after)) = first_address(rest) {
        shown.push_str(&words(before));
        shown.push_str(&without_user(address));
        rest = after;
    }
    shown + &words(rest)
}

/// Whether there is anything in a text that makes one of its words a secret; nearly always there is not, and
/// no word need be looked at.
fn may_hold_a_secret(text: &str) -> bool {
    let mut beginnings = GITHUB_TOKENS.iter().chain(&BEGINNINGS);
    text.contains("://") || beginnings.any(|beginning| text.contains(beginning))
}

/// What is before the first address, itself, and what comes after. A quoted one ends with its quotes,
/// because a password may have anything in it, and any other one where a space is.
fn first_address(text: &str) -> Option<(&str, &str, &str)> {
    // No scheme has the last one, but a token that an address was pasted to.
    let of_scheme = |c: char| c.is_ascii_alphanumeric() || "+-._".contains(c);
    let (start, colon) = text.match_indices("://").find_map(|(colon, _)| {
        let scheme = &text[..colon];
        let start = scheme.trim_end_matches(of_scheme).len();
        (start < colon).then_some((start, colon))
    })?;
    let quoted = text[..start].ends_with('"');
    let mut escaped = false;
    let end = text[colon..].find(|c: char| {
        let ends = if quoted { c == '"' && !escaped } else { c.is_whitespace() };
        escaped = c == '\\' && !escaped;
        ends
    });
    let end = end.map_or(text.len(), |end| colon + end);
    Some((&text[..start], &text[start..end], &text[end..]))
}

/// An address with its user and password hidden, where it has any.
fn without_user(address: &str) -> String {
    let (scheme, rest) = address.split_once("://").unwrap_or_default();
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{}://{HIDDEN}@{}", words(scheme), words(host)),
        None if is_secret(address) => HIDDEN.to_owned(),
        None => words(address),
    }
}

/// Words without those that are secrets.
fn words(text: &str) -> String {
    let ends = |c: char| {
        c.is_whitespace()
            || matches!(c, '"' | '\'' | '`' | ',' | ';' | '(' | ')' | '[' | ']' | '=' | '/')
    };
    let words = text.split_inclusive(ends).map(|word| {
        let end = word.chars().next_back().filter(|c| ends(*c));
        let bare = end.map_or(word, |end| &word[..word.len() - end.len_utf8()]);
        let shown = if is_secret(bare) { HIDDEN.to_owned() } else { without_tokens(bare) };
        shown + &end.map(String::from).unwrap_or_default()
    });
    words.collect()
}

/// A word without tokens of GitHub's, whose beginnings are in no other word, wherever they stand in it: a
/// line break before one is shown as `\n`.
fn without_tokens(word: &str) -> String {
    let token = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut shown = String::new();
    let mut rest = word;
    let first = |text: &str| {
        let found = GITHUB_TOKENS.iter().filter_map(|begin| text.find(begin));
        found.min()
    };
    while let Some(at) = first(rest) {
        shown.push_str(&rest[..at]);
        shown.push_str(HIDDEN);
        rest = rest[at..].trim_start_matches(token);
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pasted_is_hidden_and_what_is_a_place_is_shown() {
        for (text, shown) in [
            ("/etc/ghp_0123456789 cannot be read", "/etc/(hidden) cannot be read"),
            ("\"github_pat_11AAA\" is not allowed", "\"(hidden)\" is not allowed"),
            (
                "url \"https://bob:hunter2@ghes.example/x\"",
                "url \"https://(hidden)@ghes.example/x\"",
            ),
            ("amqp://u:p@mq/vhost", "amqp://(hidden)@mq/vhost"),
            ("mongodb://mq", "(hidden)"),
            // Passwords with all that ends a word elsewhere.
            ("amqp://u:p=w0rd@mq/vhost is no", "amqp://(hidden)@mq/vhost is no"),
            (
                "\"https://bob:p=s(s 'w\\\"o/r,d@ghes.example\" is not allowed",
                "\"https://(hidden)@ghes.example\" is not allowed",
            ),
            ("\"ghp_0123https://u:p@x/o\" is no", "\"(hidden)://(hidden)@x/o\" is no"),
            // Where a word is that a token begins.
            ("\"\\nghp_0123\" is not allowed", "\"\\n(hidden)\" is not allowed"),
            ("fleet.ghp_0123: no such key", "fleet.(hidden): no such key"),
            ("https://github.com/ghp_0123/x", "https://github.com/(hidden)/x"),
            ("/etc/runner-fleet/token cannot be read", "/etc/runner-fleet/token cannot be read"),
            ("such as \"https://github.com\", or", "such as \"https://github.com\", or"),
        ] {
            assert_eq!(hidden(text), shown);
        }
    }

    #[test]
    fn a_secret_is_told_from_the_name_of_a_file() {
        for secret in [
            "ghp_abc",
            "eyJhbGciOiJSUzI1NiJ9.e30.x",
            "0123456789abcdef0123456789abcdef",
            "kQ3Jx9ZbV7mPz1LtRw8sYd2f",
            "aB3/dE5fG7hI9jK1lM3nO5p=",
        ] {
            assert!(may_be_secret(secret), "{secret}");
        }
        for name in [
            "github-token",
            "/etc/runner-fleet/github-token",
            "secrets/token-2026",
            "runner-fleet-production-github-token",
            "/run/secrets/0123456789abcdef0123456789abcdef",
            "GITHUB_TOKEN",
            "RUNNER_FLEET_TOKEN_OF_2026",
            "app.2026-11-28.private-key.pem",
        ] {
            assert!(!may_be_secret(name), "{name}");
        }
    }
}
