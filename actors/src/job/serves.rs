//! Which pool a job is for: scope, repositories that are let in, runner group, labels. **Pure.**
//!
//! Two questions, with two answers. *Could GitHub give this job to a runner of that pool?* Scope, group
//! and labels say so. *Does its operator want that?* The pool's own list of repositories says so, so
//! that a stranger's fork drives nothing. What only one of them lets in is kept and said, not dropped.
//!
//! A scope is known by its number where GitHub's API has told it ([`Identity`]) and the job's source names
//! one: whoever bears our name with another number is somebody else, and is kept and said as such. A source
//! that names no number is this fleet's own (its queue, its scale sets' sessions): there the name decides,
//! the configured one as well as the present one, for a queue may hold what it was told before the move.

use std::collections::BTreeSet;

use super::{Identity, JobFacts};
use crate::{
    foreign::Foreign,
    name::{NameError, PoolName, Scope},
};

/// The runner group that a pool without one is in, by GitHub's name for it.
const DEFAULT_GROUP: &str = "Default";
/// The group under which GitHub shows its own machines.
const GITHUBS_GROUP: &str = "GitHub Actions";
/// How labels of GitHub's own machines begin (GitHub docs, "GitHub-hosted runners reference").
const GITHUBS_LABELS: [&str; 3] = ["ubuntu-", "windows-", "macos-"];
/// Labels, and pools that come near, that are named in a text.
const NAMED: usize = 8;

/// A pattern for repositories: `owner/name` or `owner/*`. Two forms and no more: GitHub's names have no
/// wildcard, so neither can mean something else, and there is nothing to try out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RepositoryPattern {
    owner: String,
    /// `None` = every one of the owner's.
    repository: Option<String>,
}

impl RepositoryPattern {
    fn has(&self, full_name: &str) -> bool {
        let Some((owner, repository)) = full_name.split_once('/') else { return false };
        self.owner.eq_ignore_ascii_case(owner)
            && self.repository.as_ref().is_none_or(|own| own.eq_ignore_ascii_case(repository))
    }

    /// Whether a pool of this scope can ever get a job of such a repository.
    #[must_use]
    pub fn meets(&self, scope: &Scope) -> bool {
        match scope {
            Scope::Repository { .. } => self.has(&scope.to_string()),
            Scope::Organisation(org) => org.eq_ignore_ascii_case(&self.owner),
            Scope::Enterprise(_) => true,
        }
    }
}

impl std::str::FromStr for RepositoryPattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = || {
            NameError::new("repository", text, "it must read \"owner/name\" or \"owner/*\"".into())
        };
        let (owner, name) = text.split_once('/').ok_or_else(refuse)?;
        let word = |word: &str| {
            let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
            !word.is_empty() && word.bytes().all(legal)
        };
        if !word(owner) || (name != "*" && !word(name)) {
            return Err(refuse());
        }
        let repository = (name != "*").then(|| name.to_owned());
        Ok(Self { owner: owner.to_owned(), repository })
    }
}

impl std::fmt::Display for RepositoryPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.owner, self.repository.as_deref().unwrap_or("*"))
    }
}

/// Of which repositories a pool takes jobs, within its scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repositories {
    /// These alone; empty = all.
    pub allow: Vec<RepositoryPattern>,
    /// Never these, whatever is allowed.
    pub deny: Vec<RepositoryPattern>,
    /// Also public ones. A repository of which nobody has said what it is counts as not public.
    pub public: bool,
}

impl Default for Repositories {
    fn default() -> Self {
        Self { allow: Vec::new(), deny: Vec::new(), public: true }
    }
}

