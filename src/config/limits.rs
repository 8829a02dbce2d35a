//! `limits` of a pool: how long a runner may stay in each state, and how patient its drain is.
//!
//! The brain's own type and defaults, so that there is one truth about both.

use runner_fleet_actors::runner::Limits;

use super::read::Section;

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

/// Reads `limits`; what is not given has its default.
pub(super) fn read(section: Option<Section<'_>>) -> Limits {
    let mut limits = Limits::default();
    let Some(section) = section else { return limits };
    let Limits { launch, register, idle, busy, idle_proof, settle, ask, .. } = &mut limits;
    for (key, limit, longest) in [
        ("launch", launch, DAY),
        ("register", register, DAY),
        ("idle", idle, 30 * DAY),
        ("busy", busy, 30 * DAY),
        ("idle_proof", idle_proof, HOUR),
        ("settle", settle, HOUR),
        ("ask", ask, DAY),
    ] {
        *limit = section.duration(key, *limit, 1, longest);
    }
    if limits.idle_proof >= limits.idle {
        section.fault(
            "idle_proof",
            "must be shorter than limits.idle, or no runner is ever proven idle in time",
        );
    }
    section.finish();
    limits
}
