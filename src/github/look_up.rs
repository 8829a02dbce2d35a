//! One runner and its job, asked for by their numbers: the second witness where listings lack a runner.

use http::{Method, StatusCode};
use runner_fleet_actors::{
    event::Job,
    job::JobWord,
    name::{RegistrationId, RunnerName, Scope},
    port::{ErrorClass, Finding, PortError, Registration},
};

use super::{
    budget::CallKind,
    client::{Call, Client},
    reading::said,
    records, route, wire,
};

/// Looks a runner up; see the port's contract.
pub async fn look_up(
    client: &Client,
    scope: &Scope,
    name: &RunnerName,
    id: Option<RegistrationId>,
    job: Option<&Job>,
) -> Result<Finding, PortError> {
    let registration = registration(client, scope, name, id).await?;
    let at_work = at_work(client, name, job).await;
    finding(registration, at_work)
}

/// What both answers say together. Where there is no runner, a job that could not be asked about leaves
/// open whether it runs.
pub fn finding(
    registration: Option<Registration>,
    at_work: Result<Option<bool>, PortError>,
) -> Result<Finding, PortError> {
    match (registration, at_work) {
        (None, Err(error)) => Err(error),
        (registration, at_work) => {
            Ok(Finding { registration, at_work: at_work.unwrap_or_default() })
        }
    }
}

async fn registration(
    client: &Client,
    scope: &Scope,
    name: &RunnerName,
    id: Option<RegistrationId>,
) -> Result<Option<Registration>, PortError> {
    let (what, path) = match id {
        Some(id) => (format!("look up runner {name} ({id}) in {scope}"), route::runner(scope, id)),
        None => (format!("look up runner {name} in {scope}"), route::runners_named(scope, name)),
    };
    let call = Call::new(what, CallKind::List, scope, Method::GET, path);
    let answer = client.call(&call).await?;
    match answer.status {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND if id.is_some() => return Ok(None),
        _ => return Err(call.failed(ErrorClass::Invalid, &said(&answer))),
    }
    let read = match id {
        Some(_) => wire::runner(&answer.body, name),
        None => wire::runner_named(&answer.body, name),
    };
    read.ok_or_else(|| call.lost("GitHub's answer shows no runner that can be read"))
}

/// Whether the job runs on the runner of that name, where its number is known and GitHub says so.
pub async fn at_work(
    client: &Client,
    name: &RunnerName,
    job: Option<&Job>,
) -> Result<Option<bool>, PortError> {
    let Some((id, repository)) = job.and_then(|job| job.id.zip(job.repository.as_deref())) else {
        return Ok(None);
    };
    match records::job(client, repository, id).await {
        Ok(news) => Ok(news.and_then(|news| match news.word {
            JobWord::Running => {
                let on = news.facts.runner.as_deref();
                on.is_none_or(|on| on.eq_ignore_ascii_case(name.as_str())).then_some(true)
            }
            JobWord::Done => Some(false),
            JobWord::Queued | JobWord::Blocked => None,
        })),
        // Whoever may see runners need not be allowed to read jobs; then the runner alone must do.
        Err(error) if matches!(error.class, ErrorClass::Auth | ErrorClass::Invalid) => Ok(None),
        Err(error) => Err(error),
    }
}
