//! What the fake answers when nothing is wrong.

use std::collections::HashMap;

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use rand::Rng;
use runner_fleet_actors::{name::Scope, port::Time};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    App, Operation, Shared,
    faults::Lies,
    hooks::{self, payload},
    operation::Target,
    scale_set,
    world::{NotRemoved, World},
};

/// An answer before it goes out.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Option<Value>,
    pub(crate) headers: Vec<(&'static str, String)>,
}

impl Reply {
    pub(crate) fn new(status: u16, body: Value) -> Self {
        Self { status, body: Some(body), headers: Vec::new() }
    }

    /// An error in GitHub's form.
    pub(crate) fn error(status: u16, message: &str) -> Self {
        let body = json!({
            "message": message,
            "documentation_url": "https://docs.github.com/rest",
            "status": status.to_string(),
        });
        Self::new(status, body)
    }
}

/// The query of a request.
pub(crate) type Query = HashMap<String, String>;

/// Answers a request that passed the gate.
pub(crate) fn answer(
    shared: &Shared,
    target: &Target,
    query: &Query,
    body: Option<&Value>,
) -> Reply {
    let not_found = || Reply::error(404, "Not Found");
    let known = &shared.options.scopes;
    match target.operation {
        Operation::RateLimit => return shared.limits().shown(),
        Operation::Deliveries => return hooks::list(shared, target, query),
        Operation::Redeliver => return hooks::redeliver(shared, target),
        _ => {}
    }
    let Some(scope) = &target.scope else { return not_found() };
    if matches!(target.operation, Operation::Repository | Operation::Organisation) {
        return shared.world().renames.shown(scope, &shared.url);
    }
    if target.operation == Operation::Job {
        return match shared.world().job(&scope.to_string(), target.id) {
            Some((job, group)) => Reply::new(200, payload::job(job, group, &shared.url)),
            None => not_found(),
        };
    }
    if !known.is_empty() && !known.contains(scope) {
        return not_found();
    }
    let lies = shared.faults().lies.clone();
    match target.operation {
        Operation::List => list(shared, scope, query, &lies),
        Operation::Get => match shared.world().get(scope, target.id) {
            Some(one) => Reply::new(200, one.shown(&lies)),
            None => not_found(),
        },
        Operation::Delete => match shared.world().deregister(scope, target.id, &lies) {
            Ok(()) => Reply { status: 204, body: None, headers: Vec::new() },
            Err(NotRemoved::Unknown) => not_found(),
            Err(NotRemoved::Busy) => Reply::error(
                422,
                &format!("Bad request - Runner \"{}\" is still running a job\"", target.id),
            ),
        },
        Operation::Labels => labels(&shared.world(), scope, target.id),
        Operation::SetLabels => set_labels(&mut shared.world(), scope, target.id, body),
        Operation::Move => match shared.world().move_to(scope, target.id, target.hook) {
            true => Reply { status: 204, body: None, headers: Vec::new() },
            false => not_found(),
        },
        Operation::JitConfig => register(&mut shared.world(), scope, body),
        Operation::Groups => groups(shared, scope, query),
        Operation::RegistrationToken => scale_set::registration_token(shared, scope),
        Operation::Downloads => shared.world().shelf.list(&shared.url),
        Operation::Deprecation if shared.options.schedules => {
            shared.world().shelf.schedule(&target.version)
        }
        Operation::Deprecation => not_found(),
        _ => not_found(),
    }
}

pub(crate) fn paging(query: &Query) -> (usize, usize) {
    let number = |name: &str, default: usize| {
        query.get(name).and_then(|text| text.parse().ok()).unwrap_or(default).max(1)
    };
    (number("per_page", 30).min(100), number("page", 1))
}

fn list(shared: &Shared, scope: &Scope, query: &Query, lies: &Lies) -> Reply {
    let mut faults = shared.faults();
    let (per_page, page) = paging(query);
    if faults.failing_page == Some(page as u64) {
        return Reply::error(502, "Server Error");
    }
    let fresh = || -> Vec<Value> { shared.world().of(scope).map(|one| one.shown(lies)).collect() };
    let mut all = if faults.is_stale {
        faults.stale.entry(scope.clone()).or_insert_with(fresh).clone()
    } else {
        fresh()
    };
    if faults.misses_one && !all.is_empty() {
        let missing = faults.rng.random_range(0..all.len());
        all.remove(missing);
    }
    all.splice(0..0, faults.odd.iter().cloned());
    drop(faults);
    if let Some(name) = query.get("name") {
        all.retain(|one| one.get("name").and_then(Value::as_str) == Some(name));
    }
    let total = all.len();
    let shown: Vec<Value> = all.into_iter().skip((page - 1) * per_page).take(per_page).collect();
    let mut reply = Reply::new(200, json!({"total_count": total, "runners": shown}));
    reply.headers.extend(link(shared, query, page, total.div_ceil(per_page)));
    reply
}

