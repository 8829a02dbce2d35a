//! Why GitHub says no, and what to do. Pure: status, headers and words in, a cause out.
//!
//! A 403 has a dozen causes and no code that tells them apart, so GitHub's own words are looked at:
//! here and nowhere else. Whoever meets "the credentials lack a right" for an archived repository
//! changes rights for an afternoon.

use std::fmt;

use http::HeaderMap;
use url::Url;

/// Why GitHub refuses, where it is not for want of a right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Too much, too fast (GitHub docs, "About secondary rate limits"; older servers call it abuse).
    SecondaryLimit,
    /// The limit of the hour is used up.
    PrimaryLimit,
    /// The organisation wants a log-in by its own provider of identities.
    Sso {
        /// Where the credentials are authorised, as `X-GitHub-SSO` says.
        address: Option<String>,
    },
    /// The organisation takes calls from certain addresses only.
    IpAllowList,
    /// The repository takes no changes any more.
    Archived,
    /// Somebody suspended the App's installation.
    SuspendedInstallation,
    /// The account of the token is suspended.
    SuspendedAccount,
    /// Money: payments, spending limits.
    Billing,
    /// GitHub itself has closed repository or organisation.
    Blocked,
    /// Actions, or runners of one's own, are switched off there.
    ActionsOff,
    /// This kind of credentials is not taken there.
    KindOfCredentials,
    /// The account has no second factor.
    SecondFactor,
}

/// What is said in a message, in small letters, of which cause; the first that fits.
const WORDS: [(&[&str], Cause); 17] = [
    (&["secondary rate limit"], Cause::SecondaryLimit),
    (&["abuse detection mechanism"], Cause::SecondaryLimit),
    (&["rate limit"], Cause::PrimaryLimit),
    (&["saml enforcement"], Cause::Sso { address: None }),
    (&["ip allow list"], Cause::IpAllowList),
    (&["ip address is not permitted"], Cause::IpAllowList),
    (&["archived"], Cause::Archived),
    (&["installation", "suspended"], Cause::SuspendedInstallation),
    (&["account", "suspended"], Cause::SuspendedAccount),
    (&["billing"], Cause::Billing),
    (&["spending limit"], Cause::Billing),
    (&["access blocked"], Cause::Blocked),
    (&["actions", "disabled"], Cause::ActionsOff),
    (&["actions is not enabled"], Cause::ActionsOff),
    (&["runners", "disabled"], Cause::ActionsOff),
    (&["forbids access via"], Cause::KindOfCredentials),
    (&["two-factor"], Cause::SecondFactor),
];

/// Words of OAuth access restrictions, which are about the kind of credentials as well.
const RESTRICTED: &str = "oauth app access restrictions";

/// The cause that headers and words of a refusal (403, 429, 451) tell; `None` where they tell none,
/// which leaves the right that is missing.
#[must_use]
pub fn cause(headers: &HeaderMap, message: &str) -> Option<Cause> {
    let words = message.to_ascii_lowercase();
    let told = WORDS.iter().find(|(parts, _)| parts.iter().all(|part| words.contains(part)));
    let told = told.map(|(_, cause)| cause.clone());
    if matches!(told, Some(Cause::SecondaryLimit | Cause::PrimaryLimit)) {
        return told;
    }
    let sso = headers.get("x-github-sso").and_then(|value| value.to_str().ok());
    if let Some(sso) = sso.filter(|sso| sso.trim_start().starts_with("required")) {
        return Some(Cause::Sso { address: authorisation(sso) });
    }
    told.or_else(|| words.contains(RESTRICTED).then_some(Cause::KindOfCredentials))
}

/// `required; url=https://github.com/orgs/acme/sso?authorization_request=…`.
fn authorisation(header: &str) -> Option<String> {
    let text = header.split_once("url=")?.1.trim();
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "https" | "http"))?;
    // In this form it holds nothing that a terminal would obey.
    (url.as_str().len() <= 500).then(|| url.to_string())
}

