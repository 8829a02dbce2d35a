//! From a pool's `guest` table to the user data of its VMs.
//!
//! **A changed guest is a changed runner.** What the configuration says of a pool's guests goes, as a
//! digest beside that of the shape, onto each VM; after a change the idle runners are replaced as after
//! a change of the image, `replace_at_once` at a time, and never a busy one. It is what somebody *says*
//! that counts, not the user data that is rendered from it. The program in it changes with every version
//! of the daemon, and the newest runner application with every release of GitHub's, and neither may
//! replace a whole fleet at once: guests of the version before speak the same protocol, and no idle
//! runner is older than its limit, a day if nothing else is said. For the same reason a setting that is
//! not given leaves no trace in the digest, so that a version that knows one more changes none; and a VM
//! from before there was such a digest is never held against it.

use std::{collections::BTreeMap, sync::Arc};

use runner_fleet_actors::{
    name::{RunnerName, Scope},
    port::{Secret, UserData, short_digest},
};
use serde_json::{Value, json};
use url::Url;

use super::reception::Reception;
use crate::{config, github::downloads::Downloads, guest};

/// The newest runner application for a scope and a machine, read without waiting.
pub(super) type Newest =
    dyn Fn(&Scope, guest::Architecture) -> Option<guest::Download> + Send + Sync;

/// What every pool's user data is made with.
#[derive(Clone)]
pub(super) struct Makings {
    /// Where the guests report; `None`: nowhere.
    pub home: Option<guest::Home>,
    /// A runner's own token at the daemon.
    pub token: Arc<dyn Fn(&RunnerName) -> Secret + Send + Sync>,
    /// The newest runner application that GitHub is known to offer a scope.
    pub downloads: Arc<Newest>,
}

impl Makings {
    /// What the configuration says of all guests. They report where there is a reception to report to.
    ///
    /// # Errors
    /// A certificate that guests are to trust cannot be read.
    pub(super) fn new(
        guests: Option<&config::Guests>,
        reception: Option<&Reception>,
        downloads: Arc<Downloads>,
    ) -> Result<Self, String> {
        let newest = move |scope: &Scope, architecture: guest::Architecture| {
            let found = downloads.latest(scope, "linux", architecture.as_str())?;
            Some(guest::Download {
                version: found.version.to_string(),
                url: found.url.to_string(),
                filename: found.filename,
                sha256: found.sha256?,
            })
        };
        let downloads: Arc<Newest> = Arc::new(newest);
        let Some((guests, reception)) = guests.zip(reception) else {
            return Ok(Self { home: None, token: Arc::new(|_| Secret::new("")), downloads });
        };
        let ca_pem = guests.ca_file.as_deref().map(|path| {
            std::fs::read_to_string(path).map_err(|error| {
                format!("guests.ca_file: {} cannot be read: {error}", path.display())
            })
        });
        let home = guest::Home { url: guests.url.to_string(), ca_pem: ca_pem.transpose()? };
        let key = reception.key().clone();
        Ok(Self { home: Some(home), token: Arc::new(move |name| key.token(name)), downloads })
    }

    /// What is said of one pool's guests, as it is kept on their VMs.
    pub(super) fn digest(&self, pool: &config::Guest) -> String {
        let config::Guest { user, groups, env, application, disable_update, before } = pool;
        let application = match application {
            config::Application::Image { path } => path.as_ref().map(|path| json!(["image", path])),
            config::Application::Download { mirror, pinned, architecture } => {
                let pinned = pinned.as_ref().map(|pinned| [&pinned.version, &pinned.sha256]);
                let mirror = mirror.as_ref().map(Url::as_str);
                Some(json!(["download", mirror, pinned, architecture.as_str()]))
            }
        };
        let home = self.home.as_ref().map(|home| json!([home.url, home.ca_pem]));
        let said: BTreeMap<&str, Option<Value>> = [
            ("application", application),
            ("before", before.as_ref().map(|command| json!(command))),
            ("disable_update", disable_update.then(|| json!(true))),
            ("env", (!env.is_empty()).then(|| json!(env))),
            ("groups", (!groups.is_empty()).then(|| json!(groups))),
            ("home", home),
            ("user", user.as_ref().map(|user| json!(user))),
        ]
        .into();
        let said: Value = said.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        short_digest(&said.to_string())
    }

