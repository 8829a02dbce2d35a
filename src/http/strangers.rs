//! A listener for strangers: connections with bounds, with TLS where it is configured.
//!
//! `axum::serve` has neither TLS nor a limit of connections nor a time in which a request's head must
//! be there; guests run the code of strangers, and anybody may post a webhook, so they get all three. At the limit nobody is accepted until a
//! connection ends, and one that sends nothing ends in seconds: whoever opens connections to keep
//! others out must go on opening them, and costs the fleet news, which listings and GitHub's redelivery
//! make up for.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::tls::Tls;

/// Largest head of a request: a path, a token, and what HTTP libraries add.
const HEAD_MAX: usize = 16 * 1024;
/// How long calls under way may go on after the stop.
const GRACE: Duration = Duration::from_secs(2);
/// The pause after a connection could not be accepted: the process is out of something that others
/// must give back first.
const PAUSE: Duration = Duration::from_millis(200);

/// What one connection and all together may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections at once. Each guest keeps one for its poll and opens one for a moment now and then.
    pub connections: usize,
    /// How long a TLS handshake, a request, or the silence between two requests may take.
    pub patience: Duration,
}

impl Default for Bounds {
    /// Twice the 10,000 runners that GitHub takes in a group, below the unit's limit of open files;
    /// and a time in which a guest on the other side of the world is heard.
    fn default() -> Self {
        Self { connections: 20_000, patience: Duration::from_secs(10) }
    }
}

/// The listener at work.
#[derive(Debug)]
pub struct Serving {
    /// The address, with the true port.
    pub address: SocketAddr,
    /// Ends after the stop, when calls under way have ended or had their time.
    pub task: JoinHandle<()>,
}

/// Serves `router` on `address` to `whom` (a word for the log, such as "guests") until `stop`. Returns
/// when it listens.
///
/// # Errors
/// The address is taken (`AddrInUse`), is none of this machine (`AddrNotAvailable`), or what the system
/// says.
pub async fn serve(
    whom: &'static str,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
    router: Router,
    bounds: Bounds,
    stop: CancellationToken,
) -> io::Result<Serving> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("the address {address}: {error}")))?;
    let address = listener.local_addr()?;
    tracing::info!(whom, %address, tls = tls.is_some(), "listening");
    let task = tokio::spawn(accept(whom, listener, tls, router, bounds, stop));
    Ok(Serving { address, task })
}

async fn accept(
    whom: &'static str,
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    router: Router,
    bounds: Bounds,
    stop: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(bounds.connections));
    let connections = TaskTracker::new();
    let mut refused = false;
    loop {
        let place = tokio::select! {
            () = stop.cancelled() => break,
            Ok(place) = Arc::clone(&room).acquire_owned() => place,
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                refused = false;
                let connection = Connection {
                    tls: tls.clone(),
                    router: router.clone(),
                    patience: bounds.patience,
                    stop: stop.clone(),
                };
                connections.spawn(async move {
                    let _place = place;
                    if let Err(error) = connection.serve(stream).await {
                        tracing::debug!(whom, %peer, %error, "a connection broke");
                    }
                });
            }
            Err(error) => {
                // Once for each row of failures: the log is not to fill the disk as well.
                if !std::mem::replace(&mut refused, true) {
                    tracing::warn!(whom, %error, "nobody can connect");
                }
                sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if timeout(GRACE, connections.wait()).await.is_err() {
        tracing::warn!(whom, "connections are cut at the stop");
    }
}

struct Connection {
    tls: Option<Arc<Tls>>,
    router: Router,
    patience: Duration,
    stop: CancellationToken,
}

impl Connection {
    async fn serve(
        self,
        stream: TcpStream,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        stream.set_nodelay(true)?;
        match self.tls.as_ref().map(|tls| tls.acceptor()) {
            None => self.speak(stream).await,
            Some(acceptor) => {
                let stream = timeout(self.patience, acceptor.accept(stream)).await??;
                self.speak(stream).await
            }
        }
    }

    async fn speak<S>(self, stream: S) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut connection = http1::Builder::new();
        connection
            .timer(TokioTimer::new())
            .header_read_timeout(self.patience)
            .max_buf_size(HEAD_MAX);
        let service = TowerToHyperService::new(self.router);
        let mut connection =
            std::pin::pin!(connection.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            ended = connection.as_mut() => return Ok(ended?),
            () = self.stop.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        Ok(timeout(GRACE, connection).await??)
    }
}
