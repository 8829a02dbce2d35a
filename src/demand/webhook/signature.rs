//! Whether a delivery is GitHub's: HMAC-SHA256 of the body under a secret that both know (GitHub docs,
//! "Validating webhook deliveries").

use hmac::{Hmac, Mac};
use runner_fleet_actors::port::Secret;
use sha2::Sha256;

/// The secrets that are good now: while one is exchanged for another there are two.
#[derive(Debug, Clone)]
pub struct Secrets(Vec<Secret>);

impl Secrets {
    /// The secret, and the one before it for as long as GitHub may still use it.
    #[must_use]
    pub fn new(current: Secret, previous: Option<Secret>) -> Self {
        Self(std::iter::once(current).chain(previous).collect())
    }

    /// Whether `header` (`X-Hub-Signature-256`) signs `body`. Every secret is tried, and each is
    /// compared in constant time.
    #[must_use]
    pub fn sign(&self, header: &str, body: &[u8]) -> bool {
        let Some(given) = header.strip_prefix("sha256=").and_then(unhex) else { return false };
        self.0.iter().fold(false, |good, secret| {
            // HMAC takes a key of any length.
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()) else {
                return good;
            };
            mac.update(body);
            mac.verify_slice(&given).is_ok() | good
        })
    }
}

/// Whether a header can be a signature at all; whose it is, only the body shows.
pub(super) fn is_one(header: &str) -> bool {
    header.strip_prefix("sha256=").and_then(unhex).is_some()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GitHub's documented vector.
    const SECRET: &str = "It's a Secret to Everybody";
    const BODY: &[u8] = b"Hello, World!";
    const SIGNATURE: &str =
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    #[test]
    fn githubs_own_example_is_good_under_the_new_secret_and_under_the_old_one() {
        let (good, other) = (Secret::new(SECRET), Secret::new("another"));
        assert!(Secrets::new(good.clone(), None).sign(SIGNATURE, BODY));
        assert!(Secrets::new(other.clone(), Some(good)).sign(SIGNATURE, BODY));
        assert!(!Secrets::new(other, None).sign(SIGNATURE, BODY));
    }

    #[test]
    fn a_changed_body_and_a_header_that_is_no_signature_are_refused() {
        let secrets = Secrets::new(Secret::new(SECRET), None);
        assert!(!secrets.sign(SIGNATURE, b"Hello, World?"));
        assert!(is_one(SIGNATURE));
        for header in
            ["", "sha256=", "sha1=00", &SIGNATURE[..70], &format!("{SIGNATURE}0"), "sha256=é"]
        {
            assert!(!secrets.sign(header, BODY), "{header}");
            assert!(!is_one(header), "{header}");
        }
    }
}
