//! Where the description of a cloud is looked for: the only part that touches files.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::CloudFaults;

/// A file's path and its text.
type Found = (PathBuf, String);

/// What was found: texts with their paths, and the `OS_*` variables.
///
/// The variables may hold a password, hence no `Debug`.
#[derive(Clone, Default)]
pub struct Sources {
    /// `clouds.yaml`: its path and text.
    pub clouds: Option<Found>,
    /// `secure.yaml`: secrets that are merged into the clouds of the same name.
    pub secure: Option<Found>,
    /// `clouds-public.yaml`: the profiles that a cloud may name.
    pub profiles: Option<Found>,
    /// The `OS_*` variables, and where home is.
    pub env: BTreeMap<String, String>,
    /// Which places were looked at in vain, for the message.
    pub searched: Vec<String>,
    /// What is odd about the files themselves.
    pub warnings: Vec<String>,
}

impl Sources {
    /// Reads `file`, else `OS_CLIENT_CONFIG_FILE`, else the first `clouds.yaml`, `clouds.yml` or
    /// `clouds.json` of the current folder, the user's and the system's (the order of openstacksdk);
    /// and likewise `secure.yaml` (`OS_CLIENT_SECURE_FILE`) and `clouds-public.yaml`, which may also
    /// lie beside `clouds.yaml`.
    ///
    /// # Errors
    /// When a file that was named cannot be read. A file that was only looked for may be absent.
    pub fn read(
        file: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, CloudFaults> {
        const PLACES: [&str; 4] = ["HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS", "SNAP_REAL_HOME"];
        let env: BTreeMap<String, String> = env
            .into_iter()
            .filter(|(key, _)| key.starts_with("OS_") || PLACES.contains(&key.as_str()))
            .collect();
        let named = |key: &str| env.get(key).filter(|p| !p.is_empty()).map(PathBuf::from);
        let mut found = Self::default();
        let mut folders = folders(&env);
        found.clouds = match file.map(Path::to_owned).or_else(|| named("OS_CLIENT_CONFIG_FILE")) {
            Some(path) => Some(text(path)?),
            None => found.first(&folders, "clouds")?,
        };
        if let Some(beside) = found.clouds.as_ref().and_then(|(path, _)| path.parent()) {
            folders.insert(0, beside.to_owned());
        }
        let looked_at = std::mem::take(&mut found.searched);
        found.secure = match named("OS_CLIENT_SECURE_FILE") {
            Some(path) => Some(text(path)?),
            None => found.first(&folders, "secure")?,
        };
        found.profiles = found.first(&folders, "clouds-public")?;
        found.searched = looked_at;
        for (path, _) in [&found.clouds, &found.secure].into_iter().flatten() {
            let mode = path.metadata().map(|meta| meta.permissions().mode() & 0o777);
            if let Ok(mode) = mode
                && mode & 0o007 != 0
            {
                let name = path.display();
                found.warnings.push(format!(
                    "{name}: may hold secrets, and everybody may use it (mode {mode:04o}); run: \
                     chmod 0640 {name}"
                ));
            }
        }
        found.env = env;
        Ok(found)
    }

    /// The first file of this name, whatever its suffix.
    fn first(&mut self, folders: &[PathBuf], name: &str) -> Result<Option<Found>, CloudFaults> {
        for folder in folders {
            for suffix in ["yaml", "yml", "json"] {
                let path = folder.join(format!("{name}.{suffix}"));
                match std::fs::read_to_string(&path) {
                    Ok(text) => return Ok(Some((path, text))),
                    // openstacksdk goes on as well; here it is said.
                    Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                        self.searched.push(format!("{} ({e})", path.display()));
                        self.warnings.push(format!("{}: passed over: {e}", path.display()));
                    }
                    Err(e)
                        if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
                    {
                        self.searched.push(path.display().to_string());
                    }
                    Err(e) => return Err(unreadable(&path, &e)),
                }
            }
        }
        Ok(None)
    }
}

fn text(path: PathBuf) -> Result<Found, CloudFaults> {
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok((path, text)),
        Err(error) => Err(unreadable(&path, &error)),
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> CloudFaults {
    CloudFaults(vec![format!("{}: cannot be read: {error}", path.display())])
}

fn folders(env: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let place = |key: &str| env.get(key).filter(|p| !p.is_empty()).map(PathBuf::from);
    let home = place("SNAP_REAL_HOME").or_else(|| place("HOME"));
    let system = env.get("XDG_CONFIG_DIRS").filter(|p| !p.is_empty()).cloned();
    let system = system.unwrap_or_else(|| "/etc/xdg".to_owned());
    let mut folders = vec![PathBuf::from(".")];
    let user = [place("XDG_CONFIG_HOME"), home.map(|home| home.join(".config"))];
    let system = system.split(':').map(PathBuf::from);
    for folder in user.into_iter().flatten().chain(system).chain(["/etc".into()]) {
        let folder = folder.join("openstack");
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}
