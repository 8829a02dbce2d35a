//! Lists that come in pages, which is all of them: Nova, Neutron and Glance each cut a list at a length
//! that the cloud's operator has set, and say where it goes on.

use runner_fleet_actors::port::{ErrorClass, PortError, Time};
use serde_json::Value;

use super::api::{Api, Call};

/// Pages of one listing that are read at most: a cloud that answers the same page for ever must not
/// hold whoever asks.
pub(super) const PAGES_MAX: usize = 1_000;

/// All elements of a list, page by page.
///
/// # Errors
/// Those of [`Api::json`] of any page, and `Transient` where the answer has no such list or the list
/// does not end.
pub(super) async fn all(
    api: &Api,
    call: Call<'_>,
    collection: &'static str,
) -> Result<Vec<Value>, PortError> {
    let mut elements = Vec::new();
    let mut marker: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let page = read(api, call.from(marker.as_deref()), collection).await?;
        let next = page.next_marker();
        elements.extend(page.into_elements());
        if next.is_none() || next == marker {
            return Ok(elements);
        }
        marker = next;
    }
    let what = format!("{}: the listing did not end within {PAGES_MAX} pages", call.tried);
    Err(PortError::certain(ErrorClass::Transient, what))
}

/// One page of a list.
pub(super) struct Page {
    collection: &'static str,
    body: Value,
    /// What time it was at the other side.
    date: Option<Time>,
}

/// Reads one page.
///
/// # Errors
/// Those of [`all`].
pub(super) async fn read(
    api: &Api,
    call: Call<'_>,
    collection: &'static str,
) -> Result<Page, PortError> {
    let tried = call.tried.clone();
    let (body, date) = api.dated(call).await?;
    if body.get(collection).is_some_and(Value::is_array) {
        return Ok(Page { collection, body, date });
    }
    let what =
        format!("{tried}: the answer has no list `{collection}`: check the catalog's endpoint");
    Err(PortError::certain(ErrorClass::Transient, what))
}

impl Page {
    pub(super) fn elements(&self) -> &[Value] {
        self.body.get(self.collection).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    pub(super) fn date(&self) -> Option<Time> {
        self.date
    }

    fn into_elements(mut self) -> Vec<Value> {
        match self.body.get_mut(self.collection).map(Value::take) {
            Some(Value::Array(elements)) => elements,
            _ => Vec::new(),
        }
    }

    /// Where the next page begins. Nova and Neutron say so by a link whenever the page is full, also
    /// where their own limit is smaller than the one that was asked for; Glance by a path. Only the
    /// marker is taken out of it: behind a proxy the address is often wrong.
    pub(super) fn next_marker(&self) -> Option<String> {
        let links = self.body.get(format!("{}_links", self.collection)).and_then(Value::as_array);
        let rel = |l: &&Value| l.get("rel").and_then(Value::as_str) == Some("next");
        let link = links.and_then(|links| links.iter().find(rel)?.get("href"));
        let href = link.or_else(|| self.body.get("next")).and_then(Value::as_str)?;
        let query = href.split_once('?').map_or("", |(_, query)| query);
        let marker = url::form_urlencoded::parse(query.as_bytes())
            .find(|(key, _)| key == "marker")
            .map(|(_, value)| value.into_owned());
        let last = || self.elements().last()?.get("id")?.as_str().map(str::to_owned);
        marker.or_else(last)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn page(collection: &'static str, body: Value) -> Page {
        Page { collection, body, date: None }
    }

    #[test]
    fn every_list_says_in_its_way_where_it_goes_on() {
        // Compute API "Paginated collections", Networking API "Pagination", Image API "Pagination".
        let link = |list: &str| {
            json!({ list: [{ "id": "a" }], format!("{list}_links"):
                [{ "rel": "self", "href": "x" },
                 { "rel": "next", "href": "http://wrong:1/x?limit=1&marker=m%201" }] })
        };
        for list in
            ["servers", "flavors", "keypairs", "networks", "security_groups", "ports", "volumes"]
        {
            let linked = page(list, link(list));
            assert_eq!(linked.next_marker().as_deref(), Some("m 1"), "{list}");
        }
        let glance = json!({ "images": [{ "id": "a" }], "next": "/v2/images?marker=m1" });
        let glance = page("images", glance);
        assert_eq!(glance.next_marker().as_deref(), Some("m1"));
        let bare = json!({ "servers": [{ "id": "z" }],
            "servers_links": [{ "rel": "next", "href": "http://x" }] });
        assert_eq!(page("servers", bare).next_marker().as_deref(), Some("z"));
        let last = page("flavors", json!({ "flavors": [], "first": "/x" }));
        assert_eq!(last.next_marker(), None);
    }
}
