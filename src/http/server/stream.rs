//! A connection whose peer must take what is written to it.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// What is read and written.
pub(super) trait ReadWrite: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> ReadWrite for S {}

/// A connection of any kind.
pub(super) type Wire = Box<dyn ReadWrite>;

/// So much must be taken in one patience where there is so much: a peer that takes a byte now and
/// then makes no progress.
const LEAST: usize = 16 * 1024;

/// Ends with `TimedOut` where its peer takes nothing for too long.
pub(super) struct Patient<S> {
    inner: S,
    patience: Duration,
    /// Runs while something is there that the peer has not taken.
    until: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    taken: usize,
}

impl<S> Patient<S> {
    pub fn new(inner: S, patience: Duration) -> Self {
        Self { inner, patience, until: None, waiting: false, taken: 0 }
    }

    fn begin(&mut self) {
        let until = Instant::now() + self.patience;
        self.waiting = true;
        self.taken = 0;
        match &mut self.until {
            Some(timer) => timer.as_mut().reset(until),
            None => self.until = Some(Box::pin(sleep(self.patience))),
        }
    }

    /// What becomes of a write of `whole` bytes.
    fn judge(
        &mut self,
        written: Poll<io::Result<usize>>,
        whole: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(taken)) => {
                self.taken = self.taken.saturating_add(taken);
                if taken == whole || self.taken >= LEAST {
                    self.waiting = false;
                }
                Poll::Ready(Ok(taken))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                if !self.waiting {
                    self.begin();
                }
                if let Some(timer) = &mut self.until {
                    ready!(timer.as_mut().poll(cx));
                    let what = format!(
                        "the peer took less than {LEAST} bytes of its answer in {:?}",
                        self.patience
                    );
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, what)));
                }
                Poll::Pending
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.judge(written, bytes.len(), cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bytes);
        self.judge(written, bytes.iter().map(|slice| slice.len()).sum(), cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn a_peer_that_never_reads_is_given_up_and_one_that_reads_slowly_is_not() {
        let (ours, theirs) = duplex(1024);
        let mut ours = Patient::new(ours, PATIENCE);
        let error = ours.write_all(&[0; 4096]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        drop(theirs);

        let (ours, mut theirs) = duplex(64 * 1024);
        let mut ours = Patient::new(ours, PATIENCE);
        let slow = tokio::spawn(async move {
            let mut all = 0;
            let mut piece = vec![0; 20 * 1024];
            while let Ok(read @ 1..) = theirs.read(&mut piece).await {
                all += read;
                sleep(PATIENCE / 3).await;
            }
            all
        });
        let whole = 192 * 1024;
        ours.write_all(&vec![0; whole]).await.unwrap();
        drop(ours);
        assert_eq!(slow.await.unwrap(), whole);
    }

    #[tokio::test]
    async fn a_peer_that_takes_a_byte_now_and_then_makes_no_progress() {
        let (ours, mut theirs) = duplex(1024);
        let mut ours = Patient::new(ours, PATIENCE);
        let drip = tokio::spawn(async move {
            while theirs.read(&mut [0]).await.is_ok_and(|read| read > 0) {
                sleep(PATIENCE / 4).await;
            }
        });
        let error = ours.write_all(&[0; 64 * 1024]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        drip.abort();
    }
}
