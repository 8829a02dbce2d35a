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
    let ends = |c: char| {
        c.is_whitespace() || matches!(c, '"' | '\'' | '`' | ',' | ';' | '(' | ')' | '[' | ']' | '=')
    };
    text.split_inclusive(ends)
        .map(|word| {
            let end = word.chars().next_back().filter(|c| ends(*c));
            let bare = end.map_or(word, |end| &word[..word.len() - end.len_utf8()]);
            let shown = without_user(bare).unwrap_or_else(|| {
                let part = |part: &str| {
                    if is_secret(part) { "(hidden)".to_owned() } else { part.to_owned() }
                };
                if is_secret(bare) {
                    "(hidden)".to_owned()
                } else {
                    bare.split('/').map(part).collect::<Vec<_>>().join("/")
                }
            });
            shown + &end.map(String::from).unwrap_or_default()
        })
        .collect()
}

/// An address with its user and password hidden, where it has any.
fn without_user(word: &str) -> Option<String> {
    let (scheme, rest) = word.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let (_, host) = authority.rsplit_once('@')?;
    Some(format!("{scheme}://(hidden)@{host}{}", &rest[authority.len()..]))
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
