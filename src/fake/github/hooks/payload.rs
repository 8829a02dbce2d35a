//! What is posted, in the shape of GitHub's own payloads.
//!
//! Everything that a schema of GitHub requires is there, though a receiver needs a tenth of it: one
//! that trips over the rest, or is slow over it, is to be found out here.

use chrono::SecondsFormat;
use runner_fleet_actors::{name::Scope, port::Time};
use serde_json::{Map, Value, json};

use super::{HookOptions, HookTarget};
use crate::fake::github::world::{Action, JobRecord, News};

/// A number for a name: the same in every run of the fake, another one for another name.
pub(in crate::fake::github) fn number_of(name: &str) -> u64 {
    let fnv = |hash: u32, byte: u8| {
        (hash ^ u32::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0193)
    };
    u64::from(name.bytes().fold(0x811c_9dc5, fnv))
}

/// What a hook belongs to: GitHub's word for it, and its number.
pub(super) fn target_of(target: &HookTarget) -> (&'static str, u64) {
    match target {
        HookTarget::App => ("integration", number_of("app")),
        HookTarget::Scope(scope) => {
            let kind = match scope {
                Scope::Repository { .. } => "repository",
                Scope::Organisation(_) => "organization",
                Scope::Enterprise(_) => "business",
            };
            (kind, number_of(&scope.to_string()))
        }
    }
}

/// GitHub tells whole seconds.
fn time(at: Time) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A job, as payloads and the API show it.
pub(in crate::fake::github) fn job(record: &JobRecord, group: Option<String>, url: &str) -> Value {
    let JobRecord { repository, run_id, .. } = record;
    let id = record.id.0;
    let (web, api) = (format!("{url}/{repository}"), format!("{url}/api/v3/repos/{repository}"));
    json!({
        "id": id,
        "run_id": run_id,
        "workflow_name": record.workflow,
        "head_branch": "main",
        "run_url": format!("{api}/actions/runs/{run_id}"),
        "run_attempt": 1,
        "node_id": format!("CR_{id:016x}"),
        "head_sha": "3484a3fb816e0859fd6e1cea078d76385ff50625",
        "url": format!("{api}/actions/jobs/{id}"),
        "html_url": format!("{web}/actions/runs/{run_id}/job/{id}"),
        "status": record.status(),
        "conclusion": record.conclusion(),
        "created_at": time(record.queued_at),
        // A job that was never begun has one as well.
        "started_at": time(record.acquired_at.unwrap_or(record.queued_at)),
        "completed_at": record.ended_at().map(time),
        "name": record.name,
        "steps": [],
        "check_run_url": format!("{api}/check-runs/{id}"),
        "labels": record.labels,
        "runner_id": record.runner_id,
        "runner_name": record.runner,
        "runner_group_id": record.runner_group,
        "runner_group_name": group,
    })
}

/// A `workflow_job`. An approved job may look as if it were still waiting.
pub(super) fn workflow_job(
    news: &News,
    installation: Option<u64>,
    looks_waiting: bool,
    url: &str,
) -> Value {
    let record = &news.record;
    let owner = record.repository.split('/').next().unwrap_or_default();
    let is_organisation = !matches!(record.scope, Scope::Repository { .. });
    let mut payload = json!({
        "action": news.action.as_str(),
        "workflow_job": job(record, news.group.clone(), url),
        "repository": repository(&record.repository, is_organisation, url),
        "sender": account("octocat", "User", url),
    });
    if is_organisation {
        payload["organization"] = organisation(owner, url);
    }
    if let Some(id) = installation {
        payload["installation"] = json!({"id": id, "node_id": format!("MDIz{id}")});
    }
    if let (Some(at), Action::Queued) = (record.approved_at, news.action) {
        payload["deployment"] = deployment(record, at, url);
        if looks_waiting {
            payload["workflow_job"]["status"] = json!("waiting");
        }
    }
    payload
}

