//! The user data, judged by those who read it: cloud-init's schema, a YAML parser, Python, a shell.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::Mutex,
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use proptest::{collection::btree_map, collection::vec, option, prelude::*};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use runner_fleet::guest::{
    Application, Architecture, Download, Guest, Home, Settings, jit_config_in,
};
use runner_fleet_actors::{
    name::RunnerName,
    port::{ErrorClass, Secret, UserData},
};
use serde_json::{Value, json};

const NAME: &str = "ci--small--0123456789ab";
/// What Nova and Azure take, base64 counted.
const LIMIT: usize = 65_535;
const SCHEMA: &str =
    "/usr/lib/python3/dist-packages/cloudinit/config/schemas/schema-cloud-config-v1.json";

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn guest(settings: Settings) -> Guest {
    Guest::new(
        settings,
        |name: &RunnerName| Secret::new(format!("token of {name}")),
        |architecture| {
            Some(Download {
                version: "2.336.0".to_owned(),
                url: format!("https://example.org/linux-{}.tar.gz", architecture.as_str()),
                filename: format!("linux-{}.tar.gz", architecture.as_str()),
                sha256: "ab".repeat(32),
            })
        },
    )
}

fn rendered(settings: Settings, jit_config: &str) -> String {
    let data = guest(settings).render(&NAME.parse().unwrap(), &Secret::new(jit_config)).unwrap();
    data.expose().to_owned()
}

fn full() -> Settings {
    Settings {
        application: Application::Download { architecture: Architecture::Arm64 },
        user: Some("ci".to_owned()),
        groups: vec!["docker".to_owned(), "kvm".to_owned()],
        env: BTreeMap::from([("GREETING".to_owned(), "it's \"here\"\n$(reboot)".to_owned())]),
        home: Some(Home {
            url: "https://fleet.example.org:8090".to_owned(),
            ca_pem: Some("-----BEGIN CERTIFICATE-----\n".to_owned()),
        }),
        disable_update: true,
        before: Some("echo \"$(id -u)\"".to_owned()),
    }
}

/// A file of the source as guests get it: without its lines of comments.
fn bare(path: &str) -> Option<String> {
    let text = fs::read_to_string(root(path)).ok()?;
    let stays = |line: &&str| line.starts_with("#!") || !line.trim_start().starts_with('#');
    Some(text.lines().filter(stays).flat_map(|line| [line, "\n"]).collect())
}

/// The user data with its files as text, so that a person can read what changed.
fn readable(user_data: &str) -> String {
    let (header, config) = user_data.split_once('\n').unwrap();
    let mut config: Value = serde_json::from_str(config).unwrap();
    for file in config["write_files"].as_array_mut().unwrap() {
        let content = BASE64.decode(file["content"].as_str().unwrap()).unwrap();
        let path = file["path"].as_str().unwrap().to_owned();
        let mut text = String::new();
        flate2::read::GzDecoder::new(content.as_slice()).read_to_string(&mut text).unwrap();
        // Constant files are in the source; here it counts that they are those.
        let name = Path::new(&path).file_name().unwrap().to_str().unwrap();
        let places = [format!("src/guest/{name}"), format!("src/guest/program/{name}")];
        let source = places.iter().find(|place| bare(place).is_some_and(|bare| bare == text));
        file["content"] = match source {
            Some(place) => format!("(the text of {place})").into(),
            None => serde_json::from_str(&text).expect("the one file that is data"),
        };
    }
    format!("{header}\n{}\n", serde_json::to_string_pretty(&config).unwrap())
}

#[test]
fn the_user_data_is_what_it_was() {
    for (file, settings) in [("default.txt", Settings::default()), ("full.txt", full())] {
        let path = root("tests/data/guest").join(file);
        let now = readable(&rendered(settings, "eyJhIjoxfQ=="));
        if std::env::var_os("RUNNER_FLEET_UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &now).unwrap();
        }
        let golden = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            now == golden,
            "{} is not what is rendered; if that is meant, run this with \
             RUNNER_FLEET_UPDATE_GOLDEN=1 and read the difference:\n{now}",
            path.display()
        );
    }
}

#[test]
fn a_sixth_of_what_clouds_take_stays_free() {
    // A JIT config of github.com has 4 to 5 KB, a certificate 2 KB; neither can be compressed to
    // less than the bytes in its base64.
    let mut chance = SmallRng::seed_from_u64(1);
    let mut noise = |bytes: usize| {
        let noise: Vec<u8> = (0..bytes).map(|_| chance.random()).collect();
        BASE64.encode(noise)
    };
    let mut settings = full();
    settings.home.as_mut().unwrap().ca_pem = Some(noise(1500));
    let size = BASE64.encode(rendered(settings, &noise(3750))).len();
    println!("user data with a JIT config of 5,000 and a certificate of 2,000 bytes: {size} bytes");
    assert!(size < LIMIT / 6 * 5, "{size} of {LIMIT}");
}

