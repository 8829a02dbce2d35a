//! What the tables of lives are told with: one runner, what is said of it, and where it stands.

use runner_fleet_actors::{
    event::{DrainReason, GuestTimes, Job, JobEnd},
    name::{RegistrationId, RunnerName, VmId},
    port::{Deletion, ErrorClass, Finding, PortError, Registration, StandDown, Vm, VmStatus},
    runner::{Answer, Drain, Effect, Event, Limits, Observation, Report, Sighting, State, adopt},
};

pub(crate) use crate::given::at;

pub(crate) fn limits() -> Limits {
    Limits::default()
}

pub(crate) fn name() -> RunnerName {
    "ci--linux--0123456789ab".parse().unwrap()
}

pub(crate) fn vm(status: VmStatus) -> Vm {
    let (name, id) = (name(), VmId("vm".into()));
    Vm { name, id, status, created_at: None, shape: None, scope: None, address: None, task: None }
}

pub(crate) fn there(busy: bool) -> Registration {
    Registration {
        name: name(),
        id: RegistrationId(7),
        online: true,
        busy: Some(busy),
        cordoned: None,
    }
}

pub(crate) fn seen(vm: Sighting<Vm>, registration: Sighting<Registration>, second: u64) -> Event {
    let (vm_as_of, registration_as_of) = (at(second), at(second));
    Event::Observed(Observation { vm, registration, vm_as_of, registration_as_of })
}

pub(crate) fn of_cloud(status: VmStatus, second: u64) -> Event {
    seen(Sighting::Seen(vm(status)), Sighting::Unknown, second)
}

pub(crate) fn no_vm(second: u64) -> Event {
    seen(Sighting::Absent, Sighting::Unknown, second)
}

pub(crate) fn no_registration(second: u64) -> Event {
    seen(Sighting::Unknown, Sighting::Absent, second)
}

pub(crate) fn of_forge(busy: bool, second: u64) -> Event {
    seen(Sighting::Unknown, Sighting::Seen(there(busy)), second)
}

pub(crate) fn step(state: State, event: Event, second: u64) -> (State, Vec<Effect>) {
    state.next(event, at(second), &limits())
}

pub(crate) fn next(state: State, event: Event, second: u64) -> State {
    step(state, event, second).0
}

/// One event after the other, each with its second.
pub(crate) fn run(state: State, events: impl IntoIterator<Item = (u64, Event)>) -> State {
    events.into_iter().fold(state, |state, (second, event)| next(state, event, second))
}

pub(crate) fn drain(state: &State) -> &Drain {
    match state {
        State::Draining { drain, .. } => drain,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn guest(report: Report) -> Event {
    Event::Guest(report, GuestTimes::default())
}

pub(crate) fn guest_begins() -> Event {
    guest(Report::JobStarted(Job::default()))
}

pub(crate) fn guest_ends() -> Event {
    guest(Report::JobCompleted(JobEnd::default()))
}

pub(crate) fn begins(number: Option<u64>) -> Event {
    Event::JobStarted { job: Job::default(), registration: number.map(RegistrationId) }
}

pub(crate) fn ends() -> Event {
    Event::JobCompleted { end: JobEnd::default(), registration: Some(RegistrationId(7)) }
}

pub(crate) fn shrinks() -> Event {
    Event::Drain(DrainReason::Shrink)
}

pub(crate) fn found(registration: Option<Registration>, at_work: Option<bool>) -> Event {
    Event::Answered(Answer::LookedUp(Ok(Finding { registration, at_work })))
}

pub(crate) fn no_answer() -> PortError {
    PortError::certain(ErrorClass::Transient, "no answer")
}

pub(crate) fn not_looked_up() -> Event {
    Event::Answered(Answer::LookedUp(Err(no_answer())))
}

pub(crate) fn cordoned(result: Result<(), PortError>) -> Event {
    Event::Answered(Answer::Cordoned(result))
}

pub(crate) fn uncordoned(result: Result<(), PortError>) -> Event {
    Event::Answered(Answer::Uncordoned(result))
}

pub(crate) fn deregistered(result: Result<(), PortError>) -> Event {
    Event::Answered(Answer::Deregistered(result))
}

pub(crate) fn vm_deleted(deletion: Deletion) -> Event {
    Event::Answered(Answer::VmDeleted(Ok(deletion)))
}

pub(crate) fn stands_down() -> Event {
    Event::Answered(Answer::StoodDown(Ok(StandDown::StandingDown)))
}

/// Adopted at second 0, without a job; its guest cannot report.
pub(crate) fn idle() -> State {
    adopt(Some(vm(VmStatus::Active)), Some(there(false)), at(0))
}

/// The same with a guest that has reported.
pub(crate) fn reporting() -> State {
    next(idle(), guest(Report::RunnerStarted), 1)
}

/// Since second 10, by the forge's word.
pub(crate) fn busy() -> State {
    next(idle(), begins(Some(7)), 10)
}

pub(crate) fn creating() -> State {
    State::start(at(0), &limits()).0
}

pub(crate) fn launched() -> State {
    let answer = Answer::Launched { vm: VmId("vm".into()), registration: RegistrationId(7) };
    next(creating(), Event::Answered(answer), 5)
}

pub(crate) fn registering() -> State {
    next(launched(), of_cloud(VmStatus::Active, 40), 40)
}