/// A `ping`: the first thing that a hook hears.
pub(super) fn ping(options: &HookOptions, added: Time, url: &str) -> Value {
    let id = options.id;
    let (kind, place) = match &options.target {
        HookTarget::App => ("App", "app/hook".to_owned()),
        HookTarget::Scope(repo @ Scope::Repository { .. }) => {
            ("Repository", format!("repos/{repo}/hooks/{id}"))
        }
        HookTarget::Scope(owner) => ("Organization", format!("orgs/{owner}/hooks/{id}")),
    };
    let place = format!("{url}/api/v3/{place}");
    let mut config = json!({"content_type": "json", "insecure_ssl": "1", "url": options.url});
    if options.secret.is_some() {
        config["secret"] = json!("********");
    }
    let mut payload = json!({
        "zen": "Anything added dilutes everything else.",
        "hook_id": id,
        "hook": {
            "type": kind,
            "id": id,
            "name": "web",
            "active": true,
            "events": ["workflow_job"],
            "config": config,
            "updated_at": time(added),
            "created_at": time(added),
            "url": place,
            "ping_url": format!("{place}/pings"),
            "deliveries_url": format!("{place}/deliveries"),
        },
    });
    match &options.target {
        HookTarget::App => payload["hook"]["app_id"] = json!(target_of(&options.target).1),
        HookTarget::Scope(scope @ Scope::Repository { .. }) => {
            payload["repository"] = repository(&scope.to_string(), false, url);
            payload["sender"] = account("octocat", "User", url);
        }
        HookTarget::Scope(Scope::Organisation(owner) | Scope::Enterprise(owner)) => {
            payload["organization"] = organisation(owner, url);
            payload["sender"] = account("octocat", "User", url);
        }
    }
    payload
}

/// Addresses below one place: each key with the path that follows it.
fn below(place: &str, paths: &[(&str, &str)]) -> Map<String, Value> {
    let address = |(key, path): &(&str, &str)| ((*key).to_owned(), json!(format!("{place}{path}")));
    paths.iter().map(address).collect()
}

fn with(mut whole: Value, more: Map<String, Value>) -> Value {
    if let Value::Object(whole) = &mut whole {
        whole.extend(more);
    }
    whole
}

fn account(login: &str, kind: &str, url: &str) -> Value {
    let number = number_of(login);
    let whole = json!({
        "login": login,
        "id": number,
        "node_id": format!("U_{number:08x}"),
        "avatar_url": format!("{url}/avatars/u/{number}"),
        "gravatar_id": "",
        "html_url": format!("{url}/{login}"),
        "type": kind,
        "site_admin": false,
    });
    let paths = [
        ("url", ""),
        ("followers_url", "/followers"),
        ("following_url", "/following{/other_user}"),
        ("gists_url", "/gists{/gist_id}"),
        ("starred_url", "/starred{/owner}{/repo}"),
        ("subscriptions_url", "/subscriptions"),
        ("organizations_url", "/orgs"),
        ("repos_url", "/repos"),
        ("events_url", "/events{/privacy}"),
        ("received_events_url", "/received_events"),
    ];
    with(whole, below(&format!("{url}/api/v3/users/{login}"), &paths))
}

pub(in crate::fake::github) fn organisation(login: &str, url: &str) -> Value {
    let number = number_of(login);
    let whole = json!({
        "login": login,
        "id": number,
        "node_id": format!("O_{number:08x}"),
        "avatar_url": format!("{url}/avatars/u/{number}"),
        "description": null,
    });
    let paths = [
        ("url", ""),
        ("repos_url", "/repos"),
        ("events_url", "/events"),
        ("hooks_url", "/hooks"),
        ("issues_url", "/issues"),
        ("members_url", "/members{/member}"),
        ("public_members_url", "/public_members{/member}"),
    ];
    with(whole, below(&format!("{url}/api/v3/orgs/{login}"), &paths))
}

fn deployment(record: &JobRecord, at: Time, url: &str) -> Value {
    let (id, repository) = (record.id.0, &record.repository);
    let api = format!("{url}/api/v3/repos/{repository}");
    json!({
        "url": format!("{api}/deployments/{id}"),
        "id": id,
        "node_id": format!("DE_{id:08x}"),
        "sha": "3484a3fb816e0859fd6e1cea078d76385ff50625",
        "ref": "main",
        "task": "deploy",
        "payload": {},
        "original_environment": "production",
        "environment": "production",
        "description": null,
        "creator": account("octocat", "User", url),
        "created_at": time(record.queued_at),
        "updated_at": time(at),
        "statuses_url": format!("{api}/deployments/{id}/statuses"),
        "repository_url": api,
    })
}

