//! What one unit makes of a planner's pressure. **Pure.**
//!
//! A planner counts an application's jobs, those that wait and those that run, and tells every unit
//! the same number. Units that each serve the whole of it would start every runner several times
//! over; so each serves its share. The shares differ by one at most and add up to the pressure
//! exactly, and no unit has to ask another for its own.
//!
//! Runners with a job are taken off here and nowhere else: pressure and busy runners become one
//! [`Demand`] in one step, because the same job seen as waiting by one and as running by the other
//! would be served twice.

use runner_fleet_actors::{demand::Demand, port::Time};

/// The part of `pressure` that falls to `unit` (from 0) of `units`: an equal part, and one more for
/// the first units where it does not divide. Over all units the parts add up to `pressure`.
#[must_use]
pub fn share(pressure: u32, unit: u32, units: u32) -> u32 {
    let units = units.max(1);
    pressure / units + u32::from(unit < pressure % units)
}

/// The demand of a pool that is to have `total` runners in all, `busy` of which have a job already.
///
/// More busy runners than the total are all running jobs still: the planner has heard of an end that
/// the fleet has yet to see, or the other way round, and a runner with a job is never too many.
#[must_use]
pub fn demand(total: u32, busy: u32, as_of: Time) -> Demand {
    Demand::exact(total.saturating_sub(busy), busy, as_of)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_units_of_an_application_share_the_pressure_exactly_and_evenly(
            pressure in 0..20_000_u32,
            units in 1..50_u32,
        ) {
            let shares: Vec<_> = (0..units).map(|unit| share(pressure, unit, units)).collect();
            prop_assert_eq!(shares.iter().sum::<u32>(), pressure);
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", shares);
        }

        #[test]
        fn more_pressure_is_fewer_runners_for_nobody(
            pressure in 0..u32::MAX,
            units in 1..50_u32,
            unit in 0..50_u32,
        ) {
            prop_assume!(unit < units);
            prop_assert!(share(pressure, unit, units) <= share(pressure + 1, unit, units));
        }

        #[test]
        fn a_job_that_runs_is_not_also_waiting(total in any::<u32>(), busy in any::<u32>()) {
            let Demand { waiting, running, .. } = demand(total, busy, Time::UNIX_EPOCH);
            prop_assert_eq!(running, busy);
            prop_assert_eq!(u64::from(waiting) + u64::from(running), u64::from(total.max(busy)));
        }
    }

    #[test]
    fn one_unit_alone_has_all_of_it() {
        assert_eq!(share(7, 0, 1), 7);
    }
}
