use std::collections::BTreeMap;

use super::*;

fn sources(clouds: &str, secure: Option<&str>, env: &[(&str, &str)]) -> Sources {
    Sources {
        clouds: Some((PathBuf::from("/c/clouds.yaml"), clouds.to_owned())),
        secure: secure.map(|text| (PathBuf::from("/c/secure.yaml"), text.to_owned())),
        env: vars(env),
        ..Sources::default()
    }
}

fn vars(env: &[(&str, &str)]) -> BTreeMap<String, String> {
    env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

const PASSWORD: &str = "
clouds:
  ours:
    region_name: RegionTwo
    interface: internal
    cacert: ca.pem
    auth_type: v3password
    auth:
      auth_url: https://keystone.example/v3
      username: demo
      user_domain_id: abc
      project_name: ci
      project_domain_name: Users
";

#[test]
fn a_file_with_the_secret_beside_it_makes_one_cloud() {
    let secure = "clouds: {ours: {auth: {password: sesame}}}";
    let cloud = CloudConfig::parse(&sources(PASSWORD, Some(secure), &[]), None).unwrap();
    assert_eq!(cloud.name, "ours");
    assert_eq!(cloud.region.as_deref(), Some("RegionTwo"));
    assert_eq!(cloud.interfaces, [Interface::Internal]);
    assert_eq!(cloud.cacert, Some(PathBuf::from("/c/ca.pem")));
    let Credentials::Password { user, password, project } = &cloud.credentials else {
        panic!("not a password: {cloud:?}");
    };
    assert_eq!(user.what, Named::Name("demo".into()));
    assert_eq!(user.domain, Named::Id("abc".into()));
    assert_eq!(project.domain, Named::Name("Users".into()));
    assert_eq!(password.expose(), "sesame");
    assert!(!format!("{cloud:?}").contains("sesame"));
}

#[test]
fn all_faults_are_reported_at_once_with_file_and_key() {
    let text = "clouds: {ours: {verify: false, interface: side, auth: {auth_url: 'ftp://x'}}}";
    let faults = CloudConfig::parse(&sources(text, None, &[]), Some("ours")).unwrap_err();
    let text = faults.to_string();
    for key in ["auth.auth_url", "auth.username", "auth.password", "auth.project_name"] {
        assert!(text.contains(&format!("/c/clouds.yaml: clouds.ours.{key}")), "{key}: {text}");
    }
    assert!(text.contains("clouds.ours.verify"), "{text}");
    assert!(text.contains("clouds.ours.interface"), "{text}");
}

#[test]
fn an_unknown_cloud_is_answered_with_those_that_there_are() {
    let faults = CloudConfig::parse(&sources(PASSWORD, None, &[]), Some("theirs")).unwrap_err();
    assert!(faults.to_string().contains("there are: ours"), "{faults}");
}

#[test]
fn two_clouds_and_no_choice_is_a_question() {
    let text = "clouds: {a: {}, b: {}}";
    let faults = CloudConfig::parse(&sources(text, None, &[]), None).unwrap_err();
    assert!(faults.to_string().contains("OS_CLOUD; there are: a, b"), "{faults}");
}

#[test]
fn os_cloud_chooses_and_an_argument_beats_it() {
    let text = "
clouds:
  a: {auth: {auth_url: 'http://a', application_credential_id: i, application_credential_secret: s}}
  b: {auth: {auth_url: 'http://b', token: t, project_id: p}}
";
    let env = [("OS_CLOUD", "b")];
    assert_eq!(CloudConfig::parse(&sources(text, None, &env), None).unwrap().name, "b");
    let cloud = CloudConfig::parse(&sources(text, None, &env), Some("a")).unwrap();
    assert!(matches!(cloud.credentials, Credentials::ApplicationCredentialId { .. }));
}

#[test]
fn an_openrc_without_any_file_is_enough() {
    let env = [
        ("OS_AUTH_URL", "http://k:5000"),
        ("OS_USERNAME", "demo"),
        ("OS_PASSWORD", "sesame"),
        ("OS_PROJECT_NAME", "ci"),
        ("OS_REGION_NAME", "R1"),
    ];
    let found = Sources { env: vars(&env), ..Sources::default() };
    let cloud = CloudConfig::parse(&found, None).unwrap();
    assert_eq!((cloud.name.as_str(), cloud.region.as_deref()), ("envvars", Some("R1")));
}

#[test]
fn a_broken_file_is_named_without_showing_its_content() {
    let text = "clouds: {ours: {auth: {password: 'sesame";
    let faults = CloudConfig::parse(&sources(text, None, &[]), None).unwrap_err().to_string();
    assert!(faults.contains("/c/clouds.yaml: is not YAML"), "{faults}");
    assert!(!faults.contains("sesame"), "{faults}");
}

#[test]
fn an_auth_type_that_is_not_supported_says_which_are() {
    let text = "clouds: {o: {auth_type: v3oidc, auth: {auth_url: 'http://k'}}}";
    let faults = CloudConfig::parse(&sources(text, None, &[]), None).unwrap_err().to_string();
    assert!(faults.contains("v3applicationcredential"), "{faults}");
}