pub(in crate::fake::github) fn repository(
    full_name: &str,
    of_organisation: bool,
    url: &str,
) -> Value {
    let (owner, name) = full_name.split_once('/').unwrap_or((full_name, ""));
    let number = number_of(full_name);
    let kind = if of_organisation { "Organization" } else { "User" };
    let (web, born) = (format!("{url}/{full_name}"), "2019-05-15T15:19:25Z");
    let whole = json!({
        "id": number,
        "node_id": format!("R_{number:08x}"),
        "name": name,
        "full_name": full_name,
        "private": true,
        "owner": account(owner, kind, url),
        "html_url": web,
        "description": null,
        "fork": false,
        "created_at": born,
        "updated_at": born,
        "pushed_at": born,
        "git_url": format!("git://{}.git", web.trim_start_matches("http://")),
        "ssh_url": format!("git@{full_name}.git"),
        "clone_url": format!("{web}.git"),
        "svn_url": web,
        "homepage": null,
    });
    let whole = with(whole, below(&format!("{url}/api/v3/repos/{full_name}"), &REPOSITORY));
    with(whole, particulars())
}

/// What is the same of every repository.
fn particulars() -> Map<String, Value> {
    let all = json!({
        "size": 0,
        "stargazers_count": 0,
        "watchers_count": 0,
        "language": null,
        "has_issues": true,
        "has_projects": true,
        "has_downloads": true,
        "has_wiki": true,
        "has_pages": false,
        "has_discussions": false,
        "forks_count": 0,
        "mirror_url": null,
        "archived": false,
        "disabled": false,
        "open_issues_count": 0,
        "license": null,
        "allow_forking": true,
        "is_template": false,
        "web_commit_signoff_required": false,
        "topics": [],
        "visibility": "private",
        "forks": 0,
        "open_issues": 0,
        "watchers": 0,
        "default_branch": "main",
        "custom_properties": {},
    });
    all.as_object().cloned().unwrap_or_default()
}

/// Below a repository's own address.
const REPOSITORY: [(&str, &str); 37] = [
    ("url", ""),
    ("forks_url", "/forks"),
    ("keys_url", "/keys{/key_id}"),
    ("collaborators_url", "/collaborators{/collaborator}"),
    ("teams_url", "/teams"),
    ("hooks_url", "/hooks"),
    ("issue_events_url", "/issues/events{/number}"),
    ("events_url", "/events"),
    ("assignees_url", "/assignees{/user}"),
    ("branches_url", "/branches{/branch}"),
    ("tags_url", "/tags"),
    ("blobs_url", "/git/blobs{/sha}"),
    ("git_tags_url", "/git/tags{/sha}"),
    ("git_refs_url", "/git/refs{/sha}"),
    ("trees_url", "/git/trees{/sha}"),
    ("statuses_url", "/statuses/{sha}"),
    ("languages_url", "/languages"),
    ("stargazers_url", "/stargazers"),
    ("contributors_url", "/contributors"),
    ("subscribers_url", "/subscribers"),
    ("subscription_url", "/subscription"),
    ("commits_url", "/commits{/sha}"),
    ("git_commits_url", "/git/commits{/sha}"),
    ("comments_url", "/comments{/number}"),
    ("issue_comment_url", "/issues/comments{/number}"),
    ("contents_url", "/contents/{+path}"),
    ("compare_url", "/compare/{base}...{head}"),
    ("merges_url", "/merges"),
    ("archive_url", "/{archive_format}{/ref}"),
    ("downloads_url", "/downloads"),
    ("issues_url", "/issues{/number}"),
    ("pulls_url", "/pulls{/number}"),
    ("milestones_url", "/milestones{/number}"),
    ("notifications_url", "/notifications{?since,all,participating}"),
    ("labels_url", "/labels{/name}"),
    ("releases_url", "/releases{/id}"),
    ("deployments_url", "/deployments"),
];
