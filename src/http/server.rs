//! The one server: every listener of the daemon, with bounds on all that a caller can take.
//!
//! Whoever can connect can also do nothing, or do it slowly, or a thousand times; guests run the code
//! of strangers, and anybody may post a webhook. So nothing here waits for a caller without an end, and
//! nothing is kept for him without a bound:
//!
//! - *Deadlines are for the wire, not for thinking.* A TLS handshake, a head, a body, the silence
//!   between two calls, and a write that gets nowhere have [`Bounds::patience`] each. How long an answer
//!   is thought about is its route's own matter, so a poll may wait its minute and a stream may go on.
//! - *Who only waits costs next to nothing* ([`later`]): guests do so all their lives.
//! - *Connections have two bounds*, all together and of one peer, so that one peer never has them all.
//!   At the first nobody is accepted until a connection ends; beyond the second a connection is closed.
//! - *Bodies have two bounds*, one alone and all that are held at once, again with a peer's share. A
//!   body that says it is too large is refused before it is read; one that finds no room is answered
//!   with 503 and `Retry-After`, because whoever means well comes again.
//! - *Descriptors are shared out beforehand*, from what the system lets the process have, so that no
//!   crowd at one listener takes the last one from another, least of all from the operator's socket.
//! - *What a caller can cause in the log is counted* ([`Noise`]).
//!
//! `axum::serve`, the alternative, has none of these.

mod connection;
mod intake;
mod later;
mod shares;
mod stream;
pub mod tls;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, middleware::from_fn_with_state};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::intake::let_go;
use self::{
    connection::{Connection, Kinds},
    intake::Intake,
    shares::Room,
    stream::Wire,
    tls::Tls,
};
pub use self::{
    intake::Explained,
    later::{MayWait, later},
    shares::{Peer, Shares},
};
use crate::{log::noise::Noise, process};

/// How long calls under way may go on after the stop; then their connections are cut. A client that
/// keeps half a request open must not hold up the daemon's end.
const GRACE: Duration = Duration::from_secs(3);
/// The first pause after a connection could not be accepted, and the longest: the process is out of
/// something that others must give back first.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];
/// Descriptors that are nobody's connection: clouds, GitHub, the ledger, the journal, the log.
const OWN_FILES: u64 = 256;

/// What one caller and all together may take of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at once.
    pub connections: usize,
    /// Connections of one peer at once.
    pub of_one_peer: usize,
    /// How long a TLS handshake, a request's head, its body, the silence between two requests, and a
    /// write that makes no progress may take, each.
    pub patience: Duration,
    /// Largest body, in bytes.
    pub body: usize,
    /// Bytes of bodies that are held at once. One peer may have half of them.
    pub bodies: usize,
}

/// In which a guest or GitHub on the other side of the world is heard; GitHub itself waits ten seconds
/// for the answer to a delivery.
const PATIENCE: Duration = Duration::from_secs(10);

impl Bounds {
    /// `part` sixteenths of the descriptors that there are, at most `most`; half of them for one peer,
    /// because all guests of a cloud may share the address of its router, and GitHub that of a proxy.
    fn of(most: usize, part: u64, body: usize, bodies: usize) -> Self {
        let files = process::open_files().saturating_sub(OWN_FILES) / 16 * part;
        let connections = usize::try_from(files).unwrap_or(most).clamp(8, most);
        let of_one_peer = (connections / 2).max(4);
        Self { connections, of_one_peer, patience: PATIENCE, body, bodies }
    }

    /// For guests: twice the 10,000 runners that GitHub takes in a group, for each guest keeps a
    /// connection for its poll and opens one for a moment now and then. `body`: largest report.
    #[must_use]
    pub fn guests(body: usize) -> Self {
        Self::of(20_000, 10, body, 1_000 * body)
    }

    /// For GitHub's deliveries, which are answered within milliseconds. Of the largest possible
    /// (`body`) 32 fit at once, of usual ones a thousand.
    #[must_use]
    pub fn webhooks(body: usize) -> Self {
        Self::of(2_000, 3, body, 32 * body)
    }

    /// For operators and what watches the fleet, over TCP.
    #[must_use]
    pub fn operators(body: usize) -> Self {
        Self::of(512, 1, body, 128 * body)
    }

    /// For the socket, whose callers its file mode lets in; they are all one peer.
    #[must_use]
    pub fn socket(body: usize) -> Self {
        let bounds = Self::of(512, 1, body, 128 * body);
        Self { of_one_peer: bounds.connections, ..bounds }
    }

