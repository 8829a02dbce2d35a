//! Cloud-init user data, rendered.
//!
//! OpenStack takes 65,535 bytes, base64 counted, so every file is compressed. A test holds it to
//! five sixths of that with a JIT config and a certificate of the usual size.

use std::{
    fmt,
    io::{Read as _, Write as _},
    sync::{Arc, LazyLock},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use flate2::{Compression, GzBuilder, read::GzDecoder};
use runner_fleet_actors::{
    name::RunnerName,
    port::{ErrorClass, PortError, Secret, UserData},
};
use serde_json::{Value, json};

use super::settings::{Application, Architecture, Download, Home, Settings};

const DATA: &str = "/etc/runner-fleet/guest.json";

macro_rules! program {
    ($name:literal) => {
        (
            concat!("/usr/local/lib/runner-fleet/guest/", $name),
            "0644",
            include_str!(concat!("program/", $name)),
        )
    };
}

/// The files that are the same in every VM: where, mode, content.
const FILES: &[(&str, &str, &str)] = &[
    program!("__main__.py"),
    program!("evidence.py"),
    program!("home.py"),
    program!("hook.py"),
    program!("listener.py"),
    program!("machine.py"),
    program!("prepare.py"),
    program!("proxy.py"),
    program!("record.py"),
    program!("standdown.py"),
    ("/usr/local/lib/runner-fleet/job-started.sh", "0755", include_str!("job-started.sh")),
    ("/usr/local/lib/runner-fleet/job-completed.sh", "0755", include_str!("job-completed.sh")),
    ("/usr/local/lib/runner-fleet/next-hook.sh", "0755", include_str!("next-hook.sh")),
    ("/etc/needrestart/conf.d/runner-fleet.conf", "0644", include_str!("runner-fleet.conf")),
    (
        "/etc/systemd/system/runner-fleet-guest.service",
        "0644",
        include_str!("runner-fleet-guest.service"),
    ),
];

/// What cloud-init runs before anything else.
const HOLD_OFF: &str = include_str!("hold-off.sh");
/// What cloud-init runs once all files are written.
const START: &str = include_str!("start.sh");

static CONSTANT: LazyLock<Vec<Value>> = LazyLock::new(|| {
    FILES.iter().map(|(path, mode, text)| file(path, mode, &bare(text))).collect()
});

/// A text without its lines of comments, which are for who reads the source: every byte counts.
fn bare(text: &str) -> String {
    let stays = |line: &&str| line.starts_with("#!") || !line.trim_start().starts_with('#');
    text.lines().filter(stays).flat_map(|line| [line, "\n"]).collect()
}

/// One file for cloud-init to write.
fn file(path: &str, mode: &str, text: &str) -> Value {
    let (encoding, content) = match packed(text) {
        Ok(packed) => ("gz+b64", packed),
        // Memory is the only thing that this writes to; plain text is as good.
        Err(_) => ("b64", BASE64.encode(text)),
    };
    json!({"path": path, "permissions": mode, "encoding": encoding, "content": content})
}

fn packed(text: &str) -> std::io::Result<String> {
    // No time and no name in it: the same text is the same user data.
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
    gzip.write_all(text.as_bytes())?;
    Ok(BASE64.encode(gzip.finish()?))
}

/// The text that cloud-init would write.
fn unpacked(file: &Value) -> Option<String> {
    let content = BASE64.decode(file.get("content")?.as_str()?).ok()?;
    if file.get("encoding")? != "gz+b64" {
        return String::from_utf8(content).ok();
    }
    let mut text = String::new();
    GzDecoder::new(content.as_slice()).read_to_string(&mut text).ok()?;
    Some(text)
}

type Token = Arc<dyn Fn(&RunnerName) -> Secret + Send + Sync>;
type Downloads = Arc<dyn Fn(Architecture) -> Option<Download> + Send + Sync>;

/// The user data of one pool's runners.
#[derive(Clone)]
pub struct Guest {
    settings: Settings,
    token: Token,
    downloads: Downloads,
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Default for Guest {
    /// Guests of images that hold the runner application, without a way home.
    fn default() -> Self {
        Self::new(Settings::default(), |_| Secret::new(""), |_| None)
    }
}

impl Guest {
    /// `token` is what a runner proves itself with at the daemon; it is asked only where the
    /// settings name a home. `downloads` is the newest runner application that is known, without
    /// waiting for anything.
    pub fn new(
        settings: Settings,
        token: impl Fn(&RunnerName) -> Secret + Send + Sync + 'static,
        downloads: impl Fn(Architecture) -> Option<Download> + Send + Sync + 'static,
    ) -> Self {
        Self { settings, token: Arc::new(token), downloads: Arc::new(downloads) }
    }

    fn application(&self) -> Result<Value, PortError> {
        match &self.settings.application {
            Application::Image { path } => Ok(json!({"from": "image", "path": path})),
            Application::Mirror { url, sha256 } => {
                Ok(json!({"from": "mirror", "url": url, "sha256": sha256}))
            }
            Application::Download { architecture } => {
                let found = (self.downloads)(*architecture).ok_or_else(|| {
                    PortError::certain(
                        ErrorClass::Transient,
                        format!(
                            "GitHub's list of runner applications has not told of one for linux {} \
                             yet, so no VM is made that could not run; if this lasts, see why the \
                             list cannot be read, or let the pool take the application from its \
                             image or a mirror",
                            architecture.as_str()
                        ),
                    )
                })?;
                Ok(json!({
                    "from": "download",
                    "url": found.url,
                    "sha256": found.sha256,
                    "version": found.version,
                }))
            }
        }
    }

    fn home(&self, name: &RunnerName, home: &Home) -> Value {
        json!({
            "url": home.url,
            "token": (self.token)(name).expose(),
            "ca_pem": home.ca_pem,
        })
    }
}

impl UserData for Guest {
    fn ready(&self) -> Result<(), PortError> {
        self.application().map(drop)
    }

    fn render(&self, name: &RunnerName, jit_config: &Secret) -> Result<Secret, PortError> {
        let settings = &self.settings;
        let data = json!({
            "runner": name.as_str(),
            "jit_config": jit_config.expose(),
            "application": self.application()?,
            "user": settings.user,
            "groups": settings.groups,
            "env": settings.env,
            "before": settings.before,
            "disable_update": settings.disable_update,
            "home": settings.home.as_ref().map(|home| self.home(name, home)),
        });
        let mut files = vec![file(DATA, "0600", &data.to_string())];
        files.extend(CONSTANT.iter().cloned());
        let config = json!({
            "hostname": name.as_str(),
            "manage_etc_hosts": "localhost",
            "write_files": files,
            "bootcmd": [["sh", "-c", bare(HOLD_OFF)]],
            "runcmd": [["sh", "-c", bare(START)]],
        });
        Ok(Secret::new(format!("#cloud-config\n{config}\n")))
    }
}

/// The guest's data file in `user_data`, as a guest would find it. For stand-ins and tests.
#[must_use]
pub fn data_in(user_data: &str) -> Option<Value> {
    let (_, config) = user_data.split_once('\n')?;
    let config: Value = serde_json::from_str(config).ok()?;
    let files = config.get("write_files")?.as_array()?;
    let data = files.iter().find(|file| file.get("path").is_some_and(|path| path == DATA))?;
    serde_json::from_str(&unpacked(data)?).ok()
}

/// The JIT config in `user_data`. For stand-in guests.
#[must_use]
pub fn jit_config_in(user_data: &str) -> Option<Secret> {
    Some(Secret::new(data_in(user_data)?.get("jit_config")?.as_str()?))
}
