//! The documents that go between a guest and its daemon (protocol v1), and what becomes of them.
//!
//! Fields that are not known are ignored, because a guest of a newer user data may outlive a daemon's
//! change of version; types must match. What comes is the word of a machine on which strangers' code
//! ran: texts are cut, lose their control characters (they end in terminals) and, where a field is a
//! word, are taken only if they look like one. Times that cannot be true are dropped one by one.

use std::time::Duration;

use runner_fleet_actors::{
    event::{GuestTimes, Job, JobEnd},
    foreign::{Foreign, is_order},
    port::StandDown,
    runner::Report,
};
use serde::Deserialize;

/// Longest word (a conclusion, a version).
const WORD_MAX: usize = 32;
/// Bytes that are kept of a log excerpt.
const LOG_MAX: usize = 4 * 1024;
/// No guest lives longer: ten times GitHub's own limit of a job's run time and wait together.
const LIFE_MAX: Duration = Duration::from_secs(100 * 24 * 3600);

/// What a report comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// In the order in which they happened. The end of a job comes with its beginning, whose own
    /// report may be lost.
    pub reports: Vec<Report>,
    /// By the guest's own clock.
    pub times: GuestTimes,
    /// Version of its runner application.
    pub version: Option<String>,
    /// Its last lines, after an end that is not the usual one.
    pub log: Option<String>,
}

impl Told {
    /// What the body of a report says. `token`: the guest's own, which must not be in its log excerpt.
    ///
    /// # Errors
    /// It is no report: no JSON, or fields of other types.
    pub fn read(body: &[u8], token: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_slice::<ReportDocument>(body).map(|document| document.told(token))
    }
}

/// `POST /v1/guest/{runner}/answers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Answer {
    /// Which order it answers.
    pub number: u64,
    /// The answer.
    pub answer: AnswerWord,
}

/// What a guest answers to the order to stand down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnswerWord {
    /// Its listener is frozen and no job is accepted.
    StandingDown,
    /// It has a job.
    Busy,
}

