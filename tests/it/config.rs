//! What a configuration may say, and how it is refused.

use std::{path::Path, time::Duration};

use crate::support::config::{GOOD, assert_refused, env, parse, refused, with};
use runner_fleet::config::{
    Application, Config, GithubAuth, Guest, Limits, LogFormat, LogLevel, ProviderKind, SecretSource,
};

#[test]
fn a_small_configuration_has_the_documented_defaults() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.fleet.id.as_str(), "ci");
    assert_eq!(config.fleet.journal, None);
    assert_eq!(config.fleet.journal_max_mib, 100);
    assert_eq!(config.fleet.state_dir, Path::new("/var/lib/runner-fleet"));
    assert_eq!(config.fleet.log_level, LogLevel::Info);
    assert_eq!(config.fleet.log_format, LogFormat::Text);
    assert_eq!(config.fleet.stop_deadline, Duration::from_secs(30));
    assert_eq!(config.api.socket, Path::new("/run/runner-fleet/api.sock"));
    assert_eq!(config.api.listen, None);
    assert_eq!(config.guests, None, "guests report where somebody says where to");
    assert_eq!(config.github.url.as_str(), "https://github.com/");
    let token = SecretSource::File("/etc/token".into());
    assert_eq!(config.github.auth, GithubAuth::Token(token), "relative to the file's folder");
    let pool = &config.pools[0];
    assert_eq!((pool.min, pool.spare, pool.max, pool.replace_at_once), (0, 0, 5, 1));
    assert_eq!(pool.limits, Limits::default());
    assert_eq!(pool.limits.busy, Duration::from_secs(121 * 3600));
    assert!(!pool.shape.config_drive);
    assert_eq!(pool.guest, Guest::default());
    assert_eq!((pool.guest.user.as_ref(), pool.guest.disable_update), (None, false));
    assert_eq!(pool.guest.application, Application::Image { path: None });
    let provider = &config.providers["cloud"];
    assert_eq!((provider.concurrency, provider.rate), (None, None));
    let ProviderKind::OpenStack { cloud, clouds_file } = &provider.kind else {
        panic!("{provider:?}")
    };
    assert_eq!((cloud.as_deref(), clouds_file), (Some("mycloud"), &None));
}

/// The brain has defaults of its own, for tests and simulations: they must be what users get.
#[test]
fn the_limits_are_the_brains_own() {
    let (given, brain) = (Limits::default(), runner_fleet_actors::runner::Limits::default());
    assert_eq!((given.launch, given.register), (brain.launch, brain.register));
    assert_eq!((given.idle, given.busy), (brain.idle, brain.busy));
    assert_eq!((given.idle_proof, given.settle), (brain.idle_proof, brain.settle));
    assert_eq!((given.watch, given.idle_alone), (brain.watch, brain.idle_alone));
    assert!(brain.cordons);
    assert_eq!(given.ask, brain.ask);
}