    /// The same with other patience.
    #[must_use]
    pub fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }
}

/// What listens.
#[derive(Debug)]
pub enum Listener {
    /// On an address.
    Tcp(TcpListener),
    /// On a file.
    Unix(UnixListener),
}

impl Listener {
    async fn accept(&self) -> io::Result<(Wire, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // It fails where the peer has gone already, which its connection will show.
                let _gone = stream.set_nodelay(true);
                Ok((Box::new(stream), Peer::of(peer.ip())))
            }
            Self::Unix(listener) => Ok((Box::new(listener.accept().await?.0), Peer::Socket)),
        }
    }
}

/// Listens on an address, and says which it is where port 0 was asked for.
///
/// # Errors
/// The address is taken (`AddrInUse`), is none of this machine (`AddrNotAvailable`), or what the system
/// says.
pub async fn bind(address: SocketAddr) -> io::Result<(Listener, SocketAddr)> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("the address {address}: {error}")))?;
    let address = listener.local_addr()?;
    Ok((Listener::Tcp(listener), address))
}

/// One listener and what it serves.
#[derive(Debug)]
pub struct Server {
    /// A word for the log, such as "guests".
    pub whom: &'static str,
    /// Where it listens.
    pub listener: Listener,
    /// TLS, where it is spoken.
    pub tls: Option<Arc<Tls>>,
    /// What is called.
    pub router: Router,
    /// What callers may take.
    pub bounds: Bounds,
}

/// The listener at work.
#[derive(Debug)]
pub struct Serving {
    /// The address, with the true port.
    pub address: SocketAddr,
    /// Ends after the stop, when calls under way have ended or had their time.
    pub task: JoinHandle<()>,
}

/// Serves `router` on `address` to `whom` until `stop`. Returns when it listens.
///
/// # Errors
/// As [`bind`].
pub async fn serve(
    whom: &'static str,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
    router: Router,
    bounds: Bounds,
    stop: CancellationToken,
) -> io::Result<Serving> {
    let (listener, address) = bind(address).await?;
    tracing::info!(whom, %address, tls = tls.is_some(), "listening");
    let server = Server { whom, listener, tls, router, bounds };
    Ok(Serving { address, task: tokio::spawn(server.run(stop)) })
}

/// Whether a failure to accept is about that one connection, which its peer gave up meanwhile.
fn of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | NotConnected)
}

impl Server {
    /// Serves until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let Self { whom, listener, tls, router, bounds } = self;
        let intake = Arc::new(Intake::new(whom, bounds));
        let router = router.layer(from_fn_with_state(intake, intake::take_in));
        let places = Arc::new(Semaphore::new(bounds.connections));
        let room = Room::new(Shares::new(bounds.connections, bounds.of_one_peer));
        let kinds = Kinds::new(whom);
        let crowd = Noise::new(whom, "too many connections of one peer");
        let deaf = Noise::new(whom, "nobody can connect");
        let connections = TaskTracker::new();
        let mut pause = PAUSES[0];
        loop {
            let place = tokio::select! {
                () = stop.cancelled() => break,
                Ok(place) = Arc::clone(&places).acquire_owned() => place,
            };
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((wire, peer)) => {
                    pause = PAUSES[0];
                    let Some(share) = room.take(peer, 1) else {
                        let most = bounds.of_one_peer;
                        crowd.say(|and| {
                            tracing::warn!(whom, %peer, most, and, "a peer has as many connections as one may have; closed");
                        });
                        continue;
                    };
                    let connection = Connection {
                        peer,
                        tls: tls.clone(),
                        router: router.clone(),
                        patience: bounds.patience,
                        grace: GRACE,
                        stop: stop.clone(),
                    };
                    let kinds = kinds.clone();
                    connections.spawn(async move {
                        let _held = (place, share);
                        if let Err(broken) = connection.serve(wire).await {
                            kinds.tell(peer, &broken);
                        }
                    });
                }
                Err(error) if of_one_connection(&error) => {}
                Err(error) => {
                    deaf.say(|and| tracing::error!(whom, %error, and, "nobody can connect"));
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = sleep(pause) => {}
                    }
                    pause = (pause * 2).min(PAUSES[1]);
                }
            }
        }
        drop(listener);
        connections.close();
        if timeout(GRACE, connections.wait()).await.is_err() {
            tracing::warn!(whom, "connections are cut at the stop");
        }
    }
}
