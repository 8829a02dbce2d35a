//! What a configuration may say, and how it is refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, also in what its tests share"
)]

use std::{
    net::{IpAddr, UdpSocket},
    path::Path,
    time::Duration,
};

use runner_fleet::config::{
    Application, Architecture, Certificate, Config, Env, Faults, GithubAuth, Guest, Limits, Listen,
    LogFormat, LogLevel, Pinned, ProviderKind, SecretSource,
};

fn env(pairs: &[(&str, &str)]) -> Env {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn parse(text: &str) -> Result<Config, Faults> {
    Config::parse(text, Path::new("/etc/fleet.toml"), &env(&[("CREDENTIALS_DIRECTORY", "/creds")]))
}

const GOOD: &str = r#"[fleet]
id = "ci"
[github]
token_file = "token"
[providers.cloud]
kind = "openstack"
cloud = "mycloud"
[[pools]]
name = "small"
scope = "org/repo"
labels = ["small"]
provider = "cloud"
image = "noble"
flavor = "m1"
max = 5
"#;

fn with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from:?} is not in the good configuration");
    GOOD.replacen(from, to, 1)
}

/// The faults as lines.
fn refused(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(config) => panic!("taken: {config:?}"),
        Err(faults) => faults.to_string().lines().map(str::to_owned).collect(),
    }
}

#[track_caller]
fn assert_refused(text: &str, expected: &[&str]) {
    let faults = refused(text);
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for (fault, expected) in faults.iter().zip(expected) {
        assert!(fault.contains(expected), "{fault}\ndoes not say\n{expected}");
    }
}

#[test]
fn every_example_parses() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ext| ext != "toml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let env = env(&[("CREDENTIALS_DIRECTORY", "/creds")]);
        Config::parse(&text, &path, &env).unwrap_or_else(|faults| panic!("{faults}"));
        seen.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    seen.sort();
    assert_eq!(seen, ["github-app.toml", "lxd.toml", "minimal.toml", "runner-fleet.toml"]);
}

/// The full example shows the defaults in comments: they must be the defaults.
#[test]
fn the_full_example_tells_the_true_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/runner-fleet.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let as_is = Config::parse(&text, &path, &env(&[])).unwrap();
    let shown: String = text
        .lines()
        .map(|line| {
            let uncommented = line.strip_prefix("# ").filter(|rest| {
                let key = rest.split(" = ").next().unwrap();
                let a_choice = [
                    "app",
                    "ca_file",
                    "certificate_file",
                    "clouds_file",
                    "key_file",
                    "mirror_sha256",
                    "token_credential",
                    "token_env",
                    "user",
                    "version",
                ];
                rest.contains(" = ")
                    && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
                    && !a_choice.contains(&key)
            });
            format!("{}\n", uncommented.unwrap_or(line))
        })
        .collect();
    assert!(shown.contains("\nlaunch = \"10m\""), "the limits are uncommented");
    let spelt_out = Config::parse(&shown, &path, &env(&[])).unwrap_or_else(|f| panic!("{f}"));
    assert_eq!(as_is, spelt_out);
}

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
    assert_eq!((provider.concurrency, provider.rate), (10, 10.0));
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
    assert_eq!(given.ask, brain.ask);
}

#[test]
fn every_key_arrives() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/runner-fleet.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let config = Config::parse(&text, &path, &env(&[])).unwrap();
    let listen = config.api.listen.unwrap();
    assert_eq!(
        listen,
        Listen {
            address: "127.0.0.1:8080".parse().unwrap(),
            token: SecretSource::File("/etc/runner-fleet/api-token".into()),
        }
    );
    let guests = config.guests.unwrap();
    assert_eq!(guests.listen, "10.77.0.1:8090".parse().unwrap());
    assert_eq!((guests.url.as_str(), guests.tls), ("http://10.77.0.1:8090/", None));
    let [large, small, containers] = config.pools.as_slice() else { panic!("three pools") };
    assert_eq!(large.guest.groups, ["docker"]);
    assert_eq!(large.guest.env["LANG"], "C.UTF-8");
    let mirror = Some("https://mirror.example.com/actions-runner/".parse().unwrap());
    let architecture = Architecture::X64;
    assert_eq!(
        small.guest.application,
        Application::Download { mirror, pinned: None, architecture }
    );
    assert_eq!(large.name.as_str(), "large");
    assert_eq!(large.scope.to_string(), "my-org");
    assert_eq!(large.group.as_deref(), Some("trusted"));
    assert_eq!(large.labels, ["self-hosted", "linux", "large"]);
    assert_eq!(large.shape.network.as_deref(), Some("runners"));
    assert_eq!(large.shape.security_groups, ["runners"]);
    assert_eq!(large.shape.key.as_deref(), Some("operations"));
    assert_eq!(large.shape.availability_zone.as_deref(), Some("nova"));
    assert!(large.shape.config_drive);
    assert_eq!(containers.shape.lxd.as_ref().and_then(|lxd| lxd.memory), Some(4 << 30));
    assert_eq!((large.min, large.spare, large.max), (2, 3, 40));
    assert_eq!(small.limits.idle, Duration::from_secs(4 * 3600));
    assert_eq!(small.limits.busy, Duration::from_secs(6 * 3600));
    assert_eq!(small.limits.launch, Limits::default().launch);
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

