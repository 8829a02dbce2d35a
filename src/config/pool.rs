//! `[[pools]]`: what runners there are, where, and how many.

mod repositories;
mod shape;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};

use runner_fleet_actors::{
    job::Repositories,
    name::{PoolName, Scope},
    port::Shape,
};
use url::Url;

use super::{
    demand::{self, DemandKind},
    guest::{self, Guest},
    limits::{self, Limits},
    provider::Provider,
    queue,
    read::Section,
    scale_set::{self, ScaleSet},
    scope,
};

/// GitHub's limit of runners in one group (GitHub docs, "Self-hosted runners reference").
const RUNNERS_MAX: u32 = 10_000;
/// GitHub's limit of labels in a JIT configuration (GitHub REST API, "Create configuration for a
/// just-in-time runner").
const LABELS_MAX: usize = 100;
const LABEL_LENGTH_MAX: usize = 256;
const SELF_HOSTED: &str = "self-hosted";
/// Enough to order any number of pools by hand.
const PRIORITY_MAX: u32 = 1000;

/// One `[[pools]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its name, unique in the fleet.
    pub name: PoolName,
    /// Where its runners register.
    pub scope: Scope,
    /// Runner group by name; `None` = the default group.
    pub group: Option<String>,
    /// Labels of its runners; at least one.
    pub labels: Vec<String>,
    /// Of which repositories of its scope it takes jobs. Default: of all.
    pub repositories: Repositories,
    /// Which of the configured providers makes its VMs.
    pub provider: String,
    /// What kind of VM.
    pub shape: Shape,
    /// Runners at least, busy ones included. Default 0.
    pub min: u32,
    /// Idle runners on top of the busy ones. Default 0.
    pub spare: u32,
    /// VMs at most, those on their way out included.
    pub max: u32,
    /// Who tells how many jobs it must serve. Default: nobody but its own busy runners.
    pub demand: BTreeSet<DemandKind>,
    /// Its runner scale set, if `demand` names one.
    pub scale_set: Option<ScaleSet>,
    /// Of several pools that could serve a job, the one with the highest gets it. Default 0.
    pub priority: u32,
    /// The queue that its jobs come from, where `demand` names one. Default: the pool's name.
    pub queue: String,
    /// Whether a runner that cannot be asked is kept from jobs and watched before it is deregistered. Default
    /// true.
    pub cordon: bool,
    /// How long each state may last.
    pub limits: Limits,
    /// What its VMs run.
    pub guest: Guest,
    /// Idle runners of an old shape that are replaced at the same time. Default 1.
    pub replace_at_once: u32,
    /// The planner's flavor that it follows, where it follows one. Default: its own name.
    pub planner_flavor: String,
}

pub(super) fn read_all(
    root: &Section<'_>,
    providers: &BTreeMap<String, Option<Provider>>,
    github: Option<&Url>,
) -> Vec<Pool> {
    let mut names = BTreeSet::new();
    let mut taken = scale_set::Taken::new();
    let mut pools = Vec::new();
    for section in root.rows("pools") {
        let name: Option<PoolName> = section
            .needed("name", "the pool's name, such as \"large\"; it is part of every runner's");
        if let Some(name) = &name
            && !names.insert(name.clone())
        {
            section.fault("name", format_args!("{:?} is taken by another pool", name.as_str()));
        }
        pools.extend(read(section, root, name, providers, github, &mut taken));
    }
    pools
}

