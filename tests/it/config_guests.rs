//! What a configuration may say of guests: where they report home, and what a pool's VMs run.

use crate::support::config::{GOOD, assert_refused, parse, refused, with};
use runner_fleet::config::{Application, Architecture, Certificate, Guest, Pinned};

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
             before = \"apt-get purge -y snapd\"\n\
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
            before: Some("apt-get purge -y snapd".into()),
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