impl Repositories {
    /// Whether every repository of the scope is let in.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// Why a job is not let in, for a person; `None` = it is. `listed`: what the repository is called
    /// where the lists were written, if that is another name.
    fn refuses(&self, facts: &JobFacts, listed: Option<&str>) -> Option<String> {
        // Sources that name none, such as the fleet's own runners, have nothing to be refused for.
        let name = facts.repository.as_deref()?;
        let has = |pattern: &&RepositoryPattern| {
            std::iter::once(name).chain(listed).any(|name| pattern.has(name))
        };
        if let Some(denied) = self.deny.iter().find(has) {
            return Some(format!("its deny_repositories has {denied}"));
        }
        if !self.allow.is_empty() && !self.allow.iter().any(|pattern| has(&pattern)) {
            return Some(format!("its repositories do not have {name}"));
        }
        let shut_out = !self.public && facts.public == Some(true);
        shut_out.then(|| format!("{name} is public, and its public_repositories is false"))
    }
}

/// What a pool serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serves {
    /// The pool.
    pub pool: PoolName,
    /// Jobs of which repositories its runners can get.
    pub scope: Scope,
    /// Who the scope is, once GitHub's API has told it.
    pub identity: Option<Identity>,
    /// Of which of these it takes jobs.
    pub repositories: Repositories,
    /// Runner group by name; `None` = the default one.
    pub group: Option<String>,
    /// Labels of its runners, as they are sent when one is registered.
    pub labels: Vec<String>,
    /// Of several pools that could serve a job, the one with the highest gets it.
    pub priority: u32,
    /// Whether its runners belong to a runner scale set.
    pub scale_set: bool,
}

impl Serves {
    /// A pool in the default group that takes every job of its scope with its labels.
    #[must_use]
    pub fn new(pool: PoolName, scope: Scope, labels: Vec<String>) -> Self {
        Self {
            pool,
            scope,
            identity: None,
            repositories: Repositories::default(),
            group: None,
            labels,
            priority: 0,
            scale_set: false,
        }
    }

    /// Whether the job's repository lies in the pool's scope, as far as its source says. What names no
    /// repository lies in none, and an enterprise is known by the delivery's own word.
    #[must_use]
    pub fn reaches(&self, facts: &JobFacts) -> bool {
        match self.numbers(facts) {
            Some((own, said)) => own == said && facts.repository.is_some(),
            None => self.is_named(facts),
        }
    }

    /// Its own number, and the one that a source names for what lies in its scope.
    fn numbers(&self, facts: &JobFacts) -> Option<(u64, u64)> {
        let said = match self.scope {
            Scope::Repository { .. } => facts.repository_id,
            Scope::Organisation(_) => facts.owner_id,
            Scope::Enterprise(_) => None,
        };
        self.identity.as_ref().map(|identity| identity.id).zip(said)
    }

    /// Whether the job's repository has the name of the scope, the configured one or the present one, or
    /// lies below it.
    fn is_named(&self, facts: &JobFacts) -> bool {
        let present = self.identity.as_ref().map(|identity| &identity.now);
        std::iter::once(&self.scope).chain(present).any(|scope| has(scope, facts))
    }

    /// Whether the job is of somebody who has the present name of the scope and another number. One who
    /// has a name that the scope has left is a stranger as any other.
    #[must_use]
    pub fn is_of_namesake(&self, facts: &JobFacts) -> bool {
        let named = self.identity.as_ref().is_some_and(|identity| has(&identity.now, facts));
        named && !self.reaches(facts)
    }

    /// Whether what lies in the scope, by its number, is called otherwise than it was last known: then
    /// GitHub is to be asked.
    #[must_use]
    pub fn is_renamed_by(&self, facts: &JobFacts) -> bool {
        let proven = self.numbers(facts).is_some() && self.reaches(facts);
        proven && self.identity.as_ref().is_some_and(|identity| !has(&identity.now, facts))
    }

    /// Whether repositories of that login may lie in the scope.
    #[must_use]
    pub fn may_have(&self, login: &str) -> bool {
        let present = self.identity.as_ref().map(|identity| &identity.now);
        let mut owners = std::iter::once(&self.scope).chain(present).map(Scope::owner);
        owners.any(|owner| owner.is_none_or(|owner| owner.eq_ignore_ascii_case(login)))
    }

