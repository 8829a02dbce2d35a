//! What the daemon says of itself, on stderr.
//!
//! Rules. The level comes from the configuration and follows its reload; `RUNNER_FLEET_LOG`, in the
//! syntax of `tracing_subscriber::EnvFilter`, overrides it for one start. Whatever either says, the
//! crates that print requests stay at info: at debug they print headers and bodies, tokens, JIT
//! configs and the user data of VMs among them. The alternative, to trust everybody who turns on debug
//! to know that, puts registration secrets into log stores.

pub mod noise;

use std::{fmt, io};

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter, Registry,
    filter::filter_fn,
    fmt::MakeWriter,
    layer::{Layer, SubscriberExt},
    reload,
    util::SubscriberInitExt,
};

use crate::config::{Env, Fleet, LogFormat, LogLevel};

/// The variable that overrides `log_level`.
const OVERRIDE: &str = "RUNNER_FLEET_LOG";

/// Crates that print requests and answers, secrets included, below info.
const CAPPED: [&str; 9] = [
    "openstack",
    "osauth",
    "octocrab",
    "hyper",
    "hyper_util",
    "hyper_rustls",
    "reqwest",
    "h2",
    "rustls",
];

/// Crates whose warnings any peer of a listener can cause, as often as he likes. What is wrong with his
/// connection is told by the server, and counted.
const LOUD: [&str; 2] = ["hyper", "rustls"];

/// Why the log cannot be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// `RUNNER_FLEET_LOG` is no filter.
    #[error(
        "{OVERRIDE}={given:?} is no log filter: {why}; such as \"debug\" or \"info,runner_fleet=trace\""
    )]
    Override {
        /// What it says.
        given: String,
        /// What is wrong with it.
        why: String,
    },
    /// The log was set up before.
    #[error("the log is set up already")]
    Twice,
}

/// Changes the level while the daemon runs.
#[derive(Clone)]
pub struct LogControl {
    filter: reload::Handle<EnvFilter, Registry>,
    overridden: bool,
}

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogControl").field("overridden", &self.overridden).finish_non_exhaustive()
    }
}

impl LogControl {
    /// Takes over another level, unless `RUNNER_FLEET_LOG` overrides it.
    pub fn set_level(&self, level: LogLevel) {
        if self.overridden {
            return;
        }
        if let Err(error) = self.filter.reload(EnvFilter::new(level.as_str())) {
            tracing::warn!(%error, "log level not changed");
        }
    }
}

/// Sets the log up for this process.
///
/// # Errors
/// `RUNNER_FLEET_LOG` is no filter, or it was set up before.
pub fn init(fleet: &Fleet) -> Result<LogControl, LogError> {
    let (subscriber, control) =
        subscriber(fleet.log_level, fleet.log_format, &Env::of_process(), io::stderr)?;
    subscriber.try_init().map_err(|_| LogError::Twice)?;
    Ok(control)
}

fn allowed(metadata: &Metadata<'_>) -> bool {
    let from = metadata.target().split("::").next().unwrap_or_default();
    let (level, error) = (*metadata.level(), Level::ERROR);
    (level <= Level::INFO || !CAPPED.contains(&from)) && (level <= error || !LOUD.contains(&from))
}

fn subscriber<W>(
    level: LogLevel,
    format: LogFormat,
    env: &Env,
    writer: W,
) -> Result<(impl Subscriber + Send + Sync + use<W>, LogControl), LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = match env.get(OVERRIDE) {
        Some(text) => EnvFilter::try_new(text).map_err(|error| LogError::Override {
            given: text.to_owned(),
            why: error.to_string(),
        })?,
        None => EnvFilter::new(level.as_str()),
    };
    let (filter, handle) = reload::Layer::new(filter);
    let control = LogControl { filter: handle, overridden: env.get(OVERRIDE).is_some() };
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    let lines: Box<dyn Layer<_> + Send + Sync> = match format {
        LogFormat::Text => Box::new(lines),
        LogFormat::Json => Box::new(lines.json().flatten_event(true)),
    };
    Ok((Registry::default().with(filter).with(filter_fn(allowed)).with(lines), control))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Page {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn logged(
        level: LogLevel,
        format: LogFormat,
        over: Option<&str>,
        say: impl FnOnce(&LogControl),
    ) -> String {
        let page = Page::default();
        let writer = page.clone();
        let env = over.map(|text| (OVERRIDE.to_owned(), text.to_owned())).into_iter().collect();
        let (subscriber, control) =
            subscriber(level, format, &env, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || say(&control));
        page.text()
    }

    #[test]
    fn crates_that_print_user_data_never_speak_below_info() {
        for over in [None, Some("trace"), Some("openstack::session=trace,osauth=debug")] {
            let text = logged(LogLevel::Trace, LogFormat::Text, over, |_| {
                tracing::debug!(target: "openstack::session", "s3cr3t");
                tracing::trace!(target: "osauth", "s3cr3t");
                tracing::trace!(target: "reqwest::connect", "s3cr3t");
                tracing::debug!(target: "octocrab", "s3cr3t");
                tracing::debug!(target: "hyper::proto", "s3cr3t");
                tracing::error!(target: "openstack::session", "a failure");
            });
            assert!(text.contains("a failure"), "{text}");
            assert!(!text.contains("s3cr3t"), "{text}");
        }
    }

    #[test]
    fn crates_in_which_any_peer_can_cause_warnings_are_not_heard_below_errors() {
        let text = logged(LogLevel::Trace, LogFormat::Text, None, |_| {
            tracing::warn!(target: "rustls::common_state", "TLS alert warning received");
            tracing::warn!(target: "hyper::proto::h1::conn", "read header from client timeout");
            tracing::warn!(target: "octocrab", "a warning");
            tracing::error!(target: "rustls", "a failure");
        });
        assert!(text.contains("a failure") && text.contains("a warning"), "{text}");
        assert!(!text.contains("alert") && !text.contains("timeout"), "{text}");
    }

    #[test]
    fn the_level_follows_a_reload_unless_the_environment_overrides_it() {
        let speak = |control: &LogControl| {
            tracing::debug!("before");
            control.set_level(LogLevel::Debug);
            tracing::debug!("after");
        };
        let text = logged(LogLevel::Info, LogFormat::Text, None, speak);
        assert!(!text.contains("before") && text.contains("after"), "{text}");
        let text = logged(LogLevel::Info, LogFormat::Text, Some("warn"), speak);
        assert_eq!(text, "");
    }

    #[test]
    fn json_lines_are_json() {
        let text = logged(LogLevel::Info, LogFormat::Json, None, |_| {
            tracing::info!(pool = "large", "target changed");
        });
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(line["pool"], "large");
        assert_eq!(line["message"], "target changed");
    }

    #[test]
    fn a_wrong_override_is_told() {
        let env = [(OVERRIDE.to_owned(), "=".to_owned())].into_iter().collect();
        let error = subscriber(LogLevel::Info, LogFormat::Text, &env, io::sink).err().unwrap();
        assert!(error.to_string().contains("RUNNER_FLEET_LOG"), "{error}");
    }
}
