//! Runner groups by name: looked up once, kept until GitHub says that the number is wrong.
//!
//! A look-up before every registration would double the calls of a launch. Names are compared
//! without regard to case, as GitHub does when a group is made.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{Method, StatusCode};
use runner_fleet_actors::{
    name::Scope,
    port::{ErrorClass, PortError},
};

use super::{
    budget::CallKind,
    client::{Call, Client},
    reading::{needed, said},
    route,
    wire::{self, Group},
};

/// The group of a repository's runners, and the number of the default group (GitHub docs use it for
/// both).
const FIRST: u64 = 1;
/// More pages of groups than any organisation has.
const PAGES_MAX: u32 = 100;

/// Groups by scope, as last seen.
#[derive(Debug, Default)]
pub struct Groups(Mutex<HashMap<Scope, Arc<Place>>>);

/// The groups of one scope. Whoever waits for a look-up shares its result, also its failure: else
/// twenty registrations towards a GitHub that does not answer would wait for it one after the other.
#[derive(Debug, Default)]
struct Place {
    known: tokio::sync::Mutex<Known>,
    tries: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    groups: Option<Vec<Group>>,
    failure: Option<PortError>,
}

impl Groups {
    /// The number of a group; `None` asks for the scope's default group.
    ///
    /// # Errors
    /// `Invalid` where there is no such group: the message lists those that exist.
    pub async fn id(
        &self,
        client: &Client,
        scope: &Scope,
        name: Option<&str>,
    ) -> Result<u64, PortError> {
        if let Scope::Repository { .. } = scope {
            return match name {
                None => Ok(FIRST),
                Some(name) if name.eq_ignore_ascii_case("default") => Ok(FIRST),
                Some(name) => Err(PortError::certain(
                    ErrorClass::Invalid,
                    format!(
                        "runner group {name:?} of {scope}: a repository has no runner groups; \
                         leave the group out or register in the organisation"
                    ),
                )),
            };
        }
        let place = self.place(scope);
        let tries = place.tries.load(Ordering::Acquire);
        let mut known = place.known.lock().await;
        if let Some(id) = known.groups.as_ref().and_then(|groups| pick(groups, name)) {
            return Ok(id);
        }
        if place.tries.load(Ordering::Acquire) != tries
            && let Some(failure) = &known.failure
        {
            return Err(failure.clone());
        }
        let looked_up = look_up(client, scope).await;
        place.tries.fetch_add(1, Ordering::AcqRel);
        known.failure = looked_up.as_ref().err().cloned();
        let groups = looked_up?;
        let id = pick(&groups, name);
        let names: Vec<_> = groups.iter().map(|group| format!("{:?}", group.name)).collect();
        known.groups = Some(groups);
        match (id, name) {
            (Some(id), _) => Ok(id),
            (None, None) => Ok(FIRST),
            (None, Some(name)) => Err(PortError::certain(
                ErrorClass::Invalid,
                format!(
                    "runner group {name:?} of {scope}: there is none of that name; there are {}",
                    names.join(", ")
                ),
            )),
        }
    }

    /// The number of a group as it was last seen. It is looked up where nobody has tried to yet, and not again:
    /// what every listing asks must not cost a call each time where there is no such group.
    pub async fn last_seen(&self, client: &Client, scope: &Scope, name: &str) -> Option<u64> {
        let place = self.place(scope);
        let untried = place.tries.load(Ordering::Acquire) == 0;
        if untried {
            return self.id(client, scope, Some(name)).await.ok();
        }
        let known = place.known.lock().await;
        known.groups.as_ref().and_then(|groups| pick(groups, Some(name)))
    }

    /// Whether a group for cordoned runners keeps jobs off: it is there, and not every repository may use it.
    /// Which ones may of those that are selected is for a person to know.
    ///
    /// # Errors
    /// `Invalid` where it does not.
    pub async fn check_closed(
        &self,
        client: &Client,
        scope: &Scope,
        name: &str,
    ) -> Result<(), PortError> {
        let id = self.id(client, scope, Some(name)).await?;
        let place = self.place(scope);
        let known = place.known.lock().await;
        let group = known.groups.iter().flatten().find(|group| group.id == id);
        let visibility = group.and_then(|group| group.visibility.as_deref()).unwrap_or("selected");
        if visibility == "selected" {
            return Ok(());
        }
        Err(PortError::certain(
            ErrorClass::Invalid,
            format!(
                "runner group {name:?} of {scope} is to keep jobs off cordoned runners ([github] cordon_group), \
                 but its repositories are {visibility:?}; let it be used by selected repositories, and select none"
            ),
        ))
    }

    /// Forgets a scope's groups, so that the next registration looks them up again.
    pub fn forget(&self, scope: &Scope) {
        self.places().remove(scope);
    }

    fn place(&self, scope: &Scope) -> Arc<Place> {
        Arc::clone(self.places().entry(scope.clone()).or_default())
    }

    fn places(&self) -> MutexGuard<'_, HashMap<Scope, Arc<Place>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pick(groups: &[Group], name: Option<&str>) -> Option<u64> {
    let wanted = |group: &&Group| match name {
        Some(name) => group.name.to_lowercase() == name.to_lowercase(),
        None => group.default,
    };
    groups.iter().find(wanted).map(|group| group.id)
}

async fn look_up(client: &Client, scope: &Scope) -> Result<Vec<Group>, PortError> {
    let mut all = Vec::new();
    for page in 1..=PAGES_MAX {
        let call = Call::new(
            format!("list the runner groups of {scope}"),
            CallKind::Launch,
            scope,
            Method::GET,
            route::groups(scope, page),
        );
        let answer = client.call(&call).await?;
        if answer.status != StatusCode::OK {
            let hint = needed(scope, &answer.headers);
            let why = format!("{}; check that {scope} exists; {hint}", said(&answer));
            return Err(call.failed(ErrorClass::Invalid, &why));
        }
        let Some((groups, elements)) = wire::group_page(&answer.body) else {
            return Err(call.lost("GitHub's answer is no list of runner groups"));
        };
        all.extend(groups);
        if elements < 100 {
            break;
        }
    }
    Ok(all)
}
