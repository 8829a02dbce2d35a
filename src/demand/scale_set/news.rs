//! What a scale set's messages mean for the books of jobs and for the runners.

use runner_fleet_actors::{
    event::{Job, JobEnd},
    job::{JobFacts, JobKey, JobNews, JobWord},
    name::{PoolName, RegistrationId, RunnerName},
    port::Time,
};

use super::wire::{Happened, JobMessage, Message};

/// The news of a message, in its order. A job that cannot be told from others is no news.
pub fn of_message(message: &Message, pool: &PoolName, now: Time) -> Vec<JobNews> {
    message.jobs.iter().filter_map(|job| of_job(job, pool, now)).collect()
}

fn of_job(job: &JobMessage, pool: &PoolName, now: Time) -> Option<JobNews> {
    Some(JobNews {
        key: key(job)?,
        word: match job.happened {
            Happened::Available | Happened::Assigned => JobWord::Queued,
            Happened::Started => JobWord::Running,
            Happened::Completed => JobWord::Done,
        },
        at: now,
        facts: JobFacts {
            repository: job.repository.clone(),
            run_id: job.run_id,
            name: job.name.clone(),
            workflow: job.workflow.clone(),
            event: job.event.clone(),
            labels: job.labels.clone(),
            pool: Some(pool.clone()),
            runner: job.runner.clone(),
            runner_id: job.runner_id.map(RegistrationId),
            queued_at: job.queued_at,
            started_at: job.started_at,
            ended_at: job.ended_at,
            conclusion: job.conclusion.clone(),
            ..JobFacts::default()
        },
    })
}

/// The job's own id, which is not the `workflow_job` number of webhooks; the request's number where
/// GitHub names no id.
fn key(job: &JobMessage) -> Option<JobKey> {
    match (&job.job, job.request) {
        (Some(id), _) => format!("scale-set:{id}").parse().ok(),
        (None, 0) => None,
        (None, request) => format!("scale-set:request-{request}").parse().ok(),
    }
}

/// What became of a runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Became {
    /// It has begun a job.
    Busy(Job),
    /// Its job has ended.
    Finished(JobEnd),
}

/// What a message tells of runners, in its order. The session of a pool's scale set speaks of that pool's
/// runners, and of no other's: names that are none of its are left out.
pub fn of_runners(
    message: &Message,
    pool: &PoolName,
) -> Vec<(RunnerName, Option<RegistrationId>, Became)> {
    let told = |job: &JobMessage| {
        let name: RunnerName = job.runner.as_deref()?.parse().ok()?;
        if name.pool() != *pool {
            return None;
        }
        let became = match job.happened {
            Happened::Available | Happened::Assigned => return None,
            Happened::Started => Became::Busy(Job {
                // The service's own number of a job is none that webhooks or REST know.
                id: None,
                repository: job.repository.clone(),
                // The guest knows the workflow's name; its file here must not hide that.
                workflow: None,
                event: job.event.clone(),
                run_id: job.run_id,
            }),
            Happened::Completed => {
                Became::Finished(JobEnd { conclusion: job.conclusion.clone(), exit_code: None })
            }
        };
        Some((name, job.runner_id.map(RegistrationId), became))
    };
    message.jobs.iter().filter_map(told).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::demand::scale_set::wire;

    fn message(jobs: &serde_json::Value) -> Message {
        let body = json!({"messageId": 1, "messageType": "RunnerScaleSetJobMessages",
            "body": jobs.to_string(), "statistics": {"totalAssignedJobs": 1}});
        wire::message(body.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_job_keeps_its_key_from_its_assignment_to_its_end() {
        let pool: PoolName = "large".parse().unwrap();
        let jobs = ["JobAvailable", "JobAssigned", "JobStarted", "JobCompleted"]
            .map(|kind| json!({"messageType": kind, "jobId": "6b1c-22", "runnerRequestId": 4}));
        let news = of_message(&message(&json!(jobs)), &pool, Time::default());
        let words: Vec<_> = news.iter().map(|one| one.word).collect();
        let wanted = [JobWord::Queued, JobWord::Queued, JobWord::Running, JobWord::Done];
        assert_eq!(words, wanted);
        assert!(news.iter().all(|one| one.key.as_str() == "scale-set:6b1c-22"));
        assert!(news.iter().all(|one| one.facts.pool.as_ref() == Some(&pool)));
    }

    #[test]
    fn a_job_without_any_name_is_no_news_and_costs_the_others_nothing() {
        let pool: PoolName = "large".parse().unwrap();
        let jobs = json!([
            {"messageType": "JobAssigned", "runnerRequestId": 0},
            {"messageType": "JobAssigned", "jobId": "with space"},
            {"messageType": "JobAssigned", "runnerRequestId": 12},
        ]);
        let news = of_message(&message(&jobs), &pool, Time::default());
        let keys: Vec<_> = news.iter().map(|one| one.key.as_str()).collect();
        assert_eq!(keys, ["scale-set:request-12"]);
    }

    #[test]
    fn runners_hear_of_their_jobs_and_others_runners_are_left_out() {
        let jobs = json!([
            {"messageType": "JobStarted", "jobId": "a", "runnerName": "ci--large--000000000001",
             "runnerId": 31, "workflowRunId": 7, "jobWorkflowRef": "o/r/.github/workflows/ci.yml@x"},
            {"messageType": "JobStarted", "jobId": "b", "runnerName": "somebody"},
            {"messageType": "JobStarted", "jobId": "d", "runnerName": "ci--small--000000000001"},
            {"messageType": "JobCompleted", "jobId": "c", "runnerName": "", "result": "canceled"},
            {"messageType": "JobCompleted", "jobId": "a", "runnerName": "ci--large--000000000001",
             "result": "succeeded"},
        ]);
        let [(first, number, busy), (second, none, finished)] =
            &of_runners(&message(&jobs), &"large".parse().unwrap())[..]
        else {
            panic!("two of the five")
        };
        assert_eq!(first, second);
        assert_eq!((*number, *none), (Some(RegistrationId(31)), None));
        let job = Job { run_id: Some(7), ..Job::default() };
        assert_eq!(*busy, Became::Busy(job));
        let end = JobEnd { conclusion: Some("success".into()), exit_code: None };
        assert_eq!(*finished, Became::Finished(end));
    }
}
