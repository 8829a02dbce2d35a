//! The private key of a GitHub App as people have it: taken where it is unambiguous, else named. Pure.
//!
//! GitHub hands out an RSA key in PEM. On its way here it loses its line ends (`.env` files and secret
//! stores write `\n`), is wrapped in base64 (Terraform modules), or is changed for another key; and all
//! of it used to end in one text at the start, about a file that "is not an RSA key".

use base64::{
    Engine,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};

use crate::config::GITHUB_TOKENS;

/// The object identifiers of keys that PKCS#8 holds besides RSA's, in DER (RFC 5480, RFC 8410).
const FOREIGN: [(&[u8], &str); 2] = [
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01], "an elliptic-curve (EC) private key"),
    (&[0x06, 0x03, 0x2b, 0x65, 0x70], "an Ed25519 private key"),
];

/// What GitHub gives.
const GENERATE: &str = "GitHub Apps sign with RSA: generate a private key on the App's settings page \
                        and give that file";

/// One block of a PEM text.
struct Block<'a> {
    label: &'a str,
    inside: &'a str,
}

/// A key that signs.
///
/// # Errors
/// What the text is instead, and what to do. Nothing of it is shown.
pub fn read(text: &str) -> Result<EncodingKey, String> {
    let text = text.trim_start_matches('\u{feff}').trim().trim_matches(['"', '\'']);
    match pem_of(text) {
        Some(pem) => of_pem(&pem),
        None => Err(without_pem(text)),
    }
}

/// Whether [`read`] takes it.
///
/// # Errors
/// As [`read`].
pub fn check(text: &str) -> Result<(), String> {
    read(text).map(|_| ())
}

/// The PEM text, also where it is in base64 or has `\n` for its line ends.
fn pem_of(text: &str) -> Option<String> {
    const BEGIN: &str = "-----BEGIN ";
    if text.contains(BEGIN) {
        return Some(text.replace("\\r", "").replace("\\n", "\n"));
    }
    let packed: String = text.split_whitespace().collect();
    let packed = packed.trim_end_matches('=');
    let plain =
        BASE64_STANDARD_NO_PAD.decode(packed).or_else(|_| BASE64_URL_SAFE_NO_PAD.decode(packed));
    let plain = String::from_utf8(plain.ok()?).ok()?;
    plain.contains(BEGIN).then(|| plain.replace("\\n", "\n"))
}

fn blocks(pem: &str) -> impl Iterator<Item = Block<'_>> {
    pem.split("-----BEGIN ").skip(1).filter_map(|rest| {
        let (label, rest) = rest.split_once("-----")?;
        let (inside, _) = rest.split_once("-----END ")?;
        Some(Block { label, inside })
    })
}

fn of_pem(pem: &str) -> Result<EncodingKey, String> {
    // A certificate may stand before the key.
    let private = blocks(pem).find(|block| block.label.ends_with("PRIVATE KEY"));
    let Some(Block { label, inside }) = private.or_else(|| blocks(pem).next()) else {
        return Err(
            "it begins as a key in PEM form and has no end: it was cut; give the whole file"
                .to_owned(),
        );
    };
    if label == "ENCRYPTED PRIVATE KEY" || inside.contains("ENCRYPTED") {
        return Err(
            "it is encrypted with a passphrase, which nobody can type here: openssl rsa -in \
                    KEY -out PLAIN, and guard that file by its mode"
                .to_owned(),
        );
    }
    let what = match label {
        "RSA PRIVATE KEY" | "PRIVATE KEY" => None,
        "EC PRIVATE KEY" => Some(FOREIGN[0].1),
        "PUBLIC KEY" | "RSA PUBLIC KEY" => Some("a public key, which cannot sign"),
        "CERTIFICATE" => Some("a certificate, which cannot sign"),
        "OPENSSH PRIVATE KEY" => Some("an SSH key in OpenSSH's own form"),
        _ => Some("something else in PEM form"),
    };
    if let Some(what) = what {
        return Err(format!("it is {what}; {GENERATE}"));
    }
    let packed: String = inside.split_whitespace().collect();
    let damaged = || format!("its content is damaged; {GENERATE} unchanged");
    let der = BASE64_STANDARD_NO_PAD.decode(packed.trim_end_matches('=')).map_err(|_| damaged())?;
    let foreign = FOREIGN.iter().find(|(id, _)| der.windows(id.len()).any(|part| part == *id));
    if label == "PRIVATE KEY"
        && let Some((_, what)) = foreign
    {
        return Err(format!("it is {what}; {GENERATE}"));
    }
    let armoured = format!("-----BEGIN {label}-----\n{packed}\n-----END {label}-----\n");
    let key = EncodingKey::from_rsa_pem(armoured.as_bytes()).map_err(|_| damaged())?;
    // What is inside is looked at only when it signs.
    let signed = jsonwebtoken::encode(&Header::new(Algorithm::RS256), &(), &key);
    signed.map(|_| key).map_err(|_| damaged())
}

