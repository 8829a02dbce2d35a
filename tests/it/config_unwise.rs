//! What a configuration says by mistake: scopes copied from a browser, secrets pasted as paths, and what
//! is allowed and unwise.

use std::{fs, os::unix::fs::PermissionsExt};

use runner_fleet::config::{Config, Env};

use crate::support::config::{GOOD, assert_refused, parse, refused, with};

fn warned(text: &str) -> Vec<String> {
    let config = parse(text).unwrap();
    let file = std::path::Path::new("fleet.toml");
    config.warnings.iter().map(|warning| warning.at(file)).collect()
}

#[test]
fn a_password_in_an_address_is_not_shown_whatever_is_in_it_and_however_long_it_is() {
    for password in ["=hunter2", "x (hunter2", "'[hunter2", &"hunter2".repeat(20)] {
        let address = format!("\"ftp://bob:{password}@gitlab.com/acme\"");
        for (from, to) in [
            ("scope = \"org/repo\"", format!("scope = {address}")),
            ("[github]", format!("[github]\nurl = {address}")),
            ("max = 5", format!("max = {address}")),
            ("provider = \"cloud\"", format!("provider = {address}")),
        ] {
            let faults = refused(&with(from, &to)).concat();
            assert!(!faults.contains("hunter2"), "{faults}");
        }
    }
}

#[test]
fn a_scope_that_would_be_read_as_another_thing_is_a_fault_with_line_and_key() {
    for (scope, says) in [
        ("orgs/acme", "did you mean \"acme\"?"),
        ("enterprise/acme", "did you mean \"enterprises/acme\"?"),
        ("https://gitlab.com/acme/widgets", "[github] url is at github.com"),
        ("acme/widgets/actions", "it must read \"owner/repo\""),
    ] {
        let place = ":10: pools[small].scope: ";
        let faults = refused(&with("scope = \"org/repo\"", &format!("scope = \"{scope}\"")));
        let [fault] = faults.as_slice() else { panic!("{faults:?}") };
        assert!(fault.contains(place) && fault.contains(says), "{fault}");
    }
}

#[test]
fn a_scope_that_means_one_thing_only_is_taken() {
    for scope in ["org/repo/", "org/repo.git", "https://github.com/org/repo"] {
        let text = with("scope = \"org/repo\"", &format!("scope = \"{scope}\""));
        assert_eq!(parse(&text).unwrap().pools[0].scope.to_string(), "org/repo");
    }
}

#[test]
fn a_path_behind_the_address_of_github_is_a_fault() {
    for path in ["enterprises/acme", "acme/widgets", "api/graphql"] {
        let url = format!("[github]\nurl = \"https://ghes.example.com/{path}\"");
        assert_refused(&with("[github]", &url), &["github.url: "]);
    }
    for path in ["", "/", "/api/v3", "/api/v3/"] {
        let url = format!("[github]\nurl = \"https://ghes.example.com{path}\"");
        parse(&with("[github]", &url)).unwrap();
    }
}

#[test]
fn a_secret_that_was_pasted_as_a_place_is_refused_and_never_shown() {
    let token = "ghp_S3cretS3cretS3cret";
    let hex = "0123456789abcdef0123456789abcdef";
    let mixed = "kQ3Jx9ZbV7mPz1LtRw8sYd2f";
    for secret in [token, hex, mixed, "-----BEGIN RSA PRIVATE KEY-----", "eyJhbGciOiJSUzI1NiJ9"] {
        for key in ["token_file", "token_env", "token_credential"] {
            let text = with("token_file = \"token\"", &format!("{key} = \"{secret}\""));
            let faults = refused(&text);
            assert!(faults.iter().all(|fault| !fault.contains(secret)), "{faults:?}");
            assert!(faults[0].contains("a secret is not written here"), "{faults:?}");
        }
        let text = with("cloud = \"mycloud\"", &format!("clouds_file = \"{secret}\""));
        assert!(!refused(&text).concat().contains(secret));
        let text = with("[github]", &format!("[github]\nca_file = \"{secret}\""));
        assert!(!refused(&text).concat().contains(secret));
    }
    // Under a key for something else it is a fault as any, without the secret.
    for (from, to) in [
        ("name = \"small\"", format!("name = \"{token}\"")),
        ("scope = \"org/repo\"", format!("scope = \"https://bob:{hex}@github.com/org\"")),
        ("[github]", format!("[github]\nurl = \"ftp://bob:{hex}@ghes.example.com\"")),
        ("provider = \"cloud\"", format!("provider = \"{token}\"")),
    ] {
        let faults = refused(&with(from, &to)).concat();
        assert!(!faults.contains(token) && !faults.contains(hex), "{faults}");
    }
}

