//! What each key of openstacksdk is here: taken, of no meaning for what is done here, or not supported.
//!
//! The keys are those that openstacksdk 4.22 and keystoneauth 5.18 read (`openstack/config/loader.py`,
//! `cloud_region.py`, the options of keystoneauth's plugins); a test holds this against their list. A
//! key that nobody knows is most likely a slip of the pen.

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// Read, as openstacksdk reads it.
    Used,
    /// Says what is so anyway, or speaks of what is not done here; nobody misses it.
    Idle,
    /// Somebody may expect an effect that it has not: why.
    Without(&'static str),
    /// With it, the cloud would be used in another way than was meant: what to do.
    Refused(&'static str),
}

use Taken::{Idle, Refused, Used, Without};

const RETRIES: &str = "the fleet retries by itself, with a backoff of its own";
const RATES: &str = "`rate` and `concurrency` of the provider say how much the cloud is asked";
const NETWORK: &str = "a pool names its network itself";
const SESSION: &str = "calls have a bound of their own";
const METHOD: &str = "it belongs to a way to log in that is not supported";

/// A key of a cloud itself; `None` where openstacksdk knows none of this name.
pub(super) fn of_cloud(key: &str) -> Option<Taken> {
    let taken = match key {
        "auth" | "auth_type" | "auth_plugin" | "region_name" | "regions" | "interface"
        | "endpoint_type" | "verify" | "insecure" | "cacert" | "cert" | "key" | "profile"
        | "cloud" => Used,
        "message"
        | "status"
        | "secgroup_source"
        | "image_format"
        | "image_api_use_tasks"
        | "disable_vendor_agent"
        | "metrics"
        | "timing"
        | "vendor_hook"
        | "name" => Idle,
        "api_timeout" | "timeout" => Without(SESSION),
        "networks"
        | "external_network"
        | "internal_network"
        | "floating_ip_source"
        | "requires_floating_ip" => Without(NETWORK),
        "force_ipv4" | "prefer_ipv6" => {
            Without("addresses are taken as the cloud and the resolver give them")
        }
        "connect_retries"
        | "connect_retry_delay"
        | "status_code_retries"
        | "status_code_retry_delay"
        | "retriable_status_codes" => Without(RETRIES),
        "rate_limit" | "concurrency" => Without(RATES),
        "cache" => Without("nothing is kept over a restart but what the cloud itself says"),
        other => return of_auth(other).or_else(|| of_service(other)),
    };
    Some(taken)
}

/// A key of `auth`; openstacksdk takes each of them one level up as well.
pub(super) fn of_auth(key: &str) -> Option<Taken> {
    let taken = match key {
        "auth_url"
        | "username"
        | "user_name"
        | "user_id"
        | "password"
        | "token"
        | "auth_token"
        | "project_id"
        | "project_name"
        | "tenant_id"
        | "tenant_name"
        | "user_domain_id"
        | "user_domain_name"
        | "project_domain_id"
        | "project_domain_name"
        | "domain_id"
        | "domain_name"
        | "default_domain_id"
        | "default_domain_name"
        | "application_credential_id"
        | "application_credential_name"
        | "application_credential_secret" => Used,
        "system_scope" => Refused("VMs live in a project: take this out and name the project"),
        "trust_id" => Refused("trusts are not supported: make an application credential"),
        "access_key"
        | "access_secret"
        | "access_token"
        | "access_token_endpoint"
        | "access_token_type"
        | "auth_methods"
        | "authorization_code"
        | "client_id"
        | "client_secret"
        | "code"
        | "code_challenge_method"
        | "consumer_key"
        | "consumer_secret"
        | "device_authorization_endpoint"
        | "discovery_endpoint"
        | "endpoint"
        | "identity_provider"
        | "identity_provider_url"
        | "idp_otp_key"
        | "login_timeout"
        | "mutual_auth"
        | "oauth2_client_id"
        | "oauth2_client_secret"
        | "oauth2_endpoint"
        | "openid_scope"
        | "passcode"
        | "protocol"
        | "redirect_host"
        | "redirect_port"
        | "redirect_uri"
        | "service_provider_endpoint"
        | "service_provider_entity_id"
        | "url" => Without(METHOD),
        _ => return None,
    };
    Some(taken)
}

/// The services that are spoken to.
pub(super) const SERVICES: [&str; 3] = ["compute", "image", "network"];

/// A key that begins with a service's name (`compute_endpoint_override`), or `has_SERVICE`.
fn of_service(key: &str) -> Option<Taken> {
    if key.strip_prefix("has_").is_some_and(|service| !service.is_empty()) {
        return Some(Idle);
    }
    let spoken_to = SERVICES.iter().find_map(|s| key.strip_prefix(s)?.strip_prefix('_'));
    match spoken_to {
        Some(
            "endpoint_override" | "endpoint" | "interface" | "endpoint_type" | "region_name"
            | "service_type" | "service_name",
        ) => return Some(Used),
        Some("default_microversion" | "min_version" | "max_version") => {
            return Some(Without("the version of each call is chosen here"));
        }
        Some("api_version" | "disabled_reason") => return Some(Idle),
        _ => {}
    }
    const OF_ANY: [(&str, Taken); 16] = [
        ("_connect_retries", Without(RETRIES)),
        ("_connect_retry_delay", Without(RETRIES)),
        ("_status_code_retries", Without(RETRIES)),
        ("_status_code_retry_delay", Without(RETRIES)),
        ("_retriable_status_codes", Without(RETRIES)),
        ("_timeout", Without(SESSION)),
        ("_api_version", Idle),
        ("_default_microversion", Idle),
        ("_endpoint_override", Idle),
        ("_endpoint", Idle),
        ("_interface", Idle),
        ("_endpoint_type", Idle),
        ("_region_name", Idle),
        ("_service_type", Idle),
        ("_service_name", Idle),
        ("_disabled_reason", Idle),
    ];
    OF_ANY
        .iter()
        .find(|(end, _)| key.strip_suffix(end).is_some_and(|service| !service.is_empty()))
        .map(|(_, taken)| *taken)
}

/// The known key that is most like an unknown one.
pub(super) fn like(key: &str) -> Option<&'static str> {
    const COMMON: [&str; 24] = [
        "auth",
        "auth_url",
        "auth_type",
        "username",
        "user_id",
        "password",
        "token",
        "project_id",
        "project_name",
        "user_domain_id",
        "user_domain_name",
        "project_domain_id",
        "project_domain_name",
        "domain_id",
        "domain_name",
        "application_credential_id",
        "application_credential_name",
        "application_credential_secret",
        "region_name",
        "regions",
        "interface",
        "verify",
        "cacert",
        "profile",
    ];
    let near = COMMON.iter().map(|known| (strsim::jaro_winkler(key, known), *known));
    near.filter(|(score, _)| *score > 0.85).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `cloud KEY` and `auth KEY`, one a line, taken from openstacksdk and keystoneauth themselves.
    const THEIRS: &str = include_str!("../../../../tests/data/openstacksdk-keys.txt");

    #[test]
    fn every_key_of_openstacksdk_is_honoured_or_named() {
        let lines = THEIRS.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let mut seen = 0;
        for line in lines {
            let (of, key) = line.split_once(' ').unwrap();
            let taken = if of == "auth" { of_auth(key) } else { of_cloud(key) };
            assert!(taken.is_some(), "{line}: openstacksdk knows it, and it is nowhere here");
            seen += 1;
        }
        assert!(seen > 90, "the list is whole: {seen}");
    }

    #[test]
    fn what_nobody_knows_is_not_taken_for_something() {
        for key in ["pasword", "region", "compute_colour", "_endpoint", "has_", "x"] {
            assert_eq!(of_cloud(key), None, "{key}");
        }
        assert_eq!(like("pasword"), Some("password"));
        assert_eq!(like("colour"), None);
    }
}
