//! The configuration: one TOML file, read as a whole or refused as a whole.
//!
//! Rules. Reading is pure: text and environment in, a [`Config`] or *all* its faults out, each with
//! its line, its key, the wrong value and what is allowed, so that a file is put right in one go.
//! An unknown key is a fault, because a misspelt `spare` that silently means 0 is found out in an
//! outage. No secret is ever a value: the file names where it lies ([`SecretSource`]) and it is read
//! when it is needed, so that a rotated token works after a reload. What only the machine can tell
//! (does the token file exist, who may read it) is checked by [`Config::load`] afterwards and
//! reported in the same list.
//!
//! The alternative, `serde` into structs, stops at the first wrong type and knows no lines for what
//! is wrong between two keys; the few lines of `read.rs` buy both.

mod api;
mod built;
mod demand;
mod duration;
mod fault;
mod file;
mod fleet;
mod github;
mod guest;
mod guests;
mod hide;
mod limits;
mod mark;
mod planner;
mod pool;
mod provider;
mod queue;
mod read;
mod scale_set;
mod scope;
mod secret;
mod size;
mod warn;
mod webhooks;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

pub(crate) use self::{api::DEFAULT_SOCKET, hide::GITHUB_TOKENS};
pub use self::{
    api::{Api, Listen},
    demand::DemandKind,
    duration::{DurationError, format_duration, parse_duration},
    fault::{Fault, Faults},
    fleet::{Fleet, LogFormat, LogLevel},
    github::{Github, GithubAuth},
    guest::{Application, Architecture, Guest, Pinned},
    guests::{Certificate, Guests},
    limits::Limits,
    mark::{Mark, Marker},
    planner::PlannerAccess,
    pool::Pool,
    provider::{LxdAccess, LxdReach, Provider, ProviderKind},
    queue::{Queue, QueueKind},
    scale_set::ScaleSet,
    secret::{Env, SecretError, SecretSource},
    size::{SizeError, format_size, parse_size},
    webhooks::Webhooks,
};
use self::{
    file::FileUse,
    read::{Findings, Reader},
};

/// A whole configuration, every name parsed and every cross-reference checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[fleet]`: identity, journal, logging.
    pub fleet: Fleet,
    /// `[api]`: where the HTTP API listens.
    pub api: Api,
    /// `[github]`: the forge and its credentials.
    pub github: Github,
    /// `[guests]`: where guests report home; `None` = they do not.
    pub guests: Option<Guests>,
    /// `[webhooks]`: where GitHub's deliveries arrive; `None` = nowhere.
    pub webhooks: Option<Webhooks>,
    /// `[planner]`: who tells how many runners there should be; `None` = nobody does.
    pub planner: Option<PlannerAccess>,
    /// `[queue]`: where jobs are enqueued; `None` = nowhere.
    pub queue: Option<Queue>,
    /// `[providers.NAME]`: the clouds, by name.
    pub providers: BTreeMap<String, Provider>,
    /// `[[pools]]`, in the order of the file.
    pub pools: Vec<Pool>,
    /// What is allowed and unwise, in the order of the file's lines.
    pub warnings: Vec<Fault>,
}

impl Config {
    /// Reads the file at `path` with the environment of this process.
    ///
    /// # Errors
    /// All faults of the text, and of every file that it names: missing, unreadable, or a secret
    /// that everybody on the machine may read.
    pub fn load(path: &Path) -> Result<Self, Faults> {
        Self::load_with(path, &Env::of_process())
    }