#[test]
fn without_a_known_download_no_vm_is_made_that_could_not_run() {
    let wish = Application::Download { architecture: Architecture::X64 };
    let settings = Settings { application: wish, ..Settings::default() };
    let guest = Guest::new(settings, |_| Secret::new(""), |_| None);
    let error = guest.render(&NAME.parse().unwrap(), &Secret::new("jit")).unwrap_err();
    assert_eq!((error.class, error.certain), (ErrorClass::Transient, true));
    assert!(error.what.contains("linux x64"), "{error}");
}

#[test]
fn a_stand_in_guest_finds_the_jit_config_again() {
    for jit_config in ["eyJhIjoxfQ==", "'; reboot #", "$(reboot)", "a\nb\\'\"`", "", "\u{1F600}"] {
        let data = rendered(full(), jit_config);
        assert_eq!(jit_config_in(&data), Some(Secret::new(jit_config)));
        assert!(jit_config.is_empty() || !data.contains(jit_config));
    }
    assert_eq!(jit_config_in("#cloud-config\n{}"), None);
    assert_eq!(jit_config_in(""), None);
}

#[test]
fn cloud_init_finds_no_fault_in_it_and_knows_every_key() {
    let Ok(schema) = fs::read_to_string(SCHEMA) else {
        println!("skipped, because cloud-init is not installed (apt-get install cloud-init)");
        return;
    };
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let mut known = BTreeSet::new();
    for part in schema["allOf"].as_array().unwrap() {
        let name = part["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
        let properties = schema["$defs"][name]["properties"].as_object();
        known.extend(properties.into_iter().flatten().map(|(key, _)| key.clone()));
    }
    for settings in [Settings::default(), full()] {
        let data = rendered(settings, "eyJhIjoxfQ==");
        let config: Value = serde_json::from_str(data.split_once('\n').unwrap().1).unwrap();
        // cloud-init itself says nothing of a key that it does not know.
        let unknown: Vec<_> =
            config.as_object().unwrap().keys().filter(|key| !known.contains(*key)).collect();
        assert!(unknown.is_empty(), "cloud-init knows no {unknown:?}");
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), data).unwrap();
        let judged = Command::new("cloud-init")
            .args(["schema", "--config-file"])
            .arg(file.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&judged.stdout).into_owned()
            + &String::from_utf8_lossy(&judged.stderr);
        assert!(judged.status.success() && !said.contains("deprecated"), "{said}");
    }
}

#[test]
fn shellcheck_finds_nothing_in_the_shell_parts() {
    let parts = ["start.sh", "job-started.sh", "job-completed.sh"];
    let mut command = Command::new("shellcheck");
    command.args(parts.map(|part| root("src/guest").join(part)));
    match command.output() {
        Ok(judged) => {
            assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
        }
        Err(_) => {
            println!("skipped, because shellcheck is not installed (apt-get install shellcheck)");
        }
    }
}

#[test]
fn the_program_is_python_as_old_as_the_oldest_image_has_it() {
    // Debian 12 has 3.11, Ubuntu 22.04 3.10.
    let check = "import ast, sys\nfor path in sys.argv[1:]:\n    \
                 ast.parse(open(path, encoding='utf-8').read(), path, feature_version=(3, 9))";
    let mut command = Command::new("python3");
    command.args(["-I", "-c", check]);
    for entry in fs::read_dir(root("src/guest/program")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "py") {
            command.arg(path);
        }
    }
    let judged = command.output().expect("python3 is there");
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stderr));
}

#[test]
fn the_programs_own_tests_hold() {
    let judged = Command::new("python3")
        .args(["-B", "-m", "unittest", "--quiet", "program_test", "network_test", "life_test"])
        .current_dir(root("tests/guest"))
        .output()
        .expect("python3 is there");
    let said = String::from_utf8_lossy(&judged.stderr).into_owned();
    assert!(judged.status.success() && said.contains("OK"), "{said}");
}

/// The real parsers behind one pipe: a process for each case would cost a second each.
struct Judge {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Judge {
    fn start() -> Option<Self> {
        let has_yaml = Command::new("/usr/bin/python3").args(["-c", "import yaml"]).output();
        if !has_yaml.is_ok_and(|done| done.status.success()) {
            println!("skipped, because python3-yaml is not installed (apt-get install cloud-init)");
            return None;
        }
        // An empty environment, as a boot has it: what comes out is what was rendered.
        let mut child = Command::new("/usr/bin/python3")
            .args(["-I", "-B"])
            .arg(root("tests/guest/hostile.py"))
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Some(Self { child, answers })
    }

