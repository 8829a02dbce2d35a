//! The key that every guest's token is made of.
//!
//! A token is HMAC-SHA256 over its purpose and its runner's name, in lower-case hexadecimal: made when
//! it is needed, checked without a look-up, the same after a restart. Nothing is stored for a runner,
//! so nothing is to be forgotten when it goes: the token of a runner that is not there counts for
//! nothing, and its name is never used again. Losing the key costs the reports of the runners that live,
//! no more.

use std::{fmt, io, path::Path};

use hmac::{Hmac, Mac};
use runner_fleet_actors::{name::RunnerName, port::Secret};
use rustls::crypto::ring;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::state::StateFolder;

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
    /// The key of a state folder that nobody else has open; as [`GuestKey::open_in`].
    ///
    /// # Errors
    /// As there, and where the folder cannot be had.
    pub fn open(folder: &Path) -> Result<Self, String> {
        Self::open_in(&StateFolder::open(folder)?)
    }

    /// The key of a state folder, which is made at the first start. Only one daemon at a time may do so:
    /// the folder's lock sees to it. What is no key is moved aside for a new one; where the disk does
    /// not take that, it lives in memory and is a trouble of the folder ([`GuestKey::keep`]).
    ///
    /// # Errors
    /// The file cannot be read or moved; for the person who must act.
    pub fn open_in(folder: &StateFolder) -> Result<Self, String> {
        let told = |error: io::Error| format!("{}: {error}", named(folder));
        if let Some(bytes) = folder.read(FILE).map_err(told)? {
            match <[u8; LENGTH]>::try_from(bytes) {
                Ok(key) => return Ok(Self(key)),
                Err(bytes) => {
                    let why = format!("it has {} bytes instead of {LENGTH}", bytes.len());
                    let costs = "a new key is made: runners that live go on without reports";
                    folder.move_aside(FILE, &[], &why, costs).map_err(told)?;
                }
            }
        }
        let mut key = [0; LENGTH];
        ring::default_provider()
            .secure_random
            .fill(&mut key)
            .map_err(|_| told(io::Error::other("the system gives no random bytes")))?;
        let made = Self(key);
        made.write(folder);
        Ok(made)
    }

    /// Writes the key where the disk has refused it so far.
    pub fn keep(&self, folder: &StateFolder) {
        if folder.troubles().of(&named(folder)).is_some() {
            self.write(folder);
        }
    }

    fn write(&self, folder: &StateFolder) {
        match folder.replace(FILE, &self.0) {
            Ok(()) => folder.troubles().end(&named(folder)),
            Err(error) => folder.troubles().begin(
                &named(folder),
                format!(
                    "it cannot be written: {error}; it is tried again. After a restart without it, \
                     runners that live go on without reports: make room or mend the disk"
                ),
            ),
        }
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

/// What the key's trouble is called.
fn named(folder: &StateFolder) -> String {
    format!("the guests' key {}", folder.file(FILE).display())
}

/// Whether a text could be a token at all.
pub(super) fn looks_like_one(given: &str) -> bool {
    given.len() == DIGITS && given.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

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
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        assert_eq!(format!("{key:?}"), "GuestKey(..)");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(GuestKey::open(folder.path()).unwrap().0, key.0);
        assert_eq!(mode(), 0o600, "found wider, it is narrowed");
    }

    #[test]
    fn a_file_that_is_no_key_is_moved_aside_for_a_new_one() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join(FILE), "short").unwrap();
        let folder = StateFolder::open(place.path()).unwrap();
        let key = GuestKey::open_in(&folder).unwrap();
        assert_eq!(GuestKey::open_in(&folder).unwrap().0, key.0);
        let (_, note) = folder.troubles().notes().pop().unwrap();
        assert!(note.contains("guest-key") && note.contains("5 bytes"), "{note}");
    }

    #[test]
    fn a_key_that_the_disk_refuses_lives_in_memory_until_it_is_taken() {
        let place = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(place.path()).unwrap();
        let in_the_way = place.path().join("guest-key.new");
        fs::create_dir(&in_the_way).unwrap();
        let key = GuestKey::open_in(&folder).unwrap();
        assert_eq!(folder.troubles().reasons().len(), 1);
        fs::remove_dir(&in_the_way).unwrap();
        key.keep(&folder);
        assert_eq!(folder.troubles().reasons(), [""; 0]);
        assert_eq!(GuestKey::open_in(&folder).unwrap().0, key.0);
    }
}
