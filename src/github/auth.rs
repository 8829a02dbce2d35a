//! Who the fleet is to GitHub: a token that may be rotated, or an App whose token is renewed.
//!
//! There is one token at a time, each with a generation. Whoever meets a 401 says which generation
//! it used; only the first one renews, all others take up what it got. Octocrab keeps a token per
//! clone and lets twenty calls mint twenty tokens, which is why the tokens are kept here.

use std::{
    fmt, io,
    path::PathBuf,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use runner_fleet_actors::port::{ErrorClass, PortError, Secret, Time};
use serde::Serialize;
use tokio::sync::Mutex;

use super::app_key;

/// An installation token is renewed this long before it expires, so that no call meets its end.
pub const RENEW_EARLY: Duration = Duration::from_secs(300);
/// How long a JWT is good. GitHub takes ten minutes at most.
const JWT_LIFE: Duration = Duration::from_secs(540);
/// How far back a JWT is dated, against clocks that differ (GitHub docs, "Generating a JWT").
const JWT_BACK: Duration = Duration::from_secs(60);

/// Where a token or a key comes from. Read at the start and again after each 401, so a rotated one is
/// taken up without a restart.
#[derive(Clone)]
pub struct TokenSource(Arc<dyn Fn() -> io::Result<Secret> + Send + Sync>);

impl TokenSource {
    /// A token that never changes.
    #[must_use]
    pub fn fixed(token: Secret) -> Self {
        Self::from_fn(move || Ok(token.clone()))
    }

    /// A file that holds the token and nothing else; white space around it is dropped.
    #[must_use]
    pub fn file(path: PathBuf) -> Self {
        Self::from_fn(move || {
            std::fs::read_to_string(&path).map(|text| Secret::new(text.trim())).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })
        })
    }

    /// Anything else. Must not block for long, and must not put the token into an error.
    #[must_use]
    pub fn from_fn(read: impl Fn() -> io::Result<Secret> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// As it is now.
    ///
    /// # Errors
    /// What its place says; the secret is not in it.
    pub fn read(&self) -> io::Result<Secret> {
        (self.0)()
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource(..)")
    }
}

/// How the fleet proves who it is.
#[derive(Debug, Clone)]
pub enum Auth {
    /// A personal access token, classic or fine-grained.
    Token(TokenSource),
    /// An installation of a GitHub App.
    App {
        /// The App's client id or number; GitHub takes either as issuer.
        id: String,
        /// The number of the installation.
        installation_id: u64,
        /// The App's private key in PEM, in any of the forms that [`app_key`] takes.
        private_key: TokenSource,
    },
}

/// A token in use.
#[derive(Debug, Clone)]
pub struct Token {
    /// Its text.
    pub secret: Secret,
    /// Which one it is; told back when it is refused.
    pub generation: u64,
    expires: Option<Time>,
}

/// What GitHub answered to the wish for an installation token.
#[derive(Debug)]
pub struct Minted {
    /// The token.
    pub secret: Secret,
    /// When it expires.
    pub expires: Time,
}

/// Signs for an App.
pub struct AppKey {
    id: String,
    /// The installation to make tokens of.
    pub installation: u64,
    key: EncodingKey,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    iat: i64,
    exp: i64,
}

impl AppKey {
    fn read(id: &str, installation: u64, text: &Secret) -> Result<Self, PortError> {
        let key = app_key::read(text.expose()).map_err(|why| {
            let what = format!("the private key of GitHub App {id} cannot be used: {why}");
            PortError::certain(ErrorClass::Invalid, what)
        })?;
        Ok(Self { id: id.to_owned(), installation, key })
    }

