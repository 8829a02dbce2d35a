//! The API's bearer token as its place holds it now: a token that was replaced is refused from the reload
//! on, or from the first call that brings the new one.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::{Env, SecretError, SecretSource};

/// How often a wrong token makes its place be read again: whoever guesses must not keep a disk busy.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// A token of the API, kept as its digest so that a comparison takes the same time whatever comes.
pub struct ApiToken(Mutex<State>);

struct State {
    source: SecretSource,
    digest: [u8; 32],
    looked: Instant,
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiToken(..)")
    }
}

fn read(source: &SecretSource) -> Result<[u8; 32], SecretError> {
    Ok(Sha256::digest(source.read(&Env::of_process())?.expose()).into())
}

impl ApiToken {
    /// Reads the token.
    ///
    /// # Errors
    /// Its place cannot be read, or holds nothing.
    pub fn open(source: SecretSource) -> Result<Self, SecretError> {
        let digest = read(&source)?;
        Ok(Self(Mutex::new(State { source, digest, looked: Instant::now() })))
    }

    /// A poisoned lock holds a digest; it is as good as before the panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the token at `source`; what comes back puts it in the old one's place, and says whether it
    /// is another one.
    ///
    /// # Errors
    /// As [`ApiToken::open`].
    pub fn renew(
        &self,
        source: &SecretSource,
    ) -> Result<impl FnOnce() -> bool + Send, SecretError> {
        let new = State { source: source.clone(), digest: read(source)?, looked: Instant::now() };
        Ok(move || {
            let mut state = self.state();
            let other = state.digest != new.digest;
            *state = new;
            other
        })
    }

    /// Whether a token of that digest may pass. One that may not is looked for in its place now and
    /// then, for it may be the new one.
    pub(super) fn admits(&self, given: &[u8; 32], now: Instant) -> bool {
        let mut state = self.state();
        if bool::from(given.ct_eq(&state.digest)) {
            return true;
        }
        if now.saturating_duration_since(state.looked) < LOOK_AGAIN {
            return false;
        }
        state.looked = now;
        let source = state.source.clone();
        // A disk that hangs holds up nobody who brings the right token.
        drop(state);
        let Ok(digest) = read(&source) else { return false };
        let mut state = self.state();
        // Unless a reload has read it meanwhile, perhaps in another place.
        if state.looked == now {
            if digest != state.digest {
                tracing::info!("the api's token was replaced; taken up");
            }
            state.digest = digest;
        }
        bool::from(given.ct_eq(&state.digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(token: &str) -> [u8; 32] {
        Sha256::digest(token).into()
    }

    #[test]
    fn the_old_token_is_refused_from_the_reload_on_or_from_the_first_use_of_the_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let source = SecretSource::File(path.clone());
        let mut now = Instant::now();
        std::fs::write(&path, "one\n").unwrap();
        let token = ApiToken::open(source.clone()).unwrap();
        let admits = |text: &str, now| token.admits(&digest(text), now);
        assert!(admits("one", now) && !admits("two", now));

        std::fs::write(&path, "two\n").unwrap();
        assert!(admits("one", now), "nobody has looked yet");
        let renewed = || token.renew(&source).map(|put_in_place| put_in_place());
        assert_eq!(renewed(), Ok(true));
        assert!(admits("two", now) && !admits("one", now));
        assert_eq!(renewed(), Ok(false));

        std::fs::write(&path, "three\n").unwrap();
        assert!(!admits("three", now), "it was looked at a moment ago");
        now += LOOK_AGAIN * 2;
        assert!(admits("three", now) && !admits("two", now));

        std::fs::remove_file(&path).unwrap();
        assert!(renewed().is_err());
        now += LOOK_AGAIN * 2;
        assert!(!admits("four", now) && admits("three", now));
    }
}
