//! One connection after the other to the planner's stream.

use std::{collections::BTreeMap, time::Duration};

use reqwest::{Response, StatusCode, header};
use runner_fleet_actors::{
    backoff::{self, Curve},
    foreign::Foreign,
    port::{ErrorClass, PortError, Secret},
};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{
    Planner, Way,
    lines::{Lines, Malformed, Pressures, pressures},
};
use crate::{
    config::SecretSource,
    github::transport::causes,
    pause::{self, Told},
    redirect,
};

/// How long is waited for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// For a connection, and on it for the first pressures.
    pub patience: Duration,
    /// Without a word for so long a connection is replaced by a new one.
    pub silence: Duration,
    /// A connection that held for so long was a good one: the next failure is a first one.
    pub steady: Duration,
    /// Between two tries.
    pub again: Curve,
    /// Between two tries where somebody must put something right first.
    pub refused: Curve,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(30),
            silence: Duration::from_secs(90),
            steady: Duration::from_secs(30),
            again: Curve { base: Duration::from_secs(1), cap: Duration::from_secs(60) },
            refused: Curve { base: Duration::from_secs(30), cap: Duration::from_secs(600) },
        }
    }
}

/// Why a connection is over.
enum End {
    /// It told pressures, and then nothing for too long.
    Silent,
    /// There was none, or it broke.
    Failed(PortError),
}

