//! `guest` of a pool: what its VMs run.

use std::collections::BTreeMap;

use url::Url;

use super::read::Section;

/// Longest name of a user or group (useradd(8)).
const NAME_MAX: usize = 32;

/// A processor architecture, in GitHub's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Architecture {
    /// x86-64. The default.
    #[default]
    X64,
    /// 64-bit ARM.
    Arm64,
}

impl Architecture {
    const WORDS: [(&'static str, Self); 2] = [("x64", Self::X64), ("arm64", Self::Arm64)];

    /// GitHub's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X64 => "x64",
            Self::Arm64 => "arm64",
        }
    }
}

/// One version of the runner application and how its archive is known to be the right one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// Such as `2.330.0`.
    pub version: String,
    /// SHA-256 of the archive, 64 lower-case hexadecimal digits.
    pub sha256: String,
}

/// Where the runner application comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Application {
    /// It is in the image. The default.
    Image {
        /// Its folder; `None` = one of the usual places.
        path: Option<String>,
    },
    /// The guest downloads it.
    Download {
        /// From where instead of GitHub: a folder's address.
        mirror: Option<Url>,
        /// A fixed version instead of the newest one that GitHub offers. Only with a mirror: GitHub
        /// tells the checksum of the newest one alone.
        pinned: Option<Pinned>,
        /// For which processor.
        architecture: Architecture,
    },
}

/// `guest` of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// The unprivileged user that jobs run as; made where the image has none. `None` = whose the runner
    /// application in the image is, and `runner` where it is downloaded.
    pub user: Option<String>,
    /// Groups of that user besides its own.
    pub groups: Vec<String>,
    /// What jobs find in their environment.
    pub env: BTreeMap<String, String>,
    /// Where the runner application comes from.
    pub application: Application,
    /// Whether the runner application is kept from updating itself: an update costs a single-use
    /// runner a minute before its job. Default false: GitHub refuses one that is 30 days behind, and a
    /// slow runner is better than none.
    pub disable_update: bool,
    /// A shell command that root runs before anything else, at most ten minutes; where it fails the VM
    /// takes no job.
    pub before: Option<String>,
}

impl Default for Guest {
    fn default() -> Self {
        Self {
            user: None,
            groups: Vec::new(),
            env: BTreeMap::new(),
            application: Application::Image { path: None },
            disable_update: false,
            before: None,
        }
    }
}

/// Reads `guest`; what is not given has its default.
pub(super) fn read(section: Option<Section<'_>>) -> Guest {
    let mut guest = Guest::default();
    let Some(section) = section else { return guest };
    if let Some(user) = section.text("user") {
        if user == "root" {
            section.fault("user", "\"root\" is not allowed: jobs run as an unprivileged user");
        } else if !is_name(user) {
            section.fault("user", format_args!("{user:?} is not allowed: {NAME_RULE}"));
        }
        guest.user = Some(user.to_owned());
    }
    guest.groups = section.texts("groups");
    for group in guest.groups.iter().filter(|group| !is_name(group)) {
        section.fault("groups", format_args!("{group:?} is not allowed: {NAME_RULE}"));
    }
    guest.env = section.text_table("env");
    for key in guest.env.keys() {
        if let Some(why) = unusable_variable(key) {
            section.fault("env", format_args!("{key:?} is not allowed: {why}"));
        }
    }
    for (key, value) in &guest.env {
        if value.contains(['\n', '\r', '\0']) {
            // The runner application reads its `.env` line by line (actions/runner, `env.sh`).
            section.fault("env", format_args!("the value of {key:?} must be one line"));
        }
    }
    guest.application = application(&section);
    guest.disable_update = section.flag("disable_update", guest.disable_update);
    guest.before = section.text("before").map(str::to_owned);
    if guest.before.as_deref().is_some_and(|command| command.contains('\0')) {
        section.fault("before", "no command of a shell has a zero byte");
    }
    section.finish();
    guest
}

const NAME_RULE: &str =
    "at most 32 of a-z, 0-9, dashes and underscores, beginning with a letter or underscore";

fn is_name(text: &str) -> bool {
    text.len() <= NAME_MAX
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c))
}

/// Why a variable may not be set.
fn unusable_variable(key: &str) -> Option<&'static str> {
    let legal = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !legal {
        return Some("letters, digits and underscores, not beginning with a digit");
    }
    ["ACTIONS_RUNNER_HOOK_", "ACTIONS_RUNNER_INPUT_"]
        .iter()
        .any(|ours| key.starts_with(ours))
        .then_some("the fleet sets it itself")
}

fn application(section: &Section<'_>) -> Application {
    let download =
        section.word("application", &[("image", false), ("download", true)]).unwrap_or_default();
    let path = section.text("application_path").map(str::to_owned);
    if let Some(path) = path.as_deref()
        && !path.starts_with('/')
    {
        section.fault(
            "application_path",
            format_args!("{path:?} is not allowed: a folder in the image, from its root on"),
        );
    }
    let mirror = section
        .text("mirror")
        .and_then(|text| mirror(text).map_err(|why| section.fault("mirror", why)).ok());
    let version = section.text("version");
    if let Some(version) = version
        && !is_version(version)
    {
        section.fault("version", format_args!("{version:?} is not allowed: such as \"2.330.0\""));
    }
    let sha256 = section.text("mirror_sha256").map(str::to_ascii_lowercase);
    if let Some(sha256) = &sha256
        && !(sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit()))
    {
        section.fault("mirror_sha256", "is not allowed: the 64 hexadecimal digits of a SHA-256");
    }
    let architecture = section.word("architecture", &Architecture::WORDS).unwrap_or_default();
    let useless: &[&'static str] = if download {
        &["application_path"]
    } else {
        &["mirror", "version", "mirror_sha256", "architecture"]
    };
    for key in useless.iter().copied().filter(|key| section.has(key)) {
        let other = if download { "image" } else { "download" };
        section.fault(key, format_args!("is of use only with application = {other:?}"));
    }
    if !download {
        return Application::Image { path };
    }
    for (key, other) in [("version", "mirror_sha256"), ("mirror_sha256", "version")] {
        if !section.has(key) {
            continue;
        }
        if !section.has("mirror") {
            section
                .fault(key, "is of use only with mirror: GitHub offers its newest version alone");
        } else if !section.has(other) {
            section.fault(key, format_args!("needs {other}: a version is fixed with its checksum"));
        }
    }
    let pinned =
        version.zip(sha256).map(|(version, sha256)| Pinned { version: version.to_owned(), sha256 });
    Application::Download { mirror, pinned, architecture }
}

fn is_version(text: &str) -> bool {
    let numbers: Vec<&str> = text.split('.').collect();
    numbers.len() == 3 && numbers.iter().all(|number| number.parse::<u32>().is_ok())
}

fn mirror(text: &str) -> Result<Url, String> {
    let refuse = |why: &str| format!("{text:?} is not allowed: {why}");
    let url =
        Url::parse(text).map_err(|_| refuse("an address such as \"https://mirror/runner/\""))?;
    if !url.username().is_empty() || url.password().is_some() {
        // Not shown: the address holds a secret.
        return Err(
            "a user or password in the address is not allowed: every job could read it".to_owned()
        );
    }
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(refuse("it must begin with https:// or http:// (the checksum guards it)"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("only scheme, host, port and path"));
    }
    Ok(url)
}
