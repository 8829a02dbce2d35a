//! What the scopes of the pools are called now.
//!
//! GitHub redirects whoever asks under an old name, which costs two calls each time, and ends when others
//! take that name; an organisation's old name is not found at once (GitHub docs, "Renaming an
//! organization"). So each scope is asked for once at the start, its number is remembered, and from then
//! on it is asked for by that number: when a call was redirected or its runners were not found, or when a
//! webhook calls it otherwise. Each later answer that brings nothing new makes the next question wait
//! longer, and a failure changes nothing. Calls go to the present name.
//!
//! Whoever else bears the name later is never taken for it, as long as the daemon runs: only an operator's
//! reload, and only where the old number is not found any more, lets the configured name decide anew.
//!
//! The alternative, to ask under the number always, needs no name at all, but those addresses are in no
//! description of GitHub's API but for the redirects themselves.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{Method, StatusCode};
use runner_fleet_actors::{
    backoff::{self, Curve},
    job::Identity,
    name::Scope,
    port::{ErrorClass, PortError, Time},
};
use serde::Deserialize;
use tokio::sync::Notify;

use super::{
    budget::CallKind,
    client::{Call, Client},
    reading::{needed, said},
    route,
};

/// Between questions about one scope that bring nothing new.
const AGAIN: Curve = Curve { base: Duration::from_secs(60), cap: Duration::from_secs(3600) };

/// How many scopes without a pool are remembered that are called otherwise than they were.
const LEFT_MAX: usize = 64;

/// What to ask about a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// As the configuration has it.
    pub scope: Scope,
    /// Its number; `None`: by its name.
    pub id: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Row {
    known: Option<Identity>,
    /// It is a pool's. One that was, and has another name now, is remembered: what its pool has left
    /// there is still to be listed, ended and deregistered, under the name that it has.
    configured: bool,
    /// It is to be asked for.
    doubted: bool,
    /// An operator has read the configuration again: what is not found by its number is asked for by name.
    anew: bool,
    /// Questions in a row that brought nothing new.
    vain: u32,
    /// No question before this.
    not_before: Option<Time>,
}

/// The scopes of the pools. **Pure**: questions out, answers in.
#[derive(Debug, Clone, Default)]
pub struct Book(BTreeMap<Scope, Row>);

impl Book {
    /// These scopes have pools. Those that had some before are asked for again.
    pub fn configure(&mut self, scopes: impl Iterator<Item = Scope>) {
        let mut before = std::mem::take(&mut self.0);
        // Nobody but GitHub's own staff can say who an enterprise is.
        let scopes = scopes.filter(|scope| !matches!(scope, Scope::Enterprise(_)));
        self.0 = scopes
            .map(|scope| {
                let row = before.remove(&scope).unwrap_or_default();
                let asked = Row { doubted: true, anew: true, vain: 0, not_before: None, ..row };
                (scope, Row { configured: true, ..asked })
            })
            .collect();
        let has_left = |(scope, row): &(Scope, Row)| {
            row.known.as_ref().is_some_and(|known| known.has_left(scope))
        };
        let left = before.into_iter().filter(has_left).take(LEFT_MAX);
        self.0.extend(left.map(|(scope, row)| (scope, Row { configured: false, ..row })));
    }

    /// Something says that a scope may be called otherwise. Whether that is a scope of a pool.
    pub fn doubt(&mut self, scope: &Scope) -> bool {
        let row = self.0.get_mut(scope);
        row.is_some_and(|row| {
            row.doubted = true;
            true
        })
    }

    /// What is to be asked now, and when to look here again.
    #[must_use]
    pub fn due(&self, now: Time) -> (Vec<Question>, Option<Time>) {
        let doubted = || self.0.iter().filter(|(_, row)| row.doubted);
        let later = |row: &Row| row.not_before.filter(|at| *at > now);
        let due = doubted().filter(|(_, row)| later(row).is_none()).map(|(scope, row)| {
            let id = row.known.as_ref().map(|known| known.id);
            Question { scope: scope.clone(), id }
        });
        (due.collect(), doubted().filter_map(|(_, row)| later(row)).min())
    }

