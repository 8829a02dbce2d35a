//! `[api]`: the Unix socket, and TCP with a bearer token where it is wanted.

use std::{net::SocketAddr, path::PathBuf};

use super::{
    read::{SecretKeys, Section},
    secret::SecretSource,
    warn,
};

/// The API over TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Where it listens.
    pub address: SocketAddr,
    /// The bearer token that every call must carry.
    pub token: SecretSource,
}

/// `[api]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// The Unix socket. Default `/run/runner-fleet/api.sock`; file permissions guard it.
    pub socket: PathBuf,
    /// TCP as well, where it is wanted.
    pub listen: Option<Listen>,
}

/// Where the socket is when nobody says otherwise; the command line uses the same.
pub(crate) const DEFAULT_SOCKET: &str = "/run/runner-fleet/api.sock";

/// A Unix socket's address holds 108 bytes with the closing zero (unix(7)); the socket is made
/// under a name four bytes longer and moved into place.
const SOCKET_PATH_MAX: usize = 103;

pub(super) fn read(section: Option<Section<'_>>) -> Option<Api> {
    let default = PathBuf::from(DEFAULT_SOCKET);
    let Some(section) = section else { return Some(Api { socket: default, listen: None }) };
    let socket = section.path("socket").unwrap_or(default);
    if socket.as_os_str().len() > SOCKET_PATH_MAX {
        let length = socket.as_os_str().len();
        section.fault(
            "socket",
            format_args!("the path has {length} bytes; a Unix socket's may have {SOCKET_PATH_MAX}"),
        );
    }
    let address = section.text("listen").and_then(|text| {
        let parsed = text.parse::<SocketAddr>();
        if parsed.is_err() {
            section.fault(
                "listen",
                format_args!(
                    "{text:?} is not allowed: an address and a port, such as \"127.0.0.1:8080\""
                ),
            );
        }
        parsed.ok()
    });
    let token = section.secret(SecretKeys::TOKEN);
    let token_given = SecretKeys::TOKEN.all().into_iter().find(|key| section.has(key));
    let listen = match (address, token) {
        (Some(address), Some(token)) => {
            if !address.ip().is_loopback() {
                section.warn("listen", warn::PLAIN_API);
            }
            Some(Listen { address, token })
        }
        (Some(_), None) => {
            if token_given.is_none() {
                section.fault(
                    "listen",
                    "needs token_file (or token_env, token_credential): \
                     over TCP anybody could order the fleet about",
                );
            }
            None
        }
        (None, _) => {
            if let Some(key) = token_given
                && !section.has("listen")
            {
                section.fault(
                    key,
                    "is of use only with listen; the socket is guarded by its file mode",
                );
            }
            None
        }
    };
    section.finish();
    Some(Api { socket, listen })
}
