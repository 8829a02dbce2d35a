//! clouds.yaml as openstacksdk reads it: files of real operators (`tests/data/clouds-yaml`), and each
//! kind of what they show.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use runner_fleet::provider::openstack::cloud::{
    CloudConfig, Credentials, Interface, Named, Sources,
};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/clouds-yaml").join(name)
}

/// Reads a case without the files beside it.
fn case(name: &str) -> Result<CloudConfig, String> {
    let path = data(&format!("{name}.clouds.yaml"));
    let text = std::fs::read_to_string(&path).unwrap();
    parse(path, &text, None)
}

fn parse(path: PathBuf, text: &str, cloud: Option<&str>) -> Result<CloudConfig, String> {
    let env = BTreeMap::from([("HOME".to_owned(), "/home/ci".to_owned())]);
    let found = Sources { clouds: Some((path, text.to_owned())), env, ..Sources::default() };
    let wanted = cloud.unwrap_or("east");
    CloudConfig::parse(&found, Some(wanted)).map_err(|faults| faults.to_string())
}

fn text(text: &str) -> Result<CloudConfig, String> {
    parse("/c/clouds.yaml".into(), text, Some("o"))
}

const LOGIN: &str = "auth: {auth_url: 'http://k', username: u, password: p, project_name: n}";

/// A cloud `o` with a log-in and these lines.
fn with(lines: &str) -> Result<CloudConfig, String> {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    text(&format!("clouds:\n  o:\n    {LOGIN}\n{lines}"))
}

