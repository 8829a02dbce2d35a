use std::{fs, path::Path};

use super::*;
use crate::{config::Env, demand::SOURCES};

const CONFIG: &str = r#"
[fleet]
id = "ci"
[api]
listen = "127.0.0.1:0"
token_file = "api-token"
[github]
ca_file = "github-ca"
app = { id = 1, installation_id = 1, private_key_env = "APP_KEY" }
[guests]
listen = "127.0.0.1:8090"
url = "https://127.0.0.1:1"
certificate_file = "guests-cert"
key_file = "guests-key"
ca_file = "guests-ca"
[webhooks]
listen = "127.0.0.1:8091"
secret_file = "webhook-secret"
previous_secret_file = "webhook-previous"
certificate_file = "webhook-cert"
key_file = "webhook-key"
[queue]
kind = "amqp"
url_file = "queue-url"
ca_file = "queue-ca"
[planner]
url = "http://127.0.0.1:1"
token_file = "planner-token"
ca_file = "planner-ca"
[providers.nova]
kind = "openstack"
cloud = "nova"
clouds_file = "clouds.yaml"
[providers.lxd]
kind = "lxd"
url = "https://127.0.0.1:8443"
client_certificate = "lxd-cert"
client_key = "lxd-key"
server_certificate = "lxd-server"
"#;

const CLOUDS: &str = "clouds:\n  nova:\n    cacert: cloud-ca\n    cert: cloud-cert\n    \
                      key: cloud-key\n    auth:\n      auth_url: http://h/v3\n      \
                      username: u\n      password: PASSWORD\n      project_name: p\n      \
                      user_domain_name: d\n      project_domain_name: d\n";

/// Which parts a reload renews.
fn renewed((was, old): (&Held, &Config), (is, new): (&Held, &Config)) -> Vec<String> {
    let Changes { github, guests, sources, providers } = changes(was, is, old, new);
    let parts = [("github", github), ("guests", guests)];
    let parts = parts.into_iter().filter(|(_, differs)| *differs).map(|(part, _)| part);
    parts.chain(sources).map(ToOwned::to_owned).chain(providers).collect()
}

fn held(config: &Config) -> Held {
    Held::read(config, SOURCES)
}

/// [`CONFIG`] with GitHub's token in a file.
fn by_token() -> String {
    CONFIG.replace(
        "app = { id = 1, installation_id = 1, private_key_env = \"APP_KEY\" }",
        "token_file = \"github-token\"",
    )
}

#[test]
fn whatever_is_replaced_in_its_place_is_seen_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let places = [
        ("github-token", "github"),
        ("github-ca", "github"),
        ("guests-cert", "guests"),
        ("guests-key", "guests"),
        ("guests-ca", "guests"),
        ("webhook-secret", "webhooks"),
        ("webhook-previous", "webhooks"),
        ("webhook-cert", "webhooks"),
        ("webhook-key", "webhooks"),
        ("queue-url", "queue"),
        ("queue-ca", "queue"),
        ("planner-token", "planner"),
        ("planner-ca", "planner"),
        ("cloud-ca", "nova"),
        ("cloud-cert", "nova"),
        ("cloud-key", "nova"),
        ("lxd-cert", "lxd"),
        ("lxd-key", "lxd"),
        ("lxd-server", "lxd"),
    ];
    // What a cloud names is looked at, so it must be what it says.
    let text = |name: &str, other: bool| match (name, other) {
        ("cloud-ca" | "cloud-cert", false) => {
            include_str!("../../../tests/data/guests-tls-cert.pem")
        }
        ("cloud-ca" | "cloud-cert", true) => {
            include_str!("../../../tests/data/github-tls-cert.pem")
        }
        ("cloud-key", false) => include_str!("../../../tests/data/guests-tls-key.pem"),
        ("cloud-key", true) => include_str!("../../../tests/data/github-tls-key.pem"),
        (_, false) => "one",
        (_, true) => "two",
    };
    for (name, _) in places {
        write(name, text(name, false));
    }
    let clouds =
        ["cloud-ca", "cloud-cert", "cloud-key"].iter().fold(CLOUDS.to_owned(), |clouds, name| {
            clouds.replace(name, &folder.path().join(name).to_string_lossy())
        });
    write("clouds.yaml", &clouds);
    let path = folder.path().join("fleet.toml");
    let config = Config::parse(&by_token(), &path, &Env::default()).unwrap();
    let changed = |was: &Held, is: &Held| renewed((was, &config), (is, &config));

    let mut was = held(&config);
    assert_eq!(changed(&was, &held(&config)), Vec::<String>::new());
    for (name, part) in places {
        write(name, text(name, true));
        let is = held(&config);
        assert_eq!(changed(&was, &is), [part], "{name} was replaced");
        fs::remove_file(folder.path().join(name)).unwrap();
        assert_eq!(changed(&is, &held(&config)), [part], "{name} is gone");
        write(name, text(name, true));
        was = is;
    }
    write("clouds.yaml", &clouds.replace("PASSWORD", "other"));
    assert_eq!(changed(&was, &held(&config)), ["nova"]);
}

