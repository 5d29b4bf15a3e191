//! A stream whose writes fail when the peer leaves them unread for too long, and whose reads fail when the peer does
//! not say in time which protocol it speaks.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// What an HTTP/2 client begins with. Anything else is HTTP/1.1, whose server bounds the rest of the head itself.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Wraps a socket; without it a client that stops reading, or never begins, would hold its connection for ever.
#[derive(Debug)]
pub(super) struct DeadlineIo<S> {
    inner: S,
    write_timeout: Duration,
    /// Bytes of the preface seen, and until when it must be known whether it is one.
    opening: Option<(usize, Pin<Box<Sleep>>)>,
    /// Armed while a write is pending.
    pending: Option<Pin<Box<Sleep>>>,
}

impl<S> DeadlineIo<S> {
    pub(super) fn new(inner: S, write_timeout: Duration, opening_timeout: Duration) -> Self {
        Self {
            inner,
            write_timeout,
            opening: Some((0, Box::pin(sleep(opening_timeout)))),
            pending: None,
        }
    }

    fn guard<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<std::io::Result<T>>,
    ) -> Poll<std::io::Result<T>> {
        if result.is_ready() {
            self.pending = None;
            return result;
        }
        let timeout = self.write_timeout;
        let timer = self.pending.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for DeadlineIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        let Some((seen, deadline)) = &mut self.opening else {
            return read;
        };
        if read.is_pending() {
            ready!(deadline.as_mut().poll(cx));
            return Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()));
        }
        let new = buf.filled().get(before..).unwrap_or_default();
        let rest = PREFACE.get(*seen..).unwrap_or_default();
        *seen += new.len();
        if !rest.starts_with(new) || rest.len() == new.len() {
            self.opening = None;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for DeadlineIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.guard(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.guard(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        self.guard(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.guard(cx, result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn an_unread_write_fails_instead_of_waiting_for_ever() {
        let (near, _far) = tokio::io::duplex(8);
        let mut io = DeadlineIo::new(near, Duration::from_millis(20), Duration::from_secs(60));
        io.write_all(b"12345678").await.unwrap();
        let error = io.write_all(b"9").await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_must_say_what_it_speaks() {
        for (said, late) in [
            (&b""[..], true),
            (&b"PRI * HT"[..], true),
            (&b"POST / HTTP/1.1\r\n"[..], false),
            (PREFACE, false),
            (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n and more"[..], false),
        ] {
            let (near, mut far) = tokio::io::duplex(64);
            let mut io = DeadlineIo::new(near, Duration::from_secs(60), Duration::from_millis(20));
            far.write_all(said).await.unwrap();
            let mut heard = vec![0; said.len()];
            io.read_exact(&mut heard).await.unwrap();
            let next = tokio::time::timeout(Duration::from_millis(200), io.read_u8()).await;
            assert_eq!(next.is_ok(), late, "{said:?}");
        }
    }
}