fn without_pem(text: &str) -> String {
    let hex = |length: usize| text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit());
    let what = if text.starts_with("Iv") && text.len() <= 40 {
        "the App's client id"
    } else if hex(40) {
        "the App's client secret, by its form"
    } else if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        "a number, perhaps the App's id"
    } else if GITHUB_TOKENS.iter().any(|beginning| text.starts_with(beginning)) {
        "a token of GitHub's (for one, [github] token_file takes the place of app)"
    } else if text.starts_with("SHA256:") {
        "the fingerprint of a key, as GitHub lists it"
    } else if text.starts_with("ssh-") {
        "a public SSH key"
    } else if text.starts_with('/') || text.ends_with(".pem") {
        "the name of a file (private_key_file takes one)"
    } else {
        "no key in PEM form"
    };
    format!("it is {what}; {GENERATE}")
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};

    use super::*;

    macro_rules! key {
        ($name:literal) => {
            include_str!(concat!("../../tests/data/app-keys/", $name, ".pem"))
        };
    }

    #[test]
    fn a_key_is_taken_however_it_was_carried_here() {
        for (form, key) in [("PKCS#1", key!("pkcs1")), ("PKCS#8", key!("pkcs8"))] {
            let certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
            let ways = [
                ("as it is", key.to_owned()),
                ("with CRLF", key.replace('\n', "\r\n")),
                ("with literal \\n", key.replace('\n', "\\n")),
                ("with literal \\r\\n", key.replace('\n', "\\r\\n")),
                ("in quotes", format!("\"{}\"", key.trim().replace('\n', "\\n"))),
                ("in one line", key.replace('\n', " ")),
                ("indented", key.replace('\n', "\n    ")),
                ("with a byte order mark", format!("\u{feff}{key}")),
                ("in base64", BASE64_STANDARD.encode(key)),
                ("in base64 of URLs", BASE64_URL_SAFE.encode(key)),
                ("in folded base64", {
                    let packed = BASE64_STANDARD.encode(key);
                    packed
                        .as_bytes()
                        .chunks(76)
                        .map(|l| format!("{}\n", String::from_utf8_lossy(l)))
                        .collect()
                }),
                ("in base64 of CRLF", BASE64_STANDARD.encode(key.replace('\n', "\r\n"))),
                ("behind a certificate", format!("{certificate}{key}")),
            ];
            for (way, text) in ways {
                assert_eq!(check(&text), Ok(()), "{form} {way}");
            }
        }
    }

    #[test]
    fn what_is_no_such_key_is_said_by_its_name_and_not_shown() {
        let cut = &key!("pkcs1")[..400];
        let damaged = key!("pkcs1").replacen("MII", "AAA", 1);
        let table = [
            (key!("encrypted-pkcs1"), "encrypted with a passphrase"),
            (key!("encrypted-pkcs8"), "encrypted with a passphrase"),
            (key!("ec"), "an elliptic-curve (EC) private key"),
            (key!("ec-pkcs8"), "an elliptic-curve (EC) private key"),
            (key!("ed25519"), "an Ed25519 private key"),
            (key!("openssh"), "an SSH key"),
            (include_str!("../../tests/data/github-app-key.pub.pem"), "a public key"),
            (include_str!("../../tests/data/github-tls-cert.pem"), "a certificate"),
            (cut, "it was cut"),
            (&damaged, "damaged"),
            ("Iv1.8a61f9b3a7aba766", "client id"),
            ("Iv23liTESTclientabcd", "client id"),
            ("0123456789abcdef0123456789abcdef01234567", "client secret"),
            ("123456", "a number"),
            ("ghp_s3cr3ts3cr3ts3cr3t", "a token of GitHub's"),
            ("github_pat_s3cr3t", "a token of GitHub's"),
            ("SHA256:s3cr3t=", "fingerprint"),
            ("ssh-rsa AAAA s3cr3t", "a public SSH key"),
            ("/etc/runner-fleet/app.pem", "the name of a file"),
            ("s3cr3t", "no key in PEM form"),
            ("", "no key in PEM form"),
        ];
        for (text, wanted) in table {
            let said = check(text).unwrap_err();
            assert!(said.contains(wanted), "{wanted}: {said}");
            let body = text.lines().nth(1).unwrap_or(text);
            assert!(body.len() < 8 || !said.contains(body), "{said}");
            assert!(!said.contains("s3cr3t"), "{said}");
        }
    }
}