    /// GitHub's answer to a question, `None` where it knows no such thing or does not tell. Whether that
    /// is news.
    pub fn learn(
        &mut self,
        asked: &Question,
        answer: Result<Option<Identity>, ErrorClass>,
        now: Time,
    ) -> bool {
        let Some(row) = self.0.get_mut(&asked.scope) else { return false };
        if asked.id != row.known.as_ref().map(|known| known.id) {
            return false;
        }
        let news = match &answer {
            Ok(Some(told)) => {
                // Whoever answers for a number with another one is not believed.
                let same = asked.id.is_none_or(|id| id == told.id);
                same && row.known.as_ref() != Some(told)
            }
            Ok(None) if asked.id.is_some() && row.anew => {
                // It is gone, and whoever has the name now is who the operator means.
                row.known = None;
                return true;
            }
            Ok(None) | Err(_) => false,
        };
        if let (true, Ok(told)) = (news, &answer) {
            row.known.clone_from(told);
        }
        // A doubt a month is none that comes again and again.
        let rested = row.not_before.is_none_or(|at| now >= at + AGAIN.cap);
        row.vain = match (news, rested) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => row.vain.saturating_add(1),
        };
        row.not_before = (row.vain > 0).then(|| now + backoff::delay(row.vain, 0, AGAIN));
        row.doubted = match answer {
            Ok(_) => false,
            Err(class) => !matches!(class, ErrorClass::Auth | ErrorClass::Invalid),
        };
        row.anew &= row.doubted;
        if let Err(ErrorClass::RateLimited { until }) = answer {
            row.not_before = row.not_before.max(Some(until));
        }
        news
    }

    /// Who the pools' scopes are, as far as GitHub has told.
    #[must_use]
    pub fn known(&self) -> BTreeMap<Scope, Identity> {
        let configured = self.0.iter().filter(|(_, row)| row.configured);
        configured.filter_map(|(scope, row)| Some((scope.clone(), row.known.clone()?))).collect()
    }

    /// What a scope is called now: a pool's own, or a repository of an organisation that has pools.
    /// `None`: as it says, as far as anybody knows.
    #[must_use]
    pub fn present(&self, scope: &Scope) -> Option<Scope> {
        // As it is configured, or as others write it.
        let row = self
            .0
            .get(scope)
            .or_else(|| self.0.iter().find(|(of, _)| of.is_same(scope)).map(|(_, row)| row));
        if let Some(row) = row {
            let known = row.known.as_ref().filter(|known| known.has_left(scope))?;
            return Some(known.now.clone());
        }
        let Scope::Repository { owner, repo } = scope else { return None };
        self.0.iter().find_map(|(of, row)| {
            let known = row.known.as_ref().filter(|known| known.has_left(of))?;
            match (of, &known.now) {
                (Scope::Organisation(org), Scope::Organisation(now))
                    if org.eq_ignore_ascii_case(owner) =>
                {
                    Some(Scope::Repository { owner: now.clone(), repo: repo.clone() })
                }
                _ => None,
            }
        })
    }
}

/// The same, shared by all clients of a daemon and by whoever asks for them.
#[derive(Debug, Default)]
pub struct Names {
    book: Mutex<Book>,
    bell: Notify,
}

impl Names {
    /// Looks into the book.
    pub fn book<R>(&self, look: impl FnOnce(&mut Book) -> R) -> R {
        look(&mut self.lock())
    }

    /// These scopes have pools from now on.
    pub fn configure<'a>(&self, scopes: impl Iterator<Item = &'a Scope>) {
        self.lock().configure(scopes.cloned());
        self.bell.notify_one();
    }

    /// Something says that a scope may be called otherwise.
    pub fn doubt(&self, scope: &Scope) {
        if self.lock().doubt(scope) {
            self.bell.notify_one();
        }
    }

    /// Until something was doubted or configured.
    pub async fn doubted(&self) {
        self.bell.notified().await;
    }

    /// What a scope is called now.
    #[must_use]
    pub fn of(&self, scope: &Scope) -> Scope {
        self.lock().present(scope).unwrap_or_else(|| scope.clone())
    }

    /// Who a scope is, as far as GitHub has told.
    #[must_use]
    pub fn identity(&self, scope: &Scope) -> Option<Identity> {
        self.lock().0.get(scope)?.known.clone()
    }

    /// The path of a call about a scope, under the name that the scope has now.
    #[must_use]
    pub fn path(&self, scope: &Scope, path: &str) -> String {
        let present = self.lock().present(scope);
        let rest = path.strip_prefix(route::root(scope).as_str());
        match (present, rest) {
            (Some(now), Some(rest)) if rest.is_empty() || rest.starts_with('/') => {
                format!("{}{rest}", route::root(&now))
            }
            _ => path.to_owned(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to say of a scope that is called otherwise than the configuration has it.
#[must_use]
pub fn told(scope: &Scope, identity: &Identity) -> Option<String> {
    identity.has_left(scope).then(|| {
        format!(
            "{scope} is called {} now (GitHub's number {}), and is served under that name; correct the \
             scope in the configuration, for others may take the old name",
            identity.now, identity.id
        )
    })
}

/// Asks GitHub who a scope is. `None` where it knows none, or does not tell these credentials.
pub(super) async fn ask(
    client: &Client,
    question: &Question,
) -> Result<Option<Identity>, PortError> {
    let Question { scope, id } = question;
    let Some(path) = route::identity(scope, *id) else { return Ok(None) };
    let what = match id {
        Some(id) => format!("ask what {scope} ({id}) is called now"),
        None => format!("ask for the number of {scope}"),
    };
    let call = Call::new(what, CallKind::List, scope, Method::GET, path);
    let answer = client.call(&call).await?;
    match answer.status {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
        _ => {
            let why = format!("{}; {}", said(&answer), needed(scope, &answer.headers));
            return Err(call.failed(ErrorClass::Invalid, &why));
        }
    }
    #[derive(Deserialize)]
    struct Body {
        id: u64,
        full_name: Option<String>,
        login: Option<String>,
    }
    let unreadable = || call.failed(ErrorClass::Invalid, "GitHub's answer names no id and name");
    let body: Body = serde_json::from_slice(&answer.body).map_err(|_| unreadable())?;
    let name = match scope {
        Scope::Repository { .. } => body.full_name,
        Scope::Organisation(_) | Scope::Enterprise(_) => body.login,
    };
    let now: Scope = name.and_then(|name| name.parse().ok()).ok_or_else(unreadable)?;
    // A repository is none of an organisation's, whatever it is called.
    let same_kind = std::mem::discriminant(&now) == std::mem::discriminant(scope);
    same_kind.then_some(Some(Identity { id: body.id, now })).ok_or_else(unreadable)
}

#[cfg(test)]
mod tests;
