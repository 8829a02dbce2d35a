#![allow(clippy::unwrap_used, reason = "a test")]

use super::*;

fn pool(name: &str, scope: &str, labels: &[&str]) -> Serves {
    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
    Serves::new(name.parse().unwrap(), scope.parse().unwrap(), labels)
}

fn job(repository: &str, labels: &[&str]) -> JobFacts {
    JobFacts {
        repository: Some(repository.into()),
        labels: labels.iter().map(|label| (*label).into()).collect(),
        ..JobFacts::default()
    }
}

fn patterns(texts: &[&str]) -> Vec<RepositoryPattern> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn refusal(facts: &JobFacts, pools: &[Serves]) -> String {
    assert!(concerns(facts, pools), "it is kept, so that it can be said");
    matching(facts, pools).unwrap_err()
}

#[test]
fn a_job_is_matched_by_the_labels_that_were_sent_at_registration_and_no_other() {
    let bare = [pool("bench", "acme", &["bench"])];
    assert!(matching(&job("acme/widgets", &["bench"]), &bare).is_ok());
    let why = refusal(&job("acme/widgets", &["self-hosted", "bench"]), &bare);
    assert!(why.contains("bench lacks \"self-hosted\""), "{why}");
}

#[test]
fn a_delivery_without_a_repository_matches_no_pool_and_is_nobodys() {
    for scope in ["acme", "acme/widgets", "enterprises/acme"] {
        let pools = [pool("bench", scope, &["bench"])];
        let nowhere = JobFacts { repository: None, ..job("", &["bench"]) };
        assert!(matching(&nowhere, &pools).is_err() && !concerns(&nowhere, &pools), "{scope}");
    }
}

#[test]
fn strangers_jobs_are_nobodys_also_where_they_ask_for_self_hosted_runners() {
    let pools = [pool("bench", "acme", &["self-hosted", "bench"])];
    assert!(!concerns(&job("evil/repo", &["self-hosted", "bench"]), &pools));
    assert!(!concerns(&job("evil/repo", &[]), &pools));
    assert!(!concerns(&job("acme/widgets", &["ubuntu-latest"]), &pools), "GitHub's own machines");
    let githubs = JobFacts { group: Some("GitHub Actions".into()), ..job("acme/x", &["big"]) };
    assert!(!concerns(&githubs, &pools));
    let own = [pool("bench", "acme", &["ubuntu-latest"])];
    assert!(concerns(&job("acme/widgets", &["ubuntu-latest"]), &own), "unless a pool has it");
}

#[test]
fn a_job_that_names_its_group_alone_goes_to_a_pool_of_that_group() {
    let trusted = Serves { group: Some("Trusted".into()), ..pool("t", "acme", &["x"]) };
    let pools = [pool("plain", "acme", &["x"]), trusted];
    let of = |group: Option<&str>| JobFacts { group: group.map(Into::into), ..job("acme/a", &[]) };
    assert_eq!(matching(&of(Some("trusted")), &pools).unwrap().as_str(), "t");
    assert_eq!(matching(&of(Some("default")), &pools).unwrap().as_str(), "plain");
    let why = refusal(&of(Some("gone")), &pools);
    assert!(why.contains("group \"gone\"") && why.contains("t in \"Trusted\""), "{why}");
    let why = refusal(&of(None), &pools);
    assert!(why.contains("asks for no label") && why.contains("plain in \"Default\""), "{why}");
}

#[test]
fn a_list_that_was_written_as_one_text_is_told_so() {
    let pools = [pool("bench", "acme", &["self-hosted", "linux", "bench"])];
    let why = refusal(&job("acme/widgets", &["self-hosted, linux, bench"]), &pools);
    assert!(
        why.contains("\"self-hosted, linux, bench\"") && why.contains("runs-on: [a, b]"),
        "{why}"
    );
}

fn known(id: u64, now: &str) -> Option<Identity> {
    Some(Identity { id, now: now.parse().unwrap() })
}

#[test]
fn a_repository_is_known_by_the_number_that_github_told_and_by_no_number_of_a_webhook() {
    let of = |name, id| JobFacts { repository_id: id, ..job(name, &["bench"]) };
    let mut bench = pool("bench", "acme/widgets", &["bench"]);
    assert!(bench.reaches(&of("Acme/Widgets", Some(777))));
    assert!(!bench.reaches(&of("acme/gadgets", Some(777))), "nobody has told its number");
    bench.identity = known(777, "acme/gadgets");
    for (name, id, ours) in [
        ("acme/gadgets", Some(777), true),
        ("acme/widgets", Some(777), true),
        // Moved on since, and GitHub was not asked yet.
        ("beta/gizmos", Some(777), true),
        // Who takes the name that it has left is a stranger.
        ("acme/widgets", Some(888), false),
        ("acme/gadgets", Some(888), false),
        ("evil/repo", Some(666), false),
        // Sources that name no number are the fleet's own.
        ("acme/gadgets", None, true),
        ("acme/widgets", None, true),
        ("beta/gizmos", None, false),
    ] {
        assert_eq!(bench.reaches(&of(name, id)), ours, "{name} {id:?}");
    }
    assert!(bench.is_renamed_by(&of("beta/gizmos", Some(777))));
    for known in [of("acme/gadgets", Some(777)), of("acme/gadgets", None), of("evil/x", Some(6))] {
        assert!(!bench.is_renamed_by(&known), "{known:?}");
    }
}

