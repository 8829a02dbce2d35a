//! Which Compute API is spoken: where v2.1 is, and whether it is the version that was asked for.
//!
//! Everything rests on tags, which the Compute API knows from 2.26 on and takes when a VM is made from
//! 2.52 on. The old API v2 and a proxy that takes the header with the version out drop tags without a
//! word: the VM is made and is nobody's. So what an answer says of its version is looked at, and
//! nothing is made where it is not enough.

use reqwest::{RequestBuilder, header::HeaderMap};
use runner_fleet_actors::port::{ErrorClass, PortError};
use serde_json::Value;
use url::Url;

use super::answer::{Answer, Purpose, tidy};

/// The Compute microversion that every call asks for: 2.52, the first that takes tags when a VM is
/// made (Nova's "REST API Version History"), and so the one that most clouds can serve (Pike, 2017).
/// Nothing newer is needed, and newer ones only forbid: 2.92 has no key pair generation, 2.96 is
/// known to break listings of some clients.
const WANTED: (u32, u32) = (2, 52);
const HEADER: &str = "openstack-api-version";
/// What Nova named it before microversions were every service's (2.27); still answered.
const OLD_HEADER: &str = "x-openstack-nova-api-version";

/// Puts the wanted version on a call.
pub(super) fn ask(request: RequestBuilder) -> RequestBuilder {
    request.header(HEADER, format!("compute {}.{}", WANTED.0, WANTED.1))
}

/// Whether an answer was made in the version that was asked for. One that names none proves nothing.
///
/// # Errors
/// What it names and what follows.
pub(super) fn enough(headers: &HeaderMap) -> Result<(), String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let new = text(HEADER).into_iter().flat_map(|text| text.split(','));
    let new = new.filter_map(|one| one.trim().strip_prefix("compute ")).next();
    let Some(named) = new.or(text(OLD_HEADER)).map(str::trim) else { return Ok(()) };
    let number = named.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    match number {
        Some(version) if version >= WANTED => Ok(()),
        _ => Err(format!(
            "the answer is of version {} of the Compute API, and {}.{} was asked for; VMs would lose \
             their tags, and be nobody's: something between here and Nova takes the header {HEADER} \
             out, or it is an old API: name the endpoint of v2.1 (compute_endpoint_override in \
             clouds.yaml), or have the proxy mended",
            tidy(named, &[]),
            WANTED.0,
            WANTED.1
        )),
    }
}

/// What a compute endpoint's path says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Root {
    /// It is that of v2.1.
    Here,
    /// It names no version: v2.1 must be looked for below it.
    Below,
    /// It is that of another version, and why that will not do.
    Legacy(String),
}

/// Whether a segment of a path names a version: `v2`, `v2.0`, `v2.1`.
pub(super) fn is_version(segment: &str) -> bool {
    segment.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Reads the version out of an endpoint: `…/v2.1`, `…/v2.1/PROJECT`, `…/v2/PROJECT`, or none.
pub(super) fn root(endpoint: &Url) -> Root {
    let mut segments = endpoint.path().trim_end_matches('/').rsplit('/').take(2);
    match segments.find(|segment| is_version(segment)) {
        None => Root::Below,
        Some("v2.1") => Root::Here,
        Some(other) => Root::Legacy(format!(
            "the catalog's compute endpoint is {}, the old API {other}: it drops tags without a \
             word, and VMs would be nobody's; have the catalog name v2.1, or write \
             compute_endpoint_override into clouds.yaml",
            tidy(endpoint.as_str(), &[])
        )),
    }
}

/// Why no v2.1 was found.
pub(super) enum Refused {
    /// The answer is a failure of its own.
    Failed,
    /// The service has other versions only: which.
    Others(String),
}

impl Refused {
    pub(super) fn into_error(self, answer: &Answer, tried: &str) -> PortError {
        match self {
            Self::Failed => answer.failure(tried, Purpose::Read, &[]),
            Self::Others(versions) => PortError::certain(
                ErrorClass::Invalid,
                format!(
                    "{tried}: the catalog's endpoint names no version, and what is there has no \
                     v2.1 but: {versions}; set compute_endpoint_override in clouds.yaml"
                ),
            ),
        }
    }
}

/// Where v2.1 is, by the list of versions that an endpoint without one answers (200 or 300). Its own
/// links are not followed: behind a proxy they are often wrong.
pub(super) fn below(endpoint: &Url, answer: &Answer) -> Result<Url, Refused> {
    if !answer.status.is_success() && answer.status.as_u16() != 300 {
        return Err(Refused::Failed);
    }
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let lists = ["versions", "choices"].iter().filter_map(|list| body.get(list)?.as_array());
    let ids: Vec<&str> =
        lists.flatten().filter_map(|version| version.get("id")?.as_str()).collect();
    if !ids.contains(&"v2.1") {
        let there = if ids.is_empty() { "no list of versions".to_owned() } else { ids.join(", ") };
        return Err(Refused::Others(tidy(&there, &[])));
    }
    let mut base = endpoint.clone();
    if let Ok(mut path) = base.path_segments_mut() {
        path.pop_if_empty().push("v2.1");
    }
    Ok(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(header: &'static str, value: &'static str) -> Result<(), String> {
        let mut headers = HeaderMap::new();
        headers.insert(header, value.parse().unwrap());
        enough(&headers)
    }

    #[test]
    fn what_an_answer_names_must_be_what_was_asked_for() {
        assert_eq!(named(HEADER, "compute 2.52"), Ok(()));
        assert_eq!(named(HEADER, "volume 3.1, compute 2.96"), Ok(()));
        assert_eq!(named(OLD_HEADER, "2.60"), Ok(()));
        assert_eq!(enough(&HeaderMap::new()), Ok(()), "silence proves nothing");
        for old in ["compute 2.1", "compute 2.26", "compute 2.51", "compute 2"] {
            let why = named(HEADER, old).unwrap_err();
            assert!(why.contains("nobody's") && why.contains("compute_endpoint_override"), "{why}");
        }
        assert!(named(OLD_HEADER, "2.1").is_err());
    }

    #[test]
    fn the_path_of_an_endpoint_tells_its_version() {
        let of = |url: &str| root(&url.parse().unwrap());
        for here in ["http://n/v2.1", "http://n/v2.1/", "http://n/compute/v2.1/0123abcd"] {
            assert_eq!(of(here), Root::Here, "{here}");
        }
        for below in ["http://n:8774", "http://n/compute/", "http://n/vault/compute"] {
            assert_eq!(of(below), Root::Below, "{below}");
        }
        for legacy in
            ["http://n/v2/0123abcd", "http://n/compute/v2", "http://n/v2.0", "http://n/v3"]
        {
            assert!(matches!(of(legacy), Root::Legacy(why) if why.contains(legacy)), "{legacy}");
        }
    }
}
