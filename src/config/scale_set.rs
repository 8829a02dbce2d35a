//! `scale_set` of a pool: which runner scale set gives it its jobs.
//!
//! Only for pools whose `demand` names `"scale-set"`; for those it may be left out, and then the scale
//! set is called like the pool. A scale set has one listener, so no two pools can share one.

use std::collections::BTreeMap;

use runner_fleet_actors::name::{PoolName, Scope};

use super::read::Section;

/// GitHub takes no longer label, and a scale set's name is one.
const NAME_MAX: usize = 256;

/// The runner scale set of a pool.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScaleSet {
    /// Its name, unique in its group; jobs may ask for it as a label. Default: the pool's name.
    pub name: String,
    /// Runner group by name; `None` = the default group. Default: the pool's group.
    pub group: Option<String>,
}

/// Scale sets that pools have so far.
pub(super) type Taken = BTreeMap<(Scope, ScaleSet), PoolName>;

/// What is known of the pool when its scale set is read.
pub(super) struct Of<'a> {
    pub pool: Option<&'a PoolName>,
    pub scope: Option<&'a Scope>,
    pub group: Option<&'a str>,
    /// Whether its `demand` names scale sets.
    pub wanted: bool,
}

pub(super) fn read(pool: &Section<'_>, of: &Of<'_>, taken: &mut Taken) -> Option<ScaleSet> {
    let section = pool.section("scale_set");
    if pool.has("scale_set") && !of.wanted {
        pool.fault("scale_set", "is of use only with demand = [\"scale-set\"]");
    }
    let mut name = of.pool.map(|pool| pool.as_str().to_owned());
    let mut group = of.group.map(str::to_owned);
    if let Some(section) = section {
        if let Some(given) = section.text("name") {
            let legal = given.chars().all(|c| c.is_ascii_graphic() && c != ',');
            if !legal || given.len() > NAME_MAX {
                section.fault(
                    "name",
                    format_args!(
                        "{given:?} is not allowed: at most {NAME_MAX} visible ASCII characters, no \
                         space and no comma"
                    ),
                );
            }
            name = Some(given.to_owned());
        }
        if let Some(given) = section.text("group") {
            if of.group.is_some() {
                section.fault("group", "the pool has a group as well; keep one of them");
            } else if matches!(of.scope, Some(Scope::Repository { .. })) {
                section.fault(
                    "group",
                    "a repository has no runner groups; remove it, or use an organisation's scope",
                );
            }
            group = Some(given.to_owned());
        }
        section.finish();
    }
    if !of.wanted {
        return None;
    }
    // GitHub's own word for the group that everybody has.
    let group = group.filter(|group| !group.eq_ignore_ascii_case("default"));
    let set = ScaleSet { name: name?, group };
    if let (Some(scope), Some(pool_name)) = (of.scope, of.pool) {
        let key = ScaleSet {
            name: set.name.to_lowercase(),
            group: set.group.as_ref().map(|group| group.to_lowercase()),
        };
        if let Some(other) = taken.insert((scope.clone(), key), pool_name.clone()) {
            pool.fault(
                "scale_set",
                format_args!(
                    "{:?} is the scale set of pool {other} as well, and a scale set serves one \
                     pool; give one of them another name",
                    set.name
                ),
            );
        }
    }
    Some(set)
}
