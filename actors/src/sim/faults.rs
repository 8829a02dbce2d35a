//! The faults of the simulated world, each a knob with a name.
//!
//! A seed draws every knob anew and leaves about half of them at rest, so that each run is a world
//! with a few troubles of its own: all faults at once hide each other.

use rand::{Rng, SeedableRng, rngs::SmallRng};

macro_rules! knobs {
    ($($(#[$doc:meta])* $name:ident: $most:expr),+ $(,)?) => {
        /// How often each fault strikes: a probability for each occasion, or a rate an hour where
        /// it says so. `Faults::default()` is a world without any.
        #[derive(Debug, Clone, Copy, Default, PartialEq)]
        pub struct Faults {
            $($(#[$doc])* pub $name: f64,)+
        }

        impl Faults {
            /// The faults of one seed's world.
            #[must_use]
            pub fn drawn(seed: u64) -> Self {
                let mut rng = SmallRng::seed_from_u64(seed ^ 0x6661_756c_7473);
                let mut knob = |most: f64| {
                    if rng.random_bool(0.55) { 0.0 } else { rng.random_range(0.0..=most) }
                };
                Self { $($name: knob($most),)+ }
            }

            /// Whether nothing but outages of whole sides is wrong.
            #[must_use]
            pub fn are_outages(&self) -> bool {
                let outages = ["forge_away", "cloud_away", "cloud_hangs", "registrations_limited"];
                let (some, rest): (Vec<_>, Vec<_>) =
                    self.list().into_iter().partition(|(name, _)| outages.contains(name));
                some.iter().any(|(_, rate)| *rate > 0.0) && rest.iter().all(|(_, rate)| *rate <= 0.0)
            }

            /// All knobs by name, for a person.
            #[must_use]
            pub fn list(&self) -> Vec<(&'static str, f64)> {
                vec![$((stringify!($name), self.$name)),+]
            }
        }
    };
}

knobs! {
    /// The answer to a launch is lost: the shell gives up at the limit, the VM is there.
    launch_answer_lost: 0.15,
    /// The answer to a launch takes minutes.
    launch_answer_late: 0.3,
    /// A create says 503 and has made the VM.
    create_fails_yet_makes: 0.15,
    /// A create says 503 and the VM appears seconds to minutes later.
    create_makes_later: 0.1,
    /// A create fails for good: quota.
    create_refused: 0.2,
    /// A VM that was accepted goes to ERROR: no host.
    build_fails: 0.2,
    /// A VM never leaves BUILD.
    build_sticks: 0.05,
    /// VMs that vanish, an hour.
    vms_vanish: 3.0,
    /// VMs that shut down by themselves, an hour.
    vms_stop: 3.0,
    /// Running VMs that go to ERROR while their guest lives on, an hour.
    vms_fail: 3.0,
    /// A guest never comes online.
    guest_never_registers: 0.1,
    /// A guest powers off right after its boot: its image is broken.
    boots_in_vain: 0.3,
    /// A guest hangs at its end instead of powering off.
    guest_never_stops: 0.15,
    /// Registering fails.
    register_fails: 0.15,
    /// Registering works, but its answer is lost.
    register_answer_lost: 0.1,
    /// A listing is an old one, and says so.
    listing_stale: 0.2,
    /// A listing's content is some seconds older than it says.
    listing_cached: 0.3,
    /// A listing lacks a part, and says so.
    listing_partial: 0.15,
    /// A listing lacks one entry and does not say so; never twice in a row for one name.
    listing_misses: 0.2,
    /// A listing of the forge lacks the entry that the last one lacked, and does not say so either;
    /// never more than twice in a row.
    listing_misses_again: 0.6,
    /// A listing fails.
    listing_fails: 0.15,
    /// A deregistration or deletion is held off by a rate limit.
    rate_limited: 0.1,
    /// Credentials are refused.
    auth: 0.05,
    /// A deregistration or deletion fails before it acts.
    call_fails: 0.2,
    /// A deregistration or deletion acts, but its answer is lost.
    answer_lost: 0.1,
    /// A deletion takes minutes.
    deletion_slow: 0.1,
    /// The forge's busy flag is false in mid-job, for up to an hour, and DELETE succeeds.
    busy_lies: 0.5,
    /// A job never ends.
    job_never_ends: 0.02,
    /// A guest's report is lost.
    report_lost: 0.3,
    /// A guest's report comes again, up to minutes later.
    report_replayed: 0.3,
    /// A guest's report comes late, and so out of order.
    report_late: 0.3,
    /// The answer of a guest that stands down is lost.
    stand_down_lost: 0.15,
    /// The order to stand down, or to go on, never arrives.
    order_lost: 0.1,
    /// What a cloud tells by itself is lost.
    change_lost: 1.0,
    /// What a cloud tells by itself comes late, after listings that began later.
    change_late: 0.3,
    /// The forge's word on a job's begin and end does not come.
    webhook_lost: 1.0,
    /// The process dies, an hour.
    crashes: 3.0,
    /// Demand becomes unknown for a while, an hour.
    demand_unknown: 3.0,
    /// An operator drains, forces or sets a target, an hour.
    operator: 4.0,
    /// The image or flavor of a pool changes, an hour.
    shape_changes: 0.5,
    /// A runner application gets its job's end told to the forge only minutes after its hook ran.
    completion_late: 0.2,
    /// Whole listings of the forge lack one runner for minutes, an hour.
    forge_lacks_one: 6.0,
    /// Whole listings of the forge lack all runners for minutes, an hour.
    forge_lacks_all: 2.0,
    /// Whole listings of the cloud lack all VMs of the fleet for minutes, an hour.
    cloud_lacks_all: 1.0,
    /// A word of a job is delivered that is about somebody else's runner of the same name, an hour.
    foreign_words: 6.0,
    /// The forge's words on jobs bear no number.
    words_unnumbered: 0.3,
    /// The forge is away for minutes: its calls and listings fail, an hour.
    forge_away: 2.0,
    /// The cloud is away for minutes: its calls and listings fail, an hour.
    cloud_away: 2.0,
    /// The cloud is not heard for half a minute or longer: its answers come once that is over, an hour.
    cloud_hangs: 2.0,
    /// The forge refuses every registration until a time that it names, minutes away, an hour.
    registrations_limited: 2.0,
    /// Jobs that let their guest repeat that a job has started, long after its end.
    start_repeated: 0.3,
    /// The process stands still for seconds to minutes while the world goes on, an hour.
    pauses: 6.0,
    /// So many seconds after its begin at most the forge's busy flag shows a job. No probability.
    flag_late: 60.0,
    /// A job is given to a runner that the forge was told to give none.
    cordon_leaks: 0.3,
    /// The forge does not have the call that keeps jobs off a runner.
    cordon_refused: 0.3,
    /// What a cloud says has changed lacks a change.
    recent_lacks: 0.5,
    /// What a cloud says has changed is what it said before.
    recent_repeats: 0.3,
    /// A cloud that tells of a change calls the VM deleted that nobody has deleted.
    recent_lies: 0.1,
}
