//! What a decision costs: one runner's `next`, and a pool's `plan` and `target` at 10,000 runners.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a test")]

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use runner_fleet_actors::{
    demand::Demand,
    name::{PoolName, RegistrationId, RunnerName, VmId},
    pool::{self, Roster, Survey, plan},
    port::{Doors, Listing, Registration, Time, Vm, VmStatus},
    runner::{Event, Limits, Observation, Sighting, State, adopt},
    scaler::{self, Target},
};

const RUNNERS: u64 = 10_000;

fn now() -> Time {
    Time::from_timestamp(1_800_000_000, 0).unwrap_or_default()
}

fn pool_name() -> PoolName {
    "linux".parse().unwrap()
}

fn name(token: u64) -> RunnerName {
    RunnerName::new(&"ci".parse().unwrap(), &pool_name(), token)
}

fn vm(token: u64) -> Vm {
    Vm {
        name: name(token),
        id: VmId(format!("3d6c1b1e-0000-4000-8000-{token:012x}")),
        status: VmStatus::Active,
        created_at: Some(now()),
        shape: Some("0123456789abcdef".to_owned()),
        scope: None,
        address: None,
        task: None,
    }
}

fn registration(token: u64) -> Registration {
    Registration {
        name: name(token),
        id: RegistrationId(token),
        online: true,
        busy: Some(token.is_multiple_of(2)),
        cordoned: None,
    }
}

fn survey(as_of: Time) -> Survey {
    let vms = (0..RUNNERS).map(vm).collect();
    let registrations = (0..RUNNERS).map(registration).collect();
    Survey {
        vms: Some(Arc::new(Listing { entries: vms, complete: true, as_of, faults: vec![] })),
        registrations: Some(Arc::new(Listing {
            entries: registrations,
            complete: true,
            as_of,
            faults: vec![],
        })),
        ..Survey::default()
    }
}

fn roster() -> Roster {
    let mut roster = Roster::default();
    for (name, state) in roster.survey(&pool_name(), &survey(now()), now()).adopt {
        roster.transitioned(&name, state, now());
    }
    roster
}

fn policy() -> pool::Policy {
    pool::Policy { max: 20_000, replace_at_once: 5, shape: None, retiring: false }
}

fn decisions(criterion: &mut Criterion) {
    let limits = Limits::default();
    let idle = adopt(Some(vm(0)), Some(registration(1)), now());
    let later = now() + Duration::from_secs(30);
    let seen = Event::Observed(Observation {
        vm: Sighting::Seen(vm(0)),
        registration: Sighting::Seen(registration(1)),
        vm_as_of: later,
        registration_as_of: later,
    });
    criterion.bench_function("next: one listing for one runner", |bencher| {
        bencher.iter_batched(
            || (idle.clone(), seen.clone()),
            |(state, event)| State::next(state, event, later, &limits),
            BatchSize::SmallInput,
        );
    });

    let roster = roster();
    criterion.bench_function("plan: 10,000 runners, nothing to do", |bencher| {
        bencher.iter(|| plan(black_box(10_000), &roster, &policy(), &Doors::default(), later));
    });
    criterion.bench_function("plan: 10,000 runners, 1,000 more", |bencher| {
        bencher.iter(|| plan(black_box(11_000), &roster, &policy(), &Doors::default(), later));
    });
    criterion.bench_function("plan: 10,000 runners, 1,000 fewer", |bencher| {
        bencher.iter(|| plan(black_box(9_000), &roster, &policy(), &Doors::default(), later));
    });
    let listing = survey(later);
    criterion.bench_function("survey: both listings of 10,000 runners", |bencher| {
        bencher.iter_batched(
            || roster.clone(),
            |mut roster| roster.survey(&pool_name(), &listing, later),
            BatchSize::LargeInput,
        );
    });

    let scaling = scaler::Policy {
        min: 100,
        spare: 50,
        max: 20_000,
        shrink_after: Duration::from_secs(300),
        fixed: None,
    };
    let last = Target::initial(&scaling);
    let demand = Some(Demand::exact(500, 9_500, later));
    criterion.bench_function("target: a change of demand", |bencher| {
        bencher.iter(|| scaler::target(black_box(demand), &last, &scaling, later));
    });
}

criterion_group!(benches, decisions);
criterion_main!(benches);
