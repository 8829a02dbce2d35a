//! The tokens of the actions service: JWTs from outside, known by their text.

use std::{collections::HashMap, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use runner_fleet_actors::{name::Scope, port::Time};
use serde_json::json;

/// Which tokens there are, and what for.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    registration: HashMap<String, Scope>,
    admin: HashMap<String, (Scope, Time)>,
    queue: HashMap<String, (u64, String, Time)>,
    made: u64,
}

impl Tokens {
    pub(super) fn registration(&mut self, scope: &Scope) -> String {
        self.made += 1;
        let token = format!("AREG{:028}", self.made);
        self.registration.insert(token.clone(), scope.clone());
        token
    }

    pub(super) fn registers(&self, token: &str) -> Option<Scope> {
        self.registration.get(token).cloned()
    }

    fn jwt(&mut self, life: Duration) -> (String, Time) {
        self.made += 1;
        let expires = chrono::Utc::now() + life;
        let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(json!({"alg": "RS256", "typ": "JWT"}));
        let claims = part(json!({"exp": expires.timestamp(), "jti": self.made}));
        (format!("{header}.{claims}.c2lnbmF0dXJl"), expires)
    }

    pub(super) fn admin(&mut self, scope: &Scope, life: Duration) -> String {
        let (token, expires) = self.jwt(life);
        self.admin.insert(token.clone(), (scope.clone(), expires));
        token
    }

    pub(super) fn queue(&mut self, set: u64, session: &str, life: Duration) -> String {
        let (token, expires) = self.jwt(life);
        // A renewal leaves the older token good until its end.
        self.queue.insert(token.clone(), (set, session.to_owned(), expires));
        token
    }

    pub(super) fn admin_of(&self, token: &str) -> Option<Scope> {
        let (scope, expires) = self.admin.get(token)?;
        (*expires > chrono::Utc::now()).then(|| scope.clone())
    }

    pub(super) fn session_of(&self, token: &str) -> Option<(u64, String)> {
        let (set, session, expires) = self.queue.get(token)?;
        (*expires > chrono::Utc::now()).then(|| (*set, session.clone()))
    }

    pub(super) fn end_queues(&mut self) {
        self.queue.clear();
    }

    pub(super) fn end_admins(&mut self) {
        self.admin.clear();
    }
}
