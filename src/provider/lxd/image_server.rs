//! Asking a remote server of images whether it has one, as LXD will at the first launch.
//!
//! LXD fetches images itself, perhaps by another way out than this machine's, so that a server that
//! cannot be asked from here proves nothing.

use std::time::Duration;

use runner_fleet_actors::port::{ImageProtocol, ImageServer, LxdKind};
use serde_json::Value;
use url::Url;

use super::order::is_fingerprint;
use crate::provider::text::{candidates, tidy};

/// Longest index that is read; that of images.linuxcontainers.org has some 3 MB.
const BODY_MAX: usize = 64 << 20;
/// Lists that are read of one server; those that there are have one or two.
const LISTS_MAX: usize = 16;
const CONNECT: Duration = Duration::from_secs(10);
const WHOLE: Duration = Duration::from_secs(60);

/// What a server says of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// It has it.
    There,
    /// It has it not, and what there is instead.
    Missing(String),
}

/// Asks.
///
/// # Errors
/// Why it could not be asked.
pub(super) async fn ask(server: &ImageServer, image: &str, kind: LxdKind) -> Result<Said, String> {
    let base: Url = server.url.parse().map_err(|error| format!("{}: {error}", server.url))?;
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .timeout(WHOLE)
        .user_agent(concat!("runner-fleet/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| error.to_string())?;
    match server.protocol {
        ImageProtocol::Lxd => {
            let path: &[&str] = match is_fingerprint(image) {
                true => &["1.0", "images", image],
                false => &["1.0", "images", "aliases", image],
            };
            let found = get(&client, below(&base, path)).await?;
            Ok(match found {
                Some(_) => Said::There,
                None => Said::Missing("there is none that it shows to everybody".to_owned()),
            })
        }
        ImageProtocol::Simplestreams => {
            let index = get(&client, below(&base, &["streams", "v1", "index.json"])).await?;
            let index = index.ok_or("there is no streams/v1/index.json at this address")?;
            let mut aliases = Vec::new();
            let lists = products_in(&index);
            for path in lists.iter().take(LISTS_MAX) {
                let path: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
                let Some(list) = get(&client, below(&base, &path)).await? else { continue };
                let seen = of_streams(&list, image, kind);
                if seen.there {
                    return Ok(Said::There);
                }
                aliases.extend(seen.aliases);
            }
            if lists.len() > LISTS_MAX {
                return Err(format!("{base}: it is not in the first {LISTS_MAX} lists of images"));
            }
            Ok(Said::Missing(candidates(aliases)))
        }
    }
}

fn below(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

/// The JSON at an address; `None` where there is nothing.
async fn get(client: &reqwest::Client, url: Url) -> Result<Option<Value>, String> {
    let lost = |error: reqwest::Error| tidy(&error.without_url().to_string(), &[]);
    let mut response = client.get(url.clone()).send().await.map_err(lost)?;
    if response.status().as_u16() == 404 {
        return Ok(None);
    }
    if !response.status().is_success() {
        return Err(format!("{url}: HTTP {}", response.status().as_u16()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        body.extend_from_slice(&chunk);
        if body.len() > BODY_MAX {
            return Err(format!("{url}: longer than {BODY_MAX} bytes"));
        }
    }
    serde_json::from_slice(&body).map(Some).map_err(|error| format!("{url}: is not JSON: {error}"))
}

/// The lists of images that an index names.
fn products_in(index: &Value) -> Vec<String> {
    let entries = index.get("index").and_then(Value::as_object);
    entries
        .into_iter()
        .flat_map(|entries| entries.values())
        .filter(|entry| {
            entry.get("datatype").and_then(Value::as_str).is_none_or(|t| t == "image-downloads")
        })
        .filter_map(|entry| Some(entry.get("path")?.as_str()?.to_owned()))
        .collect()
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    there: bool,
    aliases: Vec<String>,
}

/// What one list of products says (simplestreams "products:1.0"): a product's aliases, its
/// architecture, and, in each version, items with their kind and their combined fingerprints.
fn of_streams(list: &Value, image: &str, kind: LxdKind) -> Seen {
    let mut seen = Seen::default();
    let products = list.get("products").and_then(Value::as_object);
    for product in products.into_iter().flat_map(|products| products.values()) {
        let text = |key: &str| product.get(key).and_then(Value::as_str).unwrap_or_default();
        let items: Vec<&Value> = product
            .get("versions")
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|versions| versions.values())
            .filter_map(|version| version.get("items")?.as_object())
            .flat_map(|items| items.values())
            .collect();
        if !items.iter().any(|item| is_of(item, kind)) {
            continue;
        }
        let arch = text("arch");
        let aliases = text("aliases").split(',').map(str::trim).filter(|alias| !alias.is_empty());
        for alias in aliases {
            // Every alias is known with its architecture at the end as well.
            let with_arch = image.strip_prefix(alias).and_then(|rest| rest.strip_prefix('/'));
            seen.there |= alias == image || with_arch == Some(arch);
            seen.aliases.push(alias.to_owned());
        }
        let prints = items.iter().filter_map(|item| item.as_object()).flatten();
        let mut prints = prints.filter(|(key, _)| key.starts_with("combined_"));
        seen.there |= is_fingerprint(image)
            && prints.any(|(_, print)| print.as_str().is_some_and(|p| p.starts_with(image)));
    }
    seen
}

/// Whether an item is a root disk of the wanted kind.
fn is_of(item: &Value, kind: LxdKind) -> bool {
    let kinds: &[&str] = match kind {
        LxdKind::Container => &["squashfs", "root.tar.xz", "root.squashfs"],
        LxdKind::VirtualMachine => &["disk-kvm.img", "disk1.img", "uefi1.img"],
    };
    item.get("ftype").and_then(Value::as_str).is_some_and(|kind| kinds.contains(&kind))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_alias_is_looked_for_among_images_of_its_kind() {
        let list = json!({ "products": {
            "ubuntu:noble:amd64:default": {
                "aliases": "ubuntu/24.04/default,ubuntu/24.04,ubuntu/noble", "arch": "amd64",
                "versions": { "20261127": { "items": {
                    "incus.tar.xz": { "ftype": "incus.tar.xz",
                        "combined_squashfs_sha256": "0123456789abcdef" },
                    "root.squashfs": { "ftype": "squashfs" },
                } } },
            },
            "debian:trixie:amd64:cloud": {
                "aliases": "debian/13/cloud", "arch": "amd64",
                "versions": { "1": { "items": { "d": { "ftype": "disk-kvm.img" } } } },
            },
        } });
        let there = |image: &str, kind| of_streams(&list, image, kind).there;
        for image in ["ubuntu/24.04", "ubuntu/noble", "ubuntu/24.04/amd64", "0123456789ab"] {
            assert!(there(image, LxdKind::Container), "{image}");
        }
        for image in ["ubuntu/24.10", "ubuntu/24.04/arm64", "ubuntu", "ffffffffffff"] {
            assert!(!there(image, LxdKind::Container), "{image}");
        }
        assert!(there("debian/13/cloud", LxdKind::VirtualMachine));
        assert!(!there("debian/13/cloud", LxdKind::Container), "it has no root for one");
        assert_eq!(of_streams(&json!([]), "x", LxdKind::Container), Seen::default());
    }

    #[test]
    fn an_index_names_its_lists() {
        let index = json!({ "index": {
            "images": { "datatype": "image-downloads", "path": "streams/v1/images.json" },
            "other": { "datatype": "content-download", "path": "x" },
            "odd": 7,
        } });
        assert_eq!(products_in(&index), ["streams/v1/images.json"]);
    }
}