fn guests(body: &str) -> String {
    with("[github]", &format!("[guests]\n{body}\n[github]"))
}

#[test]
fn guests_call_where_the_daemon_listens_unless_somebody_says_otherwise() {
    let read = |body: &str| parse(&guests(body)).unwrap_or_else(|f| panic!("{f}")).guests.unwrap();
    let plain = read("listen = \"10.0.0.1:8090\"");
    assert_eq!((plain.url.as_str(), plain.ca_file), ("http://10.0.0.1:8090/", None));
    let six = read("listen = \"[fd42::1]:8090\"");
    assert_eq!(six.url.as_str(), "http://[fd42::1]:8090/");
    let tls = "listen = \"10.0.0.1:8090\"\ncertificate_file = \"c.pem\"\nkey_file = \"k.pem\"";
    let secure = read(tls);
    assert_eq!(secure.url.as_str(), "https://10.0.0.1:8090/");
    let (certificate, key) = ("/etc/c.pem".into(), "/etc/k.pem".into());
    assert_eq!(secure.tls, Some(Certificate { certificate, key }));
    assert_eq!(secure.ca_file, Some("/etc/c.pem".into()), "guests trust what they are shown");
    let other = read(&format!("{tls}\nca_file = \"ca.pem\"\nurl = \"https://fleet.example:1\""));
    assert_eq!(other.ca_file, Some("/etc/ca.pem".into()));
    let proxied = read("listen = \"0.0.0.0:8090\"\nurl = \"https://fleet.example/ci\"");
    assert_eq!((proxied.url.as_str(), proxied.tls), ("https://fleet.example/ci", None));
}

#[test]
fn guests_that_could_not_call_are_refused() {
    let at = |more: &str| guests(&format!("listen = \"10.0.0.1:8090\"\n{more}"));
    assert_refused(&guests(""), &["guests.listen: is needed"]);
    assert_refused(&guests("listen = \"fleet:8090\""), &["an address and a port"]);
    assert_refused(&guests("listen = \"10.0.0.1:0\""), &["it must be a fixed one"]);
    assert_refused(&guests("listen = \"0.0.0.0:8090\""), &["guests.url: is needed: listen stands"]);
    assert_refused(&guests("listen = \"[::]:8090\""), &["guests.url: is needed: listen stands"]);
    assert_refused(&at("key_file = \"k\""), &["guests.key_file: needs certificate_file"]);
    assert_refused(&at("certificate_file = \"c\""), &["guests.certificate_file: needs key_file"]);
    assert_refused(&at("ca_file = \"c\""), &["guests.ca_file: is of use only with https"]);
    assert_refused(
        &at("certificate_file = \"c\"\nkey_file = \"k\"\nurl = \"http://10.0.0.1:8090\""),
        &["guests.url: \"http://10.0.0.1:8090\" is not allowed: certificate_file is given"],
    );
    for url in ["ftp://10.0.0.1", "10.0.0.1:8090", "http://10.0.0.1?a=b"] {
        assert_refused(&at(&format!("url = {url:?}")), &["guests.url: "]);
    }
    let in_url = at("url = \"http://me:s3cr3t@10.0.0.1\"");
    assert_refused(&in_url, &["a user or password in the address is not allowed"]);
    assert!(!refused(&in_url).concat().contains("s3cr3t"));
    assert_refused(&at("token = \"s3cr3t\""), &["guests.token: a secret is not written here"]);
}

