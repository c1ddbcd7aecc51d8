//! What a connection knows of its transport and of itself: whether everything was flushed, and
//! whether it is answering.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// Whether a connection is answering, or was a moment ago.
pub(super) struct Activity {
    opened: Instant,
    answering: AtomicUsize,
    /// Milliseconds after `opened`.
    last: AtomicU64,
    had_body: AtomicBool,
}

impl Default for Activity {
    fn default() -> Self {
        Self {
            opened: Instant::now(),
            answering: AtomicUsize::new(0),
            last: AtomicU64::new(0),
            had_body: AtomicBool::new(false),
        }
    }
}

/// A request that is being answered.
pub(super) struct Busy(Arc<Activity>);

impl Activity {
    pub(super) const QUIET: Duration = Duration::from_secs(1);

    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.answering.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// A request came and was answered at once.
    pub(super) fn touch(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }

    /// A request came whose body may not have come whole.
    pub(super) fn has_body(&self) {
        self.had_body.store(true, Ordering::Relaxed);
    }

    pub(super) fn had_body(&self) -> bool {
        self.had_body.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn is_quiet(&self) -> bool {
        let since = self.now().saturating_sub(self.last.load(Ordering::Relaxed));
        self.answering.load(Ordering::Relaxed) == 0 && u128::from(since) >= Self::QUIET.as_millis()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.touch();
        self.0.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A transport that knows whether all that was written to it was flushed.
pub(super) struct Tracked<IO> {
    pub(super) inner: IO,
    dirty: bool,
}

impl<IO: AsyncWrite + Unpin> Tracked<IO> {
    pub(super) fn new(inner: IO) -> Self {
        Self {
            inner,
            dirty: false,
        }
    }

    pub(super) async fn flush_dirty(&mut self) -> io::Result<()> {
        use tokio::io::AsyncWriteExt;
        if self.dirty {
            self.inner.flush().await
        } else {
            Ok(())
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Tracked<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Tracked<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        b: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.dirty = true;
        Pin::new(&mut self.inner).poll_write(cx, b)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.dirty = true;
        Pin::new(&mut self.inner).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        if flushed.is_ready() {
            self.dirty = false;
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
