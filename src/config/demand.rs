//! `demand` of a pool: who tells how many jobs it must serve.
//!
//! A pool may have several sources; the largest number that any of them names counts, and a silent
//! one keeps the pool from shrinking. Whether the section that a source needs is there is checked
//! where the pool is read.

use std::collections::BTreeSet;

use super::read::Section;

/// One source of demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DemandKind {
    /// `min`, `spare` and the pool's own busy runners.
    Static,
    /// GitHub's webhooks, `[webhooks]`.
    Webhook,
    /// A runner scale set of its own.
    ScaleSet,
    /// Jobs that Canonical's webhook router enqueued, `[queue]`.
    Queue,
    /// The pressure of Canonical's planner, `[planner]`.
    Planner,
    /// What the guests report, and nothing else.
    Guests,
}

impl DemandKind {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 6] =
        [Self::Static, Self::Webhook, Self::ScaleSet, Self::Queue, Self::Planner, Self::Guests];

    /// The word in the configuration and in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Webhook => "webhook",
            Self::ScaleSet => "scale-set",
            Self::Queue => "queue",
            Self::Planner => "planner",
            Self::Guests => "guests",
        }
    }
}

impl DemandKind {
    /// The section of the file that says how the source is reached.
    fn section(self) -> Option<&'static str> {
        match self {
            Self::Webhook => Some("webhooks"),
            Self::Queue => Some("queue"),
            Self::Planner => Some("planner"),
            Self::Guests => Some("guests"),
            Self::Static | Self::ScaleSet => None,
        }
    }
}

pub(super) fn read(section: &Section<'_>, root: &Section<'_>) -> BTreeSet<DemandKind> {
    let words = section.texts("demand");
    let mut kinds = BTreeSet::new();
    for word in &words {
        match DemandKind::ALL.into_iter().find(|kind| kind.as_str() == word) {
            Some(kind) => {
                if let Some(needed) = kind.section().filter(|needed| !root.has_silently(needed)) {
                    section.fault("demand", format_args!("{word:?} needs a table [{needed}]"));
                }
                if !kinds.insert(kind) {
                    section.fault("demand", format_args!("{word:?} is there twice"));
                }
            }
            None => {
                let known: Vec<_> =
                    DemandKind::ALL.map(|kind| format!("{:?}", kind.as_str())).into();
                section.fault("demand", format_args!("{word:?} is none of {}", known.join(", ")));
            }
        }
    }
    if kinds.contains(&DemandKind::Static) && kinds.len() > 1 {
        section.fault("demand", "\"static\" means that there is no other source");
    }
    if words.is_empty() && !section.has("demand") {
        kinds.insert(DemandKind::Static);
    } else if words.is_empty() {
        section.fault("demand", "must name at least one source, such as [\"webhook\"]");
    }
    kinds
}