#[test]
fn a_place_that_moves_with_the_same_text_is_read_where_it_is_now() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["github-token", "planner-token", "lxd-key"] {
        fs::write(folder.path().join(name), "one").unwrap();
        fs::write(folder.path().join(format!("moved-{name}")), "one").unwrap();
    }
    let path = folder.path().join("fleet.toml");
    let parse = |text: &str| Config::parse(text, &path, &Env::default()).unwrap();
    let old = parse(&by_token());
    let was = held(&old);
    for (name, part) in
        [("github-token", "github"), ("planner-token", "planner"), ("lxd-key", "lxd")]
    {
        let moved = by_token().replace(&format!("\"{name}\""), &format!("\"moved-{name}\""));
        let new = parse(&moved);
        assert_eq!(renewed((&was, &old), (&held(&new), &new)), [part], "{name} moved");
    }
}

#[test]
fn what_was_not_there_before_or_waits_for_a_restart_is_not_called_renewed() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["guests-cert", "guests-key"] {
        fs::write(folder.path().join(name), "one").unwrap();
        fs::write(folder.path().join(format!("moved-{name}")), "two").unwrap();
    }
    let path = folder.path().join("fleet.toml");
    let parse = |text: &str| Config::parse(text, &path, &Env::default()).unwrap();
    let whole = parse(&by_token());
    let has = held(&whole);
    let without = by_token();
    let (from, to) = (without.find("[guests]").unwrap(), without.find("[planner]").unwrap());
    let without = parse(&format!("{}{}", &without[..from], &without[to..]));
    let had = held(&without);
    assert_eq!(renewed((&had, &without), (&has, &whole)), Vec::<String>::new());
    assert_eq!(renewed((&has, &whole), (&had, &without)), Vec::<String>::new());

    let moved = parse(&by_token().replace("\"guests-", "\"moved-guests-"));
    assert_eq!(renewed((&has, &whole), (&held(&moved), &moved)), Vec::<String>::new());
}

#[test]
fn a_source_that_comes_back_into_the_configuration_is_renewed_where_its_secret_is_another() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("planner-token");
    fs::write(&token, "one").unwrap();
    let path = folder.path().join("fleet.toml");
    let parse = |text: &str| Config::parse(text, &path, &Env::default()).unwrap();
    let whole = by_token();
    let (from, to) = (whole.find("[planner]").unwrap(), whole.find("[providers.nova]").unwrap());
    let (whole, without) = (parse(&whole), parse(&format!("{}{}", &whole[..from], &whole[to..])));
    let has = held(&whole);
    let left = held(&without).after(has.clone());
    assert_eq!(renewed((&left, &without), (&held(&whole), &whole)), Vec::<String>::new());
    fs::write(&token, "two").unwrap();
    assert_eq!(renewed((&left, &without), (&held(&whole), &whole)), ["planner"]);
}

#[test]
fn what_only_a_restart_reads_again_is_named() {
    let env: Env = [("APP_KEY", include_str!("../../../tests/data/app-keys/pkcs1.pem"))]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into_iter()
        .collect();
    let config = Config::parse(CONFIG, Path::new("/etc/fleet.toml"), &env).unwrap();
    assert_eq!(given_at_the_start(&config, SOURCES), ["github.app.private_key_env"]);
}
