//! No token, key or JIT config is in a log line, an error or a `Debug` text, whatever happens.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::support::github::*;
use base64::{Engine, prelude::BASE64_STANDARD};
use runner_fleet::{
    fake::github::{Once, Operation, Options},
    github::{Auth, GithubConfig, Timeouts, TokenSource},
};
use runner_fleet_actors::port::{Forge, Secret};
use tracing_subscriber::util::SubscriberInitExt;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Whether a place in the code is heard is kept for the whole process, so this runs in one of its own: in
/// this one, other tests decide it too.
#[tokio::test]
async fn nothing_secret_is_ever_shown() {
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "github_secrets::looks_for_secrets", "--ignored", "--nocapture"]);
    let ended = child.output().await.unwrap();
    let said = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
    assert!(ended.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "run by the test above, in a process of its own"]
async fn looks_for_secrets() {
    let lines = Lines::default();
    let writer = lines.clone();
    let _caught = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .finish()
        .set_default();

    let fake = start(Options { app: Some(app()), ..Options::default() }).await;
    let timeouts = Timeouts { whole: Duration::from_millis(500), ..Timeouts::default() };
    let token = || Auth::Token(TokenSource::fixed(Secret::new(TOKEN)));
    let mut shown = String::new();
    let mut secrets = vec![
        TOKEN.to_owned(),
        BASE64_STANDARD.encode(TOKEN),
        APP_KEY.lines().nth(3).unwrap().to_owned(),
        "ghs_".to_owned(),
        // How every JWT begins: {"alg": or {"typ": in base64.
        "eyJhbGci".to_owned(),
        "eyJ0eXAi".to_owned(),
    ];
    for (app, auth) in [(false, token()), (true, app_auth())] {
        let config = GithubConfig {
            url: fake.url(),
            timeouts: timeouts.clone(),
            ..GithubConfig::new(auth, fleet())
        };
        shown += &format!("{config:?}\n");
        let github = client(config);
        let org = scope("octo-org");
        let registered = github.register(&order(&org, 1)).await.unwrap();
        secrets.push(registered.jit_config.expose()[..40].to_owned());
        shown += &format!("{registered:?}\n{github:?}\n");

        let faults = fake.faults();
        let mut tell = |result: Result<(), runner_fleet_actors::port::PortError>| {
            let error = result.unwrap_err();
            shown += &format!("{error}\n{error:?}\n");
        };
        for fault in [
            Once::DoAndHangUp,
            Once::DoAndHang,
            Once::DoAndSay(500),
            Once::Refuse(422),
            Once::Say(201, r#"{"runner": {"id": 1}}"#.to_owned()),
        ] {
            faults.once(Operation::JitConfig, fault);
            tell(github.register(&order(&org, 2)).await.map(drop));
        }
        faults.revoke_installation_tokens();
        faults.revoke(TOKEN);
        if app {
            faults.once(Operation::InstallationToken, Once::Refuse(401));
        }
        tell(github.list(&org).await.map(drop));
        faults.accept(TOKEN);
        faults.forbid(true);
        tell(github.list(&org).await.map(drop));
        faults.forbid(false);
        shown += &format!("{:?}\n", github.status());
    }
    let logged = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("github answered"), "the log was caught");
    assert!(logged.lines().count() > 100, "libraries' own lines were caught as well");
    for secret in secrets {
        assert!(!shown.contains(&secret), "{secret} is in an error or Debug text:\n{shown}");
        let line = logged.lines().find(|line| line.contains(&secret));
        assert_eq!(line, None, "{secret} is in a log line");
    }
}
