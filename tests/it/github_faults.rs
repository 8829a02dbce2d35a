//! Registrations and credentials when things go wrong: taken names, lost answers, refused tokens.

use std::sync::{Arc, Mutex};

use crate::support::github::*;
use runner_fleet::{
    fake::github::{Group, Once, Operation, Options, Refused},
    github::{
        Auth, Github, GithubConfig, Timeouts, TokenSource, budget::CallKind, downloads::Catalogue,
    },
};
use runner_fleet_actors::port::{Clock, ErrorClass, Forge, Secret};
use std::time::Duration;

const JIT: &str = "actions/generate-runner-jitconfig-for-org";
const LIST: &str = "actions/list-self-hosted-runners-for-org";
const DELETE: &str = "actions/delete-self-hosted-runner-from-org";
const GROUPS: &str = "actions/list-self-hosted-runner-groups-for-org";
const MINT: &str = "apps/create-installation-access-token";

#[tokio::test]
async fn a_name_that_is_taken_is_freed_and_registered_anew() {
    let (fake, github) = pair().await;
    let org = scope("octo-org");
    let first = github.register(&order(&org, 1)).await.unwrap();
    let second = github.register(&order(&org, 1)).await.unwrap();
    assert_ne!(first.id, second.id);
    let old = fake.connect(first.jit_config.expose()).await;
    assert_eq!(old.unwrap_err(), Refused::Gone);
    fake.connect(second.jit_config.expose()).await.unwrap();
    assert_eq!(fake.stats().registrations, 1);
}

#[tokio::test]
async fn a_name_that_is_taken_by_a_busy_runner_is_left_alone() {
    let (fake, github) = pair().await;
    let org = scope("octo-org");
    let registered = github.register(&order(&org, 1)).await.unwrap();
    let mut listener = fake.connect(registered.jit_config.expose()).await.unwrap();
    fake.queue_job(&org, &labels(), Duration::from_secs(1));
    listener.next_job().await;
    let error = github.register(&order(&org, 1)).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Busy);
    assert_eq!(fake.stats().lost, 0);
}

#[tokio::test]
async fn a_lost_answer_is_doubtful_and_the_next_try_leaves_one_registration() {
    for fault in [Once::DoAndHangUp, Once::DoAndHang, Once::DoAndSay(502), Once::DoAndSay(504)] {
        let fake = start(Options::default()).await;
        let timeouts = Timeouts { whole: Duration::from_millis(300), ..Timeouts::default() };
        let github = client(GithubConfig { timeouts, ..with_token(&fake) });
        let org = scope("octo-org");
        fake.faults().once(Operation::JitConfig, fault.clone());
        let error = github.register(&order(&org, 1)).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Transient, "{fault:?}: {error}");
        assert!(!error.certain, "{fault:?}: {error}");
        assert_eq!(fake.stats().calls[JIT], 1, "{fault:?}: nobody may repeat a POST unasked");
        assert_eq!(fake.stats().registrations, 1);

        let registered = github.register(&order(&org, 1)).await.unwrap();
        fake.connect(registered.jit_config.expose()).await.unwrap();
        assert_eq!(fake.stats().registrations, 1, "{fault:?}");
    }
}

#[tokio::test]
async fn a_refused_registration_is_certain() {
    let (fake, github) = pair().await;
    fake.faults().once(Operation::JitConfig, Once::Refuse(422));
    let error = github.register(&order(&scope("octo-org"), 1)).await.unwrap_err();
    assert_eq!((error.class, error.certain), (ErrorClass::Invalid, true));
}

#[tokio::test]
async fn a_full_runner_group_is_a_quota() {
    let (fake, github) = pair().await;
    let said = r#"{"message": "Runner group 1 has reached max limit of 10000 runners"}"#;
    fake.faults().once(Operation::JitConfig, Once::Say(422, said.to_owned()));
    let error = github.register(&order(&scope("octo-org"), 1)).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Quota);
}

#[tokio::test]
async fn an_order_without_labels_is_refused_before_any_call() {
    let (fake, github) = pair().await;
    let mut order = order(&scope("octo-org"), 1);
    order.labels.clear();
    let error = github.register(&order).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Invalid);
    assert!(fake.stats().calls.is_empty());
}