    fn run(&mut self, user_data: &str) -> Value {
        let line = json!(user_data).to_string();
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).expect("the parsers took the user data")
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Texts that break what pastes them: quotes, substitutions, line ends, YAML, control characters,
/// directions of writing, four-byte characters. Only NUL is left out: no environment can hold it.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("'".to_owned()),
        Just("\"".to_owned()),
        Just("$(reboot)".to_owned()),
        Just("`reboot`".to_owned()),
        Just("; reboot #".to_owned()),
        Just("\n".to_owned()),
        Just("\r\n\t".to_owned()),
        Just("\\".to_owned()),
        Just("{{ x }}{% y %}".to_owned()),
        Just("#cloud-config\n".to_owned()),
        Just(": - &a *a !!python/object:os.system".to_owned()),
        Just("EOF\n".to_owned()),
        Just("\u{7f}\u{85}\u{2028}\u{202e}\u{feff}".to_owned()),
        Just("\u{1F600}\u{10FFFF}".to_owned()),
        "[\\x01-\\x1f]",
        "\\PC{0,8}",
        "[a-zA-Z0-9 =%&|<>*?~^-]{0,12}",
    ];
    vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

fn settings() -> impl Strategy<Value = Settings> {
    let key = "[A-Z][A-Z0-9_]{0,8}".prop_map(|key| format!("X_{key}"));
    let application = prop_oneof![
        option::of(hostile()).prop_map(|path| Application::Image { path }),
        (hostile(), hostile()).prop_map(|(url, sha256)| Application::Mirror { url, sha256 }),
    ];
    let home = (hostile(), option::of(hostile())).prop_map(|(url, ca_pem)| Home { url, ca_pem });
    (
        application,
        option::of(hostile()),
        vec(hostile(), 0..3),
        btree_map(key, hostile(), 0..4),
        option::of(home),
        any::<bool>(),
        option::of(hostile()),
    )
        .prop_map(|(application, user, groups, env, home, disable_update, before)| Settings {
            application,
            user,
            groups,
            env,
            home,
            disable_update,
            before,
        })
}

#[test]
fn whatever_a_value_holds_it_comes_out_literally_and_nothing_of_it_runs() {
    let Some(judge) = Judge::start() else { return };
    let judge = Mutex::new(judge);
    let ours = ["bootcmd", "hostname", "manage_etc_hosts", "runcmd", "write_files"];
    let constant: Value = {
        let data = rendered(Settings::default(), "");
        let answer = judge.lock().unwrap().run(&data);
        json!([answer["runcmd"], answer["files"]])
    };
    let cases =
        ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(cases, |(settings in settings(), jit_config in hostile())| {
        let data = rendered(settings.clone(), &jit_config);
        let out = judge.lock().unwrap().run(&data);
        prop_assert_eq!(json!([out["runcmd"], out["files"]]), constant.clone());
        prop_assert_eq!(&out["keys"], &json!(ours));
        prop_assert_eq!(&out["hostname"], NAME);
        let told = &out["data"];
        prop_assert_eq!(&told["jit_config"], &json!(jit_config));
        prop_assert_eq!(&told["user"], &json!(settings.user));
        prop_assert_eq!(&told["groups"], &json!(settings.groups));
        prop_assert_eq!(&told["env"], &json!(settings.env));
        prop_assert_eq!(&told["before"], &json!(settings.before));
        prop_assert_eq!(&told["disable_update"], &json!(settings.disable_update));
        let home = settings.home.as_ref().map(|home| json!({"url": home.url,
            "token": format!("token of {NAME}"), "ca_pem": home.ca_pem}));
        prop_assert_eq!(&told["home"], &json!(home));
        let application = match &settings.application {
            Application::Image { path } => json!({"from": "image", "path": path}),
            Application::Mirror { url, sha256 } => {
                json!({"from": "mirror", "url": url, "sha256": sha256})
            }
            Application::Download { .. } => Value::Null,
        };
        prop_assert_eq!(&told["application"], &application);
        // And through the program and a real shell: the job sees the same text.
        for (key, value) in &settings.env {
            prop_assert_eq!(&out["env"][key], &json!(value));
        }
        prop_assert_eq!(&out["env"]["RUNNER_FLEET_NEXT_JOB_STARTED"], "/opt/hook.sh");
        prop_assert_eq!(&out["dot_env"], "FROM_IMAGE=kept\n");
    });
}
