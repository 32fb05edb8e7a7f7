//! A connection's socket, with a deadline for its peer to take what is sent.
//!
//! In: a stream, the connection's [`Progress`]. Out: the same stream, which fails when the peer has taken no byte for
//! longer than the deadline. It lies below TLS, so that it sees what the peer's end of the connection takes, whatever
//! is written and in which layer it waits. Invariant: nothing waits for a peer's reading without end.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use crate::connections::Progress;

/// A stream whose writes have a deadline.
#[derive(Debug)]
pub(crate) struct Socket<S> {
    stream: S,
    progress: Arc<Progress>,
    patience: Duration,
    /// Runs while a write is pending.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Socket<S> {
    pub(crate) fn new(stream: S, progress: Arc<Progress>, patience: Duration) -> Self {
        Self { stream, progress, patience, deadline: None }
    }

    /// A write's outcome, or the deadline's.
    fn timed<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            if self.deadline.take().is_some() {
                self.progress.took();
            }
            return written;
        }
        let deadline = self.deadline.get_or_insert_with(|| {
            self.progress.blocked();
            Box::pin(sleep(self.patience))
        });
        ready!(deadline.as_mut().poll(cx));
        // Whoever polls again is told again.
        deadline.as_mut().reset(Instant::now());
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.timed(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.timed(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;
    use crate::connections::{Connections, Places};

    fn progress() -> Arc<Progress> {
        let all = Arc::new(Connections::new(Places::USUAL, false));
        all.admit(Ipv4Addr::LOCALHOST.into(), std::time::Instant::now()).progress.clone()
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_ends_the_write() {
        let (ours, _theirs) = duplex(16);
        let progress = progress();
        let mut ours = Socket::new(ours, Arc::clone(&progress), Duration::from_millis(200));
        let began = Instant::now();
        let written = tokio::time::timeout(Duration::from_secs(5), ours.write_all(&[0; 64])).await;
        assert_eq!(written.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= Duration::from_millis(200));
        assert_eq!(ours.write(&[0]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_slow_peer_is_waited_for_as_long_as_it_takes_something() {
        let (ours, mut theirs) = duplex(16);
        let mut ours = Socket::new(ours, progress(), Duration::from_secs(1));
        let reading = tokio::spawn(async move {
            let mut read = 0;
            while read < 64 {
                tokio::time::sleep(Duration::from_millis(200)).await;
                read += theirs.read(&mut [0; 8]).await.unwrap();
            }
            read
        });
        let began = Instant::now();
        ours.write_all(&[0; 64]).await.unwrap();
        assert!(began.elapsed() > Duration::from_secs(1), "longer than for one write");
        assert_eq!(reading.await.unwrap(), 64);
    }
}
