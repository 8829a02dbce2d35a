//! A pool's scope as people write it: a name, or what they copied from a browser.
//!
//! What means one thing only is taken; what looks like another thing than it would be read as is
//! refused with what was probably meant.

use runner_fleet_actors::name::Scope;
use url::Url;

/// Names that GitHub keeps for itself (they are the first part of its own pages), so that nobody's
/// repositories are below them.
const PAGES: [&str; 11] = [
    "orgs",
    "organizations",
    "users",
    "user",
    "repos",
    "enterprise",
    "settings",
    "apps",
    "api",
    "marketplace",
    "sponsors",
];
const RULE: &str = "it must read \"owner/repo\", \"org\" or \"enterprises/slug\"";

/// The scope that a text means. `github`: where the forge is, whose addresses are taken.
///
/// # Errors
/// What is allowed, and what was probably meant.
pub(super) fn read(text: &str, github: Option<&Url>) -> Result<Scope, String> {
    let given = text.trim();
    let path = match given.split_once("://") {
        Some(_) => of_address(given, github)?,
        None => match given.strip_prefix("git@").and_then(|rest| rest.split_once(':')) {
            Some((host, path)) => {
                is_ours(host, given, github)?;
                path.to_owned()
            }
            None => given.to_owned(),
        },
    };
    let refuse = |why: String| format!("{given:?} is not allowed: {why}");
    let from_address = path != given;
    let path = path.trim_end_matches('/');
    let parts: Vec<&str> = path.split('/').collect();
    let parts = match parts.as_slice() {
        // An organisation's own page.
        ["orgs", org] if from_address => vec![*org],
        [page, name] if PAGES.contains(page) => {
            let meant = match *page {
                "orgs" | "organizations" | "users" | "user" => format!("{name:?}"),
                "enterprise" => format!("\"enterprises/{name}\""),
                _ => return Err(refuse(RULE.to_owned())),
            };
            return Err(refuse(format!("{RULE}; did you mean {meant}?")));
        }
        ["repos", owner, repo] => {
            return Err(refuse(format!("{RULE}; did you mean \"{owner}/{repo}\"?")));
        }
        [page] if PAGES.contains(page) || *page == "enterprises" => {
            return Err(refuse(RULE.to_owned()));
        }
        // No repository's name ends so (GitHub refuses it).
        [owner, repo] => vec![*owner, repo.strip_suffix(".git").unwrap_or(repo)],
        _ => parts,
    };
    parts.join("/").parse().map_err(|_| refuse(RULE.to_owned()))
}

fn of_address(given: &str, github: Option<&Url>) -> Result<String, String> {
    let url = Url::parse(given).map_err(|error| format!("{given:?} is not allowed: {error}"))?;
    // The user of git's own addresses over SSH is everybody.
    let everybody = url.scheme() == "ssh" && url.username() == "git";
    if !(url.username().is_empty() || everybody) || url.password().is_some() {
        // Not shown: the address holds a secret.
        return Err(format!("an address with a user or password is not allowed: {RULE}"));
    }
    is_ours(url.host_str().unwrap_or_default(), given, github)?;
    Ok(url.path().trim_matches('/').to_owned())
}

/// Whether an address is one of the configured GitHub.
fn is_ours(host: &str, given: &str, github: Option<&Url>) -> Result<(), String> {
    let bare = |host: &str| {
        let host = host.to_ascii_lowercase();
        host.strip_prefix("www.").or(host.strip_prefix("api.")).map_or(host.clone(), str::to_owned)
    };
    let ours = github.and_then(Url::host_str);
    match ours {
        Some(ours) if bare(ours) != bare(host) => Err(format!(
            "{given:?} is not allowed: it is at {host}, and [github] url is at {ours}; {RULE}"
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Result<String, String> {
        let github = Url::parse("https://github.com").unwrap();
        read(text, Some(&github)).map(|scope| scope.to_string())
    }

    #[test]
    fn what_means_one_thing_only_is_taken() {
        for (text, scope) in [
            ("acme/widgets", "acme/widgets"),
            ("acme", "acme"),
            ("enterprises/acme", "enterprises/acme"),
            ("acme/widgets/", "acme/widgets"),
            ("acme/", "acme"),
            ("acme/widgets.git", "acme/widgets"),
            ("https://github.com/acme/widgets", "acme/widgets"),
            ("https://github.com/acme/widgets.git", "acme/widgets"),
            ("https://www.github.com/acme/", "acme"),
            ("https://github.com/orgs/acme", "acme"),
            ("https://github.com/enterprises/acme", "enterprises/acme"),
            ("git@github.com:acme/widgets.git", "acme/widgets"),
            ("ssh://github.com/acme/widgets.git", "acme/widgets"),
            ("ssh://git@github.com/acme/widgets.git", "acme/widgets"),
        ] {
            assert_eq!(at(text).as_deref(), Ok(scope), "{text}");
        }
    }

    #[test]
    fn what_would_be_read_as_another_thing_is_refused_with_what_was_meant() {
        for (text, says) in [
            ("orgs/acme", "did you mean \"acme\"?"),
            ("users/acme", "did you mean \"acme\"?"),
            ("enterprise/acme", "did you mean \"enterprises/acme\"?"),
            ("repos/acme/widgets", "did you mean \"acme/widgets\"?"),
            ("enterprises", "\"enterprises/slug\""),
            ("orgs", "\"owner/repo\""),
            ("acme/widgets/actions", "it must read"),
            ("acme//widgets", "it must read"),
            ("https://github.com/acme/widgets/settings/actions/runners", "it must read"),
            ("https://gitlab.com/acme/widgets", "[github] url is at github.com"),
            ("https://github.com/", "it must read"),
            ("https://git@github.com/acme/widgets.git", "a user or password"),
            ("ssh://bob@github.com/acme/widgets.git", "a user or password"),
            ("ssh://git:hunter2@github.com/acme/widgets.git", "a user or password"),
            ("ssh://git@gitlab.com/acme/widgets.git", "[github] url is at github.com"),
            ("", "it must read"),
        ] {
            let error = at(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        let error = at("https://bob:hunter2@github.com/acme").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
