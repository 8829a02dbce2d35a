//! The examples of `config/`: they parse, they tell the true defaults, and what they say arrives.

use std::{path::Path, time::Duration};

use runner_fleet::config::{Application, Architecture, Config, Env, Limits, Listen, SecretSource};

fn env(pairs: &[(&str, &str)]) -> Env {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
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
    assert_eq!(
        seen,
        [
            "github-app.toml",
            "lxd.toml",
            "minimal.toml",
            "planner.toml",
            "queue.toml",
            "runner-fleet.toml",
            "scale-set.toml",
            "webhooks.toml"
        ]
    );
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
                    "before",
                    "clouds_file",
                    "concurrency",
                    "cordon_group",
                    "key_file",
                    "mirror_sha256",
                    "rate",
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
    // A warning names the line that says it, and here another line says the same.
    let [as_is, spelt_out] = [as_is, spelt_out].map(|config| Config { warnings: vec![], ..config });
    assert_eq!(as_is, spelt_out);
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
    let webhooks = config.webhooks.unwrap();
    assert_eq!(webhooks.listen, "0.0.0.0:8443".parse().unwrap());
    assert!(webhooks.previous_secret.is_some() && config.queue.is_some());
    assert_eq!(config.planner.unwrap().units, 1);
    let [large, small, containers] = config.pools.as_slice() else { panic!("three pools") };
    assert_eq!(large.demand.len(), 3);
    assert_eq!((large.queue.as_str(), large.planner_flavor.as_str()), ("edge", "noble-large"));
    assert_eq!((large.priority, small.priority), (5, 0));
    let set = containers.scale_set.as_ref().unwrap();
    assert_eq!(set.name, "containers-of-ci");
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

/// The blocks of TOML in the README, in their order.
fn readme() -> Vec<String> {
    let readme = include_str!("../../README.md");
    let blocks = readme.split("```toml\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn what_the_readme_tells_to_write_for_lxd_is_a_whole_configuration() {
    let blocks = readme();
    let config = Config::parse(&blocks[0], Path::new("/fleet.toml"), &env(&[])).unwrap();
    assert_eq!(config.pools[0].name.as_str(), "quick");
}

#[test]
fn what_the_readme_tells_to_write_for_openstack_goes_with_the_rest_of_it() {
    let blocks = readme();
    let (head, _) = blocks[0].split_once("[guests]").unwrap();
    let github = "[github]\ntoken_file = \"/etc/runner-fleet/github-token\"\n";
    let whole = format!("{head}{github}{}", blocks[1]);
    let config = Config::parse(&whole, Path::new("/fleet.toml"), &env(&[])).unwrap();
    assert_eq!(config.pools[0].name.as_str(), "large");
}
