//! Which runner applications GitHub offers a scope, and until when it takes a version.
//!
//! Asked per scope: a new release reaches organisations one after the other, so what one is offered
//! another may not be. A GitHub Enterprise Server has no schedule of versions; its 404 is an answer.
//!
//! An element that cannot be read costs itself. The list's `temp_download_token` is not read at all:
//! what is not kept cannot leak, and an application that needs it comes from the image or a mirror.

use http::{Method, StatusCode};
use runner_fleet_actors::{
    name::Scope,
    port::{ErrorClass, PortError, Time},
};
use serde_json::Value;
use url::Url;

use super::{
    budget::CallKind,
    client::{Call, Client},
    freshness::{Deprecation, Version},
    reading::{needed, said},
    route,
};

/// One runner application that GitHub offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// GitHub's word: `linux`, `osx`, `win`.
    pub os: String,
    /// GitHub's word: `x64`, `arm64`, `arm`.
    pub architecture: String,
    /// Its version.
    pub version: Version,
    /// Where its archive is.
    pub url: Url,
    /// The archive's name: letters, digits, `.`, `-` and `_` only.
    pub filename: String,
    /// The archive's SHA-256 in 64 small hexadecimal digits, where GitHub tells it.
    pub sha256: Option<String>,
}

/// What GitHub offers a scope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// All that could be read.
    pub applications: Vec<Application>,
    /// What could not.
    pub faults: Vec<String>,
}

/// What is offered to `scope` now. `kind` decides who goes first when little of the rate limit is
/// left.
pub async fn offer(client: &Client, scope: &Scope, kind: CallKind) -> Result<Offer, PortError> {
    let what = format!("list the runner applications for {scope}");
    let call = Call::new(what, kind, scope, Method::GET, route::downloads(scope));
    let answer = client.call(&call).await?;
    match answer.status {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => {
            let hint = needed(scope, &answer.headers);
            let why = format!("{}; check that {scope} exists; {hint}", said(&answer));
            return Err(call.failed(ErrorClass::Invalid, &why));
        }
        _ => return Err(call.failed(ErrorClass::Invalid, &said(&answer))),
    }
    read_offer(&answer.body)
        .ok_or_else(|| call.lost("GitHub's answer is no list of runner applications"))
}

/// GitHub's schedule for a version; `None` where it tells none.
pub async fn deprecation(
    client: &Client,
    scope: &Scope,
    version: Version,
) -> Result<Option<Deprecation>, PortError> {
    let what = format!("ask until when {scope} takes runner application {version}");
    let path = route::deprecation(scope, version);
    let call = Call::new(what, CallKind::List, scope, Method::GET, path);
    let answer = client.call(&call).await?;
    match answer.status {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Ok(None),
        _ => return Err(call.failed(ErrorClass::Invalid, &said(&answer))),
    }
    let read = read_deprecation(&answer.body);
    read.map(Some).ok_or_else(|| call.lost("GitHub's answer is no schedule of a version"))
}

fn read_offer(body: &[u8]) -> Option<Offer> {
    let elements: Vec<Value> = serde_json::from_slice(body).ok()?;
    let mut offer = Offer::default();
    for element in &elements {
        match read_application(element) {
            Ok(application) => offer.applications.push(application),
            Err(fault) => offer.faults.push(fault),
        }
    }
    Some(offer)
}

fn read_application(element: &Value) -> Result<Application, String> {
    let text = |key: &str| element.get(key).and_then(Value::as_str);
    let needed = |key: &str| text(key).ok_or(format!("a runner application without {key}"));
    let (os, architecture) = (needed("os")?.to_owned(), needed("architecture")?.to_owned());
    let of = format!("the runner application for {os} {architecture}");
    let filename = needed("filename")?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if filename.starts_with('.') || !filename.bytes().all(plain) {
        return Err(format!("{of} has a name that no file should have"));
    }
    let url = Url::parse(needed("download_url")?).ok();
    let url = url.filter(|url| matches!(url.scheme(), "https" | "http"));
    let url = url.ok_or(format!("{of} is at no address of the web"))?;
    let version = version_in(filename, &url).ok_or(format!("{of} does not say its version"))?;
    let sha256 = text("sha256_checksum").map(str::to_ascii_lowercase);
    let sha256 = sha256.filter(|sum| sum.len() == 64 && sum.bytes().all(|b| b.is_ascii_hexdigit()));
    Ok(Application { os, architecture, version, url, filename: filename.to_owned(), sha256 })
}

