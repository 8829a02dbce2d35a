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
use std::time::Duration;

use super::auth::Minted;

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
    #[derive(Deserialize)]
    struct Body {
        token: String,
        expires_at: Option<String>,
        permissions: Option<Value>,
    }
    /// Installation tokens live an hour (GitHub docs).
    const LIFE: Duration = Duration::from_secs(3600);
    let body: Body = serde_json::from_slice(body).ok()?;
    let expires = body
        .expires_at
        .and_then(|text| chrono::DateTime::parse_from_rfc3339(&text).ok())
        .map_or(now + LIFE, |end| end.with_timezone(&chrono::Utc));
    Some((Minted { secret: Secret::new(body.token), expires }, body.permissions))
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
    /// Elements that are or may be ours and cannot be read.
    pub faults: Vec<String>,
}

/// Reads a page of runners. `None` where it is no such page at all.
pub fn runner_page(body: &[u8], fleet: &FleetId) -> Option<RunnerPage> {
    #[derive(Deserialize)]
    struct Body {
        total_count: Option<u64>,
        runners: Vec<Value>,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    let mut page = RunnerPage {
        total: body.total_count,
        elements: body.runners.len(),
        ..RunnerPage::default()
    };
    for element in &body.runners {
        let id = element.get("id").and_then(Value::as_u64);
        page.ids.extend(id);
        let Some(name) = element.get("name").and_then(Value::as_str) else {
            page.faults.push("a runner without a readable name".to_owned());
            continue;
        };
        let Ok(name) = name.parse::<RunnerName>() else { continue };
        if !name.is_of(fleet) {
            continue;
        }
        let online = match element.get("status").and_then(Value::as_str) {
            Some("online") => Some(true),
            Some("offline") => Some(false),
            _ => None,
        };
        let (Some(id), Some(online)) = (id, online) else {
            page.faults.push(format!("runner {name} without a readable id or status"));
            continue;
        };
        let busy = element.get("busy").and_then(Value::as_bool);
        page.ours.push(Registration { name, id: RegistrationId(id), online, busy });
    }
    Some(page)
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

    #[test]
    fn group_numbers_may_be_floats() {
        let body = r#"{"runner_groups":[{"id":2.0,"name":"a"},{"id":-1,"name":"b"},null]}"#;
        let (groups, elements) = group_page(body.as_bytes()).unwrap();
        assert_eq!(elements, 3);
        assert_eq!(groups.len(), 1);
        assert_eq!(groups[0].id, 2);
    }
}