    /// As [`Config::load`], with another environment.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_with(path: &Path, env: &Env) -> Result<Self, Faults> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                let what = format!("the configuration cannot be read: {error}");
                return Err(Faults::new(path, vec![Fault::whole_file(what)]));
            }
        };
        let (config, mut found) = read(&text, &folder_of(path), env);
        found.faults.extend(found.files.iter().filter_map(FileUse::fault));
        found.warnings.extend(found.secrets.iter().flat_map(|secret| warn::of_secret(secret, env)));
        conclude(path, config, found)
    }

    /// Reads `text` alone, without a look at the disk. `path` names it in faults, and relative
    /// paths are taken from its folder.
    ///
    /// # Errors
    /// All faults of the text.
    pub fn parse(text: &str, path: &Path, env: &Env) -> Result<Self, Faults> {
        let (config, found) = read(text, &folder_of(path), env);
        conclude(path, config, found)
    }

    /// The keys in which `new` differs from `self` and that a running daemon cannot take over: they
    /// wait for the next start. Everything else applies at a reload.
    #[must_use]
    pub fn restart_needed(&self, new: &Self) -> Vec<&'static str> {
        let (old_fleet, new_fleet) = (&self.fleet, &new.fleet);
        let api = |config: &Self| config.api.listen.as_ref().map(|listen| listen.address);
        let listen = |config: &Self| config.guests.as_ref().map(|guests| guests.listen);
        let tls = |config: &Self| config.guests.as_ref().and_then(|guests| guests.tls.clone());
        let certificate = |config: &Self| tls(config).map(|tls| tls.certificate);
        let planner = |config: &Self| {
            config
                .planner
                .as_ref()
                .map(|planner| (planner.url.clone(), planner.unit, planner.units))
        };
        let hooked = |config: &Self| config.webhooks.as_ref().map(|hooks| hooks.listen);
        let hooks_tls =
            |config: &Self| config.webhooks.as_ref().and_then(|hooks| hooks.tls.clone());
        let key = |config: &Self| tls(config).map(|tls| tls.key);
        [
            ("fleet.id", old_fleet.id != new_fleet.id),
            ("fleet.state_dir", old_fleet.state_dir != new_fleet.state_dir),
            ("fleet.journal", old_fleet.journal != new_fleet.journal),
            ("fleet.journal_max_mib", old_fleet.journal_max_mib != new_fleet.journal_max_mib),
            ("fleet.log_format", old_fleet.log_format != new_fleet.log_format),
            ("api.socket", self.api.socket != new.api.socket),
            ("api.listen", api(self) != api(new)),
            ("guests.listen", listen(self) != listen(new)),
            ("guests.certificate_file", certificate(self) != certificate(new)),
            ("guests.key_file", key(self) != key(new)),
            ("webhooks.listen", hooked(self) != hooked(new)),
            ("webhooks.certificate_file and key_file", hooks_tls(self) != hooks_tls(new)),
            ("planner", planner(self) != planner(new)),
        ]
        .into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
    }
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent().map(Path::to_path_buf).unwrap_or_default()
}

fn conclude(path: &Path, config: Option<Config>, found: Findings) -> Result<Config, Faults> {
    let Findings { faults, mut warnings, .. } = found;
    match config {
        Some(config) if faults.is_empty() => {
            warnings.sort_by_key(|warning| warning.line);
            Ok(Config { warnings, ..config })
        }
        _ => Err(Faults::new(path, faults)),
    }
}

fn read(text: &str, base: &Path, env: &Env) -> (Option<Config>, Findings) {
    let reader = match Reader::new(text, base, env) {
        Ok(reader) => reader,
        Err(faults) => return (None, Findings { faults, ..Findings::default() }),
    };
    let root = reader.root();
    let fleet = fleet::read(root.section("fleet"), env, &root);
    let api = api::read(root.section("api"));
    let github = github::read(root.section("github"), &root);
    let guests = guests::read(root.section("guests"));
    let webhooks = webhooks::read(root.section("webhooks"));
    let planner = planner::read(root.section("planner"));
    let queue = queue::read(root.section("queue"));
    let providers = provider::read_all(&root);
    let pools = pool::read_all(&root, &providers, github.as_ref().map(|github| &github.url));
    root.finish();
    let config = match (fleet, api, github) {
        (Some(fleet), Some(api), Some(github)) => {
            let providers = providers.into_iter().filter_map(|(k, v)| Some((k, v?))).collect();
            let warnings = Vec::new();
            Some(Config {
                fleet,
                api,
                github,
                guests,
                webhooks,
                planner,
                queue,
                providers,
                pools,
                warnings,
            })
        }
        _ => None,
    };
    (config, reader.into_findings())
}
