//! What a writer found strange about its own source (FORMAT.md section 11, field 15).
//!
//! A snapshot that trips a wire is committed all the same: refusing it would leave the register without a copy just when
//! something happens to it. The head says so, in public and signed, so that whoever decides what may be collected keeps
//! the snapshots before it, and an auditor without a key sees it.

use std::fmt;

use minicbor::{Decode, Encode};

/// One thing that changed more than data does by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tripwire {
    /// Most of what the snapshot before held is gone or was rewritten.
    Changed,
    /// Many files have the content of others that are gone.
    Renamed,
    /// The source is much smaller.
    Shrunk,
    /// What is new doesn't compress, and what came before did.
    Noise,
    /// Files that are written again used to keep most of their chunks, and keep hardly any.
    Collapsed,
    /// The definition of the source is another one.
    Redefined,
}

impl Tripwire {
    /// All, in the order of their codes.
    pub const ALL: [Self; 6] = [
        Self::Changed,
        Self::Renamed,
        Self::Shrunk,
        Self::Noise,
        Self::Collapsed,
        Self::Redefined,
    ];

    /// The number in a head.
    pub const fn code(self) -> u8 {
        match self {
            Self::Changed => 0,
            Self::Renamed => 1,
            Self::Shrunk => 2,
            Self::Noise => 3,
            Self::Collapsed => 4,
            Self::Redefined => 5,
        }
    }

    /// The word in output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Renamed => "renamed",
            Self::Shrunk => "shrunk",
            Self::Noise => "noise",
            Self::Collapsed => "collapsed",
            Self::Redefined => "redefined",
        }
    }
}

impl fmt::Display for Tripwire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<C> Encode<C> for Tripwire {
    fn encode<W: minicbor::encode::Write>(
        &self,
        encoder: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        encoder.u8(self.code())?;
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for Tripwire {
    fn decode(decoder: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let code = decoder.u8()?;
        let known = Self::ALL.into_iter().find(|wire| wire.code() == code);
        known.ok_or_else(|| minicbor::decode::Error::message("unknown tripwire"))
    }
}

#[cfg(test)]
mod tests {
    use super::Tripwire;

    #[test]
    fn codes_are_the_order() {
        for (place, wire) in Tripwire::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(wire.code()), place, "{wire}");
        }
    }
}
