//! The files that a configuration names: secrets are looked after, and read when needed.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use runner_fleet::config::{Config, Env, GithubAuth, SecretSource};

const TEXT: &str = r#"[fleet]
id = "ci"
[github]
token_file = "token"
[providers.cloud]
kind = "openstack"
clouds_file = "clouds.yaml"
"#;

fn folder_with(files: &[(&str, &str, u32)]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text, mode) in files {
        write(folder.path(), name, text, *mode);
    }
    let config = folder.path().join("fleet.toml");
    fs::write(&config, TEXT).unwrap();
    (folder, config)
}

fn write(folder: &Path, name: &str, text: &str, mode: u32) {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

fn load(config: &Path) -> Result<Config, String> {
    Config::load_with(config, &Env::default()).map_err(|faults| faults.to_string())
}

#[test]
fn a_secret_that_everybody_may_read_is_a_fault() {
    let (folder, config) = folder_with(&[("token", "t", 0o644), ("clouds.yaml", "c", 0o604)]);
    let faults = load(&config).unwrap_err();
    assert_eq!(faults.lines().count(), 2, "{faults}");
    assert!(faults.contains(":4: github.token_file: "), "{faults}");
    assert!(faults.contains("(mode 0644); run: chmod 0640 "), "{faults}");
    assert!(faults.contains(":7: providers.cloud.clouds_file: "), "{faults}");
    for name in ["token", "clouds.yaml"] {
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o640)).unwrap();
    }
    load(&config).unwrap();
}

#[test]
fn files_that_are_not_there_are_told_together_with_faults_of_the_text() {
    let (_folder, config) = folder_with(&[("clouds.yaml", "c", 0o600)]);
    fs::write(&config, TEXT.replace("\"ci\"", "\"CI\"")).unwrap();
    let faults = load(&config).unwrap_err();
    assert!(faults.contains(":2: fleet.id: "), "{faults}");
    assert!(faults.contains("token cannot be read: No such file"), "{faults}");
}

#[test]
fn a_missing_configuration_is_told_by_name() {
    let faults = load(Path::new("/nowhere/fleet.toml")).unwrap_err();
    assert!(
        faults.starts_with("/nowhere/fleet.toml: the configuration cannot be read"),
        "{faults}"
    );
}

#[test]
fn a_secret_is_read_anew_each_time_and_never_shown() {
    let (folder, config) = folder_with(&[("token", "first\n", 0o600), ("clouds.yaml", "", 0o600)]);
    let config = load(&config).unwrap();
    let GithubAuth::Token(source) = &config.github.auth else { panic!("a token") };
    let env = Env::default();
    let secret = source.read(&env).unwrap();
    assert_eq!(secret.expose(), "first", "without the line's end");
    assert!(!format!("{secret:?} {config:?}").contains("first"));
    write(folder.path(), "token", "second", 0o600);
    assert_eq!(source.read(&env).unwrap().expose(), "second");
    write(folder.path(), "token", " \n", 0o600);
    assert!(source.read(&env).unwrap_err().to_string().contains("it is empty"));
}

#[test]
fn secrets_come_from_the_environment_and_from_systemd_as_well() {
    let (folder, _) = folder_with(&[("gh", "credential\n", 0o400)]);
    let env: Env = [
        ("TOKEN".to_owned(), "from env".to_owned()),
        ("CREDENTIALS_DIRECTORY".to_owned(), folder.path().to_string_lossy().into_owned()),
    ]
    .into_iter()
    .collect();
    assert_eq!(SecretSource::Env("TOKEN".into()).read(&env).unwrap().expose(), "from env");
    assert_eq!(SecretSource::Credential("gh".into()).read(&env).unwrap().expose(), "credential");
    let missing = SecretSource::Env("NONE".into()).read(&env).unwrap_err().to_string();
    assert_eq!(missing, "environment variable NONE cannot be used: it is not set, or empty");
    assert!(!format!("{env:?}").contains("from env"));
}