impl From<AnswerWord> for StandDown {
    fn from(word: AnswerWord) -> Self {
        match word {
            AnswerWord::StandingDown => Self::StandingDown,
            AnswerWord::Busy => Self::Busy,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ReportWord {
    Booted,
    RunnerStarted,
    JobStarted,
    JobCompleted,
    Stopped,
}

/// `POST /v1/guest/{runner}/reports`.
#[derive(Debug, Deserialize)]
struct ReportDocument {
    report: ReportWord,
    times: Option<TimesDocument>,
    job: Option<JobDocument>,
    result: Option<String>,
    exit_code: Option<i32>,
    runner_version: Option<String>,
    log: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct TimesDocument {
    booted: Option<f64>,
    runner_started: Option<f64>,
    job_started: Option<f64>,
    job_completed: Option<f64>,
    stopped: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct JobDocument {
    repository: Option<String>,
    workflow: Option<String>,
    event: Option<String>,
    run_id: Option<u64>,
}

impl ReportDocument {
    fn told(self, token: &str) -> Told {
        let job = self.job.map(|job| Job {
            // The guest is not told its job's number.
            id: None,
            repository: job.repository.as_deref().and_then(text),
            workflow: job.workflow.as_deref().and_then(text),
            event: job.event.as_deref().and_then(text),
            run_id: job.run_id,
        });
        let end = JobEnd {
            conclusion: self
                .result
                .filter(|word| is_word(word, |c| c.is_ascii_lowercase() || c == '_'))
                .map(Foreign::from),
            exit_code: self.exit_code,
        };
        let reports = match self.report {
            ReportWord::Booted => vec![Report::Booted],
            ReportWord::RunnerStarted => vec![Report::RunnerStarted],
            ReportWord::JobStarted => vec![Report::JobStarted(job.unwrap_or_default())],
            ReportWord::JobCompleted => {
                vec![Report::JobStarted(job.unwrap_or_default()), Report::JobCompleted(end)]
            }
            ReportWord::Stopped => {
                let begun = job.map(Report::JobStarted);
                begun.into_iter().chain([Report::Stopped(end)]).collect()
            }
        };
        Told {
            reports,
            times: self.times.unwrap_or_default().times(),
            version: self.runner_version.filter(|word| {
                is_word(word, |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+'))
            }),
            log: self.log.and_then(|log| excerpt(&log, token)),
        }
    }
}

impl TimesDocument {
    /// Each as it stands, if it can be true and is not before one that came before it.
    fn times(self) -> GuestTimes {
        let mut latest = Duration::ZERO;
        let mut next = |seconds: Option<f64>| {
            let time = Duration::try_from_secs_f64(seconds?).ok()?;
            let plausible = (latest..=LIFE_MAX).contains(&time);
            plausible.then(|| {
                latest = time;
                time
            })
        };
        GuestTimes {
            booted: next(self.booted),
            runner_started: next(self.runner_started),
            job_started: next(self.job_started),
            job_completed: next(self.job_completed),
            stopped: next(self.stopped),
        }
    }
}

fn is_word(text: &str, legal: impl Fn(char) -> bool) -> bool {
    !text.is_empty() && text.len() <= WORD_MAX && text.chars().all(legal)
}

/// One line; `None` where it has nothing to show.
fn text(given: &str) -> Option<Foreign> {
    let given = given.trim_matches(|c: char| c.is_whitespace() || is_order(c));
    (!given.is_empty()).then(|| given.into())
}

/// The end of a log, without control characters but the ends of lines, and only then without the token,
/// which they may have cut in two.
fn excerpt(log: &str, token: &str) -> Option<String> {
    let tame: String = log.chars().filter(|c| matches!(c, '\n' | '\t') || !is_order(*c)).collect();
    let tame = tame.replace(token, "***");
    let mut from = tame.len().saturating_sub(LOG_MAX);
    while !tame.is_char_boundary(from) {
        from += 1;
    }
    let end = tame[from..].trim();
    (!end.is_empty()).then(|| end.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(document: &str) -> Told {
        Told::read(document.as_bytes(), "t0k3n").unwrap()
    }

    fn seconds(seconds: f64) -> Option<Duration> {
        Some(Duration::from_secs_f64(seconds))
    }

    #[test]
    fn a_last_report_tells_the_whole_life() {
        let told = told(
            r#"{"report": "stopped", "new_field": {"of": "a newer guest"},
                "times": {"booted": 3.5, "runner_started": 9, "job_started": 31.25, "stopped": 41.0},
                "job": {"repository": "o/r", "workflow": "CI", "run_id": 123, "event": "push"},
                "result": "failure", "exit_code": 7, "runner_version": "2.330.0", "log": "a\nb\n"}"#,
        );
        let job = Job {
            id: None,
            repository: Some("o/r".into()),
            workflow: Some("CI".into()),
            event: Some("push".into()),
            run_id: Some(123),
        };
        let end = JobEnd { conclusion: Some("failure".into()), exit_code: Some(7) };
        assert_eq!(told.reports, [Report::JobStarted(job), Report::Stopped(end)]);
        assert_eq!(told.times.booted, seconds(3.5));
        assert_eq!(told.times.runner_started, seconds(9.0));
        assert_eq!(told.times.job_started, seconds(31.25));
        assert_eq!((told.times.job_completed, told.times.stopped), (None, seconds(41.0)));
        assert_eq!(told.version.as_deref(), Some("2.330.0"));
        assert_eq!(told.log.as_deref(), Some("a\nb"));
    }

    #[test]
    fn a_guest_that_had_no_job_tells_of_none() {
        let told = told(r#"{"report": "stopped", "exit_code": 1, "job": null, "times": null}"#);
        let end = JobEnd { conclusion: None, exit_code: Some(1) };
        assert_eq!(told.reports, [Report::Stopped(end)]);
        assert_eq!(told.times, GuestTimes::default());
    }

    #[test]
    fn a_time_that_cannot_be_true_costs_itself_alone() {
        let times =
            |times: &str| told(&format!("{{\"report\": \"stopped\", \"times\": {times}}}")).times;
        let negative = times(r#"{"booted": -1, "runner_started": 2}"#);
        assert_eq!((negative.booted, negative.runner_started), (None, seconds(2.0)));
        let backwards = times(r#"{"runner_started": 9, "job_started": 8.9, "job_completed": 10}"#);
        assert_eq!((backwards.job_started, backwards.job_completed), (None, seconds(10.0)));
        let endless = times(r#"{"booted": 1e300, "runner_started": 1e12, "stopped": 5}"#);
        assert_eq!((endless.booted, endless.runner_started), (None, None));
        assert_eq!(endless.stopped, seconds(5.0));
    }

    #[test]
    fn what_a_stranger_wrote_is_tamed() {
        let told = told(
            r#"{"report": "job-completed", "result": "success; DROP", "runner_version": "2\u001b[31m",
                "job": {"repository": "o/r\u001b[2J\n", "workflow": " \u0007 ", "event": null}}"#,
        );
        let [Report::JobStarted(job), Report::JobCompleted(end)] = told.reports.as_slice() else {
            panic!("{:?}", told.reports)
        };
        assert_eq!(job.repository.as_deref(), Some("o/r\u{fffd}[2J"));
        assert_eq!((job.workflow.as_ref(), job.event.as_ref()), (None, None));
        assert_eq!((end.conclusion.as_ref(), told.version), (None, None));
    }

    #[test]
    fn of_a_long_log_the_end_is_kept_and_no_token() {
        let log = format!("{}the end, t0k3n", "ä".repeat(LOG_MAX));
        let text = serde_json::json!({"report": "stopped", "log": log}).to_string();
        let log = told(&text).log.unwrap();
        assert!(log.len() <= LOG_MAX && log.ends_with("the end, ***"), "{} bytes", log.len());
    }

    #[test]
    fn a_token_that_a_colour_cuts_in_two_is_no_less_hidden() {
        let log = told(r#"{"report": "stopped", "log": "t0\u001bk3n and t\u202e0k3n"}"#).log;
        assert_eq!(log.as_deref(), Some("*** and ***"));
    }

    #[test]
    fn wrong_types_and_words_are_refused() {
        for wrong in [
            r#"{"report": "exploded"}"#,
            r#"{"times": {}}"#,
            r#"{"report": "booted", "times": {"booted": "3"}}"#,
            r#"{"report": "stopped", "exit_code": 1.5}"#,
            r#"{"report": "booted", "times": {"booted": NaN}}"#,
        ] {
            assert!(Told::read(wrong.as_bytes(), "t0k3n").is_err(), "{wrong}");
        }
    }
}