    /// Why its operator does not let a job of its scope in, for a person; `None` = it is let in. Lists that
    /// were written before the scope was renamed go on.
    #[must_use]
    pub fn refuses(&self, facts: &JobFacts) -> Option<String> {
        self.repositories.refuses(facts, self.listed_as(facts).as_deref())
    }

    /// What the job's repository is called where the lists were written, if its scope is called otherwise
    /// since.
    fn listed_as(&self, facts: &JobFacts) -> Option<String> {
        let left = self.identity.as_ref().is_some_and(|known| known.has_left(&self.scope));
        let (_, repo) = facts.repository.as_deref()?.split_once('/')?;
        let known = left && self.reaches(facts);
        match &self.scope {
            Scope::Repository { .. } if known => Some(self.scope.to_string()),
            Scope::Organisation(org) if known => Some(format!("{org}/{repo}")),
            _ => None,
        }
    }

    /// The first label of a job that its runners have not.
    #[must_use]
    pub fn lacks<'a>(&self, wanted: &'a [Foreign]) -> Option<&'a str> {
        wanted
            .iter()
            .map(Foreign::as_str)
            .find(|label| !self.labels.iter().any(|own| own.to_lowercase() == label.to_lowercase()))
    }

    /// Whether a job that asks for a group and no label can go to its runners.
    fn is_in(&self, group: &str) -> bool {
        self.group.as_deref().unwrap_or(DEFAULT_GROUP).eq_ignore_ascii_case(group)
    }

    fn fits(&self, facts: &JobFacts) -> bool {
        match (&facts.group, facts.labels.is_empty()) {
            (_, false) => self.lacks(&facts.labels).is_none(),
            // A job with labels names the group of an earlier attempt, if it names one.
            (Some(group), true) => self.is_in(group),
            (None, true) => false,
        }
    }
}

/// The pool for a job: of those whose runners GitHub could give it to (a runner must have every label
/// of the job; case counts for nothing) and that let its repository in, the highest priority; then the
/// fewest labels, because a runner that can do more may be wanted for it; then the order of the
/// configuration.
///
/// # Errors
/// Why there is none, for a person.
pub fn matching<'a>(facts: &JobFacts, pools: &'a [Serves]) -> Result<&'a PoolName, String> {
    if let Some(known) = &facts.pool {
        let Some(there) = pools.iter().find(|serves| serves.pool == *known) else {
            return Err(format!(
                "its source names pool {known}, which is not in the configuration"
            ));
        };
        return match there.refuses(facts) {
            None => Ok(&there.pool),
            Some(why) => Err(format!("no pool takes it: pool {known} is asked for, and {why}")),
        };
    }
    let near: Vec<_> = pools.iter().filter(|serves| serves.reaches(facts)).collect();
    if near.is_empty() {
        return Err(outside(facts, pools));
    }
    let fitting = near.iter().filter(|serves| serves.fits(facts));
    let (open, shut): (Vec<_>, Vec<_>) = fitting
        .map(|serves| (serves, serves.refuses(facts)))
        .partition(|(_, refusal)| refusal.is_none());
    let best = open.into_iter().min_by_key(|(serves, _)| {
        let distinct: BTreeSet<_> = serves.labels.iter().map(|l| l.to_lowercase()).collect();
        (std::cmp::Reverse(serves.priority), distinct.len())
    });
    if let Some((best, _)) = best {
        return Ok(&best.pool);
    }
    if !shut.is_empty() {
        let why = shut.iter().filter_map(|(serves, why)| {
            Some(format!("pool {} fits, but {}", serves.pool, why.as_ref()?))
        });
        return Err(format!("no pool takes it: {}", listed(why)));
    }
    Err(unfit(facts, &near))
}