/// What to do.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SecondaryLimit => "too many calls at once; it goes on by itself",
            Self::PrimaryLimit => "the hour's calls are used up; it goes on by itself",
            Self::Sso { address: Some(address) } => {
                return write!(
                    f,
                    "the organisation wants the token authorised for its SSO (SAML): open {address} \
                     as the token's owner"
                );
            }
            Self::Sso { address: None } => {
                "the organisation wants the token authorised for its SSO (SAML): on GitHub, Settings, \
                 Developer settings, the token, Configure SSO"
            }
            Self::IpAllowList => {
                "the organisation's IP allow list lacks the address that this machine, or its proxy, \
                 calls from: have an owner add it (organisation settings, Authentication security)"
            }
            Self::Archived => "the repository is archived: unarchive it, or remove its pools",
            Self::SuspendedInstallation => {
                "the App's installation is suspended: have an owner unsuspend it (settings, GitHub \
                 Apps, Configure)"
            }
            Self::SuspendedAccount => {
                "the account that the token belongs to is suspended: use another one's, or an App"
            }
            Self::Billing => "GitHub wants something paid: look at the owner's billing settings",
            Self::Blocked => "GitHub has closed it: its owner must ask GitHub's support",
            Self::ActionsOff => {
                "Actions, or self-hosted runners, are switched off there: settings of the repository, \
                 organisation or enterprise, Actions, General"
            }
            Self::KindOfCredentials => {
                "this kind of credentials is not taken there: use an App, or have an owner allow it \
                 (organisation settings, Third-party access)"
            }
            Self::SecondFactor => {
                "the token's account needs a second factor there: set one up, or use an App"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(sso: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(sso) = sso {
            headers.insert("x-github-sso", sso.parse().unwrap());
        }
        headers
    }

    #[test]
    fn each_refusal_has_its_own_cause_and_only_the_rest_is_a_missing_right() {
        let table = [
            (
                "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
                Some(Cause::SecondaryLimit),
            ),
            (
                "You have triggered an abuse detection mechanism. Please wait a few minutes before you \
                 try again.",
                Some(Cause::SecondaryLimit),
            ),
            ("API rate limit exceeded for installation ID 1.", Some(Cause::PrimaryLimit)),
            (
                "Resource protected by organization SAML enforcement. You must grant your Personal \
                 Access token access to this organization.",
                Some(Cause::Sso { address: None }),
            ),
            (
                "Although you appear to have the correct authorization credentials, the `acme` \
                 organization has an IP allow list enabled, and your IP address is not permitted to \
                 access this resource.",
                Some(Cause::IpAllowList),
            ),
            ("Repository was archived so is read-only.", Some(Cause::Archived)),
            ("This installation has been suspended", Some(Cause::SuspendedInstallation)),
            ("Sorry. Your account was suspended.", Some(Cause::SuspendedAccount)),
            ("The account is locked due to a billing issue.", Some(Cause::Billing)),
            ("Repository access blocked", Some(Cause::Blocked)),
            ("GitHub Actions is disabled for this repository", Some(Cause::ActionsOff)),
            (
                "Repository level self-hosted runners are disabled on this repository.",
                Some(Cause::ActionsOff),
            ),
            (
                "`acme` forbids access via a personal access token (classic). Please use a GitHub App, \
                 OAuth App, or a personal access token with fine-grained permissions.",
                Some(Cause::KindOfCredentials),
            ),
            (
                "Although you appear to have the correct authorization credentials, the `acme` \
                 organization has enabled OAuth App access restrictions",
                Some(Cause::KindOfCredentials),
            ),
            ("This organization requires two-factor authentication", Some(Cause::SecondFactor)),
            ("Resource not accessible by integration", None),
            ("Resource not accessible by personal access token", None),
            ("Must have admin rights to Repository.", None),
            ("Forbidden", None),
            ("", None),
        ];
        for (message, wanted) in table {
            assert_eq!(cause(&headers(None), message), wanted, "{message}");
        }
    }

    #[test]
    fn sso_is_told_with_the_address_where_it_is_granted() {
        let address = "https://github.com/orgs/acme/sso?authorization_request=AAAA";
        let required = headers(Some(&format!("required; url={address}")));
        let told = cause(&required, "Resource protected by organization SAML enforcement.");
        let told = told.unwrap();
        assert!(told.to_string().contains(address), "{told}");
        // Whatever the words are, the header says it; but a limit is a limit.
        assert!(matches!(cause(&required, ""), Some(Cause::Sso { address: Some(_) })));
        assert_eq!(cause(&required, "secondary rate limit"), Some(Cause::SecondaryLimit));
        assert_eq!(cause(&headers(Some("partial-results; organizations=1")), ""), None);
        for odd in ["required", "required; url=", "required; url=javascript:alert(1)"] {
            assert_eq!(cause(&headers(Some(odd)), ""), Some(Cause::Sso { address: None }), "{odd}");
        }
    }
}
