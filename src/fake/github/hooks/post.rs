//! How a delivery is made: its turn, its fate, the post itself, and the note of it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::Utc;
use hmac::{Hmac, Mac};
use reqwest::Client;
use sha2::Sha256;
use tokio::{
    sync::{mpsc::UnboundedReceiver, oneshot},
    task::JoinSet,
    time::Instant,
};

use super::{Delivery, Errand, Event, HookOptions, HookTarget, payload};
use crate::fake::github::{
    Mishap, Shared,
    world::{Action, News},
};

/// A place in the line of one job's deliveries to one hook.
struct Turn {
    /// Ends when the delivery before is through.
    before: Option<oneshot::Receiver<()>>,
    /// Dropped when this one is.
    through: oneshot::Sender<()>,
}

/// The lines, by hook and job.
#[derive(Default)]
struct Lines(HashMap<(u64, u64), oneshot::Receiver<()>>);

impl Lines {
    fn turn(&mut self, errand: &Errand) -> Turn {
        let (through, behind) = oneshot::channel();
        let Some(news) = errand.event.news().filter(|_| !errand.redelivery) else {
            return Turn { before: None, through };
        };
        let line = (errand.hook, news.record.id.0);
        let before = self.0.remove(&line);
        // Nothing comes after the end of a job.
        if news.action != Action::Completed {
            self.0.insert(line, behind);
        }
        Turn { before, through }
    }
}

/// Posts whatever happens, until the fake ends.
pub(in crate::fake::github) async fn post_all(
    shared: Arc<Shared>,
    mut news: UnboundedReceiver<News>,
    mut errands: UnboundedReceiver<Errand>,
) {
    // The receiver is a daemon under test: its certificate proves nothing here.
    let client = Client::builder()
        .no_proxy()
        .tls_built_in_root_certs(false)
        .danger_accept_invalid_certs(true)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(shared.options.hook_timeout)
        .build();
    let client = match client {
        Ok(client) => client,
        Err(error) => return tracing::error!(%error, "the github stand-in cannot post to hooks"),
    };
    let mut lines = Lines::default();
    let mut posts = JoinSet::new();
    loop {
        let due = tokio::select! {
            Some(news) = news.recv() => {
                let looks_waiting = shared.faults().stale_approvals;
                shared.hooks().of_news(&news, looks_waiting)
            }
            Some(errand) = errands.recv() => vec![errand],
            Some(_) = posts.join_next() => continue,
            else => return,
        };
        for errand in due {
            let turn = lines.turn(&errand);
            posts.spawn(deliver(Arc::clone(&shared), client.clone(), errand, turn));
        }
    }
}

async fn deliver(shared: Arc<Shared>, client: Client, errand: Errand, turn: Turn) {
    if let Some(before) = turn.before {
        // An error is how it ends: nothing is ever sent.
        let _ = before.await;
    }
    let mishap = match errand.event {
        Event::Ping => None,
        Event::Job { .. } => shared.faults().mishap(),
    };
    let through = match mishap {
        Some(Mishap::Late(by)) => {
            drop(turn.through);
            tokio::time::sleep(by).await;
            None
        }
        _ => Some(turn.through),
    };
    shared.in_reach().await;
    attempt(&shared, &client, &errand, mishap).await;
    if mishap == Some(Mishap::Twice) {
        attempt(&shared, &client, &errand, mishap).await;
    }
    drop(through);
}

impl Shared {
    /// Waits until GitHub is there: in an outage its posts wait too.
    async fn in_reach(&self) {
        loop {
            let weather = self.weather.notified();
            if !self.faults().unreachable() {
                return;
            }
            weather.await;
        }
    }
}

/// Makes one post and notes it.
async fn attempt(shared: &Shared, client: &Client, errand: &Errand, mishap: Option<Mishap>) {
    let (options, added, slots) = {
        let hooks = shared.hooks();
        let Some(hook) = hooks.hooks.get(&errand.hook) else { return };
        (hook.options.clone(), hook.added, Arc::clone(&hook.slots))
    };
    let _slot = slots.acquire_owned().await;
    let app = shared.options.app.as_ref().filter(|_| options.target == HookTarget::App);
    let installation_id = app.map(|app| app.installation_id);
    let mut body = match &errand.event {
        Event::Ping => payload::ping(&options, added, &shared.url),
        Event::Job { news, looks_waiting } => {
            payload::workflow_job(news, installation_id, *looks_waiting, &shared.url)
        }
    };
    shared.world().renames.number_all(&mut body);
    let (delivered_at, begin) = (Utc::now(), Instant::now());
    let (status_code, status) = if mishap == Some(Mishap::Lost) {
        (502, "failed to connect to host".to_owned())
    } else {
        let (code, status) = post(client, &options, errand, body.to_string()).await;
        match mishap {
            Some(Mishap::Unheard) => (504, "timed out".to_owned()),
            _ => (code, status),
        }
    };
    let news = errand.event.news();
    let delivery = Delivery {
        id: 0,
        guid: errand.guid.to_string(),
        delivered_at,
        redelivery: errand.redelivery,
        duration: Duration::from_millis(u64::try_from(begin.elapsed().as_millis()).unwrap_or(0)),
        status,
        status_code,
        event: errand.event.name(),
        action: errand.event.action().map(Action::as_str),
        installation_id,
        repository_id: news.map(|news| shared.world().renames.number(&news.record.repository)),
        job: news.map(|news| news.record.id),
    };
    shared.hooks().note(delivery, errand.clone());
}

/// Posts, and says what GitHub notes of the answer.
async fn post(
    client: &Client,
    options: &HookOptions,
    errand: &Errand,
    body: String,
) -> (u16, String) {
    let (kind, number) = payload::target_of(&options.target);
    let mut request = client
        .post(&options.url)
        .header("Accept", "*/*")
        .header("Content-Type", "application/json")
        .header("User-Agent", "GitHub-Hookshot/7cf5a9f")
        .header("X-GitHub-Delivery", errand.guid.to_string())
        .header("X-GitHub-Event", errand.event.name())
        .header("X-GitHub-Hook-ID", options.id)
        .header("X-GitHub-Hook-Installation-Target-ID", number)
        .header("X-GitHub-Hook-Installation-Target-Type", kind);
    if let Some(secret) = &options.secret {
        let signature = signature(secret.expose().as_bytes(), body.as_bytes());
        request = request.header("X-Hub-Signature-256", signature);
    }
    match request.body(body).send().await {
        Ok(answer) if answer.status().is_success() => (answer.status().as_u16(), "OK".to_owned()),
        Ok(answer) => {
            let code = answer.status().as_u16();
            (code, format!("Invalid HTTP Response: {code}"))
        }
        Err(error) if error.is_timeout() => (504, "timed out".to_owned()),
        Err(_) => (502, "failed to connect to host".to_owned()),
    }
}

/// `X-Hub-Signature-256`: HMAC-SHA256 over the body, in lower-case hexadecimal.
fn signature(secret: &[u8], body: &[u8]) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return String::new() };
    mac.update(body);
    let hex: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256={hex}")
}