/// The `Link` header of a paged answer; GitHub sends none where one page is all.
fn link(
    shared: &Shared,
    query: &Query,
    page: usize,
    last: usize,
) -> Option<(&'static str, String)> {
    let rest: Vec<String> = query
        .iter()
        .filter(|(name, _)| name.as_str() != "page")
        .map(|(name, value)| format!("{name}={value}&"))
        .collect();
    let to = |page: usize, rel: &str| {
        format!("<{}/?{}page={page}>; rel=\"{rel}\"", shared.near, rest.concat())
    };
    let mut links = Vec::new();
    if page > 1 {
        links.extend([to(page - 1, "prev"), to(1, "first")]);
    }
    if page < last {
        links.extend([to(page + 1, "next"), to(last, "last")]);
    }
    (!links.is_empty()).then(|| ("link", links.join(", ")))
}

fn register(world: &mut World, scope: &Scope, body: Option<&Value>) -> Reply {
    #[derive(Deserialize)]
    struct Body {
        name: String,
        runner_group_id: u64,
        labels: Vec<String>,
    }
    let invalid = |why: &str| Reply::error(422, &format!("Invalid request.\n\n{why}"));
    let Some(Ok(body)) = body.map(Body::deserialize) else {
        return invalid("name, runner_group_id and labels are required");
    };
    if body.labels.is_empty() || body.labels.len() > 100 {
        return invalid("labels must be 1 to 100");
    }
    if body.name.is_empty() || body.name.len() > 64 {
        return invalid("name must be 1 to 64 characters");
    }
    let groups = match scope {
        Scope::Repository { .. } => body.runner_group_id == 1,
        _ => world.groups.iter().any(|group| group.id == body.runner_group_id),
    };
    if !groups {
        return Reply::error(404, "Not Found");
    }
    let Some(id) = world.register(scope, &body.name, body.runner_group_id, &body.labels) else {
        let why =
            format!("Already exists - A runner with the name \"{}\" already exists.", body.name);
        return Reply::error(409, &why);
    };
    let runner = world.get(scope, id).map(|one| one.shown(&Lies::default()));
    Reply::new(201, json!({"runner": runner, "encoded_jit_config": world.jit_config(id)}))
}

fn labels(world: &World, scope: &Scope, id: u64) -> Reply {
    let Some(one) = world.get(scope, id) else { return Reply::error(404, "Not Found") };
    let labels = one.shown_labels();
    Reply::new(200, json!({"total_count": labels.len(), "labels": labels}))
}

fn set_labels(world: &mut World, scope: &Scope, id: u64, body: Option<&Value>) -> Reply {
    #[derive(Deserialize)]
    struct Body {
        labels: Vec<String>,
    }
    let Some(Ok(body)) = body.map(Body::deserialize) else {
        return Reply::error(422, "Invalid request.\n\nlabels are required");
    };
    world.set_labels(scope, id, &body.labels);
    labels(world, scope, id)
}

fn groups(shared: &Shared, scope: &Scope, query: &Query) -> Reply {
    let world = shared.world();
    let (per_page, page) = paging(query);
    let base = format!("{}/{}", shared.url, scope);
    let all = world.groups.iter().map(|group| {
        let mut shown = json!({
            "id": group.id,
            "name": group.name,
            "visibility": if group.closed { "selected" } else { "all" },
            "default": group.default,
            "runners_url": format!("{base}/actions/runner-groups/{}/runners", group.id),
            "allows_public_repositories": false,
            "restricted_to_workflows": false,
            "selected_workflows": [],
            "workflow_restrictions_read_only": false,
        });
        if let Scope::Organisation(_) = scope {
            shown["inherited"] = json!(false);
        }
        shown
    });
    let shown: Vec<Value> = all.skip((page - 1) * per_page).take(per_page).collect();
    Reply::new(200, json!({"total_count": world.groups.len(), "runner_groups": shown}))
}

/// The App, for whoever shows a JWT of it.
pub(crate) fn app_of<'a>(shared: &'a Shared, jwt: &str) -> Result<&'a App, Reply> {
    #[derive(Deserialize)]
    struct Claims {
        iat: i64,
        exp: i64,
    }
    let app = shared.options.app.as_ref().ok_or_else(|| Reply::error(404, "Not Found"))?;
    let refused = || Reply::error(401, "A JSON web token could not be decoded");
    let mut rules = Validation::new(Algorithm::RS256);
    rules.set_issuer(&[&app.id]);
    rules.set_required_spec_claims(&["iss", "exp"]);
    let public_key = shared.faults().app_key.clone();
    let public_key = public_key.as_ref().unwrap_or(&app.public_key);
    let key = DecodingKey::from_rsa_pem(public_key.as_bytes()).map_err(|_| refused())?;
    let read = jsonwebtoken::decode::<Claims>(jwt, &key, &rules).map_err(|_| refused())?;
    let now = chrono::Utc::now().timestamp();
    // GitHub: issued in the past, and at most ten minutes to live.
    if read.claims.iat > now || read.claims.exp > now + 600 {
        return Err(refused());
    }
    Ok(app)
}

/// Makes an installation token for the App.
pub(crate) fn installation_token(shared: &Shared, app: &App, installation: u64) -> Reply {
    if installation != app.installation_id {
        return Reply::error(404, "Not Found");
    }
    let now = chrono::Utc::now();
    let mut faults = shared.faults();
    let token = format!("ghs_{:032x}", faults.rng.random::<u128>());
    let expires: Time = now + app.token_life;
    faults.installation_tokens.insert(token.clone(), expires);
    let body = json!({
        "token": token,
        "expires_at": expires.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        "permissions": app.permissions,
        "repository_selection": "all",
    });
    Reply::new(201, body)
}
