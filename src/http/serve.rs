//! The API's two listeners, from their binding to their graceful end.

use std::{io, net::SocketAddr, path::Path, sync::Arc};

use runner_fleet_actors::port::Secret;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    Control,
    limits::BODY_MAX,
    router,
    server::{self, Bounds, Listener, Server},
    socket,
};

/// The API at work.
#[derive(Debug)]
pub struct Serving {
    /// The TCP address that it listens on, with the true port where port 0 was asked for.
    pub tcp: Option<SocketAddr>,
    /// Ends after the stop, when calls under way have ended or had their time.
    pub task: JoinHandle<()>,
}

/// Serves the API on a Unix socket, and on TCP with a bearer token where `listen` says so, until
/// `stop`. Returns when both listen.
///
/// # Errors
/// A listener cannot be had: the path or address is taken (`AddrInUse`), or what the system says.
pub async fn serve(
    control: Arc<dyn Control>,
    socket: &Path,
    listen: Option<(SocketAddr, Secret)>,
    stop: CancellationToken,
) -> io::Result<Serving> {
    serve_within(control, socket, listen, stop, Bounds::operators(BODY_MAX)).await
}

/// As [`serve`], with other bounds for TCP.
///
/// # Errors
/// As [`serve`].
pub async fn serve_within(
    control: Arc<dyn Control>,
    socket: &Path,
    listen: Option<(SocketAddr, Secret)>,
    stop: CancellationToken,
    bounds: Bounds,
) -> io::Result<Serving> {
    // TCP first: if its address is taken, the socket file of a dead daemon is still in place.
    let (over_tcp, tcp) = match listen {
        Some((address, token)) => {
            let (listener, address) = server::bind(address).await?;
            let router = router(Arc::clone(&control), Some(&token));
            let server = Server { whom: "operators", listener, tls: None, router, bounds };
            (Some(server), Some(address))
        }
        None => (None, None),
    };
    let (unix, file) = socket::listen(socket)?;
    tracing::info!(socket = %socket.display(), ?tcp, "api listens");
    let over_unix = Server {
        whom: "the socket",
        listener: Listener::Unix(unix),
        tls: None,
        router: router(control, None),
        bounds: Bounds::socket(BODY_MAX),
    };
    let task = tokio::spawn(async move {
        let gone = async {
            stop.cancelled().await;
            // No caller finds the socket of a daemon that no longer takes calls.
            drop(file);
        };
        let tcp = async {
            if let Some(server) = over_tcp {
                server.run(stop.clone()).await;
            }
        };
        tokio::join!(over_unix.run(stop.clone()), tcp, gone);
    });
    Ok(Serving { tcp, task })
}
