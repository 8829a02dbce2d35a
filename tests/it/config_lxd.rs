//! What a configuration may say of LXD, and how it is refused.

use std::path::Path;

use runner_fleet::config::{Config, Env, LxdReach, ProviderKind};
use runner_fleet_actors::port::{ImageProtocol, LxdKind, LxdShape};

const GOOD: &str = r#"[fleet]
id = "ci"
[github]
token_file = "token"
[providers.metal]
kind = "lxd"
socket = "/var/lib/lxd/unix.socket"
[providers.cloud]
kind = "openstack"
[[pools]]
name = "small"
scope = "org/repo"
labels = ["small"]
provider = "metal"
image = "noble"
max = 5
"#;

fn parse(text: &str) -> Result<Config, Vec<String>> {
    let parsed = Config::parse(text, Path::new("/etc/fleet.toml"), &Env::default());
    parsed.map_err(|faults| faults.to_string().lines().map(str::to_owned).collect())
}

fn with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from:?} is not in the good configuration");
    GOOD.replacen(from, to, 1)
}

fn pool(keys: &str) -> String {
    with("max = 5", &format!("max = 5\n{keys}"))
}

#[track_caller]
fn assert_refused(text: &str, expected: &[&str]) {
    let faults = parse(text).expect_err("is taken");
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for (fault, expected) in faults.iter().zip(expected) {
        assert!(fault.contains(expected), "{fault}\ndoes not say\n{expected}");
    }
}

fn shape(keys: &str) -> LxdShape {
    parse(&pool(keys)).unwrap().pools[0].shape.lxd.clone().unwrap()
}

#[test]
fn a_small_pool_on_lxd_takes_what_the_profiles_say() {
    let config = parse(GOOD).unwrap();
    let ProviderKind::Lxd(access) = &config.providers["metal"].kind else { panic!("an LXD") };
    assert_eq!(access.reach, LxdReach::Socket("/var/lib/lxd/unix.socket".into()));
    assert_eq!(access.project, "default");
    assert_eq!(shape(""), LxdShape::default());
}

#[test]
fn every_key_of_a_pool_arrives() {
    let all = shape(
        "type = \"virtual-machine\"\ncpu = 2\nmemory = \"4GiB\"\ndisk = \"6 GB\"\n\
         storage_pool = \"ram\"\ndisk_in_memory = true\nprofiles = [\"a\", \"b\"]\n\
         image_server = \"https://images.example.com\"\nimage_protocol = \"lxd\"\n\
         target = \"node-3\"",
    );
    assert_eq!(all.kind, LxdKind::VirtualMachine);
    assert_eq!((all.cpu, all.memory, all.disk), (Some(2), Some(4 << 30), Some(6_000_000_000)));
    assert_eq!(all.storage_pool.as_deref(), Some("ram"));
    assert!(all.disk_in_memory);
    assert_eq!(all.profiles, ["a", "b"]);
    let server = all.image_server.unwrap();
    assert_eq!(
        (server.url.as_str(), server.protocol),
        ("https://images.example.com", ImageProtocol::Lxd)
    );
    assert_eq!(all.target.as_deref(), Some("node-3"));
    assert!(shape("nesting = true").nesting);
}

#[test]
fn an_lxd_is_reached_in_one_way() {
    let socket = "socket = \"/var/lib/lxd/unix.socket\"";
    let sockets = "metal.socket: is needed: \"/var/snap/lxd/common/lxd/unix.socket\"";
    assert_refused(&with(socket, ""), &[sockets]);
    assert_refused(
        &with(socket, &format!("{socket}\nurl = \"https://h:8443\"")),
        &["metal.url: socket is given as well; keep one of them"],
    );
    assert_refused(
        &with(socket, &format!("{socket}\nclient_key = \"k\"")),
        &["metal.client_key: is of use only with url"],
    );
    assert_refused(
        &with(socket, "url = \"http://h:8443\""),
        &[
            "metal.client_certificate: is needed",
            "metal.client_key: is needed",
            "\"http://h:8443\" is not allowed: \"https://HOST:8443\"",
        ],
    );
    let remote = "url = \"https://h\"\nclient_certificate = \"c\"\nclient_key = \"k\"";
    let config = parse(&with(socket, remote)).unwrap();
    let ProviderKind::Lxd(access) = &config.providers["metal"].kind else { panic!("an LXD") };
    let LxdReach::Https { client_key, server_certificate, .. } = &access.reach else {
        panic!("over the network")
    };
    assert_eq!(client_key, Path::new("/etc/k"), "relative to the file's folder");
    assert_eq!(*server_certificate, None);
}

#[test]
fn keys_of_the_other_kind_of_cloud_are_refused_with_the_reason() {
    assert_refused(
        &pool("flavor = \"m1\"\nconfig_drive = true"),
        &[
            "pools[small].flavor: is a key of pools on OpenStack (on LXD a size is said by cpu",
            "pools[small].config_drive: is a key of pools on OpenStack",
        ],
    );
    let there = pool("flavor = \"m1\"\nmemory = \"4GiB\"")
        .replace("provider = \"metal\"", "provider = \"cloud\"");
    assert_refused(
        &there,
        &["pools[small].memory: is a key of pools on LXD (on OpenStack a size is said by flavor)"],
    );
    assert_refused(
        &with("kind = \"lxd\"", "kind = \"lxd\"\ncloud = \"x\""),
        &["metal.cloud: is a key of OpenStack providers; remove it"],
    );
    assert_refused(
        &with("kind = \"openstack\"", "kind = \"openstack\"\nsocket = \"x\""),
        &["cloud.socket: is a key of LXD providers; remove it"],
    );
}

/// One fault must not draw others after it that go away with it.
#[test]
fn a_faulty_provider_does_not_make_its_pools_faulty() {
    assert_refused(
        &with("kind = \"lxd\"", "kind = \"lxc\"")
            .replace("image = \"noble\"", "image = \"noble\"\ncpu = 1"),
        &["metal.kind: \"lxc\""],
    );
    assert_refused(&with("socket = \"/var/lib/lxd/unix.socket\"", ""), &["metal.socket"]);
}

#[test]
fn sizes_and_kinds_that_cannot_be_are_refused() {
    for (keys, expected) in [
        ("memory = 4096", "4096 is not allowed: write a size with its unit"),
        ("memory = \"4G\"", "\"4G\" is not allowed: write a size"),
        ("memory = \"1MiB\"", "a size from 16MiB to 64TiB"),
        ("cpu = 0", "a whole number from 1 to 4096"),
        ("type = \"vm\"", "it is one of \"container\", \"virtual-machine\""),
        ("image_server = \"ubuntu\"", "an address such as \"https://"),
        ("image_protocol = \"lxd\"", "is of use only with image_server"),
        ("type = \"virtual-machine\"\nnesting = true", "nesting: is for containers"),
    ] {
        assert_refused(&pool(keys), &[expected]);
    }
    assert_refused(
        &pool("disk_in_memory = true"),
        &["storage_pool: is needed", "disk: is needed", "memory: is needed"],
    );
}
