//! What a server holds open for us.

use std::sync::Arc;

use bytes::Bytes;

use super::connection::Session;
use super::packet::Request;
use super::trouble::Trouble;

/// A file or directory that the server holds open for us; closed when dropped.
pub(super) struct OpenHandle {
    session: Arc<Session>,
    handle: Bytes,
    is_open: bool,
}

impl OpenHandle {
    pub(super) fn new(session: &Arc<Session>, handle: Bytes) -> Self {
        Self {
            session: Arc::clone(session),
            handle,
            is_open: true,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.handle
    }

    /// Closes it and hears how that went: some file systems tell of lost writes only now.
    pub(super) async fn close(mut self) -> Result<(), Trouble> {
        self.is_open = false;
        let handle = &self.handle;
        self.session.client.order(&Request::Close { handle }).await
    }
}

impl Drop for OpenHandle {
    fn drop(&mut self) {
        if self.is_open {
            let (session, handle) = (Arc::clone(&self.session), self.handle.clone());
            in_background(async move {
                let _ = session.client.order(&Request::Close { handle: &handle }).await;
            });
        }
    }
}

/// Tidies up where there is still somebody to do it.
pub(super) fn in_background(act: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(act);
    }
}
