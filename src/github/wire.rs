//! What GitHub sends, read leniently: only what is needed, element by element.
//!
//! GitHub's own examples miss fields that its own description calls required, and GHES lags behind
//! both, so nothing here asks for more than it uses. An element that cannot be read costs itself;
//! the typed structs of a client library lose a whole page of runners to one label without an id.

use runner_fleet_actors::{
    name::{FleetId, RegistrationId, RunnerName},
    port::{Registered, Registration, Secret, Time},
};
use serde::Deserialize;
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};

use super::{auth::Minted, cordon::MARK};

/// Longest piece of a foreign text that is shown.
const SHOWN: usize = 300;

/// The `message` of an error.
pub fn message(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        message: String,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    Some(body.message.chars().take(SHOWN).collect())
}

/// The number and JIT config of a new runner.
pub fn registered(body: &[u8]) -> Option<Registered> {
    #[derive(Deserialize)]
    struct Runner {
        id: u64,
    }
    #[derive(Deserialize)]
    struct Body {
        runner: Runner,
        encoded_jit_config: String,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    Some(Registered {
        id: RegistrationId(body.runner.id),
        jit_config: Secret::new(body.encoded_jit_config),
    })
}

/// An installation token and the permissions that go with it.
pub fn installation_token(body: &[u8], now: Time) -> Option<(Minted, Option<Value>)> {
    /// Installation tokens live an hour (GitHub docs).
    const LIFE: Duration = Duration::from_secs(3600);
    let body: Value = serde_json::from_slice(body).ok()?;
    let token = body.get("token")?.as_str().filter(|token| !token.is_empty())?;
    let expires = body.get("expires_at").and_then(Value::as_str);
    let expires = expires
        .and_then(|text| chrono::DateTime::parse_from_rfc3339(text).ok())
        .map_or(now + LIFE, |end| end.with_timezone(&chrono::Utc));
    let permissions = body.get("permissions").filter(|told| told.is_object()).cloned();
    Some((Minted { secret: Secret::new(token), expires }, permissions))
}

/// One page of runners: ours, and enough of the others to know whether the sweep saw everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunnerPage {
    /// How many runners the scope has, as this page says.
    pub total: Option<u64>,
    /// How many elements the page holds.
    pub elements: usize,
    /// The numbers of all elements that have one, ours or not.
    pub ids: Vec<u64>,
    /// Our registrations.
    pub ours: Vec<Registration>,
    /// The runner groups that they are in, as far as it is said.
    pub groups: BTreeMap<RegistrationId, u64>,
    /// Elements that are or may be ours and cannot be read.
    pub faults: Vec<String>,
}

/// Reads a page of runners. `None` where it is no such page at all.
pub fn runner_page(body: &[u8], fleet: &FleetId) -> Option<RunnerPage> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let runners = body.get("runners")?.as_array()?;
    let mut page = RunnerPage {
        total: body.get("total_count").and_then(Value::as_u64),
        elements: runners.len(),
        ..RunnerPage::default()
    };
    for element in runners {
        page.ids.extend(element.get("id").and_then(Value::as_u64));
        let Some(name) = element.get("name").and_then(Value::as_str) else {
            page.faults.push("a runner without a readable name".to_owned());
            continue;
        };
        let Ok(name) = name.parse::<RunnerName>() else { continue };
        if !name.is_of(fleet) {
            continue;
        }
        match standing(element, &name) {
            Some(registration) => {
                let group = element.get("runner_group_id").and_then(whole);
                page.groups.extend(group.map(|group| (registration.id, group)));
                page.ours.push(registration);
            }
            None => page.faults.push(format!("runner {name} without a readable id or status")),
        }
    }
    Some(page)
}

/// How an element says that our runner `name` stands. `None` where its number or status cannot be read.
fn standing(element: &Value, name: &RunnerName) -> Option<Registration> {
    let id = element.get("id").and_then(Value::as_u64).map(RegistrationId)?;
    let online = match element.get("status").and_then(Value::as_str)? {
        "online" => true,
        "offline" => false,
        _ => return None,
    };
    let busy = element.get("busy").and_then(Value::as_bool);
    let cordoned = element.get("labels").and_then(read_labels);
    let cordoned = cordoned.map(|labels| labels.iter().any(|label| label.is(MARK)));
    Some(Registration { name: name.clone(), id, online, busy, cordoned })
}

/// A label of a runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: String,
    /// Whether GitHub applied it itself, so that it cannot be taken off.
    pub read_only: bool,
}

