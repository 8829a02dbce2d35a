//! Where things are: what a scope is called towards the actions service, and how its addresses are
//! put together.
//!
//! The actions service tells its own address at each registration, and that address may have a path
//! and a query of its own: both are kept, whatever is asked for is added. Replacing the path, as
//! `Url::join` does with an absolute one, loses the tenant.

use runner_fleet_actors::{
    name::Scope,
    port::{ErrorClass, PortError},
};
use url::Url;

/// The version of the protocol that is asked for where an address names none.
const API_VERSION: (&str, &str) = ("api-version", "6.0-preview");

/// The address of a scope as a browser opens it: the identity under which scale sets are registered.
/// `api` is the base of the REST API.
///
/// # Errors
/// `Invalid` where no such address can be made.
pub fn of_scope(api: &Url, scope: &Scope) -> Result<Url, PortError> {
    let mut web = api.clone();
    let host = api.host_str().unwrap_or_default();
    let own = match host {
        "api.github.com" => Some("github.com".to_owned()),
        _ if host.ends_with(".ghe.com") => host.strip_prefix("api.").map(str::to_owned),
        _ => None,
    };
    let base = match own {
        Some(host) => {
            let unusable = |error: url::ParseError| {
                let what = format!("the web address of {scope} at {api} cannot be made: {error}");
                PortError::certain(ErrorClass::Invalid, what)
            };
            web.set_host(Some(&host)).map_err(unusable)?;
            String::new()
        }
        None => {
            let path = api.path().trim_end_matches('/');
            path.strip_suffix("/api/v3").unwrap_or(path).to_owned()
        }
    };
    web.set_path(&format!("{base}/{scope}"));
    web.set_query(None);
    Ok(web)
}

/// `base` with a path added to its own, and a query to its own. The version of the protocol is added
/// where none is named.
pub fn below(base: &Url, path: &str, query: &[(&str, &str)]) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    with_query(&mut url, query);
    let (key, value) = API_VERSION;
    if !url.query_pairs().any(|(known, _)| known == key) {
        url.query_pairs_mut().append_pair(key, value);
    }
    url
}

/// The next message after `last`. The queue's address is taken as it is.
pub fn next_message(queue: &Url, last: u64) -> Url {
    let mut url = queue.clone();
    let last = (last > 0).then(|| last.to_string());
    with_query(&mut url, last.as_deref().map(|last| ("lastMessageId", last)).as_slice());
    url
}

/// One message of the queue.
pub fn message(queue: &Url, id: u64) -> Url {
    let mut url = queue.clone();
    url.set_path(&format!("{}/{id}", queue.path().trim_end_matches('/')));
    url
}

fn with_query(url: &mut Url, query: &[(&str, &str)]) {
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_scope_is_registered_under_its_web_address() {
        let table = [
            ("https://api.github.com/", "octo-org", "https://github.com/octo-org"),
            ("https://api.github.com", "octo/app", "https://github.com/octo/app"),
            ("https://api.octo.ghe.com/", "enterprises/x", "https://octo.ghe.com/enterprises/x"),
            ("https://git.example.net/api/v3", "octo", "https://git.example.net/octo"),
            ("https://example.net/git/api/v3", "octo", "https://example.net/git/octo"),
            ("http://127.0.0.1:8080/api/v3", "octo", "http://127.0.0.1:8080/octo"),
        ];
        for (api, scope, wanted) in table {
            let made = of_scope(&url(api), &scope.parse().unwrap()).unwrap();
            assert_eq!(made.as_str(), wanted, "for {scope} at {api}");
        }
    }

    #[test]
    fn the_tenants_own_path_and_query_are_kept() {
        let tenant = url("https://pipelines.example.com/AbC/?tenant=1");
        let made = below(&tenant, "_apis/runtime/runnerscalesets", &[("name", "a b&c")]);
        assert_eq!(
            made.as_str(),
            "https://pipelines.example.com/AbC/_apis/runtime/runnerscalesets\
             ?tenant=1&name=a+b%26c&api-version=6.0-preview"
        );
        let named = below(&url("https://x.example.com/?api-version=7"), "a", &[]);
        assert_eq!(named.as_str(), "https://x.example.com/a?api-version=7");
    }

    #[test]
    fn the_queues_own_query_is_kept() {
        let queue = url("https://broker.example.com/q/1/message?sessionId=s&status=x");
        assert_eq!(
            next_message(&queue, 7).as_str(),
            "https://broker.example.com/q/1/message?sessionId=s&status=x&lastMessageId=7"
        );
        assert_eq!(next_message(&queue, 0), queue);
        assert_eq!(
            message(&queue, 7).as_str(),
            "https://broker.example.com/q/1/message/7?sessionId=s&status=x"
        );
        assert_eq!(
            next_message(&url("https://q.example.com/m"), 0).as_str(),
            "https://q.example.com/m"
        );
    }
}
