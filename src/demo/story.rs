//! What happens in a demo, and when. Pure: it follows from the seed alone.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::Plan;
use crate::cli::DemoDemand;

/// How long after a burst all of it was heard of, and hardly a VM has booted.
const HEARD: Duration = Duration::from_millis(100);
/// The part of the story in which webhooks are not to be relied on.
const UNRELIABLE: (f64, f64) = (0.05, 0.75);

/// Something that happens to the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    /// Jobs are queued; each runs as long as its entry says.
    Jobs(Vec<Duration>),
    /// Something goes wrong, or right again.
    Fault(Fault),
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The cloud's API is away, or back.
    CloudAway(bool),
    /// GitHub's API is away, or back.
    GithubAway(bool),
    /// The answers of the next creates are lost, though the VMs are made.
    LostAnswers(u32),
    /// The next VMs end in an error state.
    FailedBoots(u32),
    /// One VM vanishes from the cloud, with whatever it does.
    VanishedVm,
    /// GitHub asks for silence for this long.
    RateLimit(Duration),
    /// All tokens of the cloud are revoked.
    RevokedTokens,
    /// A listing of GitHub's misses one entry, or no more.
    MissingEntries(bool),
    /// Webhooks are lost, late, doubled or not heard to be answered, or no more.
    UnreliablePost(bool),
    /// The line over which the fleet hears of jobs breaks.
    LostLine,
}

impl Fault {
    /// In words, for progress lines.
    pub(super) fn words(self) -> String {
        match self {
            Self::CloudAway(true) => "the cloud's API goes away".to_owned(),
            Self::CloudAway(false) => "the cloud's API is back".to_owned(),
            Self::GithubAway(true) => "GitHub goes away".to_owned(),
            Self::GithubAway(false) => "GitHub is back".to_owned(),
            Self::LostAnswers(n) => format!("the answers of the next {n} creates get lost"),
            Self::FailedBoots(n) => format!("the next {n} VMs end in ERROR: no valid host"),
            Self::VanishedVm => "a VM vanishes from the cloud".to_owned(),
            Self::RateLimit(for_) => format!("GitHub asks for silence for {} ms", for_.as_millis()),
            Self::RevokedTokens => "the cloud revokes every token".to_owned(),
            Self::MissingEntries(true) => "GitHub's listings miss an entry".to_owned(),
            Self::MissingEntries(false) => "GitHub's listings are whole again".to_owned(),
            Self::UnreliablePost(true) => {
                "webhooks get lost, come late, or come twice from now on".to_owned()
            }
            Self::UnreliablePost(false) => "webhooks come as they should again".to_owned(),
            Self::LostLine => "the line over which jobs are told breaks".to_owned(),
        }
    }
}

/// Which faults a story has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weather {
    /// None.
    Fine,
    /// All, those of the cloud included.
    Stormy,
    /// Those that can be had without a fake cloud: GitHub's, and a VM that somebody deletes.
    CloudStands,
}