#[test]
fn a_file_that_is_not_there_and_may_be_a_password_is_not_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet.toml");
    fs::write(&path, with("token_file = \"token\"", "token_file = \"Hunter2!\"")).unwrap();
    let faults = Config::load_with(&path, &Env::default()).unwrap_err().to_string();
    assert!(!faults.contains("Hunter2"), "{faults}");
    assert!(faults.contains("the file that is named here cannot be read"), "{faults}");
}

#[test]
fn plain_http_beyond_this_machine_is_unwise() {
    assert_eq!(warned(GOOD), Vec::<String>::new());
    let api = |listen: &str| format!("{GOOD}[api]\nlisten = \"{listen}\"\ntoken_file = \"api\"\n");
    assert_eq!(warned(&api("127.0.0.1:8080")), Vec::<String>::new());
    let told = warned(&api("0.0.0.0:8080"));
    assert!(told.len() == 1 && told[0].starts_with("fleet.toml:17: api.listen: "), "{told:?}");
    let guests = format!("{GOOD}[guests]\nlisten = \"10.77.0.1:8090\"\n");
    assert!(warned(&guests)[0].contains("guests.listen: http://10.77.0.1:8090/: plain HTTP"));
    let hooks =
        |listen: &str| format!("{GOOD}[webhooks]\nlisten = \"{listen}\"\nsecret_file = \"hook\"\n");
    assert!(warned(&hooks("0.0.0.0:8443"))[0].contains("webhooks.listen: plain HTTP"));
    assert_eq!(warned(&hooks("127.0.0.1:8443")), Vec::<String>::new());
    let planner =
        format!("{GOOD}[planner]\nurl = \"http://planner.example\"\ntoken_file = \"p\"\n");
    assert!(warned(&planner)[0].contains("planner.url: http://planner.example/: plain HTTP"));
}

#[test]
fn labels_that_jobs_for_self_hosted_runners_never_fit_are_unwise_where_jobs_are_told_by_labels() {
    let hooks = "[webhooks]\nlisten = \"127.0.0.1:8443\"\nsecret_file = \"hook\"\n";
    let text = |labels: &str| {
        let labels = format!("labels = {labels}\ndemand = [\"webhook\"]");
        with("labels = [\"small\"]", &labels) + hooks
    };
    let told = warned(&text("[\"small\"]"));
    assert!(told.len() == 1 && told[0].contains("pools[small].labels: lack \"self-hosted\""));
    assert_eq!(warned(&text("[\"Self-Hosted\", \"small\"]")), Vec::<String>::new());
}

#[test]
fn a_secret_that_is_guessed_is_unwise() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str, mode| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let path = write("fleet.toml", GOOD, 0o644);
    write("token", "x\n", 0o600);
    let config = Config::load_with(&path, &Env::default()).unwrap();
    let told: Vec<_> = config.warnings.iter().map(|warning| warning.at(&path)).collect();
    let short = told.iter().find(|one| one.contains("github.token_file: ")).expect("short");
    assert!(short.contains("has 1 character, which somebody will guess"), "{short}");
}