/// `actions-runner-linux-x64-2.336.0.tar.gz`, or `…/download/v2.336.0/…`.
fn version_in(filename: &str, url: &Url) -> Option<Version> {
    let stem = filename.strip_suffix(".tar.gz").or_else(|| filename.strip_suffix(".zip"));
    let named = stem.and_then(|stem| stem.rsplit('-').next()?.parse().ok());
    named.or_else(|| {
        url.path_segments()?.rev().find_map(|part| part.strip_prefix('v')?.parse().ok())
    })
}

/// `None` where it is no schedule, or a date in it cannot be read: a date that is taken for "none"
/// would hide the very thing that is asked for.
fn read_deprecation(body: &[u8]) -> Option<Deprecation> {
    let body: Value = serde_json::from_slice(body).ok()?;
    body.get("runner_version")?;
    let date = |key: &str| match body.get(key) {
        None | Some(Value::Null) => Some(None),
        Some(date) => {
            let date = chrono::DateTime::parse_from_rfc3339(date.as_str()?).ok()?;
            Some(Some(Time::from(date)))
        }
    };
    let registration = date("registration_deprecates_at")?;
    Some(Deprecation { registration, runtime: date("runtime_deprecates_at")? })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn element() -> Value {
        let filename = "actions-runner-linux-x64-2.336.0.tar.gz";
        json!({
            "os": "linux",
            "architecture": "x64",
            "download_url": format!("https://git.example.net/download/v2.336.0/{filename}"),
            "filename": filename,
            "sha256_checksum": "AB".repeat(32),
            "temp_download_token": "very-secret",
        })
    }

    fn with(key: &str, value: Value) -> Value {
        let mut element = element();
        element[key] = value;
        element
    }

    #[test]
    fn one_odd_element_costs_itself_only() {
        let odd = [
            json!(null),
            json!({"os": "linux"}),
            with("filename", json!("../../etc/passwd")),
            with("filename", json!(".bashrc")),
            with("filename", json!("a b")),
            with("download_url", json!("file:///etc/passwd")),
            with("download_url", json!(7)),
        ];
        let mut elements = odd.to_vec();
        elements.push(element());
        let offer = read_offer(json!(elements).to_string().as_bytes()).unwrap();
        assert_eq!((offer.applications.len(), offer.faults.len()), (1, odd.len()));
        let one = &offer.applications[0];
        assert_eq!(one.version, Version(2, 336, 0));
        assert_eq!(one.sha256, Some("ab".repeat(32)));
        assert!(!format!("{offer:?}").contains("very-secret"));
        assert_eq!(read_offer(b"{}"), None);
    }

    #[test]
    fn the_version_is_in_the_name_or_else_in_the_address() {
        let zip = read_application(&with("filename", json!("actions-runner-win-x64-2.340.1.zip")));
        assert_eq!(zip.unwrap().version, Version(2, 340, 1));
        let nameless = read_application(&with("filename", json!("runner.tar.gz")));
        assert_eq!(nameless.unwrap().version, Version(2, 336, 0));
        let mut none = with("filename", json!("runner.tar.gz"));
        none["download_url"] = json!("https://git.example.net/runner.tar.gz");
        assert!(read_application(&none).unwrap_err().contains("version"));
    }

    #[test]
    fn a_checksum_that_is_none_is_not_taken_for_one() {
        for sum in [json!(null), json!(""), json!("ab"), json!("zz".repeat(32)), json!(1)] {
            assert_eq!(read_application(&with("sha256_checksum", sum)).unwrap().sha256, None);
        }
    }

    #[test]
    fn a_schedule_may_lack_dates_but_not_hide_them() {
        let read = |body: Value| read_deprecation(body.to_string().as_bytes());
        let none = read(json!({"runner_version": "2.300.0", "runtime_deprecates_at": null}));
        assert_eq!(none, Some(Deprecation::default()));
        let dates = read(json!({"runner_version": "2.300.0",
            "registration_deprecates_at": "2026-08-01T00:00:00Z",
            "runtime_deprecates_at": "2026-09-01T02:00:00+02:00"}));
        let dates = dates.unwrap();
        assert_eq!(dates.refused_from(), Some("2026-08-01T00:00:00Z".parse().unwrap()));
        assert_eq!(dates.runtime, Some("2026-09-01T00:00:00Z".parse().unwrap()));
        assert_eq!(
            read(json!({"runner_version": "2.300.0", "runtime_deprecates_at": "soon"})),
            None
        );
        assert_eq!(read(json!({"message": "moved"})), None);
    }
}
