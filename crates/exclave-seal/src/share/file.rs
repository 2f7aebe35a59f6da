//! Shares in key files (FORMAT.md section 13): the header and the commitment are the public half, the value is sealed.

use exclave_model::Commitment;

use super::{HEADER_BYTES, Share, ShareHeader};
use crate::{
    entropy::Entropy,
    key_file::{Cost, KeyFile, KeyFileError, KeyKind, Passphrase},
};

/// Bytes of the public half.
pub(crate) const SHARE_PUBLIC_BYTES: usize = HEADER_BYTES + Commitment::BYTES;

impl KeyFile {
    /// A file for a custodian's share.
    pub fn for_share(
        share: &Share,
        passphrase: &Passphrase,
        cost: Cost,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, KeyFileError> {
        let public = [&share.header.to_bytes()[..], share.commitment().as_bytes()].concat();
        Self::sealed(KeyKind::Share, public, share.value.expose(), passphrase, cost, entropy)
    }

    /// What the share is part of.
    pub fn share_header(&self) -> Result<ShareHeader, KeyFileError> {
        self.expect(KeyKind::Share)?;
        read_header(self.public())
    }

    /// Opens a share, and holds it against its own commitment.
    pub fn open_share(&self, passphrase: Option<&Passphrase>) -> Result<Share, KeyFileError> {
        let share = Share::new(self.share_header()?, self.secret(passphrase)?);
        match share.commitment().as_bytes()[..] == self.public()[HEADER_BYTES..] {
            true => Ok(share),
            false => Err(KeyFileError::Mismatch),
        }
    }
}

/// Reads a header from the public half.
pub(crate) fn read_header(public: &[u8]) -> Result<ShareHeader, KeyFileError> {
    let header = public.first_chunk::<HEADER_BYTES>().ok_or(KeyFileError::Mismatch)?;
    ShareHeader::from_bytes(header).map_err(|bad| KeyFileError::Malformed(bad.to_string()))
}
