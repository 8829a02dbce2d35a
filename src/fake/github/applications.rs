//! Runner applications on offer, their archives, and until when versions are taken.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use runner_fleet_actors::port::Time;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Shared, answers::Reply};

/// A runner application that is on offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// GitHub's word: `linux`, `osx`, `win`.
    pub os: String,
    /// GitHub's word: `x64`, `arm64`, `arm`.
    pub architecture: String,
    /// Its version, such as `2.336.0`.
    pub version: String,
    /// Its archive, byte by byte. Served without credentials, as GitHub's releases are.
    pub archive: Vec<u8>,
}

impl Offered {
    /// One for Linux with an archive of that content.
    #[must_use]
    pub fn linux(architecture: &str, version: &str, archive: Vec<u8>) -> Self {
        let (architecture, version) = (architecture.to_owned(), version.to_owned());
        Self { os: "linux".to_owned(), architecture, version, archive }
    }

    fn filename(&self) -> String {
        let Self { os, architecture, version, .. } = self;
        let kind = if os == "win" { "zip" } else { "tar.gz" };
        format!("actions-runner-{os}-{architecture}-{version}.{kind}")
    }

    fn shown(&self, base: &str) -> Value {
        let (filename, sum) = (self.filename(), Sha256::digest(&self.archive));
        json!({
            "os": self.os,
            "architecture": self.architecture,
            "download_url": format!("{base}/_downloads/{filename}"),
            "filename": filename,
            "temp_download_token": "temporary-token-of-the-fake",
            "sha256_checksum": format!("{sum:x}"),
        })
    }
}

/// Dates of a version's end: of its registration and of its jobs.
type Ends = (Option<Time>, Option<Time>);

/// What is on offer.
#[derive(Debug)]
pub(crate) struct Shelf {
    pub(crate) offered: Vec<Offered>,
    pub(crate) ends: BTreeMap<String, Ends>,
    archives: HashMap<String, Arc<[u8]>>,
}

impl Default for Shelf {
    fn default() -> Self {
        let mut shelf =
            Self { offered: Vec::new(), ends: BTreeMap::new(), archives: HashMap::new() };
        let one = |architecture| Offered::linux(architecture, "2.336.0", Vec::new());
        shelf.offer(["x64", "arm64"].map(one).to_vec());
        shelf
    }
}

impl Shelf {
    /// Replaces the list. Archives of what was on offer before are still served.
    pub(crate) fn offer(&mut self, offered: Vec<Offered>) {
        for one in &offered {
            self.archives.insert(one.filename(), one.archive.clone().into());
        }
        self.offered = offered;
    }

    pub(crate) fn list(&self, base: &str) -> Reply {
        Reply::new(200, self.offered.iter().map(|one| one.shown(base)).collect())
    }

    pub(crate) fn schedule(&self, version: &str) -> Reply {
        let (registration, runtime) = self.ends.get(version).copied().unwrap_or_default();
        let date = |date: Option<Time>| date.map(|date| date.to_rfc3339());
        let body = json!({
            "runner_version": version,
            "registration_deprecates_at": date(registration),
            "runtime_deprecates_at": date(runtime),
        });
        Reply::new(200, body)
    }
}

/// Serves an archive.
pub(super) async fn archive(
    State(shared): State<Arc<Shared>>,
    Path(filename): Path<String>,
) -> Response {
    let found = shared.world().shelf.archives.get(&filename).cloned();
    match found {
        Some(archive) => archive.to_vec().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
