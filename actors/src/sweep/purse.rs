//! What the forge's listings may cost: so many calls a runner, not so many an hour.
//!
//! A busy pool changes all the time, so the pause of "something is on its way" would hold for ever:
//! a pool of 50 with jobs of half an hour would spend most of its calls on looking, and a thousand
//! runners, ten pages a look, the whole hourly limit. Here every runner that a listing shows for the
//! first time pays for most of one page; when nothing is left, the listings go on at the quiet pace.
//! Little is lost: what frees a place is seen at the cloud, and its listings are not counted.
//!
//! The alternative, a fixed longer pause, is too slow for a fleet that grows and too quick for one
//! that only turns over.

use std::collections::BTreeSet;

use super::Expectation;
use crate::{name::RunnerName, port::Listing, port::Registration};

/// Pages that a runner pays for in its life. With the call that registers it, and the looks at the
/// quiet pace, this keeps a steady pool of 50 below two calls a job.
const A_RUNNER: f64 = 0.8;
/// Sweeps that can be saved up: four minutes of close looks, the time of a slow boot.
const SAVED: f64 = 30.0;
/// Runners on a page (GitHub docs, "REST API endpoints for self-hosted runners", `per_page`).
const A_PAGE: usize = 100;

/// Whether a side can afford to be looked at as often as its pools would like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// It can.
    Enough,
    /// Only at the quiet pace.
    Spent,
}

/// The means of one scope.
#[derive(Debug, Clone)]
pub struct Purse {
    pages: f64,
    known: BTreeSet<RunnerName>,
}

impl Default for Purse {
    fn default() -> Self {
        Self { pages: SAVED, known: BTreeSet::new() }
    }
}

impl Purse {
    /// Takes in the pay of the runners that `listing` shows for the first time, and pays for the
    /// listing and says what is left. A scope that expects nothing saves up for when it does.
    pub fn pay(&mut self, listing: &Listing<Registration>, expectation: Expectation) -> Means {
        let sweep = listing.entries.len().div_ceil(A_PAGE).max(1) as f64;
        let names: BTreeSet<_> = listing.entries.iter().map(|entry| entry.name.clone()).collect();
        let new = names.difference(&self.known).count() as f64;
        if listing.complete {
            self.known = names;
        } else {
            // What a partial listing left out is no news when it is back.
            self.known.extend(names);
        }
        let change = match expectation {
            Expectation::Quiet => sweep,
            Expectation::Working | Expectation::Changing => -sweep,
        };
        self.pages = (self.pages + new * A_RUNNER + change).clamp(0.0, SAVED * sweep);
        if self.pages >= sweep { Means::Enough } else { Means::Spent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::RegistrationId;

    fn listing(runners: std::ops::Range<u64>) -> Listing<Registration> {
        let name = |n| RunnerName::new(&"ci".parse().unwrap(), &"small".parse().unwrap(), n);
        let entry = |n| Registration {
            name: name(n),
            id: RegistrationId(n),
            online: true,
            busy: Some(true),
            cordoned: None,
        };
        let as_of = "2026-01-01T00:00:00Z".parse().unwrap();
        Listing { entries: runners.map(entry).collect(), complete: true, as_of, faults: vec![] }
    }

    /// Sweeps that a scope affords in a row while the same runners are there.
    fn affords(purse: &mut Purse, runners: std::ops::Range<u64>) -> usize {
        let mut look = |_: &usize| purse.pay(&listing(runners.clone()), Expectation::Changing);
        (0..1000).take_while(|n| look(n) == Means::Enough).count()
    }

    #[test]
    fn a_scope_in_which_nothing_comes_of_the_looks_is_looked_at_slowly_after_some_minutes() {
        let sweeps = affords(&mut Purse::default(), 0..50);
        assert!((25..=30).contains(&sweeps), "{sweeps}");
    }

    #[test]
    fn new_runners_pay_for_closer_looks_and_for_less_than_one_each() {
        let mut purse = Purse::default();
        affords(&mut purse, 0..50);
        let sweeps = affords(&mut purse, 10..60);
        assert!((1..10).contains(&sweeps), "{sweeps}");
    }

    #[test]
    fn a_thousand_runners_cost_ten_times_as_much_to_look_at() {
        let mut purse = Purse::default();
        affords(&mut purse, 0..1000);
        let sweeps = affords(&mut purse, 50..1050);
        assert!((1..=4).contains(&sweeps), "{sweeps}");
    }

    #[test]
    fn a_quiet_scope_saves_up_for_the_next_burst() {
        let mut purse = Purse::default();
        affords(&mut purse, 0..50);
        for _ in 0..20 {
            purse.pay(&listing(0..50), Expectation::Quiet);
        }
        assert!(affords(&mut purse, 0..50) >= 15);
    }

    #[test]
    fn entries_that_a_partial_listing_left_out_pay_nothing_when_they_are_back() {
        let mut purse = Purse::default();
        affords(&mut purse, 0..50);
        let partial = Listing { complete: false, ..listing(0..10) };
        purse.pay(&partial, Expectation::Changing);
        assert_eq!(purse.pay(&listing(0..50), Expectation::Changing), Means::Spent);
    }
}
