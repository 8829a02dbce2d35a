//! What every call passes before its route: the bounds of its body, and the note of what was refused.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::{
    Bounds,
    shares::{Peer, Room, Share, Shares},
};
use crate::{
    http::api::Problem,
    log::noise::{Noise, quoted},
};

/// When a body that found no room may come again, in seconds: after the patience in which the others
/// are read or given up.
const AGAIN: u64 = 10;

/// Marks an answer whose reason its route has put into the log itself.
#[derive(Debug, Clone, Copy)]
pub struct Explained;

pub(super) struct Intake {
    whom: &'static str,
    bounds: Bounds,
    room: Room,
    /// Bodies that were refused here, for they harm somebody who meant well.
    unread: Noise,
    /// A kind of its own: whoever asks for what is not there hides nobody who guesses a token.
    untrusted: Noise,
    refused: Noise,
}

/// Why a body was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Why {
    #[error("too large")]
    Large,
    #[error("too slow")]
    Slow,
    #[error("no room for it")]
    NoRoom,
}

/// What is held of one body.
struct Held {
    share: Share,
    why: Option<Why>,
    /// Nothing of it is kept any more: it has neither size nor share.
    let_go: bool,
}

/// One body's account, for the body itself, for whoever waits for its answer, and for [`let_go`].
#[derive(Clone)]
struct Account(Arc<Mutex<Held>>);

impl Account {
    fn with<T>(&self, act: impl FnOnce(&mut Held) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Intake {
    pub fn new(whom: &'static str, bounds: Bounds) -> Self {
        Self {
            whom,
            bounds,
            room: Room::new(Shares::new(bounds.bodies, (bounds.bodies / 2).max(bounds.body))),
            unread: Noise::new(whom, "bodies that were not read"),
            untrusted: Noise::new(whom, "calls without the right token"),
            refused: Noise::new(whom, "refused calls"),
        }
    }

    fn problem(&self, why: Why) -> Response {
        let most = self.bounds.body;
        let (status, detail) = match why {
            Why::Large => {
                (StatusCode::PAYLOAD_TOO_LARGE, format!("a body may have {most} bytes here"))
            }
            Why::Slow => (
                StatusCode::REQUEST_TIMEOUT,
                format!("the body did not arrive within {:?}", self.patience()),
            ),
            Why::NoRoom => (
                StatusCode::SERVICE_UNAVAILABLE,
                "too many bodies are being read; try again later".to_owned(),
            ),
        };
        let mut response = Problem::new(status, detail).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        if why == Why::NoRoom {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(AGAIN));
        }
        response
    }

    /// Longer than a route's own patience, so that a route may say it in its own words.
    fn patience(&self) -> Duration {
        self.bounds.patience * 2
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Lets a call pass with its body bounded; its share of what is held goes back with the answer.
pub(super) async fn take_in(
    State(intake): State<Arc<Intake>>,
    request: Request,
    next: Next,
) -> Response {
    let whom = intake.whom;
    let peer = request.extensions().get().copied().unwrap_or(Peer::Socket);
    let path = quoted(request.uri().path());
    let claimed = content_length(request.headers()).unwrap_or_default();
    let tell = |why: Why, read: usize| {
        intake.unread.say(|and| {
            tracing::warn!(whom, %peer, %path, claimed, read, and, "a body is refused: {why}");
        });
        intake.problem(why)
    };
    if usize::try_from(claimed).map_or(true, |claimed| claimed > intake.bounds.body) {
        let_go(request).await;
        return tell(Why::Large, 0);
    }
    // Nothing of nothing is always to be had.
    let Some(share) = intake.room.take(peer, 0) else { return tell(Why::NoRoom, 0) };
    let account = Account(Arc::new(Mutex::new(Held { share, why: None, let_go: false })));
    let (most, patience) = (intake.bounds.body, intake.patience());
    let mut request = request.map(|inner| {
        let account = account.clone();
        Body::new(Counted { inner, account, most, patience, until: None })
    });
    request.extensions_mut().insert(account.clone());
    let response = next.run(request).await;
    let (why, read) = account.with(|held| (held.why, held.share.much()));
    if let Some(why) = why {
        return tell(why, read);
    }
    let status = response.status();
    if status.is_client_error() && response.extensions().get::<Explained>().is_none() {
        let status = status.as_u16();
        match status {
            401 | 403 => intake.untrusted.say(|and| {
                tracing::info!(whom, %peer, %path, status, and, "a call is refused");
            }),
            _ => intake.refused.say(|and| {
                tracing::debug!(whom, %peer, %path, status, and, "a call is refused");
            }),
        }
    }
    response
}

/// Reads on for a moment what a call sends that was refused without its body, and keeps none of it:
/// a peer that is still writing would see a broken connection instead of the answer. One that asks first
/// whether it shall send its body is not asked for it.
pub(crate) async fn let_go(request: Request) {
    const MOMENT: Duration = Duration::from_secs(1);
    const MOST: usize = 2 * 1024 * 1024;
    if request.headers().contains_key(header::EXPECT) {
        return;
    }
    if let Some(account) = request.extensions().get::<Account>() {
        account.with(|held| held.let_go = true);
    }
    let read = async {
        let (mut body, mut read) = (request.into_body(), 0);
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > MOST {
                break;
            }
        }
    };
    // The answer goes out in any case.
    let _in_time = tokio::time::timeout(MOMENT, read).await;
}

/// A body that counts what is held of it.
struct Counted {
    inner: Body,
    account: Account,
    most: usize,
    patience: Duration,
    until: Option<Pin<Box<Sleep>>>,
}

impl Counted {
    fn ends(&self, why: Why) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.account.with(|held| held.why = Some(why));
        Poll::Ready(Some(Err(axum::Error::new(why))))
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let more = frame.data_ref().map_or(0, Bytes::len);
                let most = self.most;
                let why = self.account.with(|held| {
                    if held.let_go {
                        None
                    } else if held.share.much().saturating_add(more) > most {
                        Some(Why::Large)
                    } else {
                        (!held.share.grow(more)).then_some(Why::NoRoom)
                    }
                });
                match why {
                    None => Poll::Ready(Some(Ok(frame))),
                    Some(why) => self.ends(why),
                }
            }
            Poll::Pending => {
                let patience = self.patience;
                let until = self.until.get_or_insert_with(|| Box::pin(sleep(patience)));
                match until.as_mut().poll(cx) {
                    Poll::Ready(()) => self.ends(Why::Slow),
                    Poll::Pending => Poll::Pending,
                }
            }
            ended => ended,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