impl Label {
    /// Whether that is its name; GitHub does not regard case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

fn read_labels(labels: &Value) -> Option<Vec<Label>> {
    let label = |label: &Value| {
        Some(Label {
            name: label.get("name").and_then(Value::as_str)?.to_owned(),
            read_only: label.get("type").and_then(Value::as_str) == Some("read-only"),
        })
    };
    Some(labels.as_array()?.iter().filter_map(label).collect())
}

/// The labels of one runner.
pub fn labels(body: &[u8]) -> Option<Vec<Label>> {
    let body: Value = serde_json::from_slice(body).ok()?;
    body.get("labels").and_then(read_labels)
}

/// The one runner in an answer. `None` where it cannot be read; a runner of another name is none of ours.
pub fn runner(body: &[u8], name: &RunnerName) -> Option<Option<Registration>> {
    let element: Value = serde_json::from_slice(body).ok()?;
    let given = element.get("name").and_then(Value::as_str)?;
    if !given.eq_ignore_ascii_case(name.as_str()) {
        return Some(None);
    }
    standing(&element, name).map(Some)
}

/// The runner of that name in a list. `None` where it is no list, or the runner cannot be read.
pub fn runner_named(body: &[u8], name: &RunnerName) -> Option<Option<Registration>> {
    #[derive(Deserialize)]
    struct Body {
        runners: Vec<Value>,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    let named = body.runners.iter().find(|element| {
        let given = element.get("name").and_then(Value::as_str);
        given.is_some_and(|given| given.eq_ignore_ascii_case(name.as_str()))
    });
    match named {
        Some(element) => standing(element, name).map(Some),
        None => Some(None),
    }
}

/// The numbers of the runners of exactly that name. An element whose name matches but that has no
/// number makes the answer unreadable: it must not pass for "there is none".
pub fn ids_named(body: &[u8], name: &RunnerName) -> Option<Vec<RegistrationId>> {
    #[derive(Deserialize)]
    struct Body {
        runners: Vec<Value>,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    let is_named = |element: &&Value| {
        let given = element.get("name").and_then(Value::as_str);
        given.is_some_and(|given| given.eq_ignore_ascii_case(name.as_str()))
    };
    let id = |element: &Value| element.get("id").and_then(Value::as_u64).map(RegistrationId);
    body.runners.iter().filter(is_named).map(id).collect()
}

/// A runner group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Whether runners without a group go there.
    pub default: bool,
    /// Which repositories may use it, in GitHub's word: `all`, `private` or `selected`.
    pub visibility: Option<String>,
}

/// One page of runner groups and how many elements it held.
pub fn group_page(body: &[u8]) -> Option<(Vec<Group>, usize)> {
    #[derive(Deserialize)]
    struct Body {
        runner_groups: Vec<Value>,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    let elements = body.runner_groups.len();
    let groups = body.runner_groups.iter().filter_map(|group| {
        Some(Group {
            // GitHub's description calls it a number, not an integer.
            id: group.get("id").and_then(whole)?,
            name: group.get("name").and_then(Value::as_str)?.to_owned(),
            default: group.get("default").and_then(Value::as_bool).unwrap_or(false),
            visibility: group.get("visibility").and_then(Value::as_str).map(str::to_owned),
        })
    });
    Some((groups.collect(), elements))
}

fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let float = value.as_f64()?;
        let exact = float >= 0.0 && float.fract() == 0.0 && float < 9e15;
        // Checked just above: whole, positive and below 2^53.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        exact.then_some(float as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_element_counts_only_if_it_could_be_ours() {
        let body = serde_json::json!({"total_count": 7, "runners": [
            {"id": 1, "name": "ci--small--0123456789ab", "status": "online", "busy": false,
             "labels": [{"name": "no-id"}]},
            null,
            {"id": 3, "name": "someone-elses", "status": null},
            {"id": 4, "name": "other--small--0123456789ab"},
            {"id": null, "name": "ci--small--0123456789ac", "status": "online"},
            {"id": 6, "name": "ci--small--0123456789ad", "status": "dreaming", "busy": true},
            {"id": 7, "name": "ci--small--0123456789ae", "status": "offline"}
        ]});
        let page = runner_page(body.to_string().as_bytes(), &"ci".parse().unwrap()).unwrap();
        let seen: Vec<_> = page.ours.iter().map(|r| (r.id.0, r.online, r.busy)).collect();
        assert_eq!(seen, [(1, true, Some(false)), (7, false, None)]);
        assert_eq!(page.faults.len(), 3, "{:?}", page.faults);
        assert_eq!((page.total, page.elements, page.ids.len()), (Some(7), 7, 5));
    }

    /// What stands where something else should: `None` is nothing at all.
    fn odd_values() -> Vec<Option<Value>> {
        let odd =
            serde_json::json!([null, 0, -1, 1.5, 1e300, "", "x", [], [null], {}, {"id": 1}, true]);
        let odd = odd.as_array().cloned().unwrap_or_default();
        std::iter::once(None).chain(odd.into_iter().map(Some)).collect()
    }

    fn with(element: &Value, field: &str, value: &Option<Value>) -> Value {
        let mut element = element.clone();
        let fields = element.as_object_mut().unwrap();
        match value {
            Some(value) => drop(fields.insert(field.to_owned(), value.clone())),
            None => drop(fields.remove(field)),
        }
        element
    }

    #[test]
    fn an_odd_field_of_one_runner_costs_no_other_runner() {
        let fleet: FleetId = "ci".parse().unwrap();
        let runner = |id: u64| {
            let name = RunnerName::new(&fleet, &"small".parse().unwrap(), id);
            serde_json::json!({"id": id, "name": name.to_string(), "status": "online", "busy": false,
                               "os": "linux", "labels": [{"id": 1, "name": "x", "type": "custom"}]})
        };
        for field in ["id", "name", "status", "busy", "os", "labels"] {
            for value in odd_values() {
                let odd = with(&runner(1), field, &value);
                let body =
                    serde_json::json!({"total_count": 3, "runners": [runner(2), odd, runner(3)]});
                let page = runner_page(body.to_string().as_bytes(), &fleet).unwrap();
                let seen: Vec<u64> = page.ours.iter().map(|one| one.id.0).collect();
                assert!(seen.contains(&2) && seen.contains(&3), "{field} = {value:?}: {seen:?}");
                assert_eq!(page.elements, 3);
                // What may be ours and is not read is told: it must not pass for "not there".
                let told = page.ours.len() == 3 || page.faults.len() == 1 || field == "name";
                assert!(told, "{field} = {value:?}: {page:?}");
            }
        }
        for value in odd_values() {
            let body = with(&serde_json::json!({"runners": [runner(1)]}), "total_count", &value);
            assert_eq!(runner_page(body.to_string().as_bytes(), &fleet).unwrap().ours.len(), 1);
            let odd = value.as_ref().is_none_or(|value| !value.is_array());
            let body = with(&serde_json::json!({"total_count": 1}), "runners", &value);
            let page = runner_page(body.to_string().as_bytes(), &fleet);
            assert_eq!(page.is_none(), odd, "no list must not pass for an empty one: {value:?}");
        }
    }

    #[test]
    fn an_odd_field_of_one_group_costs_no_other_group() {
        let group = |id: u64| serde_json::json!({"id": id, "name": "g", "default": false});
        for field in ["id", "name", "default"] {
            for value in odd_values() {
                let odd = with(&group(1), field, &value);
                let body = serde_json::json!({"runner_groups": [group(2), odd, group(3)]});
                let (groups, elements) = group_page(body.to_string().as_bytes()).unwrap();
                let ids: Vec<u64> = groups.iter().map(|group| group.id).collect();
                assert!(ids.contains(&2) && ids.contains(&3), "{field} = {value:?}: {ids:?}");
                assert_eq!(elements, 3);
            }
        }
    }

    #[test]
    fn an_odd_field_beside_a_token_costs_no_token() {
        let now = Time::default();
        let token = serde_json::json!({"token": "t", "expires_at": "2026-11-20T10:00:00Z",
                                       "permissions": {"administration": "write"}});
        for field in ["expires_at", "permissions", "repositories"] {
            for value in odd_values() {
                let body = with(&token, field, &value);
                assert!(installation_token(body.to_string().as_bytes(), now).is_some(), "{body}");
            }
        }
        for value in odd_values().iter().filter(|value| **value != Some("x".into())) {
            let body = with(&token, "token", value);
            assert!(installation_token(body.to_string().as_bytes(), now).is_none(), "{body}");
        }
    }

    #[test]
    fn group_numbers_may_be_floats() {
        let body = r#"{"runner_groups":[{"id":2.0,"name":"a"},{"id":-1,"name":"b"},null]}"#;
        let (groups, elements) = group_page(body.as_bytes()).unwrap();
        assert_eq!(elements, 3);
        assert_eq!(groups.len(), 1);
        assert_eq!(groups[0].id, 2);
    }
}
