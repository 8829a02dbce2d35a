//! `[github]`: where the forge is and who we are there.

use std::path::PathBuf;

use url::{Host, Url};

use super::{
    read::{SecretKeys, Section},
    secret::SecretSource,
};
use crate::github::app_key;

/// Who we are at GitHub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GithubAuth {
    /// A personal access token, classic or fine-grained.
    Token(SecretSource),
    /// A GitHub App's installation.
    App {
        /// The App's number or its client id; GitHub takes either as issuer.
        id: String,
        /// The installation's number.
        installation_id: u64,
        /// The App's private key in PEM.
        private_key: SecretSource,
    },
}

/// `[github]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Github {
    /// As a browser opens it, or the API's own address. Default `https://github.com`.
    pub url: Url,
    /// Certificates of another authority, in PEM, trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// A runner group that no repository may use, to which runners that cannot be asked are moved before they are
    /// deregistered, where they are registered in an organisation or enterprise. Default: their labels are taken
    /// off.
    pub cordon_group: Option<String>,
    /// Who we are there.
    pub auth: GithubAuth,
}

pub(super) fn read(section: Option<Section<'_>>, root: &Section<'_>) -> Option<Github> {
    let Some(section) = section else {
        root.missing(
            "github",
            "a table [github] with token_file, token_env, token_credential or app",
        );
        return None;
    };
    let url = match section.text("url") {
        Some(text) => web_address(text).map_err(|why| section.fault("url", why)).ok(),
        None => Url::parse("https://github.com").ok(),
    };
    let ca_file = section.file("ca_file", false);
    let cordon_group = section.text("cordon_group").map(str::to_owned);
    if cordon_group.as_deref().is_some_and(|group| group.eq_ignore_ascii_case("default")) {
        section.fault(
            "cordon_group",
            "must be a group that no repository may use, not the default one",
        );
    }
    let token_given = SecretKeys::TOKEN.all().into_iter().find(|key| section.has(key));
    let token = section.secret(SecretKeys::TOKEN).map(GithubAuth::Token);
    let app_given = section.has("app");
    let app = section.section("app").and_then(app);
    if let (Some(key), true) = (token_given, app_given) {
        section.fault(key, "app is given as well; keep one of them");
    }
    if token_given.is_none() && !app_given && !section.has_inline_secret() {
        section.missing(
            "token_file",
            "credentials, by exactly one of token_file, token_env, token_credential, \
             app = { id, installation_id, private_key_file }",
        );
    }
    section.finish();
    Some(Github { url: url?, ca_file, cordon_group, auth: token.or(app)? })
}

fn app(section: Section<'_>) -> Option<GithubAuth> {
    for (key, what) in [
        ("id", "the App's client id or number, see its settings page"),
        ("installation_id", "a number, see the App's settings page"),
    ] {
        if !section.has(key) {
            section.missing(key, what);
        }
    }
    let id = section.has("id").then(|| app_id(&section)).flatten();
    let installation_id = section.number("installation_id", 1..=u64::MAX);
    let given = SecretKeys::PRIVATE_KEY.all().into_iter().any(|key| section.has(key));
    let private_key = section.secret_that(SecretKeys::PRIVATE_KEY, Some(app_key::check));
    if !given && !section.has_inline_secret() {
        section.missing("private_key_file", "the App's private key in PEM");
    }
    section.finish();
    Some(GithubAuth::App { id: id?, installation_id: installation_id?, private_key: private_key? })
}

/// A number, or a client id such as `Iv1.8a61f9b3a7aba766` and `Iv23li8ZcVbxyQTnUWXe`.
fn app_id(section: &Section<'_>) -> Option<String> {
    if section.text_of("id").is_none() {
        return section.number("id", 1..=u64::MAX).map(|id| id.to_string());
    }
    let text = section.text("id")?.trim();
    let number = text.parse::<u64>().is_ok_and(|id| id > 0);
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
    if number || (text.starts_with("Iv") && plain && text.len() <= 40) {
        return Some(text.to_owned());
    }
    // Not shown: it may be a secret that was taken for the id.
    section.fault(
        "id",
        "this is no App's id: its client id, such as \"Iv23li8ZcVbxyQTnUWXe\", or its number, see the \
         App's settings page",
    );
    None
}

/// An address with https; plain http only over loopback, for a token travels on it. Other addresses of
/// this machine are not told from those of a network without asking the kernel, which reading a
/// configuration does not.
fn web_address(text: &str) -> Result<Url, String> {
    let refuse = |why: &str| format!("{text:?} is not allowed: {why}");
    let url = Url::parse(text).map_err(|_| refuse("an address such as \"https://github.com\""))?;
    let near = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err(refuse("it names no host")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        // Not shown: the address holds a secret.
        return Err("a user or password in the address is not allowed: use token_file".to_owned());
    }
    match url.scheme() {
        "https" => {}
        "http" if near => {}
        _ => return Err(refuse("it must begin with https:// (http:// only to localhost)")),
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("only scheme, host and port"));
    }
    match url.path().trim_matches('/') {
        // As a browser opens it, or the API's own address.
        "" | "api/v3" => Ok(url),
        path => Err(refuse(&format!(
            "only scheme, host and port; what is behind the host ({path:?}) belongs into a pool's \
             scope, if anywhere"
        ))),
    }
}
