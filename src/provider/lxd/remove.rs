//! The end of a VM.

use std::time::Duration;

use http::Method;
use runner_fleet_actors::{
    name::RunnerName,
    port::{Deletion, ErrorClass, PortError},
};
use serde_json::json;

use super::{
    Inner,
    answer::fault_class,
    api::{Call, Outcome},
    launch::Launch,
    vm::Seen,
};
use crate::provider::text::tidy;

impl Inner {
    /// The deletion of the contract: it also looks at what this process knows of launches.
    pub(super) async fn delete(&self, name: &RunnerName) -> Result<Deletion, PortError> {
        if let Some(mut entry) = self.launches.get_mut(name)
            && let Launch::UnderWay { unwanted, .. } = entry.value_mut()
        {
            // Its own task does it, at once or when LXD lets go of it.
            *unwanted = true;
            return Ok(Deletion::Accepted);
        }
        self.launches.remove_if(name, |_, launch| matches!(launch, Launch::Failed { .. }));
        // Without it an LXD that has lost the project would say of every name that it is gone.
        self.api.server().await?;
        let removed = self.remove(name, self.follow_delete).await?;
        let now = self.now();
        self.launches.remove_if(
            name,
            |_, launch| matches!(launch, Launch::Doubtful { until } if *until <= now),
        );
        if removed == Deletion::Gone && self.launches.contains_key(name) {
            // Its creation got no answer: it may still appear.
            return Ok(Deletion::Accepted);
        }
        Ok(removed)
    }

    /// Stops and deletes the instance of this name if it is the fleet's, and waits for each of the two
    /// at most `patience`.
    pub(super) async fn remove(
        &self,
        name: &RunnerName,
        patience: Duration,
    ) -> Result<Deletion, PortError> {
        // Normally the stop deletes it as well. One that somebody made persistent takes a second turn.
        for turn in 0..2 {
            let own = match self.look(name).await? {
                None => return Ok(self.gone(name)),
                Some(Seen::Ours(own)) => own,
                Some(_) => {
                    tracing::warn!(runner = %name, "vm is not this fleet's, left alone");
                    return Ok(Deletion::Gone);
                }
            };
            let tried = format!("deleting VM {name}");
            let call = if own.is_stopped_in(turn) {
                let stop = json!({ "action": "stop", "force": true, "timeout": 30 });
                let path = ["instances", name.as_str(), "state"];
                Call::change(&tried, Method::PUT, path, Some(stop))
            } else {
                Call::change(&tried, Method::DELETE, ["instances", name.as_str()], None)
            };
            let text = match self.perform(&call, patience).await {
                Ok(Outcome::Failed(text)) => text,
                Ok(Outcome::Running) => return Ok(Deletion::Accepted),
                Ok(Outcome::Done | Outcome::Forgotten) => continue,
                // It is being stopped or deleted already.
                Err(error) if error.class == ErrorClass::Busy => return Ok(Deletion::Accepted),
                Err(error) => return Err(error),
            };
            // The guest may have powered off, and LXD deleted it, in between.
            match self.look(name).await? {
                None => return Ok(self.gone(name)),
                Some(_) if fault_class(&text) == ErrorClass::Busy => {
                    return Ok(Deletion::Accepted);
                }
                Some(Seen::Ours(now)) if now.is_stopped_in(turn + 1) == own.is_stopped_in(turn) => {
                    let what = format!("{tried}: {}", tidy(&text, &[]));
                    return Err(PortError::doubtful(fault_class(&text), what));
                }
                Some(_) => {}
            }
        }
        match self.look(name).await? {
            None => Ok(self.gone(name)),
            Some(_) => Ok(Deletion::Accepted),
        }
    }

    fn gone(&self, name: &RunnerName) -> Deletion {
        self.addresses.remove(name);
        Deletion::Gone
    }

    /// Makes a call and waits for its operation a while. A refusal of the call is an outcome too.
    async fn perform(&self, call: &Call<'_>, patience: Duration) -> Result<Outcome, PortError> {
        let answer = self.api.send(call).await?;
        if answer.is_not_found() {
            return Ok(Outcome::Done);
        }
        // "The instance is already stopped", "Instance is running": the state has changed since.
        if answer.status == 400 {
            let text = answer.body.get("error").and_then(serde_json::Value::as_str);
            return Ok(Outcome::Failed(text.unwrap_or("no reason given").to_owned()));
        }
        let answer = answer.success(&call.tried, call.purpose, &[])?;
        match answer.operation() {
            Some(operation) => self.api.wait(&call.tried, operation, patience).await,
            None => Ok(Outcome::Done),
        }
    }
}
