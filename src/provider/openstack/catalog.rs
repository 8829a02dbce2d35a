//! Keystone's catalog: where a service is, among what a token's catalog offers.

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;
use url::Url;

use super::{answer::tidy, api::Service, cloud::Interface, version::is_version};

#[derive(Deserialize)]
pub(super) struct CatalogEntry {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default, deserialize_with = "readable")]
    endpoints: Vec<Endpoint>,
}

/// Those elements that can be read: an odd one costs itself.
pub(super) fn readable<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let elements = Vec::<Value>::deserialize(deserializer)?;
    Ok(elements.into_iter().filter_map(|one| serde_json::from_value(one).ok()).collect())
}

#[derive(Deserialize)]
pub(super) struct Endpoint {
    interface: String,
    /// The same as `region_id` since Identity 3.2; kept by Keystone for old clients.
    region: Option<String>,
    region_id: Option<String>,
    url: String,
}

impl Endpoint {
    fn region(&self) -> &str {
        self.region_id.as_deref().or(self.region.as_deref()).unwrap_or_default()
    }

    fn is_of(&self, interface: Interface) -> bool {
        self.interface.strip_suffix("URL").unwrap_or(&self.interface) == interface.word()
    }
}

/// What is looked for in a catalog.
pub(super) struct Wanted<'a> {
    pub(super) kind: &'a str,
    pub(super) name: Option<&'a str>,
    pub(super) region: Option<&'a str>,
    pub(super) interfaces: &'a [Interface],
}

impl Wanted<'_> {
    fn of_service<'c>(
        &self,
        catalog: &'c [CatalogEntry],
    ) -> impl Iterator<Item = &'c Endpoint> + use<'c, '_> {
        let (kind, name) = (self.kind, self.name);
        catalog
            .iter()
            .filter(move |e| e.kind == kind && name.is_none_or(|n| e.name.as_deref() == Some(n)))
            .flat_map(|e| &e.endpoints)
    }

    /// The endpoint of the first interface that the service has in the region.
    pub(super) fn find(&self, catalog: &[CatalogEntry]) -> Result<Url, String> {
        let found = self.interfaces.iter().find_map(|interface| {
            self.of_service(catalog).find(|e| {
                e.is_of(*interface) && self.region.is_none_or(|wanted| wanted == e.region())
            })
        });
        match found {
            Some(found) => Url::parse(&found.url).map_err(|e| {
                let url = tidy(&found.url, &[]);
                format!("the catalog's endpoint {url:?} is no address: {e}")
            }),
            None => Err(self.lacking(catalog)),
        }
    }

    /// The regions in which the service has one of the interfaces, each once: first the one that
    /// [`Self::find`] takes where none is wanted.
    pub(super) fn regions<'c>(&self, catalog: &'c [CatalogEntry]) -> Vec<&'c str> {
        let mut regions: Vec<&str> = Vec::new();
        for interface in self.interfaces {
            for endpoint in self.of_service(catalog).filter(|e| e.is_of(*interface)) {
                if !regions.contains(&endpoint.region()) {
                    regions.push(endpoint.region());
                }
            }
        }
        regions
    }

    fn lacking(&self, catalog: &[CatalogEntry]) -> String {
        let listed = |mut words: Vec<String>| {
            words.sort();
            words.dedup();
            let all = if words.is_empty() { "none".to_owned() } else { words.join(", ") };
            tidy(&all, &[])
        };
        let there: Vec<String> = self
            .of_service(catalog)
            .map(|e| format!("{} in {:?}", e.interface, e.region()))
            .collect();
        let wanted: Vec<&str> = self.interfaces.iter().map(|i| i.word()).collect();
        let region = self.region.map_or("any region".to_owned(), |name| format!("region {name:?}"));
        let of = self.name.map(|name| format!(" called {name:?}")).unwrap_or_default();
        if there.is_empty() {
            let kinds = catalog.iter().map(|e| e.kind.clone()).collect();
            return format!(
                "the catalog has no service of type {:?}{of} for this project; it has: {}",
                self.kind,
                listed(kinds)
            );
        }
        format!(
            "the catalog has no such endpoint for interface {} in {region}; it has: {} (region_name \
             and interface in clouds.yaml choose)",
            wanted.join(" or "),
            listed(there)
        )
    }
}

