//! The guest: what a VM runs at its first boot.
//!
//! The smallest user data that makes a runner of a VM: it finds the runner application in the image,
//! starts it with its JIT config, and powers off when it ends, whatever the reason. That power-off
//! is how the fleet learns that a job is over where nothing reports home.
//!
//! The JIT config goes to the runner application by its environment: a command line can be read by
//! every process of the machine. Nothing foreign is pasted into the script but base64, so there is
//! nothing to quote.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use runner_fleet_actors::{
    name::RunnerName,
    port::{Secret, UserData},
};

/// The runner application takes each of its arguments from `ACTIONS_RUNNER_INPUT_…` as well
/// (actions/runner, `CommandSettings.cs`).
const SCRIPT: &str = r#"#!/bin/sh
# Starts one single-use GitHub Actions runner, then powers the machine off.
trap 'systemctl poweroff || poweroff || shutdown -P now' EXIT
for app in /home/*/actions-runner /opt/actions-runner /actions-runner; do
    [ -x "$app/run.sh" ] && break
done
if [ ! -x "$app/run.sh" ]; then
    echo "runner-fleet: no actions-runner/run.sh in /home/*, /opt or /; use an image that has one" >&2
    exit 1
fi
owner=$(stat -c %U "$app")
cd "$app" || exit 1
ACTIONS_RUNNER_INPUT_JITCONFIG=$(printf %s '@JIT@' | base64 -d)
export ACTIONS_RUNNER_INPUT_JITCONFIG
if [ "$owner" = root ]; then
    RUNNER_ALLOW_RUNASROOT=1 ./run.sh
else
    setpriv --reuid="$owner" --regid="$(id -g "$owner")" --init-groups \
        env HOME="$(getent passwd "$owner" | cut -d: -f6)" USER="$owner" ./run.sh
fi
"#;

const OPEN: &str = "printf %s '";

/// The user data of runners whose image holds the runner application.
#[derive(Debug, Clone, Copy, Default)]
pub struct Boot;

impl UserData for Boot {
    fn render(&self, _name: &RunnerName, jit_config: &Secret) -> Secret {
        Secret::new(SCRIPT.replace("@JIT@", &BASE64.encode(jit_config.expose())))
    }
}

/// The JIT config in `user_data`, as a guest that runs it would find it. For stand-in guests.
#[must_use]
pub fn jit_config_in(user_data: &str) -> Option<Secret> {
    let (_, rest) = user_data.split_once(OPEN)?;
    let (encoded, _) = rest.split_once('\'')?;
    let text = BASE64.decode(encoded).ok()?;
    String::from_utf8(text).ok().map(Secret::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_jit_config_holds_comes_out_again_and_nothing_of_it_is_shell() {
        let name = "ci--small--0123456789ab".parse().unwrap();
        for hostile in ["eyJhIjoxfQ==", "'; reboot #", "$(reboot)", "a\nb\\'\"`", ""] {
            let data = Boot.render(&name, &Secret::new(hostile));
            assert_eq!(jit_config_in(data.expose()), Some(Secret::new(hostile)));
            assert!(hostile.is_empty() || !data.expose().contains(hostile));
        }
    }

    #[test]
    fn a_shell_takes_the_script() {
        let name = "ci--small--0123456789ab".parse().unwrap();
        let data = Boot.render(&name, &Secret::new("eyJhIjoxfQ=="));
        let mut shell = std::process::Command::new("sh");
        let checked = shell.args(["-n", "-c", data.expose()]).status().unwrap();
        assert!(checked.success());
    }
}
