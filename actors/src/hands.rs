//! The hands of a pool: effects in, answers out, over the ports.
//!
//! Every effect runs on the I/O runtime, never on the actors' thread, is bounded in time, and ends in
//! exactly one answer: a time-out or a panic in an adapter is an answer too, a doubtful one. Each carries
//! until when its [`Grounds`] hold, for whoever sends its requests to look at.

use std::{future::Future, sync::Arc, time::Duration};

use crate::{
    event::Job,
    name::{PoolName, RegistrationId, RunnerName, Scope, VmId},
    port::{
        Clock, ErrorClass, Forge, Grounds, Guests, LaunchOrder, PortError, Provider, RegisterOrder,
        Secret, Shape, Stage, Standing, UserData,
    },
    runner::{Answer, Effect, LaunchFailure},
};

/// What a pool's new runners are made of.
#[derive(Clone)]
pub struct Blueprint {
    /// The pool.
    pub pool: PoolName,
    /// Where its runners register.
    pub scope: Scope,
    /// Runner group; `None` = the scope's default.
    pub group: Option<String>,
    /// Labels; at least one.
    pub labels: Vec<String>,
    /// What kind of VM.
    pub shape: Shape,
    /// What the VM runs at first boot.
    pub user_data: Arc<dyn UserData>,
}

impl Blueprint {
    /// How a runner of that name is registered.
    fn order(&self, name: RunnerName) -> RegisterOrder {
        RegisterOrder {
            name,
            scope: self.scope.clone(),
            group: self.group.clone(),
            labels: self.labels.clone(),
        }
    }
}

/// The ports that a pool acts through.
#[derive(Clone)]
pub struct Hands {
    /// Makes VMs.
    pub provider: Arc<dyn Provider>,
    /// Hands out jobs.
    pub forge: Arc<dyn Forge>,
    /// The way to the guests.
    pub guests: Arc<dyn Guests>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where I/O runs.
    pub io: tokio::runtime::Handle,
}

/// The runner that an effect is about.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its name.
    pub name: RunnerName,
    /// Its VM, where known: saves a look-up.
    pub vm: Option<VmId>,
    /// Its registration, where known: saves a look-up.
    pub registration: Option<RegistrationId>,
    /// Its job, where known.
    pub job: Option<Job>,
}

/// What an effect may take, and what it stands on.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// How long it may take.
    pub limit: Duration,
    /// What it was decided on; `None` for what may go at any time.
    pub grounds: Option<Grounds>,
}

impl Hands {
    /// Performs one effect on its terms. Dropping the returned future does not cancel the call: a create that
    /// is under way must come to its end.
    ///
    /// Returns `None` for effects that have no answer.
    pub async fn perform(
        self: Arc<Self>,
        effect: Effect,
        subject: Subject,
        blueprint: Arc<Blueprint>,
        terms: Terms,
    ) -> Option<Answer> {
        match effect {
            Effect::Launch => Some(self.launch(subject, blueprint, terms).await),
            Effect::StandDown => {
                let call = {
                    let hands = Arc::clone(&self);
                    async move { hands.guests.stand_down(&subject.name).await }
                };
                Some(Answer::StoodDown(
                    self.bounded("ask the guest to stand down", terms, call).await,
                ))
            }
            Effect::GoOn => {
                let hands = Arc::clone(&self);
                let call = async move {
                    hands.guests.go_on(&subject.name).await;
                    Ok(())
                };
                // Best effort by contract: the guest goes on by itself when no word comes.
                if let Err(error) = self.bounded("tell the guest to go on", terms, call).await {
                    tracing::debug!(%error, "the guest was not told to go on");
                }
                None
            }
            Effect::End => {
                let hands = Arc::clone(&self);
                let call = async move {
                    hands.guests.end(&subject.name).await;
                    Ok(())
                };
                // Best effort as well: a VM that does not end by itself is deleted a moment later.
                if let Err(error) = self.bounded("tell the guest to end", terms, call).await {
                    tracing::debug!(%error, "the guest was not told to end");
                }
                None
            }
            Effect::Cordon | Effect::Uncordon => {
                Some(self.cordon(effect, subject, blueprint, terms).await)
            }
            Effect::Deregister => {
                let hands = Arc::clone(&self);
                let call = async move {
                    hands
                        .forge
                        .deregister(&blueprint.scope, &subject.name, subject.registration)
                        .await
                };
                Some(Answer::Deregistered(self.bounded("deregister", terms, call).await))
            }
            Effect::LookUp => {
                let hands = Arc::clone(&self);
                let call = async move {
                    let Subject { name, registration, job, .. } = subject;
                    hands.forge.look_up(&blueprint.scope, &name, registration, job.as_ref()).await
                };
                Some(Answer::LookedUp(self.bounded("look the runner up", terms, call).await))
            }
            Effect::DeleteVm => {
                let hands = Arc::clone(&self);
                let call =
                    async move { hands.provider.delete(&subject.name, subject.vm.as_ref()).await };
                Some(Answer::VmDeleted(self.bounded("delete the VM", terms, call).await))
            }
        }
    }

