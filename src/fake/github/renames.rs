//! Names that repositories and organisations have left, and the numbers that they keep.
//!
//! As at GitHub: who asks for a repository under a name that it has left is sent to its number (GitHub
//! docs, "Renaming a repository"); an organisation's old name is not found, and its repositories' old
//! names lead on (GitHub docs, "Renaming an organization"). A name that was left can be taken by others,
//! and then leads to them.

use std::collections::BTreeMap;

use runner_fleet_actors::name::Scope;
use serde_json::{Value, json};

use super::{
    FakeGithub, HookTarget,
    answers::Reply,
    hooks::{Hooks, payload},
    world::World,
};

/// Where names lead. Names are in lower case.
#[derive(Debug, Default)]
pub(crate) struct Renames {
    /// Numbers that are not those of a name as it is.
    numbers: BTreeMap<String, u64>,
    /// What each name that was left is called now.
    left: BTreeMap<String, Scope>,
    /// What each number is called now, as far as it was told.
    names: BTreeMap<u64, Scope>,
    taken: u64,
    /// Calls that were sent on to a number.
    sent_on: u64,
}

fn key(scope: &Scope) -> String {
    scope.to_string().to_lowercase()
}

impl Renames {
    /// The number of a repository or an owner.
    pub(crate) fn number(&self, name: &str) -> u64 {
        let own = self.numbers.get(&name.to_lowercase()).copied();
        own.unwrap_or_else(|| payload::number_of(name))
    }

    fn leave(&mut self, from: &Scope, to: &Scope) {
        let number = self.number(&from.to_string());
        self.numbers.insert(key(to), number);
        self.names.insert(number, to.clone());
        self.left.retain(|_, now| now != to);
        for now in self.left.values_mut().filter(|now| *now == from) {
            now.clone_from(to);
        }
        self.left.insert(key(from), to.clone());
        self.left.remove(&key(to));
    }

    /// What a scope is called that has left this name; with an organisation its repositories have.
    fn now(&self, scope: &Scope) -> Option<Scope> {
        let own = self.left.get(&key(scope)).cloned();
        let Scope::Repository { owner, repo } = scope else { return own };
        let by_owner = || match self.left.get(&owner.to_lowercase())? {
            Scope::Organisation(now) => {
                Some(Scope::Repository { owner: now.clone(), repo: repo.clone() })
            }
            _ => None,
        };
        own.or_else(by_owner)
    }

    /// The path under the name that a number stands for.
    pub(crate) fn named(&self, path: &str) -> String {
        let mut parts = path.trim_start_matches('/').splitn(3, '/');
        let (kind, number) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let rest = parts.next().map(|rest| format!("/{rest}")).unwrap_or_default();
        let scope = number.parse().ok().and_then(|number: u64| self.names.get(&number));
        match (kind, scope) {
            ("repositories", Some(scope @ Scope::Repository { .. })) => {
                format!("/repos/{scope}{rest}")
            }
            ("organizations", Some(scope @ Scope::Organisation(_))) => {
                format!("/orgs/{scope}{rest}")
            }
            _ => path.to_owned(),
        }
    }

    /// The answer to whoever asks under a name that was left, for a path with its query.
    pub(crate) fn answer(
        &mut self,
        scope: &Scope,
        method: &str,
        path: &str,
        at: &str,
    ) -> Option<Reply> {
        let now = self.now(scope)?;
        if !matches!(now, Scope::Repository { .. }) {
            return Some(Reply::error(404, "Not Found"));
        }
        self.sent_on += 1;
        let number = self.number(&scope.to_string());
        self.numbers.insert(key(&now), number);
        self.names.insert(number, now);
        let rest = path.splitn(5, '/').nth(4).map(|rest| format!("/{rest}")).unwrap_or_default();
        let to = format!("{at}/api/v3/repositories/{number}{rest}");
        let (status, message) = match method {
            "GET" => (301, "Moved Permanently"),
            _ => (307, "Temporary Redirect"),
        };
        let mut reply = Reply::new(status, json!({"message": message, "url": to}));
        reply.headers.push(("location", to));
        Some(reply)
    }

    /// Puts the numbers into a payload that hold for the names in it.
    pub(crate) fn number_all(&self, payload: &mut Value) {
        for (place, name) in [
            ("/repository", "full_name"),
            ("/repository/owner", "login"),
            ("/organization", "login"),
        ] {
            if let Some(object) = payload.pointer_mut(place)
                && let Some(name) = object.get(name).and_then(Value::as_str)
            {
                let number = self.number(name);
                object["id"] = json!(number);
            }
        }
    }

    /// A scope, as the API shows it.
    pub(crate) fn shown(&mut self, scope: &Scope, url: &str) -> Reply {
        let name = scope.to_string();
        let number = self.number(&name);
        self.names.insert(number, scope.clone());
        let mut shown = match scope {
            Scope::Repository { .. } => payload::repository(&name, true, url),
            _ => payload::organisation(&name, url),
        };
        shown["id"] = json!(number);
        Reply::new(200, shown)
    }
}

fn below(org: &Scope, repository: &str) -> bool {
    let owner = repository.split('/').next().unwrap_or_default();
    matches!(org, Scope::Organisation(org) if org.eq_ignore_ascii_case(owner))
}

impl World {
    fn rename(&mut self, from: &Scope, to: &Scope) {
        self.renames.leave(from, to);
        self.move_scopes(from, to);
        self.each_record(|record| {
            if record.scope == *from {
                record.scope = to.clone();
            }
            if record.repository.eq_ignore_ascii_case(&from.to_string()) {
                record.repository = to.to_string();
            } else if below(from, &record.repository)
                && let Some((_, repo)) = record.repository.split_once('/')
            {
                record.repository = format!("{to}/{repo}");
            }
        });
    }

    fn take(&mut self, name: &Scope) {
        self.renames.left.remove(&key(name));
        self.renames.taken += 1;
        // Beyond what is made of names.
        let number = (1 << 40) + self.renames.taken;
        self.renames.numbers.insert(key(name), number);
        self.renames.names.insert(number, name.clone());
    }
}

impl Hooks {
    fn rename(&mut self, from: &Scope, to: &Scope) {
        self.each_target(|target| {
            if *target == HookTarget::Scope(from.clone()) {
                *target = HookTarget::Scope(to.clone());
            }
        });
    }
}

impl FakeGithub {
    /// A repository or an organisation is called otherwise from now on, with all that it has. A repository
    /// may have another owner: so it is transferred.
    pub fn rename(&self, from: &Scope, to: &Scope) {
        self.shared.world().rename(from, to);
        self.shared.hooks().rename(from, to);
    }

    /// Somebody makes a new repository or organisation of that name, which has another number.
    pub fn take_name(&self, name: &Scope) {
        self.shared.world().take(name);
    }

    /// How many calls were sent on because they came under a name that was left.
    #[must_use]
    pub fn sent_on(&self) -> u64 {
        self.shared.world().renames.sent_on
    }

    /// GitHub's number of a repository or an owner of that name.
    #[must_use]
    pub fn number(&self, name: &str) -> u64 {
        self.shared.world().renames.number(name)
    }
}
