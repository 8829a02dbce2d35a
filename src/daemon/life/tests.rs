use std::{
    path::Path,
    sync::{Mutex, PoisonError},
};

use super::*;
use crate::{config::Env, daemon::held, demand::SOURCES};

/// What happened, in order: all that there is of a daemon here.
#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Log {
    fn note(&self, part: &str, what: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{part} {what}"));
    }

    /// What was noted since it was asked last.
    fn news(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A part that notes what becomes of it.
struct Noting {
    name: &'static str,
    log: Arc<Log>,
    starts: bool,
    renews: bool,
}

#[async_trait]
impl Part<Log> for Noting {
    async fn start(&self, log: &Arc<Log>) -> Result<(), String> {
        tokio::task::yield_now().await;
        if !self.starts {
            return Err(format!("{}: its address is taken", self.name));
        }
        log.note(self.name, "started");
        Ok(())
    }

    async fn renew<'a>(&'a self, log: &'a Log, _: &'a Renewal) -> Result<Change<'a>, Refusal> {
        if !self.renews {
            return Err(Refusal::Invalid(format!("{}: its secret is gone", self.name)));
        }
        log.note(self.name, "read");
        let change = async move {
            log.note(self.name, "renewed");
            vec![format!("{} is renewed", self.name)]
        };
        Ok(change.boxed())
    }

    async fn stop(&self) {
        self.log.note(self.name, "told to stop");
        tokio::task::yield_now().await;
        self.log.note(self.name, "stopped");
    }
}

/// A daemon of a journal, an API and a fleet, of which one may be made to fail.
fn daemon(adapt: impl Fn(&mut Noting)) -> (Arc<Log>, Life<Log>) {
    let log = Arc::new(Log::default());
    let mut life = Life::default();
    for name in ["journal", "api", "fleet"] {
        let mut part = Noting { name, log: Arc::clone(&log), starts: true, renews: true };
        adapt(&mut part);
        life.add(part);
    }
    (log, life)
}

fn renewal() -> Renewal {
    let text = "[fleet]\nid = \"ci\"\n[github]\ntoken_file = \"token\"\n[providers.lxd]\n\
                kind = \"lxd\"\nsocket = \"/run/lxd/unix.socket\"\n";
    let new = Config::parse(text, Path::new("/fleet.toml"), &Env::default()).unwrap();
    let held = Held::read(&new, SOURCES);
    let changes = held::changes(&held, &held, &new, &new);
    Renewal { new, held, changes }
}

#[tokio::test]
async fn what_was_started_is_stopped_in_reverse_one_after_the_other() {
    let (log, life) = daemon(|_| {});
    life.start(&log).await.unwrap();
    assert_eq!(log.news(), ["journal started", "api started", "fleet started"]);
    life.stop().await;
    let stopped = [
        "fleet told to stop",
        "fleet stopped",
        "api told to stop",
        "api stopped",
        "journal told to stop",
        "journal stopped",
    ];
    assert_eq!(log.news(), stopped);
    life.stop().await;
    assert_eq!(log.news(), Vec::<String>::new(), "nothing is stopped twice");
}

#[tokio::test]
async fn where_a_part_cannot_start_those_before_it_are_stopped_in_reverse() {
    let (log, life) = daemon(|part| part.starts = part.name != "fleet");
    assert_eq!(life.start(&log).await, Err("fleet: its address is taken".to_owned()));
    let became = [
        "journal started",
        "api started",
        "api told to stop",
        "api stopped",
        "journal told to stop",
        "journal stopped",
    ];
    assert_eq!(log.news(), became);

    let (log, life) = daemon(|part| part.starts = part.name != "api");
    assert_eq!(life.start(&log).await, Err("api: its address is taken".to_owned()));
    assert_eq!(log.news(), ["journal started", "journal told to stop", "journal stopped"]);
}

#[tokio::test]
async fn a_reload_changes_all_parts_in_their_order_or_none() {
    let (log, life) = daemon(|_| {});
    life.start(&log).await.unwrap();
    log.news();
    let done = life.renew(&log, &renewal()).await.unwrap();
    assert_eq!(done, ["journal is renewed", "api is renewed", "fleet is renewed"]);
    let became = [
        "journal read",
        "api read",
        "fleet read",
        "journal renewed",
        "api renewed",
        "fleet renewed",
    ];
    assert_eq!(log.news(), became, "nothing is put in place before all is there");

    let (log, life) = daemon(|part| part.renews = part.name != "fleet");
    life.start(&log).await.unwrap();
    log.news();
    let refused = life.renew(&log, &renewal()).await.unwrap_err();
    assert_eq!(refused, Refusal::Invalid("fleet: its secret is gone".to_owned()));
    assert_eq!(log.news(), ["journal read", "api read"]);
}

#[tokio::test]
async fn a_daemon_that_has_been_stopped_takes_over_no_other_configuration() {
    let (log, life) = daemon(|_| {});
    life.start(&log).await.unwrap();
    life.stop().await;
    log.news();
    let refused = life.renew(&log, &renewal()).await.unwrap_err();
    assert!(matches!(refused, Refusal::Unavailable(_)), "{refused}");
    assert_eq!(log.news(), Vec::<String>::new());
}

/// A part whose reading takes so long that the daemon is stopped meanwhile.
struct Slow(Mutex<Option<Arc<Life<Log>>>>);

#[async_trait]
impl Part<Log> for Slow {
    async fn renew<'a>(&'a self, _: &'a Log, _: &'a Renewal) -> Result<Change<'a>, Refusal> {
        let life = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(life) = life {
            life.stop().await;
        }
        Ok(async { Vec::new() }.boxed())
    }
}

#[tokio::test]
async fn a_reload_that_the_stop_overtakes_puts_nothing_into_what_is_stopped() {
    let (log, mut life) = daemon(|_| {});
    let slow = life.add(Slow(Mutex::default()));
    let life = Arc::new(life);
    *slow.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&life));
    life.start(&log).await.unwrap();
    let refused = life.renew(&log, &renewal()).await.unwrap_err();
    assert!(matches!(refused, Refusal::Unavailable(_)), "{refused}");
    let renewed = log.news().into_iter().filter(|line| line.ends_with("renewed")).count();
    assert_eq!(renewed, 0);
}
