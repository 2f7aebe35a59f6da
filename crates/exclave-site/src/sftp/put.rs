//! Puts: a body under a name that is no object's, then the right name in one step.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use exclave_model::ObjectName;
use futures::{TryStreamExt, stream};

use super::connection::Session;
use super::handle::{OpenHandle, in_background};
use super::packet::{Access, Request, status};
use super::trouble::Trouble;
use super::{Inner, LEFTOVER, PIECES_AT_ONCE, join};
use crate::Body;
use crate::contract::{PutMode, Stored};
use crate::error::Failure;

impl Inner {
    pub(super) async fn put(&self, name: &ObjectName, body: &Body, mode: PutMode) -> Result<Stored, Trouble> {
        let session = self.session().await?;
        if mode == PutMode::Create && !session.extensions.hardlink {
            return Err(Trouble::unsupported(
                "create-only puts (the server has no hardlink@openssh.com)",
            ));
        }
        let (leftover, handle) = self.create_leftover(&session, name).await?;
        let filled = fill(&session, &handle, body).await;
        if let Err(trouble) = filled {
            return Err(self.or_full(&session, body.len(), trouble).await);
        }
        handle.close().await?;
        let stored = publish(&session, &leftover.path, &self.path(name), mode).await;
        if let Ok(Stored::Created) = stored {
            leftover.took_its_name(mode).await;
        }
        stored
    }

    /// Makes the file that a body is written to, and the directories above it where they are missing. Another client may
    /// share the site and our process number, so a name that is taken is passed over.
    async fn create_leftover(
        &self,
        session: &Arc<Session>,
        name: &ObjectName,
    ) -> Result<(Leftover, OpenHandle), Trouble> {
        let place = self.path(name);
        let folder = place.rsplit_once('/').map(|(folder, _)| folder).unwrap_or_default();
        let mut has_made = false;
        loop {
            let number = self.puts.fetch_add(1, Ordering::Relaxed);
            let path = format!("{folder}/{LEFTOVER}{}.{number}", std::process::id());
            let trouble = match session.client.open(&path, Access::WriteNew).await {
                Ok(handle) => return Ok((Leftover::new(session, path), OpenHandle::new(session, handle))),
                Err(trouble) => trouble,
            };
            match trouble.failure {
                Failure::Missing if !has_made => {
                    self.make_directories(session, name).await?;
                    has_made = true;
                }
                // A link or a file where a directory must be isn't a missing object.
                Failure::Missing => return Err(Failure::Other.into()),
                _ if trouble.may_be_taken() && session.client.lstat(&path).await.is_ok() => {}
                _ => return Err(self.or_full(session, 1, trouble).await),
            }
        }
    }

    async fn make_directories(&self, session: &Session, name: &ObjectName) -> Result<(), Trouble> {
        let slashes = name.as_str().match_indices('/');
        for (at, _) in slashes {
            let above = name.as_str().get(..at).unwrap_or_default();
            let path = join(&self.target.root, above);
            match session.client.order(&Request::MakeDirectory { path: &path }).await {
                Ok(()) => {}
                // Version 3 has no code for what is there already. If it isn't, opening the file will tell.
                Err(trouble) if trouble.may_be_taken() => {}
                Err(trouble) if trouble.is_missing() => {
                    return Err(Trouble::lost(format!("the server has no directory above {path}")));
                }
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(())
    }

    /// Version 3 has no code for a full disk either: where a write failed and there is no room for it, it was that.
    async fn or_full(&self, session: &Session, bytes: u64, trouble: Trouble) -> Trouble {
        let is_vague = trouble.status == Some(status::FAILURE) && session.extensions.statvfs;
        if is_vague
            && let Ok(left) = session.client.space_left(&self.target.root).await
            && left < bytes.max(session.piece_bytes.into())
        {
            return trouble.meaning(Failure::Full);
        }
        trouble
    }
}

/// Writes a body, many pieces at a time, and syncs it where that can be asked for.
async fn fill(session: &Session, handle: &OpenHandle, body: &Body) -> Result<(), Trouble> {
    let mut offset = 0;
    let piece_bytes = session.piece_bytes as usize;
    let pieces = body.slices().iter().flat_map(|slice| {
        let starts = (0..slice.len()).step_by(piece_bytes);
        starts.map(move |start| slice.slice(start..slice.len().min(start + piece_bytes)))
    });
    let pieces = pieces.map(|piece| {
        let at = offset;
        offset += piece.len() as u64;
        Ok((at, piece))
    });
    let write = |(at, piece)| session.client.write(handle.bytes(), at, piece);
    stream::iter(pieces)
        .try_for_each_concurrent(PIECES_AT_ONCE, write)
        .await?;
    if session.extensions.fsync {
        let handle = handle.bytes();
        session.client.order(&Request::Fsync { handle }).await?;
    }
    Ok(())
}

/// Gives a complete file its name in one step. A link leaves the first name for the caller to remove.
async fn publish(session: &Session, from: &str, to: &str, mode: PutMode) -> Result<Stored, Trouble> {
    let client = &session.client;
    let request = match mode {
        PutMode::Create => Request::Hardlink { from, to },
        PutMode::Plain if session.extensions.posix_rename => Request::PosixRename { from, to },
        PutMode::Plain => Request::Rename { from, to },
    };
    let trouble = match client.order(&request).await {
        Ok(()) => return Ok(Stored::Created),
        Err(trouble) if trouble.may_be_taken() => trouble,
        // We may write there, so it is links that may not be made.
        Err(trouble) if mode == PutMode::Create && trouble.failure == Failure::Denied => trouble,
        Err(trouble) => return Err(trouble),
    };
    let is_taken = client.lstat(to).await.is_ok();
    match request {
        Request::Hardlink { .. } if is_taken => Ok(Stored::AlreadyExists),
        Request::Hardlink { .. } => {
            let what = format!("create-only puts (no hard links there: {})", trouble.why());
            Err(Trouble::unsupported(what))
        }
        Request::Rename { .. } if is_taken => Err(Trouble::unsupported(
            "overwriting (the server has no posix-rename@openssh.com)",
        )),
        _ => Err(trouble),
    }
}

/// The unfinished file of a put; removed when dropped.
struct Leftover {
    session: Arc<Session>,
    path: String,
    is_there: bool,
}

impl Leftover {
    fn new(session: &Arc<Session>, path: String) -> Self {
        Self {
            session: Arc::clone(session),
            path,
            is_there: true,
        }
    }

    /// A rename took it away; a link left it, and it harms nobody when it can't be removed.
    async fn took_its_name(mut self, mode: PutMode) {
        self.is_there = false;
        if mode == PutMode::Create {
            let path = &self.path;
            let _ = self.session.client.order(&Request::Remove { path }).await;
        }
    }
}

impl Drop for Leftover {
    fn drop(&mut self) {
        if self.is_there {
            let (session, path) = (Arc::clone(&self.session), std::mem::take(&mut self.path));
            in_background(async move {
                let _ = session.client.order(&Request::Remove { path: &path }).await;
            });
        }
    }
}