    /// A JWT of the App, as of `now`.
    ///
    /// # Errors
    /// `Invalid` where the key cannot sign.
    pub fn jwt(&self, now: Time) -> Result<Secret, PortError> {
        let claims = Claims {
            iss: &self.id,
            iat: (now - JWT_BACK).timestamp(),
            exp: (now + JWT_LIFE).timestamp(),
        };
        let text = jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &self.key);
        text.map(Secret::new).map_err(|_| {
            PortError::certain(
                ErrorClass::Invalid,
                format!("the private key of GitHub App {} does not sign; replace it", self.id),
            )
        })
    }
}

impl fmt::Display for AppKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "installation {} of GitHub App {}", self.installation, self.id)
    }
}

enum Kind {
    Token(TokenSource),
    App(AppKeys),
}

/// The key of an App, and where the next one will be.
struct AppKeys {
    id: String,
    installation: u64,
    source: TokenSource,
    /// The key, and the text that it was read from.
    now: RwLock<(Arc<AppKey>, Secret)>,
}

impl AppKeys {
    fn text(id: &str, source: &TokenSource) -> Result<Secret, PortError> {
        source.read().map_err(|error| {
            let what = format!("the private key of GitHub App {id} cannot be read: {error}");
            PortError::certain(ErrorClass::Auth, what)
        })
    }

    fn new(id: &str, installation: u64, source: &TokenSource) -> Result<Self, PortError> {
        let text = Self::text(id, source)?;
        let key = Arc::new(AppKey::read(id, installation, &text)?);
        let (id, source) = (id.to_owned(), source.clone());
        Ok(Self { id, installation, source, now: RwLock::new((key, text)) })
    }

    fn now(&self) -> Arc<AppKey> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner).0)
    }

    /// Reads the place again: the key, where it holds another one than `refused`.
    fn after(&self, refused: &Arc<AppKey>) -> Result<Option<Arc<AppKey>>, PortError> {
        let present = self.now();
        if !Arc::ptr_eq(&present, refused) {
            return Ok(Some(present));
        }
        let text = Self::text(&self.id, &self.source)?;
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody else read it as well, and was quicker.
        if !Arc::ptr_eq(&now.0, refused) {
            return Ok(Some(Arc::clone(&now.0)));
        }
        if now.1 == text {
            return Ok(None);
        }
        let key = Arc::new(AppKey::read(&self.id, self.installation, &text)?);
        tracing::info!(app = %self.id, "the private key of the github app was replaced; taken up");
        *now = (Arc::clone(&key), text);
        Ok(Some(key))
    }
}

#[derive(Default)]
struct Held {
    token: Option<Token>,
    generation: u64,
    failure: Option<PortError>,
}

/// The one token, and the way to the next.
pub struct Credentials {
    kind: Kind,
    held: Mutex<Held>,
    /// Tries to get a token, so that whoever waited for one shares its failure too.
    tries: AtomicU64,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

impl Credentials {
    /// Checks the form of the credentials; makes no call.
    ///
    /// # Errors
    /// `Invalid` where an App's key is none, `Auth` where it cannot be read.
    pub fn new(auth: &Auth) -> Result<Self, PortError> {
        let kind = match auth {
            Auth::Token(source) => Kind::Token(source.clone()),
            Auth::App { id, installation_id, private_key } => {
                Kind::App(AppKeys::new(id, *installation_id, private_key)?)
            }
        };
        Ok(Self { kind, held: Mutex::default(), tries: AtomicU64::new(0) })
    }

    /// Whether these are an App's credentials.
    pub fn is_app(&self) -> bool {
        matches!(self.kind, Kind::App(_))
    }

    /// The App's key, where these are an App's credentials.
    pub fn app(&self) -> Option<Arc<AppKey>> {
        match &self.kind {
            Kind::App(keys) => Some(keys.now()),
            Kind::Token(_) => None,
        }
    }

    /// The App's key that takes the place of the one that GitHub has just refused; `None` where there is
    /// no other.
    ///
    /// # Errors
    /// Its place cannot be read, or holds no key.
    pub fn app_after(&self, refused: &Arc<AppKey>) -> Result<Option<Arc<AppKey>>, PortError> {
        match &self.kind {
            Kind::App(keys) => keys.after(refused),
            Kind::Token(_) => Ok(None),
        }
    }