    /// The user data of one pool's VMs.
    pub(super) fn user_data(&self, pool: &config::Guest, scope: &Scope) -> Arc<dyn UserData> {
        let settings = guest::Settings {
            application: application(&pool.application),
            user: pool.user.clone(),
            groups: pool.groups.clone(),
            env: pool.env.clone(),
            home: self.home.clone(),
            disable_update: pool.disable_update,
            before: pool.before.clone(),
        };
        let mirror = match &pool.application {
            config::Application::Download { mirror, .. } => mirror.clone(),
            config::Application::Image { .. } => None,
        };
        let (token, downloads) = (Arc::clone(&self.token), Arc::clone(&self.downloads));
        let scope = scope.clone();
        if let guest::Application::Download { architecture } = settings.application {
            // Read once, so that GitHub is asked before the first launch needs the answer.
            let _not_yet = downloads(&scope, architecture);
        }
        let newest = move |architecture| {
            let found = downloads(&scope, architecture)?;
            Some(match &mirror {
                Some(mirror) => guest::Download { url: within(mirror, &found.filename), ..found },
                None => found,
            })
        };
        Arc::new(guest::Guest::new(settings, move |name| token(name), newest))
    }
}

fn application(configured: &config::Application) -> guest::Application {
    match configured {
        config::Application::Image { path } => guest::Application::Image { path: path.clone() },
        config::Application::Download {
            mirror: Some(mirror),
            pinned: Some(pinned),
            architecture,
        } => {
            let (version, architecture) = (&pinned.version, architecture.as_str());
            let archive = format!("actions-runner-linux-{architecture}-{version}.tar.gz");
            guest::Application::Mirror {
                url: within(mirror, &archive),
                sha256: pinned.sha256.clone(),
            }
        }
        config::Application::Download { architecture, .. } => guest::Application::Download {
            architecture: match architecture {
                config::Architecture::X64 => guest::Architecture::X64,
                config::Architecture::Arm64 => guest::Architecture::Arm64,
            },
        },
    }
}

