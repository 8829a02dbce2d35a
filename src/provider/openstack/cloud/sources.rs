//! Where the description of a cloud is looked for: the only part that touches files.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::CloudFaults;

/// What was found: texts with their paths, and the `OS_*` variables.
///
/// The variables may hold a password, hence no `Debug`.
#[derive(Clone, Default)]
pub struct Sources {
    /// `clouds.yaml`: its path and text.
    pub clouds: Option<(PathBuf, String)>,
    /// `secure.yaml` beside it: secrets that are merged into the clouds of the same name.
    pub secure: Option<(PathBuf, String)>,
    /// The `OS_*` variables.
    pub env: BTreeMap<String, String>,
    /// Which places were looked at in vain, for the message.
    pub searched: Vec<String>,
}

impl Sources {
    /// Reads `file`, else `OS_CLIENT_CONFIG_FILE`, else the first `clouds.yaml` of the current
    /// folder, the user's and the system's (the order of openstacksdk), and `secure.yaml` beside it.
    ///
    /// # Errors
    /// When a file that was named cannot be read. A file that was only looked for may be absent.
    pub fn read(
        file: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, CloudFaults> {
        let env: BTreeMap<String, String> = env
            .into_iter()
            .filter(|(key, _)| key.starts_with("OS_") || key == "HOME" || key == "XDG_CONFIG_HOME")
            .collect();
        let named = file
            .map(Path::to_owned)
            .or_else(|| env.get("OS_CLIENT_CONFIG_FILE").filter(|p| !p.is_empty()).map(Into::into));
        let mut found = Self::default();
        if let Some(path) = named {
            let text = std::fs::read_to_string(&path).map_err(|e| {
                CloudFaults(vec![format!("{}: cannot be read: {e}", path.display())])
            })?;
            found.clouds = Some((path, text));
        } else {
            for folder in folders(&env) {
                let path = folder.join("clouds.yaml");
                match std::fs::read_to_string(&path) {
                    Ok(text) => {
                        found.clouds = Some((path, text));
                        break;
                    }
                    Err(_) => found.searched.push(path.display().to_string()),
                }
            }
        }
        if let Some((path, _)) = &found.clouds {
            let secure = path.with_file_name("secure.yaml");
            match std::fs::read_to_string(&secure) {
                Ok(text) => found.secure = Some((secure, text)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => {
                    return Err(CloudFaults(vec![format!(
                        "{}: cannot be read: {e}",
                        secure.display()
                    )]));
                }
            }
        }
        found.env = env;
        Ok(found)
    }
}

fn folders(env: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let user = env
        .get("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| env.get("HOME").map(|home| Path::new(home).join(".config")));
    let mut folders = vec![PathBuf::from(".")];
    folders.extend(user.map(|folder| folder.join("openstack")));
    folders.push("/etc/openstack".into());
    folders
}
