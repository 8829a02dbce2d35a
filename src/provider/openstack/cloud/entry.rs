//! One entry of `clouds.yaml`, or the `OS_*` variables that say the same, made one mapping of plain
//! keys: its profile laid under it, dashes made underscores, its region chosen.
//!
//! [`super::reader`] then checks that mapping key by key.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::{
    CloudFaults,
    yaml::{self, Entry, Map, Node, Place, What},
};

/// A cloud's keys, brought together from wherever they stand.
pub(super) struct Gathered {
    pub map: Map,
    /// The region that is used, where one is named.
    pub region: Option<Node>,
    pub warnings: Vec<String>,
}

/// The mapping `section` of one file; `None` where the file is empty or has none.
pub(super) fn section(path: &Path, text: &str, section: &str) -> Result<Option<Map>, CloudFaults> {
    let file = path.display().to_string();
    let root = yaml::read(&file, text).map_err(CloudFaults)?;
    let fault = |what: String| CloudFaults(vec![format!("{file}: {what}")]);
    let root = match root.what {
        What::Null => return Ok(None),
        What::Map(root) => root,
        What::Text(_) | What::List(_) => {
            return Err(fault(format!("is no mapping: it begins with `{section}:`")));
        }
    };
    match root.get(section).map(|entry| &entry.value.what) {
        None | Some(What::Null) => Ok(None),
        Some(What::Map(map)) => Ok(Some(map.clone())),
        Some(_) => Err(fault(format!("`{section}` is no mapping of names to clouds"))),
    }
}

/// The `OS_*` variables as the keys of a cloud (what an `openrc` file sets).
pub(super) fn of_env(env: &BTreeMap<String, String>) -> Map {
    let file: Arc<str> = "the environment".into();
    let place = || Place { file: file.clone(), line: None };
    let mut map = Map::default();
    for (name, value) in env {
        let Some(key) = name.strip_prefix("OS_").map(str::to_ascii_lowercase) else { continue };
        // Those that choose a file, and those that openstacksdk leaves out: they are other tools'.
        let other = ["test", "std", "log", "client_"].iter().any(|start| key.starts_with(start));
        if other || value.is_empty() || matches!(key.as_str(), "cloud" | "cloud_name") {
            continue;
        }
        let value = Node { at: place(), what: What::Text(value.clone()) };
        map.put(Entry { key, at: place(), value });
    }
    map
}

/// One cloud of a file: what its profile says is laid under it, and its region's values over it.
pub(super) fn gather(
    name: &str,
    own: Map,
    profiles: Option<&Map>,
    vendor_files: &str,
) -> Result<Gathered, Vec<String>> {
    let mut faults = Vec::new();
    let mut warnings = Vec::new();
    let own = plain(own, &mut faults);
    let profile = own.get("profile").or_else(|| own.get("cloud")).map(|entry| &entry.value);
    let mut under = Map::default();
    if let Some(word) = profile.and_then(Node::text) {
        match profiles.and_then(|known| known.get(word)) {
            Some(Entry { value: Node { what: What::Map(found), .. }, .. }) => {
                under = plain(found.clone(), &mut faults);
            }
            Some(entry) => faults.push(at(&entry.at, &format!("profile {word:?} is no mapping"))),
            None => {
                let place = profile.map_or_else(nowhere, |node| node.at.clone());
                let what = format!(
                    "clouds.{name} names the profile {word:?}, and no clouds-public.yaml has it \
                     under `public-clouds` (looked at {vendor_files}); the profiles that \
                     openstacksdk brings along are not supported: write what it says (auth_url, \
                     regions) into the cloud"
                );
                let whole = has(&own, "auth_url");
                let told = if whole { &mut warnings } else { &mut faults };
                told.push(at(&place, &what));
            }
        }
    }
    let region = region(name, &own, &under, &mut faults, &mut warnings);
    let mut map = under;
    map.lay_over(&own);
    map.0.retain(|entry| entry.key != "regions" && entry.key != "region_name");
    let (region, values) = region.map_or((None, None), |(region, values)| (Some(region), values));
    if let Some(values) = values {
        map.lay_over(&plain(values, &mut faults));
    }
    if faults.is_empty() { Ok(Gathered { map, region, warnings }) } else { Err(faults) }
}

