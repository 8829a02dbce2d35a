//! What the API answers about deliveries.

use serde_json::{Value, json};

use super::{Delivery, Errand, Hook, HookTarget, Hooks};
use crate::fake::github::{
    Shared,
    answers::{Query, Reply, paging},
    operation::Target,
};

impl Hooks {
    /// The hook that a request is about.
    fn of(&self, target: &Target) -> Option<&Hook> {
        match &target.scope {
            None => self.hooks.values().find(|hook| hook.options.target == HookTarget::App),
            Some(scope) => self.hooks.get(&target.hook).filter(|hook| {
                matches!(&hook.options.target, HookTarget::Scope(own)
                    if own.to_string().eq_ignore_ascii_case(&scope.to_string()))
            }),
        }
    }
}

/// Lists deliveries, the newest first.
pub(in crate::fake::github) fn list(shared: &Shared, target: &Target, query: &Query) -> Reply {
    let hooks = shared.hooks();
    let Some(hook) = hooks.of(target) else { return Reply::error(404, "Not Found") };
    let cursor = match query.get("cursor").map(|text| read(text)) {
        Some(None) => return Reply::error(400, "Invalid cursor"),
        Some(at) => at,
        None => None,
    };
    let succeeded = match query.get("status").map(String::as_str) {
        None => None,
        Some("success") => Some(true),
        Some("failure") => Some(false),
        Some(_) => return Reply::error(400, "status must be success or failure"),
    };
    let (per_page, _) = paging(query);
    let mut wanted = hook
        .log
        .iter()
        .rev()
        .map(|(delivery, _)| delivery)
        .filter(|one| cursor.is_none_or(|from| one.id <= from))
        .filter(|one| succeeded.is_none_or(|wanted| one.succeeded() == wanted));
    let page: Vec<Value> = wanted.by_ref().take(per_page).map(shown).collect();
    let next = wanted.next().map(|one| one.id);
    let mut reply = Reply::new(200, Value::Array(page));
    if let Some(next) = next {
        let status = query.get("status").map(|word| format!("&status={word}")).unwrap_or_default();
        let place = place(target);
        let url =
            format!("{}/api/v3{place}?per_page={per_page}{status}&cursor=v1_{next}", shared.url);
        reply.headers.push(("link", format!("<{url}>; rel=\"next\"")));
    }
    reply
}

/// The delivery from which a page goes on.
fn read(cursor: &str) -> Option<u64> {
    cursor.strip_prefix("v1_")?.parse().ok()
}

fn place(target: &Target) -> String {
    use runner_fleet_actors::name::Scope;
    match &target.scope {
        None => "/app/hook/deliveries".to_owned(),
        Some(repo @ Scope::Repository { .. }) => {
            format!("/repos/{repo}/hooks/{}/deliveries", target.hook)
        }
        Some(org) => format!("/orgs/{org}/hooks/{}/deliveries", target.hook),
    }
}

fn shown(delivery: &Delivery) -> Value {
    json!({
        "id": delivery.id,
        "guid": delivery.guid,
        "delivered_at": delivery.delivered_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        "redelivery": delivery.redelivery,
        "duration": delivery.duration.as_secs_f64(),
        "status": delivery.status,
        "status_code": delivery.status_code,
        "event": delivery.event,
        "action": delivery.action,
        "installation_id": delivery.installation_id,
        "repository_id": delivery.repository_id,
        "throttled_at": null,
    })
}

/// Makes a delivery anew, with the same guid and payload.
pub(in crate::fake::github) fn redeliver(shared: &Shared, target: &Target) -> Reply {
    let hooks = shared.hooks();
    let logged = hooks.of(target).and_then(|hook| {
        // Numbers grow along the log.
        let at = hook.log.binary_search_by_key(&target.id, |(one, _)| one.id).ok()?;
        hook.log.get(at)
    });
    let Some((_, errand)) = logged else { return Reply::error(404, "Not Found") };
    hooks.send(Errand { redelivery: true, ..errand.clone() });
    Reply::new(202, json!({}))
}
