//! What is allowed and unwise. Told by `check` and at the start, and nobody is kept from it.

use runner_fleet_actors::port::Secret;
use url::{Host, Url};

use super::{
    fault::Fault,
    read::SecretUse,
    secret::{Env, SecretSource},
};

pub(super) const PLAIN_API: &str = "the API speaks plain HTTP, so that its token can be read on the way to \
     it; listen on 127.0.0.1, and put a proxy with TLS before that";
pub(super) const PLAIN_WEBHOOKS: &str = "plain HTTP beyond this machine: what GitHub tells of jobs can be \
     read on the way; give certificate_file and key_file, or listen on 127.0.0.1 behind a proxy with TLS";
pub(super) const PLAIN_GUESTS: &str = "plain HTTP beyond this machine: the guests' tokens can be read on \
     the way; give certificate_file and key_file, unless the network is the guests' alone";
pub(super) const PLAIN_PLANNER: &str =
    "plain HTTP beyond this machine: the planner's token can be read on the way; use https";

/// Fewer characters are guessed sooner or later, whatever they are.
const SHORT: usize = 16;

/// Whether an address is plain HTTP (or AMQP) to another machine.
pub(super) fn is_plain(url: &Url) -> bool {
    let near = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => true,
    };
    matches!(url.scheme(), "http" | "amqp") && !near
}

/// What there is to say of a secret itself, without any of it.
pub(super) fn of_secret((line, key, source): &SecretUse, env: &Env) -> Option<Fault> {
    // What cannot be read is a fault, and told as one.
    let secret = source.read(env).ok()?;
    let what = of_text(&secret, source)?;
    Some(Fault::new(*line, key, &what))
}

fn of_text(secret: &Secret, source: &SecretSource) -> Option<String> {
    let text = secret.expose();
    let length = text.chars().count();
    if length < SHORT {
        return Some(format!(
            "the secret in {source} has {length} character{}, which somebody will guess; make one of 32 \
             random ones or more (openssl rand -hex 32)",
            if length == 1 { "" } else { "s" }
        ));
    }
    let plain = Url::parse(text).is_ok_and(|url| is_plain(&url));
    plain.then(|| {
        format!(
            "the address in {source} is plain, so that its password can be read on the way; use TLS"
        )
    })
}
