//! User data of whatever settings: cloud-init's YAML and the guest's JSON hold them unchanged.

use std::{collections::BTreeMap, sync::LazyLock};

use runner_fleet::guest::{
    Application, Architecture, Download, Guest, Home, Settings, data_in, jit_config_in,
};
use runner_fleet_actors::{
    name::RunnerName,
    port::{Secret, UserData},
};
use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value, json};

use super::is_judged;

/// What a test and a fuzzer may set, as JSON: `{"user": …, "env": {…}, "jit_config": …}`. A text that
/// is no such thing stands in every place at once.
pub fn check(input: &[u8]) {
    let wanted = Wanted::of(input);
    let guest = wanted.guest();
    let name: RunnerName = "ci--small--0123456789ab".parse().unwrap();
    let jit_config = Secret::new(wanted.text("jit_config"));
    let rendered = guest.render(&name, &jit_config).unwrap();
    let own = without_constants(rendered.expose());

    let data = data_in(&own).expect("the guest's file is read as a guest reads it");
    assert_eq!(data, wanted.data(&name));

    // What follows costs more than all of this, and around the data file, which is base64, there is
    // nothing that an input could change.
    if !is_judged(input, 16) {
        return;
    }
    let again = guest.render(&name, &jit_config).unwrap();
    assert_eq!(rendered.expose(), again.expose(), "the same settings are the same user data");
    assert_eq!(jit_config_in(&own), Some(jit_config));
    let (header, config) = own.split_once('\n').unwrap();
    assert_eq!(header, "#cloud-config");
    let config: Value = serde_json::from_str(config).unwrap();
    assert_eq!(yaml(&own), config, "YAML's parsers read what JSON's do");
    assert_eq!(config["hostname"], name.as_str());
    assert_eq!(config["write_files"][0]["permissions"], "0600");
}

struct Wanted {
    given: Map<String, Value>,
    /// For what is not given.
    other: String,
    settings: Settings,
}

impl Wanted {
    fn of(input: &[u8]) -> Self {
        let (given, other) = match serde_json::from_slice(input) {
            Ok(Value::Object(given)) => (given, String::new()),
            _ => (Map::new(), String::from_utf8_lossy(input).into_owned()),
        };
        let mut wanted = Self { given, other, settings: Settings::default() };
        wanted.settings = Settings {
            application: match wanted.text("application").as_str() {
                "mirror" => {
                    Application::Mirror { url: wanted.text("url"), sha256: wanted.text("sha256") }
                }
                "download" => Application::Download { architecture: Architecture::Arm64 },
                _ => Application::Image { path: wanted.optional("path") },
            },
            user: wanted.optional("user"),
            groups: wanted.list("groups"),
            env: wanted.table("env"),
            home: wanted.optional("home").map(|url| Home { url, ca_pem: wanted.optional("ca") }),
            disable_update: wanted.given.contains_key("disable_update"),
            before: wanted.optional("before"),
        };
        wanted
    }

    fn optional(&self, key: &str) -> Option<String> {
        match self.given.get(key) {
            Some(Value::String(text)) => Some(text.clone()),
            _ => (!self.other.is_empty()).then(|| self.other.clone()),
        }
    }

    fn text(&self, key: &str) -> String {
        self.optional(key).unwrap_or_default()
    }

    fn list(&self, key: &str) -> Vec<String> {
        let Some(list) = self.given.get(key).and_then(Value::as_array) else {
            return self.optional(key).into_iter().collect();
        };
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    fn table(&self, key: &str) -> BTreeMap<String, String> {
        let Some(table) = self.given.get(key).and_then(Value::as_object) else {
            return self.optional(key).map(|text| (text.clone(), text)).into_iter().collect();
        };
        let text =
            |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
        table.iter().filter_map(text).collect()
    }

    fn guest(&self) -> Guest {
        let token = Secret::new(self.text("token"));
        let [version, url, filename, sha256] =
            ["version", "url", "filename", "sha256"].map(|key| self.text(key));
        let download = Download { version, url, filename, sha256 };
        Guest::new(self.settings.clone(), move |_| token.clone(), move |_| Some(download.clone()))
    }

    /// What the guest must find.
    fn data(&self, name: &RunnerName) -> Value {
        let token = self.text("token");
        let Settings { application, user, groups, env, home, disable_update, before } =
            &self.settings;
        let (url, sha256) = (self.text("url"), self.text("sha256"));
        json!({
            "runner": name.as_str(),
            "jit_config": self.text("jit_config"),
            "application": match application {
                Application::Image { path } => json!({ "from": "image", "path": path }),
                Application::Mirror { .. } => {
                    json!({ "from": "mirror", "url": url, "sha256": sha256 })
                }
                Application::Download { .. } => {
                    let version = self.text("version");
                    json!({ "from": "download", "url": url, "sha256": sha256, "version": version })
                }
            },
            "user": user,
            "groups": groups,
            "env": env,
            "before": before,
            "disable_update": disable_update,
            "home": home.as_ref().map(|home| {
                json!({ "url": home.url, "token": token, "ca_pem": home.ca_pem })
            }),
        })
    }
}

/// The files that are the same in every VM, as they stand in user data. They are read once, so that a
/// fuzzer does not read the same 20 KB each time.
static CONSTANT: LazyLock<String> = LazyLock::new(|| {
    let name: RunnerName = "ci--small--0123456789ab".parse().unwrap();
    let rendered = Guest::default().render(&name, &Secret::new("")).unwrap();
    let (_, config) = rendered.expose().split_once('\n').unwrap();
    let json: Value = serde_json::from_str(config).unwrap();
    assert_eq!(yaml(rendered.expose()), json);
    let files = json["write_files"].as_array().unwrap()[1..].iter().map(Value::to_string);
    format!(",{}", files.collect::<Vec<_>>().join(","))
});

fn without_constants(rendered: &str) -> String {
    const OWN_ENDS: &str = r#""permissions":"0600"}"#;
    let (own, others) = rendered.split_once(OWN_ENDS).expect("the one file that is data");
    let rest = others.strip_prefix(CONSTANT.as_str());
    let rest = rest.expect("the files that are the same in every VM come next");
    format!("{own}{OWN_ENDS}{rest}")
}

/// YAML as JSON's values.
fn yaml(text: &str) -> Value {
    let mut parser = Parser::new_from_str(text);
    let mut next = || parser.next_event().expect("it ends").expect("it is YAML").0;
    loop {
        match next() {
            Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
            event => {
                let root = node(event, &mut next);
                assert!(matches!(next(), Event::DocumentEnd) && matches!(next(), Event::StreamEnd));
                return root;
            }
        }
    }
}

fn node<'a>(event: Event<'a>, next: &mut impl FnMut() -> Event<'a>) -> Value {
    match event {
        // What is not quoted is a number, a flag or nothing, in JSON's words.
        Event::Scalar(text, ScalarStyle::Plain, ..) => serde_json::from_str(&text).unwrap(),
        Event::Scalar(text, ..) => text.into_owned().into(),
        Event::SequenceStart(..) => {
            let mut list = Vec::new();
            loop {
                match next() {
                    Event::SequenceEnd => return list.into(),
                    event => list.push(node(event, next)),
                }
            }
        }
        Event::MappingStart(..) => {
            let mut map = Map::new();
            loop {
                match next() {
                    Event::MappingEnd => return map.into(),
                    key => {
                        let Value::String(key) = node(key, next) else { panic!("a key is a text") };
                        let value = node(next(), next);
                        assert_eq!(map.insert(key, value), None, "a key stands once");
                    }
                }
            }
        }
        other => panic!("{other:?}"),
    }
}
