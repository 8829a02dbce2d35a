//! What is said where there is no LXD.

use runner_fleet_actors::port::{ErrorClass, Provider};

use crate::support::lxd::{self, RealLxd};

#[tokio::test]
async fn a_socket_that_cannot_be_opened_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = RealLxd { socket: folder.path().join("unix.socket"), project: "default".into() };
    let error = nobody.provider(&lxd::fleet()).list().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Transient);
    assert!(error.certain && error.what.contains("there is no such socket"), "{error}");
    let _bound = std::os::unix::net::UnixListener::bind(&nobody.socket).unwrap();
    drop(_bound);
    let error = nobody.provider(&lxd::fleet()).list().await.unwrap_err();
    assert!(error.what.contains("nobody listens"), "{error}");
}