fn password(cloud: &CloudConfig) -> (String, Named) {
    match &cloud.credentials {
        Credentials::Password { password, project, .. } => {
            (password.expose().to_owned(), project.what.clone())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn merge_keys_are_merged() {
    let auth = case("merge-auth").unwrap();
    assert_eq!(auth.auth_url.as_str(), "http://127.0.0.1:9820/v3");
    assert_eq!(password(&auth).1, Named::Name("build".into()));
    let top = case("merge-top").unwrap();
    assert_eq!(top.region.as_deref(), Some("B"));
    assert_eq!(top.interfaces, [Interface::Internal]);
    assert_eq!(top.warnings, [] as [String; 0]);
}

#[test]
fn of_several_regions_the_first_is_used_and_said() {
    for name in ["regions-list", "regions-dicts", "region-name-list", "region-comma"] {
        let cloud = case(name).unwrap_or_else(|faults| panic!("{name}: {faults}"));
        assert_eq!(cloud.region.as_deref(), Some("B"), "{name}");
        let [warning] = cloud.warnings.as_slice() else { panic!("{name}: {:?}", cloud.warnings) };
        assert!(warning.contains("names B, A: the first is used, B"), "{name}: {warning}");
        assert!(warning.contains(": line "), "{name}: {warning}");
    }
    let both = with("regions: [B]\nregion_name: A").unwrap();
    assert_eq!(both.region.as_deref(), Some("B"), "as openstacksdk");
    assert!(
        both.warnings[0].contains("`regions` goes before `region_name`"),
        "{:?}",
        both.warnings
    );
    let values = with("regions:\n- name: B\n  values: {interface: internal}\n- A").unwrap();
    assert_eq!(values.interfaces, [Interface::Internal], "a region's own values");
    let odd = with("regions:\n- nmae: B").unwrap_err();
    assert!(odd.contains("clouds.yaml: line 5: a region is a word, or a mapping"), "{odd}");
}

#[test]
fn of_several_interfaces_all_are_kept_in_their_order() {
    let cloud = case("interface-list").unwrap();
    assert_eq!(cloud.interfaces, [Interface::Internal, Interface::Public]);
    let old = with("endpoint_type: adminURL").unwrap();
    assert_eq!(old.interfaces, [Interface::Admin]);
    let wrong = with("interface: [internal, side]").unwrap_err();
    assert!(
        wrong.contains("clouds.o.interface (line 4) must be public, internal or admin"),
        "{wrong}"
    );
    let service =
        with("compute_interface: internal\nimage_endpoint_override: http://g:9292").unwrap();
    assert_eq!(service.services[0].interfaces, Some(vec![Interface::Internal]));
    assert_eq!(service.services[1].endpoint.as_ref().unwrap().as_str(), "http://g:9292/");
}

#[test]
fn credentials_one_level_up_are_taken() {
    let cloud = case("creds-top-level").unwrap();
    let Credentials::ApplicationCredentialId { id, secret } = &cloud.credentials else {
        panic!("{:?}", cloud.credentials)
    };
    assert_eq!((id.as_str(), secret.expose()), ("abc", "s3cretpw"));
    assert_eq!(password(&case("project-top-level").unwrap()).1, Named::Name("build".into()));
    let twice = with("project_name: top\nusername: top").unwrap();
    assert_eq!(password(&twice).1, Named::Name("top".into()), "a project above `auth` wins");
    let Credentials::Password { user, .. } = &twice.credentials else { panic!() };
    assert_eq!(user.what, Named::Name("u".into()), "a user within `auth` wins");
}

#[test]
fn values_are_as_they_were_written() {
    assert_eq!(password(&case("password-exp").unwrap()).0, "12345e67");
    assert_eq!(password(&case("password-digits").unwrap()).0, "123456789012345678901234567890");
    let project = |name: &str| password(&case(name).unwrap()).1;
    assert_eq!(project("project-id-exp"), Named::Id("123456789012345678901234567890e1".into()));
    assert_eq!(project("project-id-digits"), Named::Id("12345678901234567890123456789012".into()));
    for written in ["007", "yes", "no", "0x1F", "1_000", "1e3", ".5", "2026-11-28", "12:30:45"] {
        let auth = LOGIN.replace("password: p", &format!("password: {written}"));
        let cloud = text(&format!("clouds:\n  o:\n    {auth}\n")).unwrap();
        assert_eq!(password(&cloud).0, written);
    }
}

#[test]
fn a_key_that_stands_twice_is_named_with_its_line() {
    let faults = case("duplicate-key").unwrap_err();
    let wanted = "line 11: the key \"region_name\" stands twice, first in line 10";
    assert!(faults.contains(wanted), "{faults}");
    assert!(!faults.contains("s3cretpw"), "{faults}");
}

#[test]
fn other_spellings_are_taken() {
    for name in ["user-name", "dashes"] {
        let cloud = case(name).unwrap_or_else(|faults| panic!("{name}: {faults}"));
        let Credentials::Password { user, .. } = &cloud.credentials else { panic!("{name}") };
        assert_eq!(user.what, Named::Name("ci".into()), "{name}");
        assert_eq!(cloud.warnings, [] as [String; 0], "{name}");
    }
    let twice =
        text("clouds: {o: {auth: {auth-url: 'http://a', auth_url: 'http://b'}}}").unwrap_err();
    assert!(
        twice.contains("line 1: the key \"auth_url\" is the same as that of line 1"),
        "{twice}"
    );
    let tenant = text(
        "clouds: {o: {auth: {auth_url: 'http://k', username: u, password: p, tenant_name: t}}}",
    );
    assert_eq!(password(&tenant.unwrap()).1, Named::Name("t".into()));
    let placed = with("auth_type: password").unwrap();
    assert_eq!(placed.auth_url.as_str(), "http://k/");
    let by_region = LOGIN.replace("http://k", "https://iam.{region_name}.example.com/v3");
    let cloud = text(&format!("clouds:\n  o:\n    {by_region}\n    region_name: eu-de\n")).unwrap();
    assert_eq!(cloud.auth_url.as_str(), "https://iam.eu-de.example.com/v3");
}

#[test]
fn a_profile_is_taken_from_clouds_public_or_named() {
    for name in ["clouds-public", "old-cloud-key"] {
        let faults = case(name).unwrap_err();
        assert!(faults.contains("line 3: clouds.east names the profile \"mycloud\""), "{faults}");
        assert!(faults.contains("clouds-public.yaml"), "{faults}");
        let path = data(&format!("{name}.clouds.yaml"));
        let text = std::fs::read_to_string(&path).unwrap();
        let profiles = "public-clouds:\n  mycloud:\n    auth: {auth_url: 'http://k:5000'}\n    \
                        region_name: Z\n    interface: internal\n";
        let profiles = Some(("/c/clouds-public.yaml".into(), profiles.to_owned()));
        let found = Sources { clouds: Some((path, text)), profiles, ..Sources::default() };
        let cloud = CloudConfig::parse(&found, Some("east")).unwrap();
        assert_eq!(cloud.auth_url.as_str(), "http://k:5000/", "{name}");
        assert_eq!(cloud.region.as_deref(), Some("B"), "its own words go first");
        assert_eq!(cloud.interfaces, [Interface::Internal]);
    }
}

#[test]
fn certificate_checks_stay_on_in_each_spelling() {
    let faults = case("verify-no").unwrap_err();
    assert!(faults.contains("clouds.east.verify") && faults.contains("`cacert`"), "{faults}");
    for off in ["no", "No", "false", "FALSE", "off", "0", "\"no\"", "'false'", "\"0\"", "n"] {
        let faults = with(&format!("verify: {off}")).unwrap_err();
        assert!(
            faults.contains("clouds.o.verify switches certificate checks off"),
            "{off}: {faults}"
        );
        assert!(with(&format!("insecure: {off}")).is_ok(), "{off}");
    }
    for on in ["yes", "true", "on", "1", "\"True\""] {
        assert!(with(&format!("verify: {on}")).is_ok(), "{on}");
        let faults = with(&format!("insecure: {on}")).unwrap_err();
        assert!(
            faults.contains("clouds.o.insecure switches certificate checks off"),
            "{on}: {faults}"
        );
    }
    let path = with("verify: /etc/ssl/ours.pem").unwrap();
    assert_eq!(path.cacert, Some("/etc/ssl/ours.pem".into()), "requests takes a path so");
    assert!(with("verify: perhaps").unwrap_err().contains("must be true, or the path"));
}

#[test]
fn paths_know_home_and_begin_at_their_file() {
    let tilde = case("cacert-tilde").unwrap();
    assert_eq!(tilde.cacert, Some("/home/ci/ca.pem".into()));
    assert_eq!(tilde.warnings, [] as [String; 0]);
    let relative = case("cacert-relative").unwrap();
    assert_eq!(relative.cacert, Some(data("./ca.pem")));
    assert!(relative.warnings[0].contains("is relative and is taken from this file's folder"));
    let other = with("cacert: ~other/ca.pem").unwrap_err();
    assert!(other.contains("clouds.o.cacert (line 4) begins with ~"), "{other}");
    let client = with("cert: /c/cert.pem\nkey: /c/key.pem").unwrap();
    assert_eq!(client.client, Some(("/c/cert.pem".into(), Some("/c/key.pem".into()))));
    assert!(with("key: /c/key.pem").unwrap_err().contains("clouds.o.cert is missing"));
}

#[test]
fn what_has_no_effect_or_is_unknown_is_told_with_its_line() {
    let cloud =
        with("api_timeout: 5\nregoin_name: B\nfloating_ip_source: nova\nvolume_api_version: 2");
    let warnings = cloud.unwrap().warnings;
    let [timeout, region, floating] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert!(timeout.contains("line 4: clouds.o.api_timeout has no effect"), "{timeout}");
    assert!(
        region.contains("line 5: clouds.o.regoin_name is a key that openstacksdk does not know")
    );
    assert!(region.contains("(is region_name meant?)"), "{region}");
    assert!(floating.contains("line 6: clouds.o.floating_ip_source has no effect"), "{floating}");
    let slip = LOGIN.replace("username", "usrname");
    let faults = text(&format!("clouds:\n  o:\n    {slip}\n")).unwrap_err();
    assert!(faults.contains("clouds.o.auth.username is missing"), "{faults}");
    let system = with("system_scope: all").unwrap_err();
    assert!(
        system.contains("clouds.o.system_scope (line 4) is set: VMs live in a project"),
        "{system}"
    );
    let old = with("identity_api_version: 2.0").unwrap_err();
    assert!(old.contains("identity_api_version is not 3"), "{old}");
    let list = LOGIN.replace("username: u", "username: [u]");
    let faults = text(&format!("clouds:\n  o:\n    {list}\n")).unwrap_err();
    assert!(faults.contains("auth.username (line 3) must be one value"), "{faults}");
}

fn files(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode).unwrap();
    }
}

fn read(env: &[(&str, &Path)], file: Option<&Path>) -> Result<CloudConfig, String> {
    let env = env.iter().map(|(key, path)| ((*key).to_owned(), path.display().to_string()));
    let found = Sources::read(file, env).map_err(|faults| faults.to_string())?;
    CloudConfig::parse(&found, Some("o")).map_err(|faults| faults.to_string())
}

#[test]
fn secrets_beside_or_in_any_usual_folder_are_merged() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let cloud = "clouds: {o: {auth: {auth_url: 'http://k', username: u, project_name: n}}}";
    let secret = "clouds: {o: {auth: {password: sesame}}}";
    files(
        folder.path(),
        &[("file/clouds.yaml", cloud), ("home/.config/openstack/secure.yml", secret)],
    );
    let home = at("home");
    let env: &[(&str, &Path)] = &[("HOME", &home), ("XDG_CONFIG_DIRS", &at("xdg"))];
    let named = at("file/clouds.yaml");
    assert_eq!(password(&read(env, Some(&named)).unwrap()).0, "sesame", "another usual folder");

    files(folder.path(), &[("file/secure.yaml", "clouds: {o: {auth: {password: nearer}}}")]);
    assert_eq!(password(&read(env, Some(&named)).unwrap()).0, "nearer", "beside the file");

    let elsewhere = at("elsewhere.json");
    files(
        folder.path(),
        &[("elsewhere.json", r#"{"clouds": {"o": {"auth": {"password": "named"}}}}"#)],
    );
    let env: &[(&str, &Path)] = &[("HOME", &home), ("OS_CLIENT_SECURE_FILE", &elsewhere)];
    assert_eq!(password(&read(env, Some(&named)).unwrap()).0, "named");

    let empty = std::fs::read_to_string(data("secure-empty.secure.yaml")).unwrap();
    files(folder.path(), &[("file/secure.yaml", &empty)]);
    let faults = read(&[("HOME", &at("nobody"))], Some(&named)).unwrap_err();
    assert!(faults.contains("auth.password is missing"), "an empty one is nothing: {faults}");
}

#[test]
fn clouds_yml_and_json_are_found() {
    for (name, text) in [
        ("clouds.yml", format!("clouds:\n  o:\n    {LOGIN}\n")),
        (
            "clouds.json",
            r#"{"clouds": {"o": {"auth": {"auth_url": "http://k", "username": "u",
            "password": "p", "project_name": "n"}}}}"#
                .to_owned(),
        ),
    ] {
        let home = tempfile::tempdir().unwrap();
        files(home.path(), &[(&format!(".config/openstack/{name}"), &text)]);
        let cloud = read(&[("HOME", home.path())], None).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(password(&cloud).0, "p", "{name}");
    }
}

