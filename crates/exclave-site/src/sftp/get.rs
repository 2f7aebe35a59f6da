//! Reads of whole objects and of ranges.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use exclave_model::ObjectName;
use futures::{StreamExt, TryStreamExt, stream};

use super::connection::Session;
use super::handle::OpenHandle;
use super::packet::{Access, Attributes, FileKind};
use super::trouble::Trouble;
use super::{Inner, PIECES_AT_ONCE};
use crate::error::Failure;
use crate::memory::short_read;

/// What is reserved for an answer before its first byte came; a site's word about a length is worth no more.
const RESERVED_BYTES_MAX: u64 = 1 << 20;

impl Inner {
    /// The length of an object, and a handle to read it. Both are asked for at once: it saves a round trip.
    async fn open(&self, session: &Arc<Session>, name: &ObjectName) -> Result<(OpenHandle, u64), Trouble> {
        let path = self.path(name);
        let (about, handle) = futures::join!(session.client.lstat(&path), session.client.open(&path, Access::Read));
        let handle = handle.map(|handle| OpenHandle::new(session, handle));
        let length = length_of(about?)?;
        Ok((handle?, length))
    }

    pub(super) async fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Bytes, Trouble> {
        let session = self.session().await?;
        let (handle, length) = self.open(&session, name).await?;
        if length > bytes_max {
            return Err(Failure::TooLong {
                length: Some(length),
                bytes_max,
            }
            .into());
        }
        read(&session, &handle, 0..length).await
    }

    pub(super) async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, Trouble> {
        let session = self.session().await?;
        let (handle, length) = self.open(&session, name).await?;
        if range.end > length || range.start > range.end {
            let (wanted, got) = short_read(&range, length);
            return Err(Failure::ShortRead { wanted, got }.into());
        }
        read(&session, &handle, range).await
    }
}

/// The length of an object; a directory, a link or a pipe is none.
pub(super) fn length_of(about: Attributes) -> Result<u64, Trouble> {
    match (about.kind(), about.length) {
        (FileKind::Regular | FileKind::Unknown, Some(length)) => Ok(length),
        (FileKind::Regular | FileKind::Unknown, None) => Err(Trouble::malformed("a file without a length")),
        (FileKind::Directory | FileKind::Other, _) => Err(Failure::Missing.into()),
    }
}

/// Reads exactly a range, many pieces at a time.
async fn read(session: &Session, handle: &OpenHandle, range: Range<u64>) -> Result<Bytes, Trouble> {
    let wanted = range.end - range.start;
    let piece_bytes = u64::from(session.piece_bytes);
    let starts = (range.start..range.end).step_by(session.piece_bytes as usize);
    let pieces = starts.map(|start| piece(session, handle, start..range.end.min(start + piece_bytes)));
    let mut pieces = stream::iter(pieces).buffered(PIECES_AT_ONCE);
    let mut bytes = BytesMut::with_capacity(usize::try_from(wanted.min(RESERVED_BYTES_MAX)).unwrap_or(0));
    while let Some((parts, is_whole)) = pieces.try_next().await? {
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        if !is_whole {
            let got = bytes.len() as u64;
            return Err(Failure::ShortRead { wanted, got }.into());
        }
    }
    Ok(bytes.freeze())
}

/// Reads one piece: a server may give it in parts. False when the file ends within it.
async fn piece(session: &Session, handle: &OpenHandle, range: Range<u64>) -> Result<(Vec<Bytes>, bool), Trouble> {
    let mut parts = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let bytes = u32::try_from(range.end - at).unwrap_or(u32::MAX);
        match session.client.read(handle.bytes(), at, bytes).await? {
            Some(part) => {
                at += part.len() as u64;
                parts.push(part);
            }
            None => return Ok((parts, false)),
        }
    }
    Ok((parts, true))
}