/// The acts of a demo, by time: jobs in bursts, and faults in between. The last quarter is free of new faults, so that the end shows a fleet at rest.
pub(super) fn write(plan: &Plan) -> Vec<(Duration, Act)> {
    let Plan { seed, speed, length, jobs, max: _, weather, demand } = *plan;
    let mut chance = SmallRng::seed_from_u64(seed);
    let mut acts = Vec::new();
    let at =
        |chance: &mut SmallRng, from: f64, to: f64| length.mul_f64(chance.random_range(from..to));
    let mut left = jobs;
    while left > 0 {
        let burst = left.min(chance.random_range(1..=25));
        left -= burst;
        // Real jobs of one to eight minutes, in the demo's time.
        let runs = (0..burst)
            .map(|_| Duration::from_secs_f64(chance.random_range(60.0..480.0) / speed))
            .collect();
        acts.push((at(&mut chance, 0.0, 0.8), Act::Jobs(runs)));
    }
    let outage = length.mul_f64(0.05);
    let (lasting, sudden) = match weather {
        Weather::Fine => (Vec::new(), Vec::new()),
        Weather::Stormy => (
            vec![Fault::CloudAway, Fault::GithubAway, Fault::MissingEntries],
            vec![
                Fault::LostAnswers(3),
                Fault::FailedBoots(2),
                Fault::VanishedVm,
                Fault::RateLimit(outage),
                Fault::RevokedTokens,
            ],
        ),
        Weather::CloudStands => (
            vec![Fault::GithubAway as fn(bool) -> Fault, Fault::MissingEntries],
            vec![Fault::VanishedVm, Fault::RateLimit(outage)],
        ),
    };
    for fault in lasting {
        let start = at(&mut chance, 0.15, 0.65);
        acts.push((start, Act::Fault(fault(true))));
        acts.push((start + outage, Act::Fault(fault(false))));
    }
    for fault in sudden {
        acts.push((at(&mut chance, 0.1, 0.7), Act::Fault(fault)));
    }
    if weather != Weather::Fine {
        match demand {
            DemoDemand::Static => {}
            DemoDemand::Webhook => {
                let (from, to) = UNRELIABLE;
                let fault = |on| Act::Fault(Fault::UnreliablePost(on));
                acts.push((length.mul_f64(from), fault(true)));
                acts.push((length.mul_f64(to), fault(false)));
            }
            DemoDemand::ScaleSet | DemoDemand::Queue => {
                // When there is something to lose: jobs are told of, and no runner has them yet.
                let told = acts.iter().filter(|(_, act)| matches!(act, Act::Jobs(_)));
                let told: Vec<_> = told.map(|(at, _)| *at).collect();
                let burst = told.get(chance.random_range(0..told.len().max(1))).copied();
                let lost = burst.unwrap_or_default() + HEARD;
                acts.push((lost, Act::Fault(Fault::LostLine)));
            }
        }
    }
    acts.sort_by_key(|(at, _)| *at);
    acts
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan {
        seed: 7,
        speed: 30.0,
        length: Duration::from_secs(60),
        jobs: 500,
        max: 50,
        weather: Weather::Stormy,
        demand: DemoDemand::Static,
    };

    fn faults(plan: &Plan) -> Vec<Fault> {
        let fault = |(_, act)| match act {
            Act::Fault(fault) => Some(fault),
            Act::Jobs(_) => None,
        };
        write(plan).into_iter().filter_map(fault).collect()
    }

    #[test]
    fn the_same_seed_tells_the_same_story_and_every_fault_ends() {
        let told = |seed| write(&Plan { seed, ..PLAN });
        let story = told(7);
        assert_eq!(story, told(7));
        assert_ne!(story, told(8));
        let jobs: usize = story
            .iter()
            .map(|(_, act)| match act {
                Act::Jobs(runs) => runs.len(),
                Act::Fault(_) => 0,
            })
            .sum();
        assert_eq!(jobs, 500);
        for fault in [Fault::CloudAway, Fault::GithubAway, Fault::MissingEntries] {
            let place = |on| story.iter().position(|(_, act)| *act == Act::Fault(fault(on)));
            assert!(place(true).unwrap() < place(false).unwrap());
        }
    }

    #[test]
    fn a_cloud_that_others_use_is_left_standing() {
        let told = faults(&Plan { weather: Weather::CloudStands, ..PLAN });
        let of_the_cloud = [Fault::CloudAway(true), Fault::RevokedTokens, Fault::LostAnswers(3)];
        assert!(told.iter().all(|act| !of_the_cloud.contains(act)));
        assert!(told.contains(&Fault::VanishedVm));
        assert_eq!(faults(&Plan { weather: Weather::Fine, ..PLAN }), []);
    }

    #[test]
    fn each_source_of_demand_has_a_trouble_of_its_own_and_the_rest_of_the_story_stays() {
        let common = faults(&PLAN);
        for (demand, own) in [
            (DemoDemand::Webhook, vec![Fault::UnreliablePost(true), Fault::UnreliablePost(false)]),
            (DemoDemand::ScaleSet, vec![Fault::LostLine]),
            (DemoDemand::Queue, vec![Fault::LostLine]),
        ] {
            let (told, rest): (Vec<_>, Vec<_>) =
                faults(&Plan { demand, ..PLAN }).into_iter().partition(|f| own.contains(f));
            assert_eq!((told, rest), (own, common.clone()), "{demand:?}");
            assert_eq!(faults(&Plan { demand, weather: Weather::Fine, ..PLAN }), []);
        }
    }
}