#[test]
fn an_organisation_is_known_by_its_owners_number_wherever_its_repositories_are_called() {
    let of = |name, owner_id| JobFacts { owner_id, ..job(name, &["bench"]) };
    let mut bench = pool("bench", "acme", &["bench"]);
    bench.identity = known(7, "acme-labs");
    for (name, id, ours) in [
        ("acme-labs/app", Some(7), true),
        ("acme/app", Some(7), true),
        ("acme/app", Some(8), false),
        ("acme-labs/app", Some(8), false),
        ("acme/app", None, true),
        ("evil/app", None, false),
    ] {
        assert_eq!(bench.reaches(&of(name, id)), ours, "{name} {id:?}");
    }
    // A repository's number is none of an organisation's.
    let other = JobFacts { repository_id: Some(7), ..job("evil/app", &["bench"]) };
    assert!(!bench.reaches(&other));
    assert!(bench.may_have("acme") && bench.may_have("ACME-labs") && !bench.may_have("evil"));
}

#[test]
fn a_stranger_who_takes_the_old_name_is_nobody_and_one_with_the_present_name_is_kept_and_said() {
    let of = |name, id| JobFacts { repository_id: Some(id), ..job(name, &["bench"]) };
    let moved =
        [Serves { identity: known(777, "acme/gadgets"), ..pool("b", "acme/widgets", &["bench"]) }];
    assert!(!concerns(&of("acme/widgets", 888), &moved), "strangers fill no ledger");
    let stays =
        [Serves { identity: known(777, "acme/widgets"), ..pool("b", "acme/widgets", &["bench"]) }];
    let why = refusal(&of("acme/widgets", 888), &stays);
    assert!(why.contains("number 777, and this one 888") && why.contains("made anew"), "{why}");
}

#[test]
fn lists_of_repositories_go_on_where_their_scope_was_renamed() {
    let lists = |allow: &[&str], deny: &[&str]| Repositories {
        allow: patterns(allow),
        deny: patterns(deny),
        public: true,
    };
    let in_org = |owner_id, name| JobFacts { owner_id: Some(owner_id), ..job(name, &["bench"]) };
    let of = |repositories| Serves {
        repositories,
        identity: known(7, "acme-labs"),
        ..pool("bench", "acme", &["bench"])
    };
    let allowed = of(lists(&["acme/app"], &[]));
    assert_eq!(allowed.refuses(&in_org(7, "acme-labs/app")), None);
    assert!(allowed.refuses(&in_org(7, "acme-labs/other")).is_some());
    for denies in ["acme/secret", "acme-labs/secret"] {
        let denied = of(lists(&[], &[denies]));
        assert!(denied.refuses(&in_org(7, "acme-labs/secret")).is_some(), "{denies}");
    }
    let alone = Serves {
        repositories: lists(&["acme/widgets"], &[]),
        identity: known(777, "acme/gadgets"),
        ..pool("bench", "acme/widgets", &["bench"])
    };
    assert_eq!(alone.refuses(&job("acme/gadgets", &["bench"])), None);
}

#[test]
fn of_the_lists_of_repositories_deny_wins_and_what_is_refused_is_said() {
    let lists = |allow: &[&str], deny: &[&str]| Repositories {
        allow: patterns(allow),
        deny: patterns(deny),
        public: true,
    };
    for (allow, deny, repository, wanted) in [
        (&[][..], &[][..], "acme/a", None),
        (&["Acme/A"], &[], "acme/a", None),
        (&["acme/*"], &[], "acme/a", None),
        (&["acme/b"], &[], "acme/a", Some("do not have acme/a")),
        (&["acme/*"], &["acme/A"], "acme/a", Some("deny_repositories has acme/A")),
        (&[], &["acme/*"], "acme/a", Some("deny_repositories has acme/*")),
    ] {
        let repositories = lists(allow, deny);
        let pools = [Serves { repositories, ..pool("bench", "acme", &["bench"]) }];
        let mut facts = job(repository, &["bench"]);
        // With and without a source that names the pool: webhooks, and queues and scale sets.
        for named in [None, Some("bench".parse().unwrap())] {
            facts.pool = named;
            match wanted {
                None => assert!(matching(&facts, &pools).is_ok(), "{allow:?} {deny:?}"),
                Some(said) => {
                    let why = refusal(&facts, &pools);
                    assert!(why.starts_with("no pool takes it: ") && why.contains(said), "{why}");
                }
            }
        }
    }
}

#[test]
fn public_repositories_can_be_shut_out_and_those_nobody_called_public_are_not() {
    let repositories = Repositories { public: false, ..Repositories::default() };
    let shut = Serves { repositories, ..pool("bench", "acme", &["bench"]) };
    let of = |public| JobFacts { public, ..job("acme/a", &["bench"]) };
    let why = refusal(&of(Some(true)), std::slice::from_ref(&shut));
    assert!(why.contains("acme/a is public"), "{why}");
    for public in [Some(false), None] {
        assert!(matching(&of(public), std::slice::from_ref(&shut)).is_ok());
    }
    let open = pool("other", "acme", &["bench"]);
    assert_eq!(matching(&of(Some(true)), &[shut, open]).unwrap().as_str(), "other");
}

#[test]
fn a_pattern_of_repositories_has_two_forms() {
    for good in ["acme/widgets", "acme/*", "a-b/c.d_e"] {
        assert_eq!(good.parse::<RepositoryPattern>().unwrap().to_string(), good);
    }
    for bad in ["acme", "*/widgets", "acme/w*", "acme/", "/x", "a/b/c", "*", "", "acme/\u{1b}"] {
        assert!(bad.parse::<RepositoryPattern>().is_err(), "{bad:?}");
    }
}
