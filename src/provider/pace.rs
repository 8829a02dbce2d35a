//! How many calls a cloud takes at a time: found out, not assumed. Pure.
//!
//! Every cloud is another one: a DevStack has eight API workers, a public cloud hundreds, and nobody
//! tells. So it begins at [`FIRST`] and goes on as TCP does (RFC 5681), by what calls come to:
//!
//! - *Up* while calls succeed, the places are in use, and calls take about as long as the quickest of
//!   their kind of late: beyond that they only wait for one another inside of the cloud, where nobody
//!   can put a delete in front of a launch. Quickly at first, by one a round near to what was too
//!   much.
//! - *Down by half* where the cloud says that it is too much (429, 413, 503), and where calls fail or
//!   time out beside others that succeed. What began before the cut is of the crowd that was cut.
//!   Where nothing but failures comes it is no matter of pace; the [breaker](super::breaker) has it.
//! - What was too much is not tried again for [`AVOIDED`].
//!
//! A quarter of the places is never a launch's. There is no rate: a cloud that answers in 50 ms takes
//! more calls a second than one that needs a second for each, by itself. The alternative, a gradient
//! of latencies alone, takes a cloud's slow hour for its own doing.

use std::time::Duration;

use runner_fleet_actors::port::Time;

/// Calls at a time of which nothing is known yet.
pub const FIRST: u32 = 32;
/// Most calls at a time.
pub const MOST: u32 = 256;
/// For how long what was too much is not tried again.
pub const AVOIDED: Duration = Duration::from_secs(60);

/// Never fewer at a time, so that deletes and launches have a place each.
const FEWEST: u32 = 4;
/// For how long the quickest call is the measure of others.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Places more for a success where nothing was too much. One, as TCP has it, doubles them each round, and
/// half of the last round is then too much.
const QUICKLY: f64 = 0.5;
/// What calls differ by for no reason.
const NOISE: Duration = Duration::from_millis(50);
/// When to look again for a place.
const SOON: Duration = Duration::from_secs(1);

/// What is called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A launch, which leaves places to the others.
    Launch,
    /// A deletion.
    Delete,
    /// A listing.
    List,
    /// What has changed: quicker than a listing, and so no measure of one.
    Recent,
}

/// What a call came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The cloud did it.
    Done,
    /// The cloud says no, for a reason that has nothing to do with how much it is asked.
    Refused,
    /// It failed, as what is too much for a cloud may.
    Failed,
    /// The cloud says that it is too much.
    TooMuch,
}

/// The present pace at one cloud.
#[derive(Debug, Clone, PartialEq)]
pub struct Pace {
    most: u32,
    /// Places now; a fraction is on its way.
    places: f64,
    /// Places that were too many, and when.
    too_much: Option<(f64, Time)>,
    cut: Option<Time>,
    /// Whether a call that began after the cut has succeeded.
    works: bool,
    launches: u32,
    others: u32,
    /// The quickest call of each kind, and when that was.
    least: [Option<(Duration, Time)>; 4],
}

impl Pace {
    /// Never more than `most` at a time.
    #[must_use]
    pub fn new(most: u32) -> Self {
        let most = most.max(1);
        Self {
            most,
            places: f64::from(FIRST.min(most)),
            too_much: None,
            cut: None,
            works: true,
            launches: 0,
            others: 0,
            least: [None; 4],
        }
    }

    /// Calls that may be under way at a time now.
    #[must_use]
    pub fn places(&self) -> u32 {
        // Between 1 and `most`.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let places = self.places as u32;
        places
    }

    /// Places that no launch takes.
    const fn kept(places: u32) -> u32 {
        match places {
            0 | 1 => 0,
            2..=7 => 1,
            _ => places / 4,
        }
    }

    /// Places that a call of that kind would find now.
    fn free(&self, kind: Kind) -> u32 {
        let places = self.places();
        let all = places.saturating_sub(self.launches + self.others);
        match kind {
            Kind::Launch => all.min((places - Self::kept(places)).saturating_sub(self.launches)),
            Kind::Delete | Kind::List | Kind::Recent => all,
        }
    }

    /// Takes a place, if there is one.
    pub fn enter(&mut self, kind: Kind) -> bool {
        if self.free(kind) == 0 {
            return false;
        }
        match kind {
            Kind::Launch => self.launches += 1,
            Kind::Delete | Kind::List | Kind::Recent => self.others += 1,
        }
        true
    }

    /// Gives it back.
    pub const fn leave(&mut self, kind: Kind) {
        match kind {
            Kind::Launch => self.launches = self.launches.saturating_sub(1),
            Kind::Delete | Kind::List | Kind::Recent => self.others = self.others.saturating_sub(1),
        }
    }

    /// Launches that find a place now, and when to look again where there is none.
    #[must_use]
    pub fn permits(&self, now: Time) -> (u32, Option<Time>) {
        match self.free(Kind::Launch) {
            0 => (0, Some(now + SOON)),
            free => (free, None),
        }
    }

    /// Learns from a call that has not left its place yet. It began then.
    pub fn learn(&mut self, kind: Kind, began: Time, now: Time, outcome: Outcome) {
        let of_the_cut = self.cut.is_some_and(|cut| began <= cut);
        match outcome {
            Outcome::Refused => {}
            Outcome::Done => {
                self.works |= !of_the_cut;
                let took = (now - began).to_std().unwrap_or_default();
                let in_use = 2 * (self.launches + self.others) > self.places();
                if self.is_quick(kind, took, now) && in_use {
                    self.grow(now);
                }
            }
            Outcome::Failed if of_the_cut || !self.works => {}
            Outcome::TooMuch if of_the_cut => {}
            Outcome::Failed | Outcome::TooMuch => {
                self.too_much = Some((self.places, now));
                let fewest = FEWEST.min(self.most);
                self.places = (self.places / 2.0).max(f64::from(fewest));
                self.cut = Some(now);
                self.works = false;
            }
        }
    }

    /// Whether a call took about as long as calls of its kind need.
    fn is_quick(&mut self, kind: Kind, took: Duration, now: Time) -> bool {
        let least = &mut self.least[kind as usize];
        match least {
            Some((least, at)) if *least <= took && now < *at + REMEMBERED => {
                took <= *least + *least / 2 + NOISE
            }
            _ => {
                *least = Some((took, now));
                true
            }
        }
    }

    fn grow(&mut self, now: Time) {
        let slowly = 1.0 / self.places;
        let avoided = self.too_much.filter(|(_, at)| now < *at + AVOIDED);
        let step = match avoided {
            // Up to an eighth below it quickly, and never there.
            Some((places, _)) if self.places < places * 0.875 => QUICKLY,
            Some((places, _)) if self.places + slowly < places => slowly,
            Some(_) => 0.0,
            None if self.cut.is_none() => QUICKLY,
            None => slowly,
        };
        self.places = (self.places + step).min(f64::from(self.most));
    }
}

#[cfg(test)]
mod tests;
