//! One connection, from its handshake to its end.

use std::{io, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{
    shares::Peer,
    stream::{Patient, ReadWrite, Wire},
    tls::Tls,
};
use crate::log::noise::{Noise, quoted};

/// Largest head of a request, and what is read ahead of a body: a path, a token, and what HTTP
/// libraries and proxies add. It is the least that hyper takes, for each connection may hold as much.
const HEAD_MAX: usize = 8 * 1024;

pub(super) struct Connection {
    pub peer: Peer,
    pub tls: Option<Arc<Tls>>,
    pub router: Router,
    pub patience: Duration,
    pub grace: Duration,
    pub stop: CancellationToken,
}

/// How a connection broke.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the TLS handshake took too long")]
    SlowHandshake,
    #[error("no TLS connection: {0}")]
    Handshake(io::Error),
    #[error("{0}")]
    Http(hyper::Error),
    #[error("cut at the stop")]
    Cut,
}

/// The complaints that connections give cause to, at one listener.
#[derive(Debug, Clone)]
pub(super) struct Kinds {
    whom: &'static str,
    tls: Noise,
    http: Noise,
}

impl Kinds {
    pub fn new(whom: &'static str) -> Self {
        let (tls, http) =
            (Noise::new(whom, "no TLS connection"), Noise::new(whom, "a connection broke"));
        Self { whom, tls, http }
    }

    pub fn tell(&self, peer: Peer, broken: &Broken) {
        let whom = self.whom;
        // rustls quotes what it was sent; hyper does not.
        let error = quoted(&broken.to_string());
        match broken {
            // Often a guest or a proxy that does not trust the certificate: for the operator to know.
            Broken::SlowHandshake | Broken::Handshake(_) => {
                self.tls.say(|and| tracing::info!(whom, %peer, %error, and, "a connection broke"));
            }
            Broken::Http(_) | Broken::Cut => {
                self.http
                    .say(|and| tracing::debug!(whom, %peer, %error, and, "a connection broke"));
            }
        }
    }
}

impl Connection {
    pub async fn serve(self, wire: Wire) -> Result<(), Broken> {
        let wire = Patient::new(wire, self.patience);
        match self.tls.as_ref().map(|tls| tls.acceptor()) {
            None => self.speak(wire).await,
            Some(acceptor) => {
                let shaken = timeout(self.patience, acceptor.accept(wire)).await;
                let wire = shaken.map_err(|_| Broken::SlowHandshake)?.map_err(Broken::Handshake)?;
                self.speak(wire).await
            }
        }
    }

    async fn speak(self, wire: impl ReadWrite + 'static) -> Result<(), Broken> {
        let mut connection = http1::Builder::new();
        connection
            .timer(TokioTimer::new())
            // From the moment in which a head may come: a silence between two calls ends as well.
            .header_read_timeout(self.patience)
            .max_buf_size(HEAD_MAX);
        let (router, peer) = (self.router, self.peer);
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            router.clone().oneshot(request.map(Body::new))
        });
        let connection = connection.serve_connection(TokioIo::new(wire), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return ended.map_err(Broken::Http),
            () = self.stop.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        timeout(self.grace, connection).await.map_err(|_| Broken::Cut)?.map_err(Broken::Http)
    }
}
