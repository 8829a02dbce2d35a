//! The key that every guest's token is made of.
//!
//! A token is HMAC-SHA256 over its purpose and its runner's name, in lower-case hexadecimal: made when
//! it is needed, checked without a look-up, the same after a restart. Nothing is stored for a runner,
//! so nothing is to be forgotten when it goes; its name is never used again. Losing the key costs the
//! reports of the runners that live, no more.

use std::{
    fmt, fs, io,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use hmac::{Hmac, Mac};
use runner_fleet_actors::{name::RunnerName, port::Secret};
use rustls::crypto::ring;
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// What a token is for. Another use of the same key must begin with another text.
const PURPOSE: &[u8] = b"runner-fleet guest v1\0";
const LENGTH: usize = 32;
/// Digits of a token.
const DIGITS: usize = 64;
const FILE: &str = "guest-key";

/// The secret of which the tokens of all guests are made.
#[derive(Clone)]
pub struct GuestKey([u8; LENGTH]);

impl fmt::Debug for GuestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GuestKey(..)")
    }
}

impl GuestKey {
    /// The key of a state folder, which is made at the first start. Only one daemon at a time may do so:
    /// the folder's lock sees to it.
    ///
    /// # Errors
    /// The file cannot be read or made, is none of ours, or others may read it; for the person who must
    /// act.
    pub fn open(folder: &Path) -> Result<Self, String> {
        let path = folder.join(FILE);
        let told =
            |error: &dyn fmt::Display| format!("the guests' key {}: {error}", path.display());
        match fs::read(&path) {
            Ok(bytes) => {
                let mode = fs::metadata(&path).map_err(|e| told(&e))?.permissions().mode() & 0o777;
                if mode & 0o077 != 0 {
                    return Err(told(&format_args!(
                        "others may read it (mode {mode:04o}); run: chmod 0600 {}",
                        path.display()
                    )));
                }
                let key: [u8; LENGTH] = bytes.try_into().map_err(|bytes: Vec<u8>| {
                    told(&format_args!(
                        "it has {} bytes instead of {LENGTH}; remove it, and a new one is made: \
                         runners that live then go on without reports",
                        bytes.len()
                    ))
                })?;
                Ok(Self(key))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::make(&path).map_err(|error| told(&error))
            }
            Err(error) => Err(told(&error)),
        }
    }

    fn make(path: &Path) -> io::Result<Self> {
        let mut key = [0; LENGTH];
        ring::default_provider()
            .secure_random
            .fill(&mut key)
            .map_err(|_| io::Error::other("the system gives no random bytes"))?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        // Made beside and moved into place: a start that is cut off leaves no half of a key.
        let draft: PathBuf = path.with_extension("new");
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(&key)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        Ok(Self(key))
    }

    /// The token by which the guest of `runner` is known.
    #[must_use]
    pub fn token(&self, runner: &RunnerName) -> Secret {
        // HMAC takes keys of any length; there is no failure to report.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return Secret::new("") };
        mac.update(PURPOSE);
        mac.update(runner.as_str().as_bytes());
        let mut token = String::with_capacity(DIGITS);
        for byte in mac.finalize().into_bytes() {
            for digit in [byte >> 4, byte & 0xf] {
                token.extend(char::from_digit(u32::from(digit), 16));
            }
        }
        Secret::new(token)
    }

    /// Whether `given` is the token of `runner`. Takes the same time whatever is given.
    #[must_use]
    pub fn admits(&self, runner: &RunnerName, given: &str) -> bool {
        let token = self.token(runner);
        looks_like_one(given) && bool::from(token.expose().as_bytes().ct_eq(given.as_bytes()))
    }
}

/// Whether a text could be a token at all.
pub(super) fn looks_like_one(given: &str) -> bool {
    given.len() == DIGITS && given.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(token: u64) -> RunnerName {
        format!("ci--small--{token:012x}").parse().unwrap()
    }

    #[test]
    fn a_token_is_the_same_after_a_restart_and_another_for_each_runner_and_fleet() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let before = GuestKey::open(&one.path().join("not/yet/there")).unwrap();
        let after = GuestKey::open(&one.path().join("not/yet/there")).unwrap();
        assert_eq!(before.token(&name(1)), after.token(&name(1)));
        assert_ne!(before.token(&name(1)), before.token(&name(2)));
        let stranger = GuestKey::open(other.path()).unwrap();
        assert_ne!(before.token(&name(1)), stranger.token(&name(1)));
        assert!(after.admits(&name(1), before.token(&name(1)).expose()));
        assert!(!after.admits(&name(2), before.token(&name(1)).expose()));
        let shouted = before.token(&name(1)).expose().to_uppercase();
        assert!(!after.admits(&name(1), &shouted) && !after.admits(&name(1), ""));
    }

    /// The guests' program knows tokens as opaque texts, but another tool that mints one (a test, a
    /// recovery) must come to the same.
    #[test]
    fn a_token_is_what_everybody_computes_who_has_the_key() {
        let key = GuestKey([7; LENGTH]);
        // printf 'runner-fleet guest v1\0ci--small--000000000001' |
        //   openssl dgst -sha256 -mac HMAC -macopt hexkey:0707…07
        assert_eq!(
            key.token(&name(1)).expose(),
            "85629b7a93f53bcdfe3bb0d3217ca588f50541898ccb85a625a33f96df813116"
        );
    }

    #[test]
    fn the_key_is_its_owners_alone_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let key = GuestKey::open(folder.path()).unwrap();
        let path = folder.path().join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(format!("{key:?}"), "GuestKey(..)");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = GuestKey::open(folder.path()).unwrap_err();
        assert!(refused.contains("(mode 0640); run: chmod 0600 "), "{refused}");
    }

    #[test]
    fn a_file_that_is_no_key_is_named_and_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        fs::write(&path, "short").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let refused = GuestKey::open(folder.path()).unwrap_err();
        assert!(refused.contains("guest-key") && refused.contains("5 bytes"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), b"short");
    }
}