fn read(
    section: Section<'_>,
    root: &Section<'_>,
    name: Option<PoolName>,
    providers: &BTreeMap<String, Option<Provider>>,
    github: Option<&Url>,
    taken: &mut scale_set::Taken,
) -> Option<Pool> {
    let scope: Option<Scope> = section
        .needed_text("scope", "\"owner/repo\", \"org\" or \"enterprises/slug\"")
        .and_then(|text| scope::read(text, github).map_err(|why| section.fault("scope", why)).ok());
    let group = section.text("group").map(str::to_owned);
    if group.is_some() && matches!(scope, Some(Scope::Repository { .. })) {
        section.fault(
            "group",
            "a repository has no runner groups; remove it, or use an organisation's scope",
        );
    }
    let labels = labels(&section);
    let provider = section.needed_text("provider", "the name of one of the [providers.NAME]");
    if let Some(provider) = provider
        && !providers.contains_key(provider)
    {
        let known: Vec<_> = providers.keys().map(|name| format!("{name:?}")).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        section.fault(
            "provider",
            format_args!("{provider:?} is not one of the [providers.NAME]; there is {known}"),
        );
    }
    let kind = provider.and_then(|name| providers.get(name)?.as_ref()).map(|p| &p.kind);
    let shape = shape::read(&section, kind);
    if !section.has("max") {
        section.missing("max", "how many VMs there may be at most");
    }
    let max = section.count("max", RUNNERS_MAX, 1..=RUNNERS_MAX);
    let min = section.count("min", 0, 0..=RUNNERS_MAX);
    let spare = section.count("spare", 0, 0..=RUNNERS_MAX);
    for (key, count) in [("min", min), ("spare", spare)] {
        if count > max {
            section.fault(key, format_args!("{count} is more than max, which is {max}"));
        }
    }
    let replace_at_once = section.count("replace_at_once", 1, 1..=RUNNERS_MAX);
    let demand = demand::read(&section, root);
    let of = scale_set::Of {
        pool: name.as_ref(),
        scope: scope.as_ref(),
        group: group.as_deref(),
        wanted: demand.contains(&DemandKind::ScaleSet),
    };
    let scale_set = scale_set::read(&section, &of, taken);
    let repositories = repositories::read(&section, scope.as_ref(), &demand);
    warn_of_labels(&section, &labels, &demand);
    let priority = section.count("priority", 0, 0..=PRIORITY_MAX);
    let queue = queue::of_pool(&section, name.as_ref());
    if section.has("queue") && !demand.contains(&DemandKind::Queue) {
        section.fault("queue", "is of use only where demand names \"queue\"");
    }
    let cordon = section.flag("cordon", true);
    let limits = limits::read(section.section("limits"));
    let guest = guest::read(section.section("guest"));
    if !demand.contains(&DemandKind::Planner) && section.has("planner") {
        section.fault("planner", "is of use only with demand = [\"planner\"]");
    }
    let planner_flavor = planner_flavor(section.section("planner"));
    section.finish();
    let name = name?;
    Some(Pool {
        planner_flavor: planner_flavor.unwrap_or_else(|| name.to_string()),
        name,
        scope: scope?,
        group,
        labels,
        repositories,
        provider: provider?.to_owned(),
        shape,
        min,
        spare,
        max,
        demand,
        scale_set,
        priority,
        queue: queue?,
        cordon,
        limits,
        guest,
        replace_at_once,
    })
}

fn planner_flavor(section: Option<Section<'_>>) -> Option<String> {
    let section = section?;
    let flavor = section.needed_text("flavor", "the flavor's name at the planner");
    section.finish();
    flavor.map(str::to_owned)
}

/// Who makes a runner for a job that asks for `self-hosted` besides, makes one that GitHub never gives
/// the job to: in a JIT configuration only the labels that are named count.
fn warn_of_labels(section: &Section<'_>, labels: &[String], demand: &BTreeSet<DemandKind>) {
    let told = [DemandKind::Webhook, DemandKind::Queue].iter().any(|kind| demand.contains(kind));
    let has = labels.iter().any(|label| label.eq_ignore_ascii_case(SELF_HOSTED));
    if told && !has && !labels.is_empty() {
        section.warn(
            "labels",
            "lack \"self-hosted\": runners get the labels that are written here and no other, so a job \
             with runs-on: [self-hosted, ...] is never given to one of them; add it, unless no job asks \
             for it",
        );
    }
}

fn labels(section: &Section<'_>) -> Vec<String> {
    let labels = section.texts("labels");
    let fault = |what: &dyn Display| section.fault("labels", what);
    if !section.has("labels") {
        section.missing("labels", "at least one label, such as [\"self-hosted\", \"large\"]");
    } else if labels.is_empty() {
        fault(&"must hold at least one label");
    }
    if labels.len() > LABELS_MAX {
        fault(&format_args!("{} labels are too many: GitHub takes {LABELS_MAX}", labels.len()));
    }
    let mut seen = BTreeSet::new();
    for label in &labels {
        // Jobs name their labels in YAML lists, and the runner application splits its own at commas.
        let legal = label.chars().all(|c| c.is_ascii_graphic() && c != ',');
        if !legal || label.len() > LABEL_LENGTH_MAX {
            fault(&format_args!(
                "{label:?} is not allowed: at most {LABEL_LENGTH_MAX} visible ASCII characters, no space and no comma"
            ));
        }
        if !seen.insert(label.to_ascii_lowercase()) {
            fault(&format_args!("{label:?} is there twice (GitHub does not regard case)"));
        }
    }
    labels
}
