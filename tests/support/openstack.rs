//! The real OpenStack of the tests.

use std::path::{Path, PathBuf};

use tokio::sync::Mutex;

/// One test at a time: some take parts of the cloud away.
pub static CLOUD: Mutex<()> = Mutex::const_new(());

/// The clouds.yaml that the environment names.
pub fn clouds_yaml() -> PathBuf {
    std::env::var_os("RUNNER_FLEET_TEST_CLOUDS_YAML").map(PathBuf::from).expect(
        "RUNNER_FLEET_TEST_CLOUDS_YAML names a clouds.yaml; tests/openstack/up.sh makes one",
    )
}

/// Whether that cloud is the one of `tests/openstack`: only that is ours to break, another one is
/// somebody's.
pub fn is_ours_to_break(clouds_yaml: &Path) -> bool {
    let state = std::env::var("RUNNER_FLEET_TEST_OPENSTACK")
        .unwrap_or_else(|_| "/var/tmp/runner-fleet-openstack".to_owned());
    clouds_yaml == Path::new(&state).join("clouds.yaml")
}
