//! `check --online`: can GitHub, the clouds and whoever tells of demand do what the configuration
//! wants of them?
//!
//! Everything is asked, and every answer shown: a check that stops at the first fault is run five
//! times. Nothing is created.

use std::{process::ExitCode, sync::Arc};

use runner_fleet_actors::{
    name::Scope,
    port::{Clock, Shape, TokioClock},
};
use serde::Serialize;

use super::{
    assemble::{self, Cloud},
    io_runtime,
};
use crate::{
    cli::{
        self, Output,
        table::{table, terminal_width},
    },
    config::Config,
    demand::SOURCES,
    github::{
        Github, budget,
        names::{self, Question},
    },
    home::Tls,
    provider::{Finding, Grade},
};

/// One thing that was asked.
#[derive(Debug, Clone, Serialize)]
pub struct Asked {
    /// `ok`, `warning` or `fault`.
    pub grade: &'static str,
    /// Whom: `github`, `provider NAME`, or a source of demand such as `queue`.
    pub whom: String,
    /// About what.
    pub about: String,
    /// What came back and, where it is not fine, what to do.
    pub what: String,
}

impl Asked {
    fn of(whom: &str, Finding { grade, about, what }: Finding) -> Self {
        let grade = match grade {
            Grade::Fine => OK,
            Grade::Warning => WARNING,
            Grade::Fault => FAULT,
        };
        Self { grade, whom: whom.to_owned(), about, what }
    }
}

const OK: &str = "ok";
const WARNING: &str = "warning";
const FAULT: &str = "fault";

/// Asks GitHub, the clouds and the sources of demand whether they can do what `config` wants of them.
/// 0 where no fault was found, else 1.
#[must_use]
pub fn check_online(config: &Config, output: Output) -> ExitCode {
    let _already = rustls::crypto::ring::default_provider().install_default();
    let io = match io_runtime() {
        Ok(io) => io,
        Err(error) => return cli::complain(cli::FAILED, &error),
    };
    let asked = io.block_on(ask_all(config));
    let faulty = asked.iter().any(|one| one.grade == FAULT);
    let text = match output {
        Output::Json => {
            serde_json::to_string_pretty(&asked).unwrap_or_else(|error| error.to_string())
        }
        Output::Table => as_table(&asked),
    };
    let said = cli::say(&text);
    if faulty { ExitCode::FAILURE } else { said }
}

fn as_table(asked: &[Asked]) -> String {
    let rows = asked.iter().map(|one| {
        vec![one.grade.to_owned(), one.whom.clone(), one.about.clone(), one.what.clone()]
    });
    table(&["", "WHOM", "ABOUT", "WHAT"], rows, terminal_width())
}

async fn ask_all(config: &Config) -> Vec<Asked> {
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::of_system());
    let mut asked: Vec<Asked> = config
        .warnings
        .iter()
        .map(|warning| Asked {
            grade: WARNING,
            whom: "configuration".to_owned(),
            about: warning.key.clone(),
            what: warning.what.clone(),
        })
        .collect();
    let (names, lessons) = <_>::default();
    let github = match assemble::github(config, &clock, budget::MINUTE, names, lessons) {
        Ok(github) => Some(Arc::new(github)),
        Err(fault) => {
            let (whom, about) = ("github".to_owned(), "configuration".to_owned());
            asked.push(Asked { grade: FAULT, whom, about, what: fault.to_string() });
            None
        }
    };
    if let Some(github) = &github {
        asked.extend(ask_github(config, github).await);
    }
    for kind in SOURCES {
        let found = kind.ask(config, github.as_ref(), &clock).await;
        asked.extend(found.into_iter().map(|finding| Asked::of(kind.name(), finding)));
    }
    let guests = config.guests.as_ref().and_then(|guests| guests.tls.clone());
    asked.extend(guests.map(|tls| Asked::of("guests", Tls::check(tls))));
    for (name, provider) in &config.providers {
        let whom = format!("provider {name}");
        let shapes: Vec<Shape> = config
            .pools
            .iter()
            .filter(|pool| pool.provider == *name)
            .map(|pool| pool.shape.clone())
            .collect();
        match Cloud::connect(name, provider, &config.fleet.id, &clock, Vec::new()).await {
            Ok(cloud) => {
                let found = cloud.check_online(&shapes).await;
                asked.extend(found.into_iter().map(|finding| Asked::of(&whom, finding)));
            }
            Err(fault) => asked.push(Asked {
                grade: FAULT,
                whom,
                about: "configuration".to_owned(),
                what: fault.to_string(),
            }),
        }
    }
    asked
}

async fn ask_github(config: &Config, github: &Github) -> Vec<Asked> {
    let whom = "github".to_owned();
    let mut places: Vec<_> =
        config.pools.iter().map(|pool| (pool.scope.clone(), pool.group.clone())).collect();
    places.sort();
    places.dedup();
    let (mut asked, mut seen) = (Vec::new(), Vec::new());
    for (scope, group) in places {
        let about = match &group {
            Some(group) => format!("{scope}, group {group}"),
            None => scope.to_string(),
        };
        let (grade, what) = match github.check(&scope, group.as_deref()).await {
            Ok(access) => {
                let runners =
                    access.runners.map_or(String::new(), |n| format!("{n} runners there; "));
                let rights = match access.may_register {
                    Some(_) => "may register runners",
                    None => "whether runners may be registered is only known by trying",
                };
                (OK, format!("{runners}{rights}"))
            }
            Err(fault) => (FAULT, fault.to_string()),
        };
        let there = grade == OK;
        asked.push(Asked { grade, whom: whom.clone(), about, what });
        if there && !seen.contains(&scope) {
            asked.extend(ask_name(github, &scope).await);
            seen.push(scope);
        }
    }
    asked
}

/// What a scope is called, where that is another name.
async fn ask_name(github: &Github, scope: &Scope) -> Option<Asked> {
    let question = Question { scope: scope.clone(), id: None };
    // Whoever may not read that may do without.
    let identity = github.identity(&question).await.ok().flatten()?;
    let what = names::told(scope, &identity)?;
    let (whom, about) = ("github".to_owned(), scope.to_string());
    Some(Asked { grade: WARNING, whom, about, what })
}