#[tokio::test]
async fn a_deregistration_is_told_apart_from_a_busy_runner_and_one_that_is_gone() {
    let (fake, github) = pair().await;
    let org = scope("octo-org");
    let registered = github.register(&order(&org, 1)).await.unwrap();
    let mut listener = fake.connect(registered.jit_config.expose()).await.unwrap();
    fake.queue_job(&org, &labels(), Duration::from_secs(1));
    listener.next_job().await;
    for id in [Some(registered.id), None] {
        let error = github.deregister(&org, &name(1), id).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Busy);
    }
    assert_eq!(github.status().failures, 0, "a busy runner is an answer, not a failure");
    listener.complete(true);
    for id in [Some(registered.id), None] {
        github.deregister(&org, &name(1), id).await.unwrap();
    }
    assert_eq!(fake.stats().calls[DELETE], 3);
}

#[tokio::test]
async fn groups_are_found_by_name_on_any_page_and_looked_up_once() {
    let group =
        |id: u64| Group { id, name: format!("Group {id}"), default: id == 3, closed: false };
    let groups = (1..=250).map(group).collect();
    let fake = start(Options { groups, ..Options::default() }).await;
    let github = client(with_token(&fake));
    let org = scope("octo-org");
    let mut order = order(&org, 1);
    order.group = Some("GROUP 249".to_owned());
    for token in 0..5 {
        order.name = name(token);
        github.register(&order).await.unwrap();
    }
    assert_eq!(fake.stats().calls[GROUPS], 3, "three pages, once");
    assert_eq!(github.check(&org, order.group.as_deref()).await.unwrap().group_id, 249);
    assert_eq!(github.check(&org, None).await.unwrap().group_id, 3, "the default one");
}

#[tokio::test]
async fn an_unknown_group_lists_those_that_exist_and_is_found_once_it_is_made() {
    let (fake, github) = pair().await;
    let mut order = order(&scope("octo-org"), 1);
    order.group = Some("big".to_owned());
    let error = github.register(&order).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Invalid);
    assert!(error.what.contains("\"big\"") && error.what.contains("\"Default\""), "{error}");
    fake.set_groups(vec![Group { id: 9, name: "big".to_owned(), default: false, closed: false }]);
    github.register(&order).await.unwrap();
}

#[tokio::test]
async fn a_group_that_was_made_anew_is_looked_up_again() {
    let (fake, github) = pair().await;
    let mut order = order(&scope("octo-org"), 1);
    order.group = Some("big".to_owned());
    let big = |id: u64| vec![Group { id, name: "big".to_owned(), default: false, closed: false }];
    fake.set_groups(big(7));
    github.register(&order).await.unwrap();
    fake.set_groups(big(8));
    order.name = name(2);
    let error = github.register(&order).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Invalid);
    github.register(&order).await.unwrap();
}

#[tokio::test]
async fn a_repository_has_no_groups() {
    let (fake, github) = pair().await;
    let mut order = order(&scope("octo-org/octo-repo"), 1);
    order.group = Some("default".to_owned());
    github.register(&order).await.unwrap();
    order.group = Some("big".to_owned());
    let error = github.register(&order).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Invalid);
    assert!(!fake.stats().calls.contains_key(GROUPS));
}

#[tokio::test]
async fn a_rotated_token_is_taken_up_without_a_restart() {
    let (fake, _) = pair().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{TOKEN}\n")).unwrap();
    let auth = Auth::Token(TokenSource::file(file.path().to_owned()));
    let github = client(GithubConfig { url: fake.url(), ..GithubConfig::new(auth, fleet()) });
    let org = scope("octo-org");
    github.list(&org).await.unwrap();

    fake.faults().revoke(TOKEN);
    let error = github.list(&org).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Auth);
    assert!(error.certain);
    std::fs::write(file.path(), "the-next-token").unwrap();
    fake.faults().accept("the-next-token");
    github.list(&org).await.unwrap();
    assert_eq!(github.status().failures, 1);
}

