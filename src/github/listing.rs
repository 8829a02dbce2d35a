//! Sweeps over a scope's registrations.
//!
//! Every page is asked for with the ETag of its last answer: an unchanged page costs nothing of the
//! rate limit (GitHub docs, "Use conditional requests"), so a quiet fleet can look often. A sweep is
//! complete only if every page was read, nothing that may be ours was unreadable, and the numbers
//! agree: runners that come and go while the pages are read move others from one page to the next,
//! and one of them may have been missed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use http::{Method, StatusCode, header};
use runner_fleet_actors::{
    name::{FleetId, RegistrationId, Scope},
    port::{ErrorClass, Listing, PortError, Registration},
};

use super::{
    budget::CallKind,
    client::{Call, Client},
    reading::{needed, said},
    route,
    wire::{self, RunnerPage},
};

/// The most that GitHub gives at once.
const PER_PAGE: u32 = 100;
/// More pages than GitHub's limit of runners a scope can fill; ends a sweep over a peer that never
/// says that it is done.
const PAGES_MAX: u32 = 1000;

/// Pages as last answered, with their ETags.
#[derive(Debug, Default)]
pub struct Pages(Mutex<HashMap<(Scope, u32), Known>>);

#[derive(Debug, Clone)]
struct Known {
    etag: String,
    page: Arc<RunnerPage>,
}

impl Pages {
    /// One sweep; see the port's contract. `closed` is the group of cordoned runners, where there is one.
    pub async fn list(
        &self,
        client: &Client,
        fleet: &FleetId,
        scope: &Scope,
        closed: Option<u64>,
    ) -> Result<Listing<Registration>, PortError> {
        let mut sweep = Sweep::default();
        let as_of = client.clock.now();
        for number in 1..=PAGES_MAX {
            match self.page(client, fleet, scope, number).await {
                Ok(page) => {
                    if sweep.add(&page) {
                        self.drop_after(scope, number);
                        break;
                    }
                }
                Err(error) if number == 1 => return Err(error),
                Err(error) => {
                    sweep.faults.push(error.what);
                    break;
                }
            }
        }
        sweep.mark(closed);
        let faults = sweep.all_faults(scope);
        Ok(Listing { entries: sweep.entries, complete: faults.is_empty(), as_of, faults })
    }

    async fn page(
        &self,
        client: &Client,
        fleet: &FleetId,
        scope: &Scope,
        number: u32,
    ) -> Result<Arc<RunnerPage>, PortError> {
        let key = (scope.clone(), number);
        let known = self.known().get(&key).cloned();
        let mut call = Call::new(
            format!("list runners of {scope}, page {number}"),
            CallKind::List,
            scope,
            Method::GET,
            route::runners(scope, PER_PAGE, number),
        );
        call.etag = known.as_ref().map(|known| known.etag.clone());
        let answer = client.call(&call).await?;
        match (answer.status, known) {
            (StatusCode::NOT_MODIFIED, Some(known)) => return Ok(known.page),
            (StatusCode::OK, _) => {}
            (StatusCode::NOT_FOUND, _) => {
                // So GitHub says of an organisation that was renamed.
                client.names.doubt(scope);
                let hint = needed(scope, &answer.headers);
                let why = format!("{}; check that {scope} exists; {hint}", said(&answer));
                return Err(call.failed(ErrorClass::Invalid, &why));
            }
            _ => return Err(call.failed(ErrorClass::Invalid, &said(&answer))),
        }
        let Some(page) = wire::runner_page(&answer.body, fleet) else {
            return Err(call.lost("GitHub's answer is no list of runners"));
        };
        let page = Arc::new(page);
        let etag = answer.headers.get(header::ETAG).and_then(|value| value.to_str().ok());
        let mut pages = self.known();
        match etag {
            Some(etag) => {
                let known = Known { etag: etag.to_owned(), page: Arc::clone(&page) };
                pages.insert(key, known);
            }
            None => {
                pages.remove(&key);
            }
        }
        Ok(page)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<(Scope, u32), Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drop_after(&self, scope: &Scope, last: u32) {
        self.known().retain(|(of, number), _| of != scope || *number <= last);
    }
}

#[derive(Default)]
struct Sweep {
    entries: Vec<Registration>,
    seen: BTreeSet<RegistrationId>,
    groups: BTreeMap<RegistrationId, u64>,
    ids: BTreeSet<u64>,
    /// Elements without a readable number; they count, but cannot be told apart.
    anonymous: u64,
    totals: BTreeSet<u64>,
    read: u64,
    ended: bool,
    faults: Vec<String>,
}

impl Sweep {
    /// Takes in a page; returns whether it was the last one.
    fn add(&mut self, page: &RunnerPage) -> bool {
        self.totals.extend(page.total);
        self.read += page.elements as u64;
        self.anonymous += (page.elements - page.ids.len()) as u64;
        self.faults.extend(page.faults.iter().cloned());
        // A runner that moved to a later page while the pages were read is seen twice.
        for ours in &page.ours {
            if self.seen.insert(ours.id) {
                self.entries.push(ours.clone());
            }
        }
        self.groups.extend(&page.groups);
        self.ids.extend(&page.ids);
        let all = page.total.map_or(page.elements < PER_PAGE as usize, |all| self.read >= all);
        self.ended = all || page.elements == 0;
        self.ended
    }

    /// Notes who is in the group of cordoned runners.
    fn mark(&mut self, closed: Option<u64>) {
        for entry in &mut self.entries {
            if closed.is_some() && self.groups.get(&entry.id).copied() == closed {
                entry.cordoned = Some(true);
            }
        }
    }

    fn all_faults(&mut self, scope: &Scope) -> Vec<String> {
        let mut faults = std::mem::take(&mut self.faults);
        let seen = self.ids.len() as u64 + self.anonymous;
        let moved = self.totals.len() > 1 || self.totals.first().is_some_and(|all| *all != seen);
        if self.ended && moved {
            faults.push(format!(
                "{scope} says that it has {:?} runners and showed {seen}: they came or went while \
                 the pages were read",
                self.totals
            ));
        }
        if !self.ended && faults.is_empty() {
            faults.push(format!("{scope} has more pages of runners than can be"));
        }
        faults
    }
}
