//! An App's key as people have it: whatever is unambiguous is taken, the rest is named by file and key
//! when the configuration is read, not when the daemon has started.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use runner_fleet::config::{Config, Env, GithubAuth};

fn key(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/app-keys");
    fs::read_to_string(folder.join(format!("{name}.pem"))).unwrap()
}

fn configuration(folder: &Path, app: &str) -> std::path::PathBuf {
    let text = format!(
        "[fleet]\nid = \"ci\"\nstate_dir = \"{}\"\n[github]\napp = {{ {app} }}\n\
         [providers.cloud]\nkind = \"openstack\"\n\
         [[pools]]\nname = \"small\"\nscope = \"octo-org\"\nlabels = [\"self-hosted\"]\n\
         provider = \"cloud\"\nmax = 1\nimage = \"i\"\nflavor = \"f\"\n",
        folder.display()
    );
    let path = folder.join("fleet.toml");
    fs::write(&path, text).unwrap();
    path
}

fn faults_of(text: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.pem");
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let by_file = "id = 1, installation_id = 1, private_key_file = \"app.pem\"";
    let by_file = Config::load_with(&configuration(folder.path(), by_file), &Env::default());

    let env: Env = [("APP_KEY".to_owned(), text.to_owned())].into_iter().collect();
    let by_env = "id = 1, installation_id = 1, private_key_env = \"APP_KEY\"";
    let by_env = Config::load_with(&configuration(folder.path(), by_env), &env);
    match (by_file, by_env) {
        (Ok(_), Ok(_)) => Ok(()),
        (Err(file), Err(env)) => {
            let (file, env) = (file.to_string(), env.to_string());
            assert!(file.contains(":5: github.app.private_key_file: "), "{file}");
            assert!(file.contains("app.pem: it is"), "{file}");
            assert!(env.contains(":5: github.app.private_key_env: "), "{env}");
            assert!(env.contains("APP_KEY"), "{env}");
            Err(file)
        }
        (file, env) => panic!("{:?} but {:?}", file.err(), env.err()),
    }
}

#[test]
fn check_takes_a_key_however_it_was_carried() {
    for text in [
        key("pkcs1"),
        key("pkcs8"),
        key("pkcs1").replace('\n', "\\n"),
        key("pkcs8").replace('\n', "\r\n"),
        BASE64_STANDARD.encode(key("pkcs1")),
    ] {
        assert_eq!(faults_of(&text), Ok(()));
    }
}

#[test]
fn check_says_what_a_wrong_key_is_without_showing_it() {
    for (text, said) in [
        (key("encrypted-pkcs1"), "encrypted with a passphrase"),
        (key("encrypted-pkcs8"), "encrypted with a passphrase"),
        (key("ec"), "elliptic-curve"),
        (key("other.pub"), "a public key"),
        ("Iv1.8a61f9b3a7aba766".to_owned(), "client id"),
        ("0123456789abcdef0123456789abcdef01234567".to_owned(), "client secret"),
    ] {
        let fault = faults_of(&text).unwrap_err();
        assert!(fault.contains(said), "{fault}");
        assert!(!fault.contains(text.lines().nth(1).unwrap_or(&text)), "{fault}");
    }
}

#[test]
fn an_app_is_known_by_its_number_or_its_client_id() {
    let folder = tempfile::tempdir().unwrap();
    let env: Env = [("APP_KEY".to_owned(), key("pkcs1"))].into_iter().collect();
    let load = |id: &str| {
        let app = format!("id = {id}, installation_id = 1, private_key_env = \"APP_KEY\"");
        Config::load_with(&configuration(folder.path(), &app), &env)
    };
    for (id, wanted) in
        [("1", "1"), ("\"1\"", "1"), ("\"Iv1.acme\"", "Iv1.acme"), ("\"Iv23liTEST\"", "Iv23liTEST")]
    {
        match load(id).unwrap().github.auth {
            GithubAuth::App { id, .. } => assert_eq!(id, wanted),
            GithubAuth::Token(_) => panic!("an app was configured"),
        }
    }
    for id in ["0", "-1", "\"\"", "\"0\"", "\"my app\"", "\"0123456789abcdef0123\"", "true"] {
        let fault = load(id).unwrap_err().to_string();
        assert!(fault.contains(":5: github.app.id: "), "{id}: {fault}");
    }
    let secret = load("\"0123456789abcdef0123456789abcdef01234567\"").unwrap_err().to_string();
    assert!(!secret.contains("0123456789abcdef"), "{secret}");
}