#[test]
fn what_a_guest_runs_is_read_whole() {
    let sha256 = "0".repeat(63) + "F";
    let text = with(
        "max = 5",
        &format!(
            "max = 5\n[pools.guest]\nuser = \"ci_1\"\ngroups = [\"docker\", \"kvm\"]\n\
             application = \"download\"\nmirror = \"http://10.0.0.1/r\"\nversion = \"2.330.0\"\n\
             mirror_sha256 = \"{sha256}\"\narchitecture = \"arm64\"\ndisable_update = true\n\
             [pools.guest.env]\nA = \"1\"\nB_2 = \"\""
        ),
    );
    let guest = parse(&text).unwrap_or_else(|f| panic!("{f}")).pools.remove(0).guest;
    let env = [("A", "1"), ("B_2", "")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(
        guest,
        Guest {
            user: Some("ci_1".into()),
            groups: vec!["docker".into(), "kvm".into()],
            env: env.into(),
            application: Application::Download {
                mirror: Some("http://10.0.0.1/r".parse().unwrap()),
                pinned: Some(Pinned {
                    version: "2.330.0".into(),
                    sha256: sha256.to_ascii_lowercase()
                }),
                architecture: Architecture::Arm64,
            },
            disable_update: true,
        }
    );
}

#[test]
fn a_guest_that_could_not_start_is_refused() {
    let guest = |body: &str| with("max = 5", &format!("max = 5\n[pools.guest]\n{body}"));
    let download = |body: &str| guest(&format!("application = \"download\"\n{body}"));
    let sha256 = format!("mirror_sha256 = {:?}", "0".repeat(64));
    let cases: [(String, &[&str]); 16] = [
        (guest("user = \"root\""), &["pools[small].guest.user: \"root\" is not allowed"]),
        (guest("user = \"a b\""), &["\"a b\" is not allowed: at most 32"]),
        (guest("groups = [\"Docker\"]"), &["\"Docker\" is not allowed"]),
        (guest("env = { \"A-B\" = \"x\" }"), &["\"A-B\" is not allowed: letters"]),
        (guest("env = { A = 1 }"), &["pools[small].guest.env.A: 1 is not allowed: a text"]),
        (guest("env = { A = \"x\\ny\" }"), &["the value of \"A\" must be one line"]),
        (guest("env = { ACTIONS_RUNNER_HOOK_JOB_STARTED = \"x\" }"), &["the fleet sets it itself"]),
        (guest("application = \"mirror\""), &["it is one of \"image\", \"download\""]),
        (guest("application_path = \"opt\""), &["a folder in the image, from its root on"]),
        (guest("mirror = \"http://m/\""), &["is of use only with application = \"download\""]),
        (download("application_path = \"/opt\""), &["only with application = \"image\""]),
        (download("version = \"2.330.0\""), &["guest.version: is of use only with mirror"]),
        (download("mirror = \"http://m/\"\nversion = \"2.330.0\""), &["needs mirror_sha256"]),
        (download(&format!("mirror = \"http://m/\"\n{sha256}")), &["needs version"]),
        (
            download(&format!("mirror = \"http://m/\"\nversion = \"latest\"\n{sha256}")),
            &["\"latest\" is not allowed: such as"],
        ),
        (download("mirror = \"https://me:s3cr3t@m/\""), &["every job could read it"]),
    ];
    for (text, expected) in cases {
        assert_refused(&text, expected);
    }
}

#[test]
fn where_guests_call_waits_for_a_restart() {
    let listen = |port: u16, more: &str| {
        parse(&guests(&format!("listen = \"10.0.0.1:{port}\"\n{more}"))).unwrap()
    };
    let (none, old) = (parse(GOOD).unwrap(), listen(8090, ""));
    assert_eq!(none.restart_needed(&old), ["guests.listen"]);
    assert_eq!(old.restart_needed(&listen(8091, "")), ["guests.listen"]);
    let tls = listen(8090, "certificate_file = \"c\"\nkey_file = \"k\"");
    assert_eq!(old.restart_needed(&tls), ["guests.certificate_file", "guests.key_file"]);
    let url = listen(8090, "url = \"http://10.0.0.2:8090\"");
    assert_eq!(old.restart_needed(&url), [""; 0], "new guests call the new address");
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
        GithubAuth::App { id: 1, installation_id: 2, private_key: SecretSource::File("/k".into()) }
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

/// The address that this machine speaks from, where it has a network.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[test]
fn plain_http_goes_to_this_machine_only() {
    let at =
        |url: &str| with("token_file = \"token\"", &format!("token_file = \"t\"\nurl = {url:?}"));
    for url in ["https://ghes.example.com:8443", "http://127.0.0.1:7000", "http://localhost:7000"] {
        assert!(parse(&at(url)).is_ok(), "{url}");
    }
    // A container reaches its host at the address of a bridge, which is this machine's own.
    if let Some(own) = own_address() {
        assert!(parse(&at(&format!("http://{own}:7000"))).is_ok(), "{own}");
    }
    for url in [
        "http://192.0.2.1",
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
