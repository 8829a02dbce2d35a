//! `[planner]`: Canonical's planner, and which part of its pressure this fleet serves.

use std::path::PathBuf;

use url::Url;

use super::{
    read::{SecretKeys, Section},
    secret::SecretSource,
    warn,
};

/// More units than anybody has; a larger number is a slip.
const UNITS_MAX: u32 = 1_000;

/// `[planner]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannerAccess {
    /// Where it is; `/api/v1/…` is below it.
    pub url: Url,
    /// The bearer token that it has made for this fleet.
    pub token: SecretSource,
    /// Certificates of another authority, in PEM, trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// How many fleets share one pressure. Default 1.
    pub units: u32,
    /// Which of them this one is, from 0.
    pub unit: u32,
}

pub(super) fn read(section: Option<Section<'_>>) -> Option<PlannerAccess> {
    let section = section?;
    let url = section
        .needed_text("url", "the planner's address, such as \"https://planner.example.com\"")
        .and_then(|text| web_address(text).map_err(|why| section.fault("url", why)).ok());
    if let Some(url) = url.as_ref().filter(|url| warn::is_plain(url)) {
        section.warn("url", format_args!("{url}: {}", warn::PLAIN_PLANNER));
    }
    let given = SecretKeys::TOKEN.all().into_iter().any(|key| section.has(key));
    let token = section.secret(SecretKeys::TOKEN);
    if !given && !section.has_inline_secret() {
        section.missing(
            "token_file",
            "the planner's token, by one of token_file, token_env, token_credential",
        );
    }
    let ca_file = section.file("ca_file", false);
    let units = section.count("units", 1, 1..=UNITS_MAX);
    let unit = section.count("unit", 0, 0..=UNITS_MAX - 1);
    if units > 1 && !section.has("unit") {
        section.missing("unit", format_args!("which of the {units} units this is, from 0"));
    } else if unit >= units {
        section.fault(
            "unit",
            format_args!("{unit} is not one of {units} units, which are counted from 0"),
        );
    }
    section.finish();
    Some(PlannerAccess { url: url?, token: token?, ca_file, units, unit })
}

/// A planner inside a private network often has no TLS, so http is taken.
fn web_address(text: &str) -> Result<Url, String> {
    let refuse = |why: &str| format!("{text:?} is not allowed: {why}");
    let url = Url::parse(text)
        .map_err(|_| refuse("an address such as \"https://planner.example.com\""))?;
    if !url.username().is_empty() || url.password().is_some() {
        // Not shown: the address holds a secret.
        return Err("a user or password in the address is not allowed: use token_file".to_owned());
    }
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("it must begin with https:// or http://"));
    }
    if url.host().is_none() || url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("only scheme, host, port and path"));
    }
    Ok(url)
}
