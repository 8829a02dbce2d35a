//! Orders that an earlier daemon gave just before it was killed: waited for, not given twice.

use std::sync::Arc;

use runner_fleet_actors::{
    name::{PoolName, RegistrationId, VmId},
    pool::{Plan, Policy, Roster, Survey, UNDER_WAY, plan},
    port::{Doors, Listing, Registration, Vm, VmStatus},
};

use crate::given::{at, name};

const POLICY: Policy = Policy { max: 100, replace_at_once: 1, shape: None, retiring: false };

fn vm(number: u64) -> Vm {
    let (id, status) = (VmId("vm".into()), VmStatus::Building);
    Vm {
        name: name(number),
        id,
        status,
        created_at: None,
        shape: None,
        scope: None,
        address: None,
        task: None,
    }
}

fn registration(number: u64) -> Registration {
    Registration {
        name: name(number),
        id: RegistrationId(number),
        online: false,
        busy: Some(false),
        cordoned: None,
    }
}

fn listing<T>(entries: Vec<T>, second: u64) -> Arc<Listing<T>> {
    Arc::new(Listing { entries, complete: true, as_of: at(second), faults: Vec::new() })
}

/// A roster that takes in listings and adopts whom they show, as a pool does after a start.
#[derive(Default)]
struct Started(Roster);

impl Started {
    fn sees(
        &mut self,
        vms: Option<Vec<Vm>>,
        registrations: Option<Vec<Registration>>,
        second: u64,
    ) {
        let pool: PoolName = "linux".parse().unwrap();
        let survey = Survey {
            vms: vms.map(|vms| listing(vms, second)),
            registrations: registrations.map(|all| listing(all, second)),
            ..Survey::default()
        };
        for (name, state) in self.0.survey(&pool, &survey, at(second)).adopt {
            self.0.transitioned(&name, state, at(second));
        }
    }

    fn plan(&self, target: u32, second: u64) -> Plan {
        plan(target, &self.0, &POLICY, &Doors::default(), at(second))
    }
}

#[test]
fn a_registration_whose_vm_is_not_listed_yet_is_waited_for_before_its_place_is_given_away() {
    let mut pool = Started::default();
    pool.sees(Some(vec![vm(1), vm(2)]), Some((1..=5).map(registration).collect()), 0);
    let waits = pool.plan(5, 0);
    assert_eq!(waits.create, 0, "{waits:?}");
    assert_eq!(waits.again_at, Some(at(0) + UNDER_WAY), "{waits:?}");
    assert!(waits.because[0].contains("3 may be on their way"), "{waits:?}");
    assert_eq!(pool.plan(7, 0).create, 2, "who was never ordered is ordered at once");
    let past = UNDER_WAY.as_secs();
    assert_eq!(pool.plan(5, past - 1).create, 0);
    assert_eq!(pool.plan(5, past).create, 3, "an order that never came costs seconds");
}

#[test]
fn as_long_as_the_forge_was_not_listed_any_runner_may_be_on_its_way_but_no_outage_holds_the_pool() {
    let mut pool = Started::default();
    pool.sees(Some(vec![vm(1)]), None, 0);
    assert_eq!(pool.plan(4, 1).create, 0, "{:?}", pool.plan(4, 1));
    assert_eq!(pool.plan(4, UNDER_WAY.as_secs()).create, 3, "the forge does not answer");
    pool.sees(None, Some(vec![registration(1), registration(2)]), 2);
    let plan = pool.plan(4, 2);
    assert_eq!(plan.create, 2, "one was on its way: {plan:?}");
}

#[test]
fn a_part_of_the_forges_list_shows_only_a_part_of_those_on_their_way() {
    let mut pool = Started::default();
    let part = Listing {
        entries: vec![registration(1)],
        complete: false,
        as_of: at(0),
        faults: vec!["page 2: no answer".to_owned()],
    };
    let survey = Survey {
        vms: Some(listing(Vec::new(), 0)),
        registrations: Some(Arc::new(part)),
        ..Survey::default()
    };
    let _adopted = pool.0.survey(&"linux".parse().unwrap(), &survey, at(0));
    assert_eq!(pool.plan(3, 0).create, 0, "the other two may be there as well");
    assert_eq!(pool.plan(3, UNDER_WAY.as_secs()).create, 3);
}
