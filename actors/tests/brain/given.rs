//! What many tables begin with: times, names, runners in each state, and what is told of them.

use std::time::Duration;

use runner_fleet_actors::{
    event::{DrainReason, GuestTimes, Job},
    name::{RegistrationId, RunnerName, VmId},
    port::{Finding, Registration, Time, Vm, VmStatus},
    runner::{Answer, Event, Known, Limits, Observation, Report, Sighting, State},
};

/// So many seconds after eight in the morning.
pub(crate) fn at(seconds: u64) -> Time {
    Time::from_timestamp(1_800_000_000, 0).unwrap() + Duration::from_secs(seconds)
}

pub(crate) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A runner of the pool `linux`.
pub(crate) fn name(number: u64) -> RunnerName {
    format!("ci--linux--{number:012x}").parse().unwrap()
}

pub(crate) fn limits() -> Limits {
    Limits::default()
}

/// What is known of a runner whose order was taken.
pub(crate) fn known() -> Known {
    Known { vm: Some(VmId("vm".into())), ..Known::default() }
}

/// Its launch is on its way.
pub(crate) fn creating() -> State {
    State::start(at(0), &limits()).0
}

pub(crate) fn registering() -> State {
    State::Registering { since: at(0), known: known() }
}

pub(crate) fn idle() -> State {
    State::Idle { since: at(0), known: known() }
}

pub(crate) fn busy() -> State {
    State::Busy { since: at(0), job: Job::default(), known: known() }
}

/// An idle one that a shrink has taken.
pub(crate) fn draining() -> State {
    next(idle(), Event::Drain(DrainReason::Shrink), 0)
}

/// The state after an event at that second.
pub(crate) fn next(state: State, event: Event, second: u64) -> State {
    state.next(event, at(second), &limits()).0
}

pub(crate) fn guest(report: Report) -> Event {
    Event::Guest(report, GuestTimes::default())
}

/// The cloud has taken its order.
pub(crate) fn launched() -> Event {
    let registration = RegistrationId(7);
    Event::Answered(Answer::Launched { vm: VmId("vm".into()), registration })
}

/// A look-up by number was answered.
pub(crate) fn found(registration: Option<Registration>, at_work: Option<bool>) -> Event {
    Event::Answered(Answer::LookedUp(Ok(Finding { registration, at_work })))
}

/// What both sides listed at that second.
pub(crate) fn seen(vm: Sighting<Vm>, registration: Sighting<Registration>, second: u64) -> Event {
    let (vm_as_of, registration_as_of) = (at(second), at(second));
    Event::Observed(Observation { vm, registration, vm_as_of, registration_as_of })
}

pub(crate) fn of_cloud(vm: Sighting<Vm>, second: u64) -> Event {
    seen(vm, Sighting::Unknown, second)
}

pub(crate) fn of_forge(registration: Sighting<Registration>, second: u64) -> Event {
    seen(Sighting::Unknown, registration, second)
}

/// Whole listings of both sides lack it.
pub(crate) fn nowhere(second: u64) -> Event {
    seen(Sighting::Absent, Sighting::Absent, second)
}

pub(crate) fn vm(name: RunnerName, status: VmStatus) -> Vm {
    let id = VmId("vm".into());
    Vm { name, id, status, created_at: None, shape: None, scope: None, address: None, task: None }
}