/// The endpoint with the version of its API, where it names none.
pub(super) fn versioned(mut url: Url, service: Service) -> Url {
    let version = match service {
        Service::Compute => return url,
        Service::Image => "v2",
        Service::Network => "v2.0",
    };
    let path = url.path().trim_end_matches('/').to_owned();
    if !is_version(path.rsplit('/').next().unwrap_or_default()) {
        url.set_path(&format!("{path}/{version}"));
    }
    url
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn catalog(entries: Value) -> Vec<CatalogEntry> {
        serde_json::from_value(entries).unwrap()
    }

    fn wanted(region: Option<&'static str>, interfaces: &'static [Interface]) -> Wanted<'static> {
        Wanted { kind: "network", name: None, region, interfaces }
    }

    #[test]
    fn an_endpoint_is_chosen_by_region_and_interface_and_gets_its_version() {
        let catalog = catalog(json!([
            { "type": "network", "endpoints": [
                { "interface": "public", "region": "A", "url": "http://a:9696" },
                { "interface": "public", "region_id": "B", "url": "http://b:9696/v2.0/" },
                { "interface": "internal", "region_id": "B", "url": "http://b.internal:9696" },
            ]},
        ]));
        let find = |region, interfaces| wanted(region, interfaces).find(&catalog);
        let public = &[Interface::Public];
        let at = |region| versioned(find(Some(region), public).unwrap(), Service::Network);
        assert_eq!(at("A").as_str(), "http://a:9696/v2.0");
        assert_eq!(at("B").as_str(), "http://b:9696/v2.0/");
        assert_eq!(find(None, public).unwrap().as_str(), "http://a:9696/", "the catalog's first");
        let missing = find(Some("C"), public).unwrap_err();
        assert!(missing.contains("public in \"A\", public in \"B\""), "{missing}");
    }

    #[test]
    fn of_several_interfaces_the_first_that_the_catalog_has_is_taken() {
        let catalog = catalog(json!([
            { "type": "network", "endpoints": [
                { "interface": "public", "region": "A", "url": "http://public" },
                { "interface": "internal", "region": "A", "url": "http://internal" },
                { "interface": "public", "region": "B", "url": "http://public.b" },
            ]},
        ]));
        let both = &[Interface::Internal, Interface::Public];
        let of = |region| wanted(Some(region), both).find(&catalog).unwrap().to_string();
        assert_eq!([of("A"), of("B")], ["http://internal/", "http://public.b/"]);
    }

    #[test]
    fn the_regions_to_choose_from_are_those_of_the_interface_and_the_one_in_use_comes_first() {
        let endpoint = |interface: &str, region: &str| {
            let url = format!("http://{region}");
            json!({ "interface": interface, "region_id": region, "url": url })
        };
        let catalog = catalog(json!([
            { "type": "compute", "endpoints": [endpoint("public", "elsewhere")] },
            { "type": "network", "endpoints": [
                endpoint("internal", "a"), endpoint("public", "c"), endpoint("internal", "b"),
                endpoint("publicURL", "b"), endpoint("public", "c"),
            ]},
        ]));
        let of = |interfaces| wanted(None, interfaces).regions(&catalog);
        assert_eq!(of(&[Interface::Public]), ["c", "b"]);
        assert_eq!(of(&[Interface::Internal, Interface::Public]), ["a", "b", "c"]);
        assert!(of(&[Interface::Admin]).is_empty());
        let used = wanted(None, &[Interface::Public]).find(&catalog).unwrap();
        assert_eq!(used.host_str(), Some("c"));
    }

    #[test]
    fn an_odd_endpoint_costs_only_itself() {
        let catalog = catalog(json!([{ "type": "network", "name": null, "endpoints": [
            { "interface": null, "url": "http://odd" }, 7, { "interface": "public" },
            { "interface": "public", "region": "A", "region_id": null, "url": "http://a" },
        ] }]));
        let found = wanted(Some("A"), &[Interface::Public]).find(&catalog).unwrap();
        assert_eq!(found.as_str(), "http://a/");
    }

    #[test]
    fn a_catalog_without_the_service_says_what_it_has() {
        let catalog = catalog(json!([{ "type": "object-store", "endpoints": [] }]));
        let why = wanted(None, &[Interface::Public]).find(&catalog).unwrap_err();
        assert!(
            why.contains("no service of type \"network\"") && why.contains("object-store"),
            "{why}"
        );
    }
}