/// Why no pool's scope has the job.
fn outside(facts: &JobFacts, pools: &[Serves]) -> String {
    let of = facts.repository.as_deref().unwrap_or("a job without a repository");
    let namesakes =
        pools.iter().filter(|serves| serves.is_of_namesake(facts)).filter_map(|serves| {
            let (own, said) = serves.numbers(facts)?;
            Some(format!("that of pool {} has number {own}, and this one {said}", serves.pool))
        });
    match listed(namesakes) {
        none if none.is_empty() => format!("no pool's scope has {of}"),
        namesakes => format!(
            "no pool's scope has this {of}: {namesakes}; it was made anew, or others have taken the name. \
             If it is meant, reload or restart the daemon; else correct the pool's scope"
        ),
    }
}

/// Whether the job's repository has that name, or lies below it.
fn has(scope: &Scope, facts: &JobFacts) -> bool {
    let Some(name) = facts.repository.as_deref() else { return false };
    let Some((of_owner, of_repo)) = name.split_once('/') else { return false };
    match scope {
        Scope::Repository { owner, repo } => {
            owner.eq_ignore_ascii_case(of_owner) && repo.eq_ignore_ascii_case(of_repo)
        }
        Scope::Organisation(org) => org.eq_ignore_ascii_case(of_owner),
        Scope::Enterprise(slug) => {
            facts.enterprise.as_deref().is_some_and(|of| slug.eq_ignore_ascii_case(of))
        }
    }
}

/// Why none of the pools that are near fits.
fn unfit(facts: &JobFacts, near: &[&Serves]) -> String {
    if facts.labels.is_empty() {
        let pools = listed(near.iter().map(|serves| {
            format!("{} in {:?}", serves.pool, serves.group.as_deref().unwrap_or(DEFAULT_GROUP))
        }));
        return match &facts.group {
            Some(group) => {
                format!("no pool takes it: no pool is in runner group {group:?} ({pools})")
            }
            None => format!(
                "no pool takes it: it asks for no label, and nobody has said for which runner group \
                 (near are {pools}); give its runs-on a label of a pool"
            ),
        };
    }
    let asked = listed(facts.labels.iter().map(|label| format!("{label:?}")));
    let lacks = listed(near.iter().filter_map(|serves| {
        Some(format!("{} lacks {:?}", serves.pool, serves.lacks(&facts.labels)?))
    }));
    let hint = if facts.labels.iter().any(|label| label.contains(',')) {
        "; a label with a comma is one text that was meant as a list: runs-on: [a, b]"
    } else {
        ""
    };
    format!("no pool has all of its labels ({asked}): {lacks}{hint}")
}

/// The first few, and how many more there are.
fn listed(texts: impl Iterator<Item = String>) -> String {
    let mut texts = texts.peekable();
    let mut all: Vec<_> = texts.by_ref().take(NAMED).collect();
    match texts.count() {
        0 => {}
        more => all.push(format!("and {more} more")),
    }
    all.join(", ")
}

/// Whether a job may be this fleet's: a pool serves it, or it lies in the scope of one and does not go
/// to GitHub's own machines. A hook of an organisation tells of every job, also of those; a public App's
/// hook tells of everybody's.
#[must_use]
pub fn concerns(facts: &JobFacts, pools: &[Serves]) -> bool {
    if matching(facts, pools).is_ok() {
        return true;
    }
    let near = facts.pool.is_some()
        || pools.iter().any(|serves| serves.reaches(facts) || serves.is_of_namesake(facts));
    near && !is_githubs(facts)
}

/// Whether a job goes to GitHub's own machines.
fn is_githubs(facts: &JobFacts) -> bool {
    let githubs = |label: &Foreign| {
        let label = label.to_ascii_lowercase();
        GITHUBS_LABELS.iter().any(|begin| label.starts_with(begin))
    };
    let machines = facts.labels.len() == 1 && facts.labels.iter().all(githubs);
    machines || facts.group.as_deref() == Some(GITHUBS_GROUP)
}

#[cfg(test)]
mod tests;
