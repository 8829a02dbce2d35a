//! What becomes of a message: pure.
//!
//! A message is the only trace of its job until somebody else knows of it, so it stays in the queue
//! until its job runs or is gone, and silence of GitHub is neither. "No such job" is weak evidence:
//! GitHub answers it to a token that may not read the repository, too, and for a moment about things
//! that it has just made. So it must be said twice, some time apart; and a job that was never seen
//! goes to the dead letters, from where a person can bring it back, while one that was seen is done.
//!
//! The seed of this design asked five times a minute and then gave the message back, which made a VM
//! more for each job that another runner had taken.

use std::time::Duration;

use runner_fleet_actors::{
    backoff::{self, Curve},
    job::{JobNews, JobWord, Repositories, Serves, matching},
    name::{PoolName, Scope},
    port::Time,
};

use super::message::{Message, Refusal};

/// How often GitHub is asked about a job that waits: its end is told sooner by others where there are
/// any ([`super::held::Held::hurry`]), and a wait is charged to nobody but the rate limit.
const CHECKS: Curve = Curve { base: Duration::from_secs(30), cap: Duration::from_secs(600) };
/// How often "no such job" must be said.
const GONE_ENOUGH: u32 = 2;

/// What becomes of a message that has just come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intake {
    /// Its job is told of, and it is held until the job runs or is gone.
    Hold(JobNews),
    /// Its job is told of, and then it is done.
    Tell(JobNews),
    /// It is done.
    Drop,
    /// Nobody can act on it.
    Reject(String),
}

/// Decides on a message that has come, for the pools of its queue.
#[must_use]
pub fn intake(read: Result<Message, Refusal>, pools: &[Serves]) -> Intake {
    match read {
        Err(refusal) => Intake::Reject(refusal.to_string()),
        Ok(Message::Other(_)) => Intake::Drop,
        Ok(Message::Asked(news)) => match asked(&news, pools) {
            Ok(pool) if pool.refuses(&news.facts).is_none() => Intake::Hold(for_pool(news, pool)),
            // Its pool shuts its repository out: the desk keeps the job, and why nobody serves it.
            Ok(pool) => Intake::Tell(for_pool(news, pool)),
            Err(why) => Intake::Reject(format!("job {}: {why}", news.key)),
        },
        // The gateway forwards the jobs of everybody: one that is not for this fleet is no fault.
        Ok(Message::Told(news)) => match serving(&news, pools) {
            Ok(pool) if news.word == JobWord::Queued && pool.refuses(&news.facts).is_none() => {
                Intake::Hold(for_pool(news, pool))
            }
            Ok(pool) => Intake::Tell(for_pool(news, pool)),
            Err(_) => Intake::Tell(news),
        },
    }
}

/// The pool that serves a job. Where a queue has one pool, the sender's choice of the queue stands in
/// for labels that are not there: the router sends what asks for nothing to its default.
fn serving<'a>(news: &JobNews, pools: &'a [Serves]) -> Result<&'a Serves, String> {
    if let [only] = pools
        && news.facts.labels.is_empty()
    {
        return Ok(only);
    }
    let facts = &news.facts;
    let open: Vec<_> = pools
        .iter()
        .map(|serves| Serves { repositories: Repositories::default(), ..serves.clone() })
        .collect();
    // A pool that lets the job in before one that would only fit.
    let pool = matching(facts, pools).or_else(|_| matching(facts, &open))?;
    named(pool, pools)
}

/// The pool that serves a job of the router's. Its messages name no enterprise, but whoever feeds the
/// queue of an enterprise's pools knows which organisations it has: what lies there is of one of them.
fn asked<'a>(news: &JobNews, pools: &'a [Serves]) -> Result<&'a Serves, String> {
    let owner = news.facts.repository.as_deref().and_then(|name| name.split_once('/'));
    let near = pools.iter().cloned().map(|serves| match (&serves.scope, owner) {
        (Scope::Enterprise(_), Some((owner, _))) => {
            Serves { scope: Scope::Organisation(owner.to_owned()), ..serves }
        }
        _ => serves,
    });
    let near: Vec<_> = near.collect();
    named(&serving(news, &near)?.pool, pools)
}

fn named<'a>(pool: &PoolName, pools: &'a [Serves]) -> Result<&'a Serves, String> {
    pools.iter().find(|serves| serves.pool == *pool).ok_or_else(|| format!("no pool {pool}"))
}

fn for_pool(mut news: JobNews, serves: &Serves) -> JobNews {
    news.facts.pool = Some(serves.pool.clone());
    news
}

/// What is said of a job whose message is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// How far it is.
    Word(JobWord),
    /// There is no such job.
    Gone,
    /// Nothing: no answer, or none that tells.
    Unknown {
        /// Before this nobody may be asked again.
        until: Option<Time>,
    },
}

/// What becomes of a message that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It stays; ask again then.
    CheckAt(Time),
    /// Its job runs or is over: it is done.
    Done,
    /// Its job does not exist, as far as anybody can tell.
    Reject(&'static str),
}

/// What is known of one job whose message is held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Doubt {
    waiting: u32,
    unknown: u32,
    gone: u32,
    seen: bool,
}

impl Doubt {
    /// When a job that has just come is asked about first.
    #[must_use]
    pub fn first(seed: u64, now: Time) -> Time {
        now + backoff::delay(1, seed, CHECKS)
    }

    /// Decides on a message after an answer about its job. Total; `seed` spreads the checks.
    #[must_use]
    pub fn next(&mut self, said: Said, seed: u64, now: Time) -> Verdict {
        let again = |count: u32| now + backoff::delay(count, seed, CHECKS);
        match said {
            Said::Word(JobWord::Running | JobWord::Done) => Verdict::Done,
            Said::Word(JobWord::Queued | JobWord::Blocked) => {
                let waiting = self.waiting.saturating_add(1);
                *self = Self { waiting, seen: true, ..Self::default() };
                // The first check came after the first delay of the same series.
                Verdict::CheckAt(again(waiting.saturating_add(1)))
            }
            Said::Gone => {
                self.gone = self.gone.saturating_add(1);
                if self.gone < GONE_ENOUGH {
                    Verdict::CheckAt(again(self.gone))
                } else if self.seen {
                    Verdict::Done
                } else {
                    Verdict::Reject(
                        "GitHub knows no such job (404, twice), or the fleet's credentials lack \
                         \"Actions: read\" on its repository",
                    )
                }
            }
            Said::Unknown { until } => {
                self.unknown = self.unknown.saturating_add(1);
                let own = again(self.unknown);
                Verdict::CheckAt(until.map_or(own, |until| until.max(own)))
            }
        }
    }
}