    /// Cordons a runner or puts it back. By its number: only whoever was listed was ever shown quiet.
    async fn cordon(
        self: Arc<Self>,
        effect: Effect,
        subject: Subject,
        blueprint: Arc<Blueprint>,
        terms: Terms,
    ) -> Answer {
        let order = blueprint.order(subject.name);
        let on = effect == Effect::Cordon;
        let what = if on { "keep jobs off the runner" } else { "let the runner have jobs again" };
        let done = match subject.registration {
            Some(id) => {
                let hands = Arc::clone(&self);
                let call = async move {
                    match on {
                        true => hands.forge.cordon(&order, id).await,
                        false => hands.forge.uncordon(&order, id).await,
                    }
                };
                self.bounded(what, terms, call).await
            }
            None => Err(PortError::certain(
                ErrorClass::Invalid,
                format!("could not {what}: its number at the forge is not known"),
            )),
        };
        if on { Answer::Cordoned(done) } else { Answer::Uncordoned(done) }
    }

    async fn launch(
        self: Arc<Self>,
        subject: Subject,
        blueprint: Arc<Blueprint>,
        terms: Terms,
    ) -> Answer {
        // For whoever reads the VM's tag, a later daemon among them.
        let created_at = self.clock.wall();
        let order = blueprint.order(subject.name.clone());
        // Before the forge is asked: a registration that no VM can follow is one to be removed.
        let nothing = |stage, error| {
            Answer::LaunchFailed(LaunchFailure {
                error,
                stage,
                vm_possible: false,
                registration_possible: false,
                registration: None,
            })
        };
        let door = self.provider.door();
        if door.shut {
            let until = door.next.unwrap_or_else(|| self.clock.now());
            let error = PortError::held_back(until, format!("not launched: {}", door.why));
            return nothing(Stage::Cloud, error);
        }
        // What it could not do without is what the forge offers.
        if let Err(error) = blueprint.user_data.ready() {
            return nothing(Stage::Forge, error);
        }
        // Half of the limit each: a slow forge must leave the cloud its time.
        let half = Terms { limit: terms.limit / 2, ..terms };
        let hands = Arc::clone(&self);
        let call = async move { hands.forge.register(&order).await };
        let registered = match self.bounded("register", half, call).await {
            Ok(registered) => registered,
            Err(error) => {
                return Answer::LaunchFailed(LaunchFailure {
                    stage: Stage::Forge,
                    vm_possible: false,
                    registration_possible: !error.certain,
                    registration: None,
                    error,
                });
            }
        };
        let registration = registered.id;
        let rendered = blueprint.user_data.render(&subject.name, &registered.jit_config);
        let user_data = match rendered {
            Ok(user_data) => user_data,
            Err(error) => {
                return Answer::LaunchFailed(LaunchFailure {
                    stage: Stage::Cloud,
                    vm_possible: false,
                    registration_possible: true,
                    registration: Some(registration),
                    error,
                });
            }
        };
        let order = LaunchOrder {
            name: subject.name.clone(),
            pool: blueprint.pool.clone(),
            scope: blueprint.scope.clone(),
            shape: blueprint.shape.clone(),
            user_data,
            created_at,
            // A runner is launched once in its life.
            fresh: true,
        };
        let hands = Arc::clone(&self);
        let call = async move { hands.provider.launch(order).await };
        match self.bounded("launch the VM", half, call).await {
            Ok(vm) => Answer::Launched { vm, registration },
            Err(error) => Answer::LaunchFailed(LaunchFailure {
                stage: Stage::Cloud,
                vm_possible: !error.certain,
                registration_possible: true,
                registration: Some(registration),
                error,
            }),
        }
    }

    /// Runs `call` on the I/O runtime, at most `limit` long.
    async fn bounded<T: Send + 'static>(
        &self,
        what: &str,
        Terms { limit, grounds }: Terms,
        call: impl Future<Output = Result<T, PortError>> + Send + 'static,
    ) -> Result<T, PortError> {
        let call = match grounds {
            Some(grounds) => {
                let standing = Standing::new(grounds, Arc::clone(&self.clock));
                self.io.spawn(standing.under(call))
            }
            None => self.io.spawn(call),
        };
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(result)) => result,
            Ok(Err(_panic)) => Err(PortError::doubtful(
                ErrorClass::Transient,
                format!("could not {what}: the adapter failed; its log line says where"),
            )),
            Err(_elapsed) => Err(PortError::doubtful(
                ErrorClass::Transient,
                format!("could not {what}: no answer within {} s", limit.as_secs()),
            )),
        }
    }
}

/// A way to the guests where there is none: the order never gets an answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoGuests;

#[async_trait::async_trait]
impl Guests for NoGuests {
    async fn stand_down(&self, name: &RunnerName) -> Result<crate::port::StandDown, PortError> {
        Err(PortError::certain(
            ErrorClass::Transient,
            format!("{name} cannot be asked: this fleet has no way to its guests"),
        ))
    }

    async fn go_on(&self, _name: &RunnerName) {}

    async fn end(&self, _name: &RunnerName) {}
}

/// User data of a pool that creates nothing any more.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoUserData;

impl UserData for NoUserData {
    fn render(&self, _name: &RunnerName, _jit_config: &Secret) -> Result<Secret, PortError> {
        Ok(Secret::new(""))
    }
}
