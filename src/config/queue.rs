//! `[queue]`: where jobs lie that Canonical's webhook router has enqueued, and `queue` of a pool: in
//! which queue its jobs lie.
//!
//! The address mostly holds a password, so it is a secret as a whole and lies in a place of its own.
//! What it says is checked when it is used: a rotated one must not need a new configuration.

use std::path::PathBuf;

use runner_fleet_actors::name::PoolName;

use super::{
    read::{SecretKeys, Section},
    secret::SecretSource,
};

/// AMQP 0.9.1 keeps names in short strings of 255 bytes, and names that begin with `amq.` for itself.
const NAME_MAX: usize = 255;
const RESERVED: &str = "amq.";

/// Where the messages lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueKind {
    /// A broker that speaks AMQP 0.9.1, such as RabbitMQ.
    Amqp,
    /// MongoDB, with kombu's collections.
    Mongodb,
}

impl QueueKind {
    /// The word in the configuration and in the status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Amqp => "amqp",
            Self::Mongodb => "mongodb",
        }
    }
}

/// `[queue]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Which kind of broker.
    pub kind: QueueKind,
    /// Its address, with user and password.
    pub url: SecretSource,
    /// Certificates of another authority, in PEM, trusted besides the system's.
    pub ca_file: Option<PathBuf>,
}

pub(super) fn read(section: Option<Section<'_>>) -> Option<Queue> {
    let section = section?;
    let kinds = [QueueKind::Amqp, QueueKind::Mongodb].map(|kind| (kind.as_str(), kind));
    if !section.has("kind") {
        section.missing("kind", "\"amqp\" or \"mongodb\"");
    }
    let kind = section.kind(&kinds);
    let given = SecretKeys::URL.all().into_iter().any(|key| section.has(key));
    let url = section.secret(SecretKeys::URL);
    if !given {
        section.missing(
            "url_file",
            "the address with user and password, such as amqp://USER:PASSWORD@HOST/VHOST or \
             mongodb://USER:PASSWORD@HOST/DATABASE, in a place of its own: exactly one of url_file, \
             url_env, url_credential",
        );
    }
    let ca_file = section.file("ca_file", false);
    section.finish();
    Some(Queue { kind: kind?, url: url?, ca_file })
}

/// The queue of a pool; its own name where it says nothing, as the router's flavors are called after
/// their applications.
pub(super) fn of_pool(section: &Section<'_>, pool: Option<&PoolName>) -> Option<String> {
    let Some(queue) = section.section("queue") else { return pool.map(ToString::to_string) };
    let name = queue.needed_text("name", "the queue's name, as the router has it");
    queue.finish();
    let name = name?;
    let legal = name.len() <= NAME_MAX && !name.chars().any(char::is_control);
    if !legal || name.starts_with(RESERVED) {
        section.fault(
            "queue",
            format_args!(
                "{name:?} is not allowed: at most {NAME_MAX} bytes, nothing invisible, and not \
                 beginning with {RESERVED:?}"
            ),
        );
        return None;
    }
    Some(name.to_owned())
}