/// The address of a file in a folder, whether or not the folder's own ends with a slash.
fn within(folder: &Url, file: &str) -> String {
    format!("{}/{file}", folder.as_str().trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn makings() -> Makings {
        Makings {
            home: None,
            token: Arc::new(|_| Secret::new("")),
            downloads: Arc::new(|_, architecture| {
                let filename =
                    format!("actions-runner-linux-{}-2.336.0.tar.gz", architecture.as_str());
                Some(guest::Download {
                    version: "2.336.0".into(),
                    url: format!("https://github.example/{filename}"),
                    filename,
                    sha256: "ab".repeat(32),
                })
            }),
        }
    }

    /// Kept on VMs: what a later version would say otherwise would replace every runner of every fleet.
    #[test]
    fn what_is_said_of_guests_is_known_by_the_same_digest_for_ever() {
        let digest = |pool| makings().digest(&pool);
        assert_eq!(digest(config::Guest::default()), short_digest("{}"), "nothing is said");
        let pinned = config::Pinned { version: "2.330.0".into(), sha256: "cd".repeat(32) };
        let all = config::Guest {
            user: Some("runner".into()),
            groups: vec!["docker".into()],
            env: [("B".to_owned(), "2".to_owned()), ("A".to_owned(), "1".to_owned())].into(),
            disable_update: true,
            ..download(Some("http://mirror.example/"), Some(pinned))
        };
        let text = format!(
            r#"{{"application":["download","http://mirror.example/",["2.330.0","{}"],"arm64"],"disable_update":true,"env":{{"A":"1","B":"2"}},"groups":["docker"],"user":"runner"}}"#,
            "cd".repeat(32)
        );
        assert_eq!(digest(all), short_digest(&text));
    }

    #[test]
    fn every_setting_of_a_guest_is_a_change_of_it_and_a_new_release_is_none() {
        let plain = config::Guest::default;
        let image = |path: &str| config::Application::Image { path: Some(path.to_owned()) };
        let pools = [
            plain(),
            config::Guest { user: Some("ci".into()), ..plain() },
            config::Guest { groups: vec!["docker".into()], ..plain() },
            config::Guest { env: [("A".to_owned(), "1".to_owned())].into(), ..plain() },
            config::Guest { env: [("A".to_owned(), "2".to_owned())].into(), ..plain() },
            config::Guest { disable_update: true, ..plain() },
            config::Guest { before: Some("true".into()), ..plain() },
            config::Guest { application: image("/opt/a"), ..plain() },
            config::Guest { application: image("/opt/b"), ..plain() },
            download(None, None),
            download(Some("http://a.example/"), None),
            download(Some("http://b.example/"), None),
        ];
        let home = |url: &str, ca: Option<&str>| {
            let (url, ca_pem) = (url.to_owned(), ca.map(str::to_owned));
            Makings { home: Some(guest::Home { url, ca_pem }), ..makings() }
        };
        let homes = [home("http://a", None), home("http://b", None), home("http://a", Some("PEM"))];
        let mut digests: Vec<String> = pools.iter().map(|pool| makings().digest(pool)).collect();
        digests.extend(homes.iter().map(|makings| makings.digest(&plain())));
        let different: std::collections::BTreeSet<_> = digests.iter().collect();
        assert_eq!(different.len(), digests.len(), "{digests:?}");

        let released = Makings { downloads: Arc::new(|_, _| None), ..makings() };
        let newest = download(None, None);
        assert_eq!(released.digest(&newest), makings().digest(&newest));
    }

    fn application_of(pool: &config::Guest) -> serde_json::Value {
        let name = "ci--small--0123456789ab".parse().unwrap();
        let scope = "octo-org".parse().unwrap();
        let data = makings().user_data(pool, &scope).render(&name, &Secret::new("jit")).unwrap();
        guest::data_in(data.expose()).unwrap()["application"].clone()
    }

    fn download(mirror: Option<&str>, pinned: Option<config::Pinned>) -> config::Guest {
        config::Guest {
            application: config::Application::Download {
                mirror: mirror.map(|url| url.parse().unwrap()),
                pinned,
                architecture: config::Architecture::Arm64,
            },
            ..config::Guest::default()
        }
    }

    #[test]
    fn the_newest_runner_application_comes_from_github_or_under_its_own_name_from_a_mirror() {
        let archive = "actions-runner-linux-arm64-2.336.0.tar.gz";
        let from_github = application_of(&download(None, None));
        assert_eq!(from_github["url"], format!("https://github.example/{archive}"));
        for folder in ["http://mirror.example/runner", "http://mirror.example/runner/"] {
            let from_mirror = application_of(&download(Some(folder), None));
            assert_eq!(from_mirror["url"], format!("http://mirror.example/runner/{archive}"));
            assert_eq!(from_mirror["sha256"], "ab".repeat(32));
        }
    }

    #[test]
    fn a_fixed_version_comes_from_its_mirror_with_its_own_checksum() {
        let pinned = config::Pinned { version: "2.330.0".into(), sha256: "cd".repeat(32) };
        let fixed = application_of(&download(Some("http://mirror.example/"), Some(pinned)));
        let url = "http://mirror.example/actions-runner-linux-arm64-2.330.0.tar.gz";
        assert_eq!(fixed["url"], url);
        assert_eq!(fixed["sha256"], "cd".repeat(32));
    }
}