#[tokio::test]
async fn a_token_that_cannot_be_read_is_told_with_its_place() {
    let (fake, _) = pair().await;
    let auth = Auth::Token(TokenSource::file("/nowhere/token".into()));
    let github = client(GithubConfig { url: fake.url(), ..GithubConfig::new(auth, fleet()) });
    let error = github.list(&scope("octo-org")).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Auth);
    assert!(error.what.contains("/nowhere/token"), "{error}");
    assert!(fake.stats().calls.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_calls_that_meet_a_revoked_token_renew_it_once() {
    let fake = start(Options { app: Some(app()), ..Options::default() }).await;
    let github = Arc::new(client(with_app(&fake)));
    github.list(&scope("octo-org")).await.unwrap();
    fake.faults().revoke_installation_tokens();
    let calls = (0..20).map(|at| {
        let github = Arc::clone(&github);
        tokio::spawn(async move { github.list(&scope(&format!("org-{at}"))).await })
    });
    for call in futures::future::join_all(calls).await {
        call.unwrap().unwrap();
    }
    assert_eq!(fake.stats().calls[MINT], 2, "one at the start, one for all twenty");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_calls_at_the_start_make_one_token() {
    let fake = start(Options { app: Some(app()), ..Options::default() }).await;
    let github = Arc::new(client(with_app(&fake)));
    let calls = (0..20).map(|token| {
        let github = Arc::clone(&github);
        tokio::spawn(async move { github.register(&order(&scope("octo-org"), token)).await })
    });
    for call in futures::future::join_all(calls).await {
        call.unwrap().unwrap();
    }
    assert_eq!(fake.stats().calls[MINT], 1);
    assert_eq!(fake.stats().calls[GROUPS], 1);
}

#[tokio::test]
async fn an_apps_token_is_renewed_five_minutes_before_its_end() {
    let fake = start(Options { app: Some(app()), ..Options::default() }).await;
    let clock = HandClock::new();
    let github = Github::new(with_app(&fake), Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    let org = scope("octo-org");
    github.list(&org).await.unwrap();
    clock.advance(Duration::from_secs(3200));
    github.list(&org).await.unwrap();
    assert_eq!(fake.stats().calls[MINT], 1);
    clock.advance(Duration::from_secs(110));
    // The stand-in judges a JWT by the true time, so this one is told to be from the future; that
    // it was asked for at all is what counts.
    let _ = github.list(&org).await;
    assert_eq!(fake.stats().calls[MINT], 2);
}

#[tokio::test]
async fn an_app_that_github_does_not_know_is_told_what_to_check() {
    let fake = start(Options { app: Some(app()), ..Options::default() }).await;
    let wrong = |id: &str, installation_id: u64| Auth::App {
        id: id.to_owned(),
        installation_id,
        private_key: TokenSource::fixed(Secret::new(APP_KEY)),
    };
    for (auth, hint) in [(wrong("other", INSTALLATION), "belong"), (wrong(APP_ID, 1), "installed")]
    {
        let config = GithubConfig { url: fake.url(), ..GithubConfig::new(auth, fleet()) };
        let error = client(config).register(&order(&scope("octo-org"), 1)).await.unwrap_err();
        assert_eq!((error.class, error.certain), (ErrorClass::Auth, true), "{error}");
        assert!(error.what.contains(hint), "{error}");
    }
}

#[tokio::test]
async fn an_unusable_private_key_is_refused_at_the_start() {
    let auth = Auth::App {
        id: "1".to_owned(),
        installation_id: 1,
        private_key: TokenSource::fixed(Secret::new("-----BEGIN hunter2")),
    };
    let error = Github::new(GithubConfig::new(auth, fleet()), HandClock::new()).unwrap_err();
    assert_eq!(error.class, ErrorClass::Invalid);
    assert!(!error.what.contains("hunter2"));
}

#[tokio::test]
async fn a_missing_permission_is_named_for_each_scope() {
    let (fake, github) = pair().await;
    fake.faults().forbid(true);
    let table = [
        ("octo-org/octo-repo", "Administration: write"),
        ("octo-org", "Self-hosted runners: write"),
        ("enterprises/octo", "manage_runners:enterprise"),
    ];
    for (text, permission) in table {
        let error = github.check(&scope(text), None).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Auth);
        assert!(error.what.contains(permission), "{error}");
        assert!(error.what.contains("organization_self_hosted_runners=write"), "{error}");
    }
}

#[tokio::test]
async fn a_check_finds_credentials_that_may_only_read() {
    let only_read =
        Options { oauth_scopes: Some("repo, read:org".to_owned()), ..Options::default() };
    let fake = start(only_read).await;
    let github = client(with_token(&fake));
    let repo = github.check(&scope("octo-org/octo-repo"), None).await.unwrap();
    assert_eq!((repo.may_register, repo.runners), (Some(true), Some(0)));
    let error = github.check(&scope("octo-org"), None).await.unwrap_err();
    assert!(error.what.contains("admin:org"), "{error}");

    let mut weak = app();
    weak.permissions.insert("organization_self_hosted_runners".to_owned(), "read".to_owned());
    let fake = start(Options { app: Some(weak), ..Options::default() }).await;
    let error = client(with_app(&fake)).check(&scope("octo-org"), None).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Auth);
}

#[tokio::test]
async fn a_scope_that_does_not_exist_is_invalid() {
    let fake = start(Options { scopes: vec![scope("octo-org")], ..Options::default() }).await;
    let github = client(with_token(&fake));
    let typo = scope("otco-org/octo-repo");
    for error in [
        github.register(&order(&typo, 1)).await.unwrap_err(),
        github.list(&typo).await.unwrap_err(),
        github.check(&typo, None).await.unwrap_err(),
    ] {
        assert_eq!(error.class, ErrorClass::Invalid);
        assert!(error.what.contains("otco-org/octo-repo"), "{error}");
    }
}

#[tokio::test]
async fn a_renamed_repository_still_takes_runners() {
    let (fake, github) = pair().await;
    let to = format!("{}/api/v3/repos/octo-org/new/actions/runners/generate-jitconfig", fake.url());
    fake.faults().once(Operation::JitConfig, Once::Redirect(to));
    github.register(&order(&scope("octo-org/old"), 1)).await.unwrap();
    let moved = github.list(&scope("octo-org/new")).await.unwrap();
    assert_eq!(moved.entries.len(), 1);

    let away = "http://elsewhere.invalid/api/v3/orgs/octo-org/actions/runners".to_owned();
    fake.faults().once(Operation::List, Once::Redirect(away));
    let error = github.list(&scope("octo-org")).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Invalid, "the token goes to no other host: {error}");
}

