//! How long a runner may stay in each state, and how patient its drain is.

use std::time::Duration;

use super::read::Section;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// `limits` of a pool. Every state of a runner has an end; these say when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From the decision to launch until the cloud says that the VM runs. Default 10 minutes.
    pub launch: Duration,
    /// From the running VM until its runner is online at the forge: boot, cloud-init and the
    /// runner application's own start. Default 15 minutes.
    pub register: Duration,
    /// How long a runner may wait for a job before it is replaced by a fresh one. Default 24 hours.
    pub idle: Duration,
    /// How long a job may run before it is killed. Default 121 hours: GitHub itself ends a job on a
    /// self-hosted runner after 5 days (GitHub docs, "Usage limits for self-hosted runners").
    pub busy: Duration,
    /// For how long every listing must have shown a runner idle before it may be drained without
    /// its guest's word. Default 60 seconds.
    pub idle_proof: Duration,
    /// How long a runner that cannot be asked is watched behind its cordon before it is deregistered: for the
    /// longest that GitHub's busy flag is late. Longer by itself where GitHub shows a longer lag. Default 90
    /// seconds.
    pub watch: Duration,
    /// For how long listings must have shown a runner idle that goes without a cordon: longer than any lag.
    /// Default 10 minutes.
    pub idle_alone: Duration,
    /// How long a deregistered VM may take to stop by itself before it is deleted. Default 30 seconds.
    pub settle: Duration,
    /// How long a drain may ask (the guest, then the forge) before it is given up or goes on by
    /// force of its reason. Default 15 minutes.
    pub ask: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            launch: Duration::from_secs(10 * MINUTE),
            register: Duration::from_secs(15 * MINUTE),
            idle: Duration::from_secs(24 * HOUR),
            busy: Duration::from_secs(121 * HOUR),
            idle_proof: Duration::from_secs(60),
            watch: Duration::from_secs(90),
            idle_alone: Duration::from_secs(10 * MINUTE),
            settle: Duration::from_secs(30),
            ask: Duration::from_secs(15 * MINUTE),
        }
    }
}

/// Reads `limits`; what is not given has its default.
pub(super) fn read(section: Option<Section<'_>>) -> Limits {
    let mut limits = Limits::default();
    let Some(section) = section else { return limits };
    let Limits { launch, register, idle, busy, idle_proof, watch, idle_alone, settle, ask } =
        &mut limits;
    for (key, limit, longest) in [
        ("launch", launch, DAY),
        ("register", register, DAY),
        ("idle", idle, 30 * DAY),
        ("busy", busy, 30 * DAY),
        ("idle_proof", idle_proof, HOUR),
        ("watch", watch, HOUR),
        ("idle_alone", idle_alone, DAY),
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
    if limits.idle_alone < limits.watch {
        section.fault(
            "idle_alone",
            "must not be shorter than limits.watch: without a cordon nothing else shows that no job runs",
        );
    }
    section.finish();
    limits
}
