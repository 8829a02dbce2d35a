//! The outside of a demo's fleet: a GitHub that is always a fake, and a cloud of one kind or another.

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use runner_fleet_actors::name::Scope;

use super::{
    SCOPE,
    source::Source,
    story::{Act, Fault},
};
use crate::{config::Pool, daemon::Pace, fake::github::FakeGithub};

/// The cloud of a demo.
#[async_trait]
pub(super) trait Cloud: Send + Sync {
    /// What it is, for a person.
    fn what(&self) -> String;

    /// Looks whether it can make the VMs of these pools, without making any.
    ///
    /// # Errors
    /// What is missing, for the person who must provide it.
    async fn check(&self, pools: &[Pool]) -> Result<(), String>;

    /// Makes one of its own faults happen.
    fn perform(&self, fault: Fault);

    /// VMs of the demo that there are, as of a moment ago.
    fn present(&self) -> u64;

    /// What it has counted, at the end of the story.
    async fn tally(&self) -> Tally;

    /// Removes whatever of the demo is there, once the daemon has ended.
    ///
    /// # Errors
    /// What may be left, for the person who must remove it.
    async fn clear(&self) -> Result<(), String>;

    /// What to do about a demo that was not cleared away to its end.
    fn left_alone(&self) -> String;
}

/// What a cloud has counted.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    /// VMs that are there still.
    pub left: u64,
    /// VMs that there were at most.
    pub peak: u64,
    /// VMs that the story took away.
    pub vanished: BTreeSet<String>,
    /// Runners whose VM or registration was taken away in mid-job, where the guests themselves tell.
    pub taken: Vec<String>,
}

/// How a fleet lives on a cloud.
pub(super) struct Terms {
    /// The fleet's id.
    pub fleet: String,
    /// What the configuration says of the cloud, besides its pool: `[providers.cloud]` and the like.
    pub sections: String,
    /// What `[[pools]]` says of its VMs.
    pub vms: String,
    /// `limits` of the pool.
    pub limits: String,
    /// What comes behind the pool's own keys: its tables.
    pub tables: String,
    /// Idle runners, beside the busy ones.
    pub spare: u32,
    /// How often things are looked at.
    pub pace: Pace,
    /// How long the first runner may take. `None`: the story does not wait for it.
    pub first_runner: Option<Duration>,
    /// How long the fleet may take to serve the last jobs, and as long again to empty itself.
    pub patience: Duration,
}

/// GitHub and the cloud.
pub(super) struct Outside {
    pub github: FakeGithub,
    /// Who tells the fleet of jobs.
    pub source: Source,
    pub cloud: Box<dyn Cloud>,
    /// What has happened, for a person.
    pub news: Vec<String>,
}

impl Outside {
    pub(super) fn perform(&mut self, act: Act, at: Duration) {
        match act {
            Act::Jobs(runs) => {
                // The name was parsed by the configuration a moment ago.
                let Ok(scope) = SCOPE.parse::<Scope>() else { return };
                self.source.queue(&self.github, &scope, &runs);
            }
            Act::Fault(fault) => {
                self.news.push(format!("{:>5.1}s  {}", at.as_secs_f64(), fault.words()));
                let github = self.github.faults();
                match fault {
                    Fault::GithubAway(on) => github.outage(on),
                    Fault::RateLimit(lasts) => github.secondary_limit(lasts, true),
                    Fault::MissingEntries(on) => github.listings_miss_one(on),
                    Fault::UnreliablePost(on) => self.source.be_unreliable(&self.github, on),
                    Fault::LostLine => self.source.hang_up(&self.github),
                    of_the_cloud => self.cloud.perform(of_the_cloud),
                }
            }
        }
    }
}