    /// The token to use now. `refused` is the generation that GitHub answered with 401, if any.
    ///
    /// # Errors
    /// `Auth` where there is no other token than the refused one; what `mint` failed with.
    pub async fn token<F, M>(
        &self,
        refused: Option<u64>,
        now: Time,
        mint: M,
    ) -> Result<Token, PortError>
    where
        M: FnOnce(Arc<AppKey>) -> F,
        F: Future<Output = Result<Minted, PortError>>,
    {
        let tries = self.tries.load(Ordering::Acquire);
        let mut held = self.held.lock().await;
        if let Some(token) = &held.token
            && refused != Some(token.generation)
            && token.expires.is_none_or(|end| end - RENEW_EARLY > now)
        {
            return Ok(token.clone());
        }
        if self.tries.load(Ordering::Acquire) != tries
            && let Some(failure) = &held.failure
        {
            return Err(failure.clone());
        }
        let old = held.token.as_ref().filter(|token| refused == Some(token.generation));
        let got = match &self.kind {
            Kind::Token(source) => read(source, old).map(|secret| (secret, None)),
            Kind::App(keys) => mint(keys.now()).await.map(|new| (new.secret, Some(new.expires))),
        };
        self.tries.fetch_add(1, Ordering::AcqRel);
        match got {
            Ok((secret, expires)) => {
                held.generation += 1;
                held.failure = None;
                let token = Token { secret, generation: held.generation, expires };
                held.token = Some(token.clone());
                Ok(token)
            }
            Err(error) => {
                held.failure = Some(error.clone());
                Err(error)
            }
        }
    }
}

fn read(source: &TokenSource, refused: Option<&Token>) -> Result<Secret, PortError> {
    let auth = |what: String| PortError::certain(ErrorClass::Auth, what);
    let secret = source
        .read()
        .map_err(|error| auth(format!("the GitHub token cannot be read: {error}; provide it")))?;
    if secret.expose().is_empty() {
        return Err(auth("the GitHub token is empty; provide one".to_owned()));
    }
    if refused.is_some_and(|old| old.secret == secret) {
        return Err(auth(
            "GitHub refuses the token (401): it is wrong, expired or revoked; provide a new one"
                .to_owned(),
        ));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;

    #[test]
    fn of_two_that_read_a_replaced_key_at_once_both_get_it() {
        const OLD: &str = include_str!("../../tests/data/app-keys/pkcs1.pem");
        const NEW: &str = include_str!("../../tests/data/app-keys/other.pem");
        let other: Arc<OnceLock<(Arc<Credentials>, Arc<AppKey>)>> = Arc::default();
        let (quicker, reads) = (Arc::clone(&other), AtomicU64::new(0));
        let private_key = TokenSource::from_fn(move || {
            let read = reads.fetch_add(1, Ordering::AcqRel);
            // While the first one reads the new key, another one takes it up.
            if read == 1
                && let Some((credentials, refused)) = quicker.get()
            {
                assert!(credentials.app_after(refused).unwrap().is_some());
            }
            Ok(Secret::new(if read == 0 { OLD } else { NEW }))
        });
        let app = Auth::App { id: "1".to_owned(), installation_id: 1, private_key };
        let credentials = Arc::new(Credentials::new(&app).unwrap());
        let refused = credentials.app().unwrap();
        assert!(other.set((Arc::clone(&credentials), Arc::clone(&refused))).is_ok());
        let got = credentials.app_after(&refused).unwrap();
        let present = credentials.app().unwrap();
        assert!(got.is_some_and(|key| Arc::ptr_eq(&key, &present)), "the one that stands");
        assert!(!Arc::ptr_eq(&present, &refused));
    }
}