impl Planner {
    /// Reads the stream until `stop`. Never fails: what goes wrong is told by
    /// [`Planner::status`] and one log line, and tried again.
    pub async fn run(self: std::sync::Arc<Self>, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.read_for_ever() => {}
            () = self.settle_for_ever() => {}
        }
    }

    pub(super) async fn settle_for_ever(&self) {
        loop {
            let at = self.board().settles_at();
            match at.map(|at| (at - self.clock.now()).to_std()) {
                None => self.ended.notified().await,
                Some(Ok(wait)) if !wait.is_zero() => tokio::time::sleep(wait).await,
                Some(_) => self.board().settle(self.clock.now()),
            }
        }
    }

    async fn read_for_ever(&self) {
        let mut failed = 0;
        let mut told = None;
        loop {
            let began = Instant::now();
            let error = match self.read(&mut told).await {
                // The pressures stand until the new connection tells others, or fails.
                End::Silent => continue,
                End::Failed(error) => error,
            };
            self.lose(&error);
            if began.elapsed() >= self.pace.steady {
                failed = 0;
            }
            failed += 1;
            if told.replace(error.class) == Some(error.class) {
                tracing::debug!(failed, error = %error.what, "the planner still tells nothing");
            } else {
                tracing::warn!(error = %error.what, "the planner tells nothing; demand is unknown");
            }
            let curve = match error.class {
                ErrorClass::Auth | ErrorClass::Invalid => self.pace.refused,
                _ => self.pace.again,
            };
            let now = self.clock.now();
            let again = backoff::retry_at(error.class, failed, self.seed, curve, now);
            tokio::select! {
                () = tokio::time::sleep((again - now).to_std().unwrap_or_default()) => {}
                () = self.renewed.notified() => {}
            }
        }
    }

    /// One connection, to its end. `told`: the failure that the log has last heard of.
    async fn read(&self, told: &mut Option<ErrorClass>) -> End {
        let mut response = match timeout(self.pace.patience, self.open()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return End::Failed(error),
            Err(_) => return End::Failed(self.transient("no answer in time")),
        };
        let mut lines = Lines::default();
        let mut heard = false;
        let mut until = Instant::now() + self.pace.patience;
        loop {
            let chunk = tokio::select! {
                chunk = timeout_at(until, response.chunk()) => chunk,
                () = self.renewed.notified() => return End::Silent,
            };
            let chunk = match chunk {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => return End::Failed(self.transient("the planner ended the stream")),
                Ok(Err(error)) => return End::Failed(self.transient(&causes(&error))),
                Err(_) if heard => return End::Silent,
                Err(_) => return End::Failed(self.transient("a stream that tells no pressure")),
            };
            for line in lines.push(&chunk) {
                match line.and_then(|line| pressures(&line)) {
                    Ok(Some(pressures)) => {
                        // Only what was understood is a sign of life: garbage may go on for ever.
                        until = Instant::now() + self.pace.silence;
                        if !std::mem::replace(&mut heard, true) && told.take().is_some() {
                            tracing::info!(planner = %self.url, "the planner tells pressures again");
                        }
                        self.take_in(pressures);
                    }
                    Ok(None) => {}
                    Err(why) => self.shake_head(&why),
                }
            }
        }
    }

    /// What the planner tells first on a new connection: all pressures, by flavor. Changes nothing
    /// here.
    ///
    /// # Errors
    /// Why it tells none, for the person who must act.
    pub async fn ask(&self) -> Result<BTreeMap<Foreign, u32>, PortError> {
        let first = async {
            let mut response = self.open().await?;
            let mut lines = Lines::default();
            loop {
                let chunk = response.chunk().await.map_err(|error| self.transient(&causes(&error)));
                let ended = || self.transient("the planner ended the stream");
                for line in lines.push(&chunk?.ok_or_else(ended)?) {
                    match line.and_then(|line| pressures(&line)) {
                        Ok(Some(told)) => return Ok(told.flavors),
                        Ok(None) => {}
                        Err(why) => return Err(self.transient(&why.to_string())),
                    }
                }
            }
        };
        let silent = |_| Err(self.transient("a stream that tells no pressure"));
        timeout(self.pace.patience, first).await.unwrap_or_else(silent)
    }

    async fn open(&self) -> Result<Response, PortError> {
        let Way { token, client } = self.way();
        let token = self.token(&token)?;
        let bearer = header::HeaderValue::try_from(format!("Bearer {}", token.expose()));
        let mut bearer = bearer.map_err(|_| {
            let what = format!("{}: its token holds a character that no header may", self.url);
            PortError::certain(ErrorClass::Auth, what)
        })?;
        bearer.set_sensitive(true);
        let lost = |error: reqwest::Error| self.transient(&causes(&error));
        let request = client.get(self.url.clone()).header(header::AUTHORIZATION, bearer);
        let request = request.build().map_err(lost)?;
        let arrived = redirect::send(&client, request, &self.moves).await.map_err(lost)?;
        if let Some(moved) = arrived.refused {
            let what = format!("GET {}: {moved} (planner.url)", self.url);
            return Err(PortError::certain(ErrorClass::Invalid, what));
        }
        match arrived.response.status() {
            StatusCode::OK => Ok(arrived.response),
            status => Err(self.refusal(status, arrived.response.headers())),
        }
    }

    fn token(&self, token: &SecretSource) -> Result<Secret, PortError> {
        // Read at each connection, so that a renewed token works without a restart.
        token.read(&self.env).map_err(|error| {
            PortError::certain(ErrorClass::Auth, format!("planner at {}: {error}", self.url))
        })
    }

    fn transient(&self, why: &str) -> PortError {
        PortError::certain(ErrorClass::Transient, format!("GET {}: {why}", self.url))
    }

    fn refusal(&self, status: StatusCode, headers: &header::HeaderMap) -> PortError {
        let now = self.clock.now();
        let told = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let told = told.and_then(|text| pause::until(Told::RetryAfter(text), now));
        let (class, hint) = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => (
                ErrorClass::Auth,
                format!(
                    "; the planner refuses the token of {}: have a new one made",
                    self.way().token
                ),
            ),
            StatusCode::NOT_FOUND => (
                ErrorClass::NotFound,
                "; it has no flavor at all, or this is not a planner's address".to_owned(),
            ),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE if told.is_some() => {
                let until = pause::or_after(told, now, self.pace.again.base);
                (ErrorClass::RateLimited { until }, format!("; it is asked again at {until}"))
            }
            StatusCode::TOO_MANY_REQUESTS => (ErrorClass::Transient, String::new()),
            status if status.is_server_error() => (ErrorClass::Transient, String::new()),
            _ => (ErrorClass::Invalid, "; correct planner.url".to_owned()),
        };
        PortError::certain(class, format!("GET {}: {status}{hint}", self.url))
    }

    fn take_in(&self, Pressures { flavors, unreadable }: Pressures) {
        let now = self.clock.now();
        {
            let mut notes = self.notes();
            notes.connected_since.get_or_insert(now);
            notes.last_word_at = Some(now);
            notes.failing_since = None;
            notes.lines += 1;
            if notes.unreadable != unreadable && !unreadable.is_empty() {
                tracing::warn!(flavors = ?unreadable, "the pressure of some flavors is no number");
            }
            notes.unreadable = unreadable;
        }
        self.board().hear(flavors, now);
    }

    fn shake_head(&self, why: &Malformed) {
        let mut notes = self.notes();
        notes.malformed += 1;
        notes.last_error = Some(format!("GET {}: {why}", self.url));
        tracing::debug!(error = %why, "the planner sent a line that says nothing");
    }

    fn lose(&self, error: &PortError) {
        {
            let mut notes = self.notes();
            notes.connected_since = None;
            notes.failing_since.get_or_insert(self.clock.now());
            notes.failures += 1;
            notes.last_error = Some(error.what.clone());
        }
        self.board().lose();
    }
}
