//! `repositories`, `deny_repositories` and `public_repositories` of a pool: whose jobs it takes.

use std::collections::BTreeSet;

use runner_fleet_actors::{
    job::{Repositories, RepositoryPattern},
    name::Scope,
};

use super::super::{demand::DemandKind, read::Section};

/// Sources that name the repository of a job.
const NAMING: [DemandKind; 3] = [DemandKind::Webhook, DemandKind::Queue, DemandKind::ScaleSet];
/// Those of them that say whether it is public.
const SHOWING: [DemandKind; 2] = [DemandKind::Webhook, DemandKind::Queue];

pub(super) fn read(
    section: &Section<'_>,
    scope: Option<&Scope>,
    demand: &BTreeSet<DemandKind>,
) -> Repositories {
    let repositories = Repositories {
        allow: patterns(section, "repositories", scope),
        deny: patterns(section, "deny_repositories", scope),
        public: section.flag("public_repositories", true),
    };
    let any = |kinds: &[DemandKind]| kinds.iter().any(|kind| demand.contains(kind));
    for key in ["repositories", "deny_repositories"] {
        if section.has(key) && !any(&NAMING) {
            section.fault(key, "is of use only where demand names \"webhook\", \"queue\" or \"scale-set\": no other source names a job's repository");
        }
    }
    if !repositories.public && !any(&SHOWING) {
        section.fault("public_repositories", "is of use only where demand names \"webhook\" or \"queue\": no other source says whether a repository is public; list repositories instead");
    }
    repositories
}

fn patterns(
    section: &Section<'_>,
    key: &'static str,
    scope: Option<&Scope>,
) -> Vec<RepositoryPattern> {
    let mut patterns = Vec::new();
    for text in section.texts(key) {
        match text.parse::<RepositoryPattern>() {
            Ok(pattern) => {
                if let Some(scope) = scope.filter(|scope| !pattern.meets(scope)) {
                    section.fault(key, format_args!("{text:?} lies outside of the scope {scope}"));
                }
                patterns.push(pattern);
            }
            Err(error) => section.fault(key, error),
        }
    }
    patterns
}