#[tokio::test]
async fn an_outage_passes() {
    let (fake, github) = pair().await;
    let org = scope("octo-org");
    fake.faults().outage(true);
    let error = github.list(&org).await.unwrap_err();
    assert_eq!((error.class, error.certain), (ErrorClass::Transient, true));
    assert!(github.status().last_error.unwrap().contains("503"));
    fake.faults().outage(false);
    github.list(&org).await.unwrap();
    assert_eq!(fake.stats().calls[LIST], 2);
}

#[tokio::test]
async fn a_token_from_anywhere_is_read_again_only_when_it_is_refused() {
    let (fake, _) = pair().await;
    let reads = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&reads);
    let source = TokenSource::from_fn(move || {
        *counted.lock().unwrap() += 1;
        Ok(Secret::new(TOKEN))
    });
    let config = GithubConfig::new(Auth::Token(source), fleet());
    let github = client(GithubConfig { url: fake.url(), ..config });
    for _ in 0..3 {
        github.list(&scope("octo-org")).await.unwrap();
    }
    assert_eq!(*reads.lock().unwrap(), 1);
    fake.faults().revoke(TOKEN);
    github.list(&scope("octo-org")).await.unwrap_err();
    assert_eq!(*reads.lock().unwrap(), 2);
}

#[tokio::test]
async fn a_list_of_runner_applications_that_cannot_be_read_is_a_failure_like_any_other() {
    let (fake, github) = pair().await;
    let org = scope("octo-org");
    let class = async || github.offer(&org, CallKind::List).await.unwrap_err().class;
    fake.faults().outage(true);
    assert_eq!(class().await, ErrorClass::Transient);
    fake.faults().outage(false);
    fake.faults().forbid(true);
    assert_eq!(class().await, ErrorClass::Auth);
    fake.faults().forbid(false);
    for nonsense in ["{}", "<html>", ""] {
        fake.faults().once(Operation::Downloads, Once::Say(200, nonsense.to_owned()));
        assert_eq!(class().await, ErrorClass::Transient, "{nonsense:?}");
    }
    fake.faults().once(Operation::Downloads, Once::Refuse(404));
    assert_eq!(class().await, ErrorClass::Invalid);
    assert_eq!(github.offer(&org, CallKind::List).await.unwrap().applications.len(), 2);
}