fn has(map: &Map, key: &str) -> bool {
    let auth = map.get("auth").and_then(|entry| entry.value.map());
    [Some(map), auth].into_iter().flatten().any(|map| map.get(key).is_some())
}

fn nowhere() -> Place {
    Place { file: "?".into(), line: None }
}

/// `FILE: line N: WHAT`.
pub(super) fn at(place: &Place, what: &str) -> String {
    match place.line {
        Some(line) => format!("{}: line {line}: {what}", place.file),
        None => format!("{}: {what}", place.file),
    }
}

/// `user-name` is `user_name`, in `auth` as well (openstacksdk's `normalize_keys`).
fn plain(map: Map, faults: &mut Vec<String>) -> Map {
    let mut done = Map::default();
    for mut entry in map.0 {
        let key = entry.key.replace('-', "_");
        if let Some(first) = done.get(&key) {
            let line = first.at.line.unwrap_or_default();
            let what = format!("the key {:?} is the same as that of line {line}", entry.key);
            faults.push(at(&entry.at, &what));
            continue;
        }
        if let What::Map(inner) = entry.value.what {
            entry.value.what = What::Map(plain(inner, faults));
        }
        done.0.push(Entry { key, ..entry });
    }
    done
}

type Region = (Node, Option<Map>);

/// The region to use: the first that the cloud names, by `regions` before `region_name`, else its
/// profile's. A list is openstacksdk's way to offer a choice; who makes none gets its first.
fn region(
    cloud: &str,
    own: &Map,
    under: &Map,
    faults: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Option<Region> {
    for map in [own, under] {
        for key in ["regions", "region_name"] {
            let Some(entry) = map.get(key).filter(|entry| entry.value.what != What::Null) else {
                continue;
            };
            let listed = regions(&entry.value, key == "region_name", faults);
            let Some(first) = listed.first().cloned() else { continue };
            let chosen = map.get("region_name").filter(|_| key == "regions");
            let chosen = chosen.and_then(|entry| entry.value.text());
            let name = first.0.text().unwrap_or_default();
            let overruled = chosen.is_some_and(|chosen| chosen != name);
            if listed.len() > 1 || overruled {
                let names: Vec<&str> = listed.iter().filter_map(|(node, _)| node.text()).collect();
                let also = if overruled { "; `regions` goes before `region_name`" } else { "" };
                let what = format!(
                    "clouds.{cloud}.{key} names {}: the first is used, {name}{also} (keep one \
                     region in a cloud, or put the wanted one first)",
                    names.join(", ")
                );
                warnings.push(at(&entry.at, &what));
            }
            return Some(first);
        }
    }
    None
}

fn regions(node: &Node, commas: bool, faults: &mut Vec<String>) -> Vec<Region> {
    let word = |at: &Place, text: &str| {
        (Node { at: at.clone(), what: What::Text(text.trim().to_owned()) }, None)
    };
    let one = |node: &Node, faults: &mut Vec<String>| match &node.what {
        What::Text(text) => Some(word(&node.at, text)),
        What::Map(map) => {
            let name = map.get("name").filter(|entry| entry.value.text().is_some());
            let odd = map.0.iter().find(|entry| !matches!(entry.key.as_str(), "name" | "values"));
            let values = map.get("values").map(|entry| &entry.value.what);
            match (name, odd, values) {
                (Some(name), None, None | Some(What::Null)) => Some((name.value.clone(), None)),
                (Some(name), None, Some(What::Map(values))) => {
                    Some((name.value.clone(), Some(values.clone())))
                }
                _ => {
                    let what = "a region is a word, or a mapping with `name` and, if need be, a \
                                mapping `values`, and no more";
                    faults.push(at(&node.at, what));
                    None
                }
            }
        }
        What::Null | What::List(_) => {
            faults.push(at(&node.at, "a region is a word or a mapping with `name`"));
            None
        }
    };
    match &node.what {
        What::List(nodes) => nodes.iter().filter_map(|node| one(node, faults)).collect(),
        What::Text(text) if commas => {
            let words = text.split(',').filter(|text| !text.trim().is_empty());
            words.map(|text| word(&node.at, text)).collect()
        }
        What::Text(text) => vec![word(&node.at, text)],
        What::Null => Vec::new(),
        What::Map(_) => {
            faults.push(at(&node.at, "regions are a list"));
            Vec::new()
        }
    }
}
