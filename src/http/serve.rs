//! The listeners, from their binding to their graceful end.

use std::{future::IntoFuture, io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use runner_fleet_actors::port::Secret;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{Control, router, socket};

/// How long calls under way may go on after the stop; then their connections are cut. A client that
/// keeps half a request open must not hold up the daemon's end.
const GRACE: Duration = Duration::from_secs(3);

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
    // TCP first: if its address is taken, the socket file of a dead daemon is still in place.
    let tcp = match listen {
        Some((address, token)) => {
            let listener = TcpListener::bind(address).await.map_err(|error| {
                io::Error::new(error.kind(), format!("the address {address}: {error}"))
            })?;
            Some((listener, router(Arc::clone(&control), Some(&token))))
        }
        None => None,
    };
    let (unix, file) = socket::listen(socket)?;
    let address = tcp.as_ref().map(|(listener, _)| listener.local_addr()).transpose()?;
    tracing::info!(socket = %socket.display(), tcp = ?address, "api listens");

    let over_unix = axum::serve(unix, router(control, None))
        .with_graceful_shutdown(stop.clone().cancelled_owned())
        .into_future();
    let over_tcp = tcp.map(|(listener, router)| {
        axum::serve(listener, router)
            .with_graceful_shutdown(stop.clone().cancelled_owned())
            .into_future()
    });
    let task = tokio::spawn(async move {
        let both = async {
            let tcp = async {
                match over_tcp {
                    Some(serve) => serve.await,
                    None => Ok(()),
                }
            };
            let (unix, tcp) = tokio::join!(over_unix, tcp);
            for error in [unix.err(), tcp.err()].into_iter().flatten() {
                tracing::error!(%error, "api listener ended");
            }
        };
        let cut = async {
            stop.cancelled().await;
            // No caller finds the socket of a daemon that no longer takes calls.
            drop(file);
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            () = both => {}
            () = cut => tracing::warn!("api connections cut at the stop"),
        }
    });
    Ok(Serving { tcp: address, task })
}
