//! One secret under exactly one of three keys.

use super::{
    super::{
        file::Holds,
        hide::may_be_secret,
        secret::{SecretSource, no_directory},
    },
    Section,
    unknown::NO_INLINE_SECRET,
};

/// The three keys under which one secret may be given.
#[derive(Clone, Copy)]
pub(in super::super) struct SecretKeys {
    pub file: &'static str,
    pub env: &'static str,
    pub credential: &'static str,
}

impl SecretKeys {
    pub const TOKEN: Self =
        Self { file: "token_file", env: "token_env", credential: "token_credential" };
    pub const URL: Self = Self { file: "url_file", env: "url_env", credential: "url_credential" };
    pub const PRIVATE_KEY: Self = Self {
        file: "private_key_file",
        env: "private_key_env",
        credential: "private_key_credential",
    };

    pub fn all(self) -> [&'static str; 3] {
        [self.file, self.env, self.credential]
    }
}

impl Section<'_> {
    /// A secret under exactly one of three keys. `None` where there is none (not a fault by
    /// itself) or a fault was noted.
    pub fn secret(&self, keys: SecretKeys) -> Option<SecretSource> {
        self.secret_that(keys, None)
    }

    /// As [`Section::secret`], for one whose form can be told: whether the place `holds` the right thing.
    pub fn secret_that(&self, keys: SecretKeys, holds: Option<Holds>) -> Option<SecretSource> {
        let given: Vec<&str> = keys.all().into_iter().filter(|key| self.has(key)).collect();
        if let [first, rest @ ..] = given.as_slice()
            && !rest.is_empty()
        {
            let others = rest.join(" and ");
            self.fault(first, format_args!("{others} is given as well; keep one of them"));
            return None;
        }
        if let [key] = given.as_slice()
            && let Some(text) = self.text_of(key)
            && may_be_secret(text)
        {
            // The place is not shown: it is the secret.
            self.fault(key, NO_INLINE_SECRET);
            return None;
        }
        let source = self.source(keys, holds)?;
        if let Some(key) = given.first() {
            let (line, key) = (self.line_of(key), self.full(key));
            self.reader.secrets.borrow_mut().push((line, key, source.clone()));
        }
        Some(source)
    }

    fn source(&self, keys: SecretKeys, holds: Option<Holds>) -> Option<SecretSource> {
        if let Some(path) = self.path(keys.file) {
            self.note_file(keys.file, path.clone(), true, holds);
            return Some(SecretSource::File(path));
        }
        if let Some(name) = self.text(keys.env) {
            let value = self.reader.env.get(name);
            if value.is_none() {
                self.fault(
                    keys.env,
                    format_args!("the environment variable {name:?} is not set, or empty"),
                );
            }
            if let Some((holds, value)) = holds.zip(value)
                && let Err(why) = holds(value)
            {
                self.fault(keys.env, format_args!("environment variable {name:?}: {why}"));
            }
            return Some(SecretSource::Env(name.to_owned()));
        }
        let name = self.text(keys.credential)?;
        if name.contains('/') || name.starts_with('.') {
            self.fault(keys.credential, format_args!("{name:?} is not allowed: a bare file name"));
            return None;
        }
        let source = SecretSource::Credential(name.to_owned());
        match source.path(self.reader.env) {
            Some(path) => self.note_file(keys.credential, path, true, holds),
            None => self.fault(keys.credential, no_directory()),
        }
        Some(source)
    }
}
