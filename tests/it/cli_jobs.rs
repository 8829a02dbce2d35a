//! The command line looks back at jobs, over a real socket.

use std::sync::Arc;

use crate::support::fleet_api::FakeControl;
use crate::support::kept_jobs;
use crate::support::kept_jobs::{RUNNER, job};
use runner_fleet::http::serve;
use runner_fleet_actors::job::{JobRecord, JobWord};
use serde_json::Value;
use tokio_util::sync::{CancellationToken, DropGuard};

struct Daemon {
    folder: tempfile::TempDir,
    control: Arc<FakeControl>,
    _stop: DropGuard,
}

impl Daemon {
    async fn with(jobs: Vec<JobRecord>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let control = Arc::new(FakeControl::with_pools());
        control.keep_jobs(kept_jobs::desk(folder.path(), jobs).await);
        let stop = CancellationToken::new();
        let socket = folder.path().join("api.sock");
        serve(control.clone(), &socket, None, stop.clone()).await.unwrap();
        Self { folder, control, _stop: stop.drop_guard() }
    }

    /// Exit code, stdout, stderr.
    async fn command(&self, args: &[&str]) -> (i32, String, String) {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_runner-fleet"))
            .args(args)
            .env("RUNNER_FLEET_SOCKET", self.folder.path().join("api.sock"))
            .output()
            .await
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    async fn good(&self, args: &[&str]) -> String {
        let (code, out, err) = self.command(args).await;
        assert_eq!(code, 0, "{args:?}: {err}");
        out
    }
}

async fn some() -> Daemon {
    let mut waits = job(1, JobWord::Queued, 90);
    waits.way.delayed = Some("3 launches held".into());
    Daemon::with(vec![waits, job(2, JobWord::Done, 60)]).await
}

#[tokio::test]
async fn jobs_are_listed_for_people_and_for_programs() {
    let daemon = some().await;
    let text = daemon.good(&["jobs"]).await;
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].starts_with("JOB") && lines[0].ends_with("RESULT"), "{text}");
    assert!(lines[1].starts_with('2') && lines[1].contains(RUNNER), "the newest first: {text}");
    assert!(lines[1].contains("30s"), "how long it waited: {text}");
    assert!(lines[2].contains("queued; 3 launches held"), "{text}");
    let json: Value =
        serde_json::from_str(&daemon.good(&["jobs", "--output", "json"]).await).unwrap();
    assert_eq!(json["jobs"][1]["way"]["delayed"], "3 launches held");
}

#[tokio::test]
async fn jobs_can_be_narrowed_down() {
    let daemon = some().await;
    for (args, keys) in [
        (&["--slow"][..], vec!["1"]),
        (&["--slow", "10s"], vec!["1", "2"]),
        (&["--state", "done"], vec!["2"]),
        (&["--pool", "large", "--limit", "1"], vec!["2"]),
        (&["--since", "75s"], vec!["2"]),
    ] {
        let all = [&["jobs", "--output", "json"], args].concat();
        let json: Value = serde_json::from_str(&daemon.good(&all).await).unwrap();
        let found: Vec<_> =
            json["jobs"].as_array().unwrap().iter().map(|job| &job["key"]).collect();
        assert_eq!(found, keys, "{args:?}");
    }
    assert_eq!(daemon.good(&["jobs", "--pool", "small"]).await, "no such job\n");
    let summary = daemon.good(&["jobs", "--summary"]).await;
    assert!(summary.starts_with("DAY") && summary.contains("large"), "{summary}");
}

#[tokio::test]
async fn what_a_job_waits_for_is_told_by_its_number_or_address() {
    let daemon = some().await;
    for name in ["1", "https://github.com/octo-org/app/actions/runs/5/job/1"] {
        let text = daemon.good(&["why-waiting", name]).await;
        for part in ["job 1: queued", "large", "(1m3", "- 1 runner is idle in pool large"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }
    let text = daemon.good(&["why-waiting", "2"]).await;
    assert!(text.contains("it does not wait: it is over"), "{text}");
    let (code, _, told) = daemon.command(&["why-waiting", "77"]).await;
    assert_eq!(code, 1);
    assert!(told.contains("there is no job \"77\""), "{told}");
    assert_eq!(daemon.control.asked(), [], "looking changes nothing");
}

#[tokio::test]
async fn a_wrong_question_is_refused_with_what_is_allowed() {
    let daemon = some().await;
    for (args, code, says) in [
        (&["jobs", "--since", "7"][..], 1, "since = \"7\" is not allowed"),
        (&["jobs", "--state", "lazy"], 1, "blocked, queued, running or done"),
        (&["jobs", "--limit", "0"], 1, "from 1 to 1000"),
        (&["jobs", "--pool", "lrage"], 1, "there is large, small"),
        (&["jobs", "--summary", "--slow"], 2, "cannot be used with"),
        (&["why-waiting"], 2, "<JOB>"),
    ] {
        let (found, out, err) = daemon.command(args).await;
        assert_eq!((found, out.as_str()), (code, ""), "{args:?}: {err}");
        assert!(err.contains(says), "{args:?}: {err}");
    }
    for command in ["jobs", "why-waiting"] {
        assert!(daemon.good(&[command, "--help"]).await.contains("Examples:"), "{command}");
    }
}