#[test]
fn a_file_that_everybody_may_read_is_warned_of_and_so_is_one_with_secrets_beside_it() {
    let home = tempfile::tempdir().unwrap();
    let clouds = format!("clouds:\n  o:\n    {LOGIN}\n");
    let secure = "clouds: {o: {auth: {password: sesame}}}";
    for (name, text) in [("clouds.yaml", clouds.as_str()), ("secure.yaml", secure)] {
        let name = format!(".config/openstack/{name}");
        files(home.path(), &[(&name, text)]);
        let told = || {
            let mut told = read(&[("HOME", home.path())], None).unwrap().warnings;
            told.retain(|warning| warning.contains("everybody may use it"));
            told
        };
        assert_eq!(told(), [] as [String; 0], "{name}");
        let wide = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(home.path().join(&name), wide).unwrap();
        let told = told();
        let [wide] = told.as_slice() else { panic!("{name}: {told:?}") };
        assert!(wide.contains(&name) && wide.contains("(mode 0644); run: chmod 0640"), "{wide}");
        files(home.path(), &[(&name, text)]);
    }
}

/// `runner-fleet COMMAND` in front of that clouds.yaml: exit code, what it says, what it complains of.
fn command(clouds: &str, args: &[&str]) -> (i32, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let fleet = "[fleet]\nid = \"ci\"\n[github]\ntoken_file = \"token\"\n[providers.cloud]\n\
                 kind = \"openstack\"\nclouds_file = \"clouds.yaml\"\n";
    files(folder.path(), &[("fleet.toml", fleet), ("token", "t"), ("clouds.yaml", clouds)]);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_runner-fleet"))
        .args(args)
        .arg("--config")
        .arg(folder.path().join("fleet.toml"))
        .env("HOME", folder.path())
        .env_remove("OS_CLOUD")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn check_reads_clouds_yaml_without_asking_anybody_and_a_start_ends_with_two() {
    let good = format!("clouds:\n  o:\n    {LOGIN}\n    api_timeout: 5\n");
    let (code, out, err) = command(&good, &["check"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("no fault found"), "{out}");
    assert!(err.contains("warning: providers.cloud: "), "{err}");
    assert!(err.contains("clouds.yaml: line 4: clouds.o.api_timeout has no effect"), "{err}");

    let bad = good.replace("api_timeout: 5", "verify: no").replace("username: u", "usrname: u");
    for verb in ["check", "run"] {
        let (code, _, err) = command(&bad, &[verb]);
        assert_eq!(code, 2, "{verb}: {err}");
        for key in ["clouds.o.verify", "clouds.o.auth.username is missing"] {
            assert!(err.contains(key), "{verb}: {key}: {err}");
        }
    }
    let (code, out, _) = command(&bad, &["check", "--output", "json"]);
    assert_eq!(code, 2);
    let faults: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(faults["faults"][0]["key"], "providers.cloud");
    let absent = good.replace("verify", "x").replace("api_timeout: 5", "cacert: /nowhere/ca.pem");
    let (code, _, err) = command(&absent, &["check"]);
    assert_eq!(code, 2);
    assert!(err.contains("/nowhere/ca.pem"), "{err}");
}