#[test]
fn all_faults_come_at_once_each_with_file_line_key_and_what_is_allowed() {
    let faults = refused(
        r#"[fleet]
id = "CI"
log_level = "loud"
stop_deadline = 30
[github]
url = "http://github.com"
token_file = "a"
token_env = "B"
[providers.cloud]
kind = "aws"
rate = "fast"
[[pools]]
name = "small"
scope = "a/b/c"
labels = []
provider = "clowd"
image = ""
flavor = 7
min = 6
max = 5
spares = 2
limits = { idle = "0s", busy = "soon" }
[[pools]]
name = "small"
"#,
    );
    let expected = [
        (":2: fleet.id: ", "fleet id \"CI\" is not usable: only a-z"),
        (":3: fleet.log_level: ", "\"loud\" is not allowed: it is one of \"error\", \"warn\""),
        (":4: fleet.stop_deadline: ", "30 is not allowed: write a duration"),
        (":6: github.url: ", "\"http://github.com\" is not allowed: it must begin with https://"),
        (":7: github.token_file: ", "token_env is given as well; keep one of them"),
        (
            ":10: providers.cloud.kind: ",
            "\"aws\" is not allowed: it is one of \"openstack\", \"lxd\"",
        ),
        (":11: providers.cloud.rate: ", "\"fast\" is not allowed: a number from 0.1 to 1000"),
        (":14: pools[small].scope: ", "\"owner/repo\", \"org\" or \"enterprises/slug\""),
        (":15: pools[small].labels: ", "at least one label"),
        (
            ":16: pools[small].provider: ",
            "\"clowd\" is not one of the [providers.NAME]; there is \"cloud\"",
        ),
        (":17: pools[small].image: ", "\"\" is not allowed: a text in quotes that is not empty"),
        (":18: pools[small].flavor: ", "7 is not allowed: a text in quotes"),
        (":19: pools[small].min: ", "6 is more than max, which is 5"),
        (":21: pools[small].spares: ", "no such key; did you mean \"spare\"?"),
        (":22: pools[small].limits.idle: ", "\"0s\" is not allowed: a duration from 1s to 30d"),
        (":22: pools[small].limits.busy: ", "\"soon\" is not allowed: write a duration"),
        (":23: pools[small].scope: ", "is needed"),
        (":23: pools[small].labels: ", "is needed"),
        (":23: pools[small].provider: ", "is needed"),
        (":23: pools[small].image: ", "is needed"),
        (":23: pools[small].flavor: ", "is needed"),
        (":23: pools[small].max: ", "is needed"),
        (":24: pools[small].name: ", "\"small\" is taken by another pool"),
    ];
    for (place, what) in expected {
        assert!(
            faults
                .iter()
                .any(|f| f.starts_with(&format!("/etc/fleet.toml{place}")) && f.contains(what)),
            "no fault {place:?} {what:?} in\n{}",
            faults.join("\n")
        );
    }
    assert_eq!(faults.len(), expected.len(), "{}", faults.join("\n"));
    let lines: Vec<usize> =
        faults.iter().map(|f| f.split(':').nth(1).unwrap().parse().unwrap()).collect();
    assert!(lines.is_sorted(), "in the order of the file: {lines:?}");
}

#[test]
fn an_empty_file_says_what_is_needed() {
    assert_refused("", &["fleet: is needed", "github: is needed", "providers: is needed"]);
}

#[test]
fn broken_toml_is_told_by_line_and_shows_no_content() {
    let faults = refused("[fleet]\nid = \"ci\"\n[github]\ntoken = \"ghp_s3cr3t\n");
    assert!(faults[0].starts_with("/etc/fleet.toml:4: this is not TOML: "), "{faults:?}");
    assert!(!faults.concat().contains("s3cr3t"), "{faults:?}");
}

#[test]
fn a_file_that_is_no_configuration_is_refused_in_a_few_lines() {
    let text = "10:02:11 the daemon says that all is well\n".repeat(5000);
    let faults = refused(&text);
    assert_eq!(faults.len(), 21, "{faults:?}");
    let (last, first) = faults.split_last().unwrap();
    assert!(first.iter().all(|fault| fault.contains(": this is not TOML: ")), "{faults:?}");
    let (_, count) = last.split_once(": this is not TOML: further faults from here on: ").unwrap();
    assert!(count.parse::<usize>().unwrap() >= 4979, "{last}");
}

#[test]
fn a_secret_in_the_file_is_refused_with_the_reason_and_not_repeated() {
    for (text, key, place) in [
        (
            with("token_file = \"token\"", "token = \"ghp_s3cr3t\""),
            ":4: github.token: ",
            "token_file",
        ),
        (
            with(
                "token_file = \"token\"",
                "app = { id = 1, installation_id = 2, private_key = \"s3cr3t\" }",
            ),
            ":4: github.app.private_key: ",
            "private_key_file",
        ),
        (
            with("token_file = \"token\"", "token_file = \"ghp_s3cr3t\""),
            ":4: github.token_file: ",
            "",
        ),
        (
            with("token_file = \"token\"", "token_env = \"github_pat_s3cr3t\""),
            ":4: github.token_env: ",
            "",
        ),
        (
            with("cloud = \"mycloud\"", "password = \"s3cr3t\""),
            ":7: providers.cloud.password: ",
            "",
        ),
    ] {
        let faults = refused(&text);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains(key), "{faults:?}");
        assert!(faults[0].contains("a secret is not written here"), "{faults:?}");
        assert!(faults[0].contains(place), "{faults:?}");
        assert!(!faults[0].contains("s3cr3t"), "{faults:?}");
    }
    let in_url = with(
        "token_file = \"token\"",
        "token_file = \"token\"\nurl = \"https://me:s3cr3t@github.com\"",
    );
    assert_refused(&in_url, &["a user or password in the address is not allowed"]);
    assert!(!refused(&in_url).concat().contains("s3cr3t"));
}

