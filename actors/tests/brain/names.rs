//! Names and keys: what is taken, what is refused, and that they are written as they were read.

use std::{borrow::Borrow, collections::BTreeMap};

use runner_fleet_actors::{
    foreign::Foreign,
    job::{JobKey, JobWord, Repositories, RepositoryPattern, Serves},
    name::{FleetId, PoolName, RegistrationId, RunnerName, Scope},
    sight::Side,
};

#[test]
fn a_fleet_and_a_pool_are_short_words_with_single_dashes_inside() {
    let fleet = |text: &str| text.parse::<FleetId>().is_ok();
    for good in ["a", "7", "a-b-c", &"x".repeat(16)] {
        assert!(fleet(good), "{good}");
    }
    for bad in ["", &"x".repeat(17), "A", "a_b", "a--b", "-a", "a-", "ä", "a b"] {
        assert!(!fleet(bad), "{bad}");
    }
    assert!("x".repeat(30).parse::<PoolName>().is_ok());
    let long = "x".repeat(31).parse::<PoolName>().unwrap_err().to_string();
    assert!(long.contains("pool name") && long.contains("1 to 30 characters"), "{long}");
}

#[test]
fn a_runners_name_says_its_fleet_and_its_pool_and_goes_as_it_came() {
    let text = "ci-1--large--0123456789ab";
    let name: RunnerName = text.parse().unwrap();
    assert_eq!(
        (name.as_str(), name.to_string(), String::from(name.clone())),
        (text, text.into(), text.into())
    );
    assert_eq!((name.fleet(), name.pool()), ("ci-1", "large".parse().unwrap()));
    assert!(name.is_of(&"ci-1".parse().unwrap()) && !name.is_of(&"ci".parse().unwrap()));
    for bad in [
        "large--0123456789ab",
        "ci--large--0123456789ab--x",
        "--large--0123456789ab",
        "ci----0123456789ab",
        "ci--large--0123456789a",
        "ci--large--0123456789abc",
        "ci--large--0123456789ag",
        "ci--large--0123456789AB",
    ] {
        assert!(bad.parse::<RunnerName>().is_err(), "{bad}");
    }
    assert_eq!(RegistrationId(77).to_string(), "77");
}

#[test]
fn a_scope_is_a_repository_an_organisation_or_an_enterprise() {
    for good in ["org", "o-r.g_7", "owner/repo", "enterprises/slug"] {
        let scope: Scope = good.parse().unwrap();
        assert_eq!((scope.to_string(), String::from(scope)), (good.to_owned(), good.to_owned()));
    }
    assert!(matches!("owner/repo".parse(), Ok(Scope::Repository { .. })));
    assert!(matches!("enterprises/slug".parse(), Ok(Scope::Enterprise(_))));
    for bad in [
        "", "/", "a/b/c", "owner/", "/repo", "a b", "a/ü", ".", "..", "owner/..", "./repo",
        "owner/.",
    ] {
        assert!(bad.parse::<Scope>().is_err(), "{bad}");
    }
    // One that is no slug is no owner of a repository either.
    for bad in ["enterprises/", "enterprises/..", "enterprises/a b"] {
        assert!(bad.parse::<Scope>().is_err(), "{bad}");
    }
}

#[test]
fn a_side_is_named_by_what_it_is() {
    assert_eq!(Side::Provider("lxd".into()).to_string(), "provider lxd");
    assert_eq!(Side::Scope("owner/repo".parse().unwrap()).to_string(), "scope owner/repo");
}

#[test]
fn a_jobs_key_is_its_number_where_it_has_one() {
    let key = JobKey::from(42);
    assert_eq!(
        (key.id(), key.as_str(), key.to_string(), String::from(key.clone())),
        (Some(42), "42", "42".into(), "42".into())
    );
    let named: JobKey = "queue:a.b_c-7".parse().unwrap();
    assert_eq!((named.id(), named.as_str()), (None, "queue:a.b_c-7"));
    assert!("x".repeat(200).parse::<JobKey>().is_ok());
    for bad in ["", &"x".repeat(201), "a b", "a/b", "ä"] {
        assert!(bad.parse::<JobKey>().is_err(), "{bad}");
    }
}

#[test]
fn a_jobs_state_is_one_of_four_words() {
    let words = [
        (JobWord::Blocked, "blocked"),
        (JobWord::Queued, "queued"),
        (JobWord::Running, "running"),
        (JobWord::Done, "done"),
    ];
    for (word, text) in words {
        assert_eq!((word.as_str(), text.parse::<JobWord>()), (text, Ok(word)));
    }
    assert!("finished".parse::<JobWord>().is_err());
}

#[test]
fn a_foreign_text_is_compared_and_looked_up_as_the_text_that_it_is() {
    let text = Foreign::<20>::from("large");
    let (large, small) = ("large".to_owned(), "small".to_owned());
    assert!(text == *"large" && text == "large" && text == large);
    assert!(text != *"small" && text != "small" && text != small);
    assert_eq!((text.as_ref(), Borrow::<str>::borrow(&text)), ("large", "large"));
    assert_eq!(BTreeMap::from([(text, 1)]).get("large"), Some(&1));
}

#[test]
fn a_pattern_of_repositories_meets_the_scopes_whose_jobs_it_can_have() {
    let meets = |pattern: &str, scope: &str| {
        pattern.parse::<RepositoryPattern>().unwrap().meets(&scope.parse().unwrap())
    };
    for (pattern, scope) in [
        ("octo/app", "octo/app"),
        ("Octo/App", "octo/app"),
        ("octo/*", "octo/app"),
        ("octo/app", "OCTO"),
        ("octo/*", "octo"),
        ("octo/app", "enterprises/any"),
    ] {
        assert!(meets(pattern, scope), "{pattern} {scope}");
    }
    for (pattern, scope) in [("octo/app", "octo/web"), ("octo/*", "other/app"), ("octo/*", "other")]
    {
        assert!(!meets(pattern, scope), "{pattern} {scope}");
    }
}

#[test]
fn a_pool_is_open_where_no_repository_of_its_scope_is_kept_out() {
    let pattern = || vec!["octo/app".parse::<RepositoryPattern>().unwrap()];
    let open = Repositories::default;
    assert!(open().is_open());
    for kept_out in [
        Repositories { allow: pattern(), ..open() },
        Repositories { deny: pattern(), ..open() },
        Repositories { public: false, ..open() },
    ] {
        assert!(!kept_out.is_open(), "{kept_out:?}");
    }
    let labels = vec!["large".to_owned()];
    let serves = Serves::new("large".parse().unwrap(), "octo".parse().unwrap(), labels);
    assert!(serves.repositories.is_open());
}
