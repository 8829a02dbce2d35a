//! One connection, from its handshake to its end.

use std::{
    convert::Infallible,
    future::pending,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, body::Body, response::Response};
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{
    later::{Ahead, MayWait, Wait, given as given_away, may_wait},
    shares::Peer,
    stream::{Patient, Wire},
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

/// What a connection comes to.
enum Next {
    End,
    /// A call has given its wait away.
    Waits(Ahead, Wait),
}

impl Connection {
    pub async fn serve(self, wire: Wire) -> Result<(), Broken> {
        let wire: Wire = Box::new(Patient::new(wire, self.patience));
        let wire = match self.tls.as_ref().map(|tls| tls.acceptor()) {
            None => wire,
            Some(acceptor) => {
                let shaken = Box::pin(timeout(self.patience, acceptor.accept(wire))).await;
                let wire = shaken.map_err(|_| Broken::SlowHandshake)?.map_err(Broken::Handshake)?;
                Box::new(wire)
            }
        };
        let mut next = (Ahead::new(wire), None);
        loop {
            // What calls need is given back while an answer is waited for.
            match Box::pin(self.speak(next.0, next.1)).await? {
                Next::End => return Ok(()),
                Next::Waits(wire, wait) => match wire.wait(wait).await {
                    Some((wire, answer)) => next = (wire, Some(answer)),
                    None => return Ok(()),
                },
            }
        }
    }

    /// Answers calls; the first one with `answer`, where there is one.
    async fn speak(&self, wire: Ahead, answer: Option<Response>) -> Result<Next, Broken> {
        let mut connection = http1::Builder::new();
        connection
            .timer(TokioTimer::new())
            // From the moment in which a head may come: a silence between two calls ends as well.
            .header_read_timeout(self.patience)
            .max_buf_size(HEAD_MAX);
        let (router, peer) = (&self.router, self.peer);
        let (give, mut given) = mpsc::channel(1);
        let answer = Mutex::new(answer);
        let service = service_fn(move |mut request: Request<Incoming>| {
            let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
            let (router, give) = (router.clone(), give.clone());
            async move {
                if let Some(answer) = answer {
                    return Ok(answer);
                }
                request.extensions_mut().insert(peer);
                if may_wait(&request) {
                    request.extensions_mut().insert(MayWait);
                }
                let mut response = router.oneshot(request.map(Body::new)).await?;
                let Some(wait) = given_away(&mut response) else { return Ok(response) };
                // One call at a time: there is room. What follows is not lived to see.
                let _taken = give.send(wait).await;
                pending::<Result<Response, Infallible>>().await
            }
        });
        let mut connection = connection.serve_connection(TokioIo::new(wire), service);
        tokio::select! {
            // At the stop, too, the answer that is there goes out first.
            biased;
            ended = &mut connection => return ended.map(|()| Next::End).map_err(Broken::Http),
            Some(wait) = given.recv() => {
                let parts = connection.into_parts();
                let wire = parts.io.into_inner().unread(&parts.read_buf);
                return Ok(Next::Waits(wire, wait));
            }
            () = self.stop.cancelled() => {}
        }
        Pin::new(&mut connection).graceful_shutdown();
        let ended = timeout(self.grace, connection).await.map_err(|_| Broken::Cut)?;
        ended.map(|()| Next::End).map_err(Broken::Http)
    }
}