#[test]
fn listening_on_tcp_needs_a_token() {
    let api = |body: &str| with("[github]", &format!("[api]\n{body}\n[github]"));
    assert_refused(&api("listen = \"127.0.0.1:80\""), &["api.listen: needs token_file"]);
    assert_refused(&api("listen = \"localhost\"\ntoken_file = \"t\""), &["an address and a port"]);
    assert_refused(&api("token_file = \"t\""), &["is of use only with listen"]);
    let long = format!("socket = \"/run/{}\"", "x".repeat(120));
    assert_refused(&api(&long), &["a Unix socket's may have"]);
}

#[test]
fn github_wants_exactly_one_kind_of_credentials() {
    let github = |body: &str| with("token_file = \"token\"", body);
    assert_refused(&github(""), &["github.token_file: is needed: credentials, by exactly one of"]);
    assert_refused(&github("token_env = \"NOT_SET\""), &["\"NOT_SET\" is not set"]);
    assert_refused(
        &github(
            "token_file = \"a\"\napp = { id = 1, installation_id = 2, private_key_file = \"k\" }",
        ),
        &["app is given as well"],
    );
    assert_refused(
        &github("app = { id = 1, private_key_file = \"k\" }"),
        &["github.app.installation_id: is needed"],
    );
    assert_refused(
        &github("app = { id = 1, installation_id = 2 }"),
        &["github.app.private_key_file: is needed"],
    );
    let app = parse(&github("app = { id = 1, installation_id = 2, private_key_file = \"/k\" }"));
    assert_eq!(
        app.unwrap().github.auth,
        GithubAuth::App {
            id: "1".to_owned(),
            installation_id: 2,
            private_key: SecretSource::File("/k".into())
        }
    );
}

#[test]
fn a_systemd_credential_needs_systemd() {
    let text = with("token_file = \"token\"", "token_credential = \"gh\"");
    let config = parse(&text).unwrap();
    assert_eq!(config.github.auth, GithubAuth::Token(SecretSource::Credential("gh".into())));
    let outside = Config::parse(&text, Path::new("f"), &env(&[])).unwrap_err().to_string();
    assert!(outside.contains("LoadCredential="), "{outside}");
    let escape = with("token_file = \"token\"", "token_credential = \"../gh\"");
    assert_refused(&escape, &["a bare file name"]);
}

#[test]
fn plain_http_goes_over_loopback_only() {
    let at =
        |url: &str| with("token_file = \"token\"", &format!("token_file = \"t\"\nurl = {url:?}"));
    for url in [
        "https://ghes.example.com:8443",
        "http://127.0.0.1:7000",
        "http://[::1]:7000",
        "http://localhost:7000",
    ] {
        assert!(parse(&at(url)).is_ok(), "{url}");
    }
    for url in [
        "http://192.0.2.1",
        // What a bridge of this machine has as well as a machine across the street.
        "http://10.77.0.1:7000",
        "http://localhost.example.com",
        "http://0.0.0.0:7000",
        "http://224.0.0.1",
        "ftp://localhost",
        "github.com",
        "https://github.com?x=y",
    ] {
        assert_refused(&at(url), &[":5: github.url: "]);
    }
}

#[test]
fn pools_that_github_would_refuse_are_refused_here() {
    let cases: [(&str, &str, &[&str]); 9] = [
        ("scope = \"org/repo\"", "scope = \"org/repo\"\ngroup = \"g\"", &["no runner groups"]),
        ("labels = [\"small\"]", "labels = [\"a b\"]", &["\"a b\" is not allowed"]),
        ("labels = [\"small\"]", "labels = [\"a,b\"]", &["no comma"]),
        ("labels = [\"small\"]", "labels = [\"gpu\", \"GPU\"]", &["\"GPU\" is there twice"]),
        ("labels = [\"small\"]", "labels = \"small\"", &["\"small\" is not allowed: a list"]),
        ("max = 5", "max = 0", &["a whole number from 1 to 10000"]),
        ("max = 5", "max = -1", &["-1 is not allowed"]),
        ("max = 5", "max = 5\nspare = 6", &["6 is more than max"]),
        ("max = 5", "max = 5\nlimits = { idle = \"1m\" }", &["must be shorter than limits.idle"]),
    ];
    for (from, to, expected) in cases {
        let faults = refused(&with(from, to));
        for what in expected {
            assert!(faults.iter().any(|fault| fault.contains(what)), "{to}: {faults:?}");
        }
        if !to.starts_with("labels = \"") {
            assert_eq!(faults.len(), 1, "{to}: {faults:?}");
        }
    }
}

