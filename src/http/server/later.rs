//! Answers that are waited for after their call.
//!
//! Ten thousand guests hold a poll open at all times, and a call that hyper and the routes hold costs some 15 kB: the
//! buffer that its head was read into, the head itself, a future for each layer. None of it is needed any more once
//! the poll only waits. So its route may give its wait away ([`later`]); the connection then lets go of all that, keeps
//! the wire, and has hyper begin anew once the answer is there, with a call that stands for the one that was read.
//!
//! Only calls that end with their head and leave the connection as it is are answered so. The alternative, a
//! protocol of one's own under the polls, would take every proxy between guest and daemon away.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use axum::{extract::Extension, response::Response};
use http::{Method, Request, Version, header};
use hyper::body::Body as HttpBody;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::stream::Wire;

/// An answer that is still to come.
pub(super) type Wait = Pin<Box<dyn Future<Output = Response> + Send>>;

/// Marks a call whose answer may be waited for after it.
#[derive(Debug, Clone, Copy)]
pub struct MayWait;

/// What a route gives away. An answer's extensions want to be shared.
#[derive(Clone)]
struct Given(Arc<Mutex<Option<Wait>>>);

/// Stands for the call that was read; what it asks for is not looked at.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
/// So much of a caller's next call is read while he waits for an answer; the rest waits as well.
const AHEAD_MAX: usize = 8 * 1024;

/// The answer that `wait` comes to: at once where it is there, otherwise after the call where that may be.
pub async fn later(
    may: Option<Extension<MayWait>>,
    wait: impl Future<Output = Response> + Send + 'static,
) -> Response {
    let mut wait: Wait = Box::pin(wait);
    if may.is_none() {
        return wait.await;
    }
    match futures::poll!(wait.as_mut()) {
        Poll::Ready(answer) => answer,
        Poll::Pending => {
            let mut response = Response::default();
            response.extensions_mut().insert(Given(Arc::new(Mutex::new(Some(wait)))));
            response
        }
    }
}

/// Whether a call's answer may be waited for after it: nothing of it is still to be read, and [`STAND_IN`] can
/// stand for it.
pub(super) fn may_wait<B: HttpBody>(request: &Request<B>) -> bool {
    let plain = request.method() == Method::GET && request.version() == Version::HTTP_11;
    plain && request.body().is_end_stream() && !request.headers().contains_key(header::CONNECTION)
}

/// What the route of this answer has given away.
pub(super) fn given(response: &mut Response) -> Option<Wait> {
    let given: Given = response.extensions_mut().remove()?;
    given.0.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// A wire of which something was read already.
pub(super) struct Ahead {
    ahead: Vec<u8>,
    wire: Wire,
}

impl Ahead {
    pub fn new(wire: Wire) -> Self {
        Self { ahead: Vec::new(), wire }
    }

    /// These bytes were read of it.
    pub fn unread(mut self, bytes: &[u8]) -> Self {
        self.ahead.splice(0..0, bytes.iter().copied());
        self
    }

    /// Waits for an answer, and gives back the wire for it. `None` where the caller has gone.
    pub async fn wait(mut self, mut wait: Wait) -> Option<(Self, Response)> {
        let answer = tokio::select! {
            answer = wait.as_mut() => answer,
            () = self.gone() => return None,
        };
        Some((self.unread(STAND_IN), answer))
    }

    /// Ends when the caller has gone.
    async fn gone(&mut self) {
        let mut some = [0; 64];
        while self.ahead.len() < AHEAD_MAX {
            match self.wire.read(&mut some).await {
                Ok(read @ 1..) => {
                    self.ahead.extend_from_slice(some.get(..read).unwrap_or_default())
                }
                Ok(0) | Err(_) => return,
            }
        }
        std::future::pending().await
    }
}

impl AsyncRead for Ahead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.wire).poll_read(cx, buffer);
        }
        let now = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.ahead[..now]);
        self.ahead.drain(..now);
        if self.ahead.is_empty() {
            self.ahead = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Ahead {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}
