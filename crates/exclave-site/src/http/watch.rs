//! Bodies that tell when bytes move, and stop when none do.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use object_store::client::{HttpError, HttpRequestBody};
use tokio::time::{Instant, Sleep};

use super::{Refused, from_reqwest, refuse};

/// Bytes that are handed to a connection at once: small enough that a slow link still shows progress.
const PIECE_BYTES: usize = 64 << 10;

/// Counts the pieces of a request that were taken by the connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress(Arc<AtomicU64>);

impl Progress {
    /// Returns once nothing was taken for `silence_max`.
    pub(super) async fn stalled(&self, silence_max: Duration) {
        loop {
            let before = self.0.load(Ordering::Relaxed);
            tokio::time::sleep(silence_max).await;
            if self.0.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }
}

/// A request's body in pieces that are counted.
pub(super) struct Outgoing {
    body: HttpRequestBody,
    rest: Bytes,
    left: u64,
    progress: Progress,
}

impl Outgoing {
    pub(super) fn new(body: HttpRequestBody, progress: &Progress) -> Self {
        let left = body.content_length() as u64;
        Self {
            body,
            rest: Bytes::new(),
            left,
            progress: progress.clone(),
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        while self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                other => return other,
            }
        }
        let piece_bytes = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(piece_bytes);
        self.left = self.left.saturating_sub(piece.len() as u64);
        self.progress.0.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// An answer's body that fails when nothing comes for too long.
pub(super) struct Watched {
    body: reqwest::Body,
    silence_max: Duration,
    alarm: Pin<Box<Sleep>>,
}

impl Watched {
    pub(super) fn new(body: reqwest::Body, silence_max: Duration) -> Self {
        Self {
            body,
            silence_max,
            alarm: Box::pin(tokio::time::sleep(silence_max)),
        }
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let silence_max = self.silence_max;
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => {
                self.alarm.as_mut().reset(Instant::now() + silence_max);
                Poll::Ready(frame.map(|frame| frame.map_err(from_reqwest)))
            }
            Poll::Pending => match self.alarm.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(Some(Err(refuse(Refused::Silence(silence_max))))),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
