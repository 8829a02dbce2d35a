//! The API as a part of the daemon. It is the first that listens: a second daemon on the same socket is
//! refused before it has launched anything.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use futures::FutureExt;
use runner_fleet_actors::port::Secret;

use super::{
    control::Door,
    life::{Change, Part, Renewal},
};
use crate::{
    config::{self, Env},
    http::{self, ApiToken, Control, Refusal},
    tasks::Tasks,
};

/// The API of a daemon.
pub(super) struct Api {
    socket: PathBuf,
    listen: Option<(SocketAddr, Secret)>,
    pub token: Option<ApiToken>,
    tasks: Tasks,
}

impl Api {
    /// Reads the token; listens to nobody yet.
    ///
    /// # Errors
    /// The token cannot be had; for the person who must provide it.
    pub(super) fn prepare(config: &config::Api) -> Result<Self, String> {
        let (listen, token) = match &config.listen {
            Some(listen) => {
                let token = listen.token.read(&Env::of_process()).map_err(|e| e.to_string())?;
                let kept = ApiToken::open(listen.token.clone()).map_err(|e| e.to_string())?;
                (Some((listen.address, token)), Some(kept))
            }
            None => (None, None),
        };
        Ok(Self { socket: config.socket.clone(), listen, token, tasks: Tasks::default() })
    }
}

#[async_trait]
impl Part<Door> for Api {
    async fn start(&self, door: &Arc<Door>) -> Result<(), String> {
        let control = Arc::clone(door) as Arc<dyn Control>;
        let served = http::serve(control, &self.socket, self.listen.clone(), self.tasks.stop());
        let serving = served.await.map_err(|error| format!("the API: {error}"))?;
        self.tasks.take("operators", serving.task);
        Ok(())
    }

    async fn renew<'a>(&'a self, _: &'a Door, to: &'a Renewal) -> Result<Change<'a>, Refusal> {
        let both = self.token.as_ref().zip(to.new.api.listen.as_ref());
        let renewed = both.map(|(token, listen)| token.renew(&listen.token)).transpose();
        let renewed = renewed.map_err(|error| Refusal::Invalid(format!("api: {error}")))?;
        let change = async move {
            let is_other = renewed.is_some_and(|put_in_place| put_in_place());
            Vec::from_iter(is_other.then(|| "the api's token is renewed".to_owned()))
        };
        Ok(change.boxed())
    }

    async fn stop(&self) {
        self.tasks.end().await;
    }
}