#[test]
fn unknown_keys_are_refused_everywhere_with_a_hint() {
    for (from, to, expected) in [
        (
            "id = \"ci\"",
            "id = \"ci\"\njurnal = \"x\"",
            "fleet.jurnal: no such key; did you mean \"journal\"?",
        ),
        ("kind =", "concurency = 3\nkind =", "did you mean \"concurrency\"?"),
        ("[github]", "[apii]\n[github]", "apii: no such key; did you mean \"api\"?"),
        ("[github]", "[web]\n[github]", "web: no such key; known here: fleet, api, github"),
        (
            "max = 5",
            "max = 5\nlimits = { boot = \"1m\" }",
            "limits.boot: no such key; known here: launch",
        ),
    ] {
        assert_refused(&with(from, to), &[expected]);
    }
}

#[test]
fn a_provider_may_not_take_the_forges_name() {
    let text = GOOD
        .replace("[providers.cloud]", "[providers.github]")
        .replace("provider = \"cloud\"", "provider = \"github\"");
    assert_refused(&text, &[":5: providers.github: the name \"github\" is not allowed"]);
}

#[test]
fn a_change_that_cannot_be_taken_over_is_named() {
    let old = parse(GOOD).unwrap();
    let same = parse(&with("max = 5", "max = 6")).unwrap();
    assert!(old.restart_needed(&same).is_empty(), "pools change at a reload");
    let new = parse(&with("id = \"ci\"", "id = \"cd\"\njournal = \"j\"")).unwrap();
    assert_eq!(old.restart_needed(&new), ["fleet.id", "fleet.journal"]);
}

proptest::proptest! {
    /// A slip of the pen anywhere is taken or told with its place; it is never a crash.
    #[test]
    fn a_damaged_file_is_never_a_crash(at in 0..GOOD.len(), cut in 0..40_usize, new in "[\\PC\n]{0,12}") {
        let end = (at + cut).min(GOOD.len());
        let text = format!("{}{new}{}", &GOOD[..at], &GOOD[end..]);
        if let Err(faults) = parse(&text) {
            proptest::prop_assert!(!faults.faults.is_empty());
            let lines = text.lines().count() + 1;
            for fault in &faults.faults {
                proptest::prop_assert!(!fault.what.contains('\n'));
                proptest::prop_assert!(fault.line.is_none_or(|line| (1..=lines).contains(&line)));
            }
        }
    }
}

#[test]
fn how_runners_are_kept_from_jobs_is_read_and_what_cannot_be_is_refused() {
    let pool = |more: &str| with("max = 5\n", &format!("max = 5\n{more}\n"));
    let by_default = parse(GOOD).unwrap();
    assert!(by_default.pools[0].cordon);
    assert_eq!(by_default.github.cordon_group, None);
    let given = parse(&pool("cordon = false\nlimits = { watch = \"2m\", idle_alone = \"1h\" }"));
    let given = given.unwrap().pools.remove(0);
    assert!(!given.cordon);
    let (watch, idle_alone) = (Duration::from_secs(120), Duration::from_secs(3600));
    assert_eq!((given.limits.watch, given.limits.idle_alone), (watch, idle_alone));
    let shorter = pool("limits = { watch = \"2m\", idle_alone = \"1m\" }");
    assert_refused(&shorter, &["limits.idle_alone: must not be shorter than limits.watch"]);
    let group = |name: &str| {
        let more = format!("token_file = \"token\"\ncordon_group = \"{name}\"");
        with("token_file = \"token\"", &more)
    };
    let closed = parse(&group("nobody's")).unwrap().github.cordon_group;
    assert_eq!(closed.as_deref(), Some("nobody's"));
    assert_refused(
        &group("Default"),
        &["github.cordon_group: must be a group that no repository may use"],
    );
}
