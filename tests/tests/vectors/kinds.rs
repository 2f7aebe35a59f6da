//! What the crates' errors are called in the vectors: the one place that translates.

use exclave_dataset::{pack, page::ReadError};
use exclave_engine::log::BadLogProof;
use exclave_log::{BadProof, BadProofFile};
use exclave_model::{RecordError, Rule};
use exclave_seal::{
    BoxError, CollectionError, EnvelopeError, KeyFileError, KitError, LoginsError, OpenError, VerifyError,
    share::{BadShare, CombineError, Flaw, TextError, WireError},
};
use exclave_stripe::{AloneError, DecodeError, ShardError};

/// A refusal, by its kind.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(pub &'static str);

/// Refuses with a kind unless a comparison holds.
pub fn need(condition: bool, kind: &'static str) -> Result<(), Refused> {
    condition.then_some(()).ok_or(Refused(kind))
}

macro_rules! kinds {
    ($($error:ty: $value:ident => $kind:expr;)+) => {
        $(impl From<$error> for Refused {
            fn from($value: $error) -> Self {
                Self($kind)
            }
        })+
    };
}

kinds! {
    Rule: rule => rule.kind;
    RecordError: error => match error {
        RecordError::TooLong { .. } => "too-long",
        RecordError::NotCanonical { .. } => "not-canonical",
        RecordError::NoVersion { .. } | RecordError::Malformed { .. } | RecordError::Surplus { .. } => "bad-record",
        RecordError::Version { .. } => "bad-version",
        RecordError::Unlawful { rule, .. } => rule.kind,
    };
    VerifyError: error => match error {
        VerifyError::Record(error) => Self::from(error).0,
        VerifyError::Anchor => "wrong-archive",
        VerifyError::Succession(rule) => rule.kind,
        VerifyError::NotOne(_) => "bad-record",
        VerifyError::Missing { .. } => "missing-signature",
        VerifyError::Stranger(_) => "unknown-signer",
        VerifyError::Bad { .. } => "bad-signature",
    };
    EnvelopeError: error => match error {
        EnvelopeError::NotForUs(_) => "not-a-recipient",
        EnvelopeError::Stanza(_) => "bad-tag",
        EnvelopeError::Commitment => "bad-commitment",
        EnvelopeError::Recipients => "bad-stanzas",
        EnvelopeError::BadRecipient(_) | EnvelopeError::Entropy(_) => writing(),
    };
    CollectionError: error => match error {
        CollectionError::Verify(error) => Self::from(error).0,
        CollectionError::Rule(rule) => rule.kind,
    };
    BoxError: error => match error {
        BoxError::Length(_) | BoxError::PlainLength(_) => "bad-length",
        BoxError::Commitment => "bad-commitment",
        BoxError::Tag => "bad-tag",
        BoxError::Padding => "bad-padding",
        BoxError::NotText => "bad-record",
        BoxError::Record(error) => Self::from(error).0,
        BoxError::LabelTooLong(_) | BoxError::Entropy(_) => writing(),
    };
    KitError: error => match error {
        KitError::Verify(error) => Self::from(error).0,
        KitError::Rule(rule) => rule.kind,
    };
    LoginsError: error => match error {
        LoginsError::Key(error) => Self::from(error).0,
        LoginsError::Box(error) => Self::from(error).0,
        LoginsError::Entropy(_) => writing(),
    };
    BadProof: error => match error {
        BadProof::Range | BadProof::Length { .. } => "bad-length",
        BadProof::Root => "bad-hash",
    };
    BadLogProof: error => match error {
        BadLogProof::File(BadProofFile::TooLong(_)) => "too-long",
        BadLogProof::File(_) | BadLogProof::NoEntry => "bad-record",
        BadLogProof::Log(_) => "wrong-archive",
        BadLogProof::Entry(error) => Self::from(error).0,
        BadLogProof::Stranger => "unknown-signer",
        BadLogProof::Unsigned(_) => "missing-signature",
        BadLogProof::Signature(error) => Self::from(error).0,
        BadLogProof::Inclusion(error) => Self::from(error).0,
    };
    OpenError: error => match error {
        OpenError::Commitment => "bad-commitment",
        OpenError::Segment { .. } => "bad-tag",
    };
    KeyFileError: error => match error {
        KeyFileError::TooLong(_) => "too-long",
        KeyFileError::Malformed(_) | KeyFileError::Kind { .. } | KeyFileError::PublicOnly => "bad-keyfile",
        KeyFileError::Cost { .. } => "too-costly",
        KeyFileError::WrongPassphrase => "bad-passphrase",
        KeyFileError::Mismatch => "wrong-key",
        KeyFileError::PassphraseNeeded => panic!("the file gives no passphrase"),
        KeyFileError::Argon2(why) => panic!("{why}"),
        KeyFileError::Token(why) => panic!("{why}"),
        KeyFileError::Entropy(_) => writing(),
    };
    BadShare: error => match error {
        BadShare::Version(_) => "bad-version",
        BadShare::Numbers => "bad-threshold",
    };
    TextError: error => match error {
        TextError::Word { .. } | TextError::Group { .. } => "bad-word",
        TextError::Line { .. } => "bad-check",
        TextError::Count { .. } | TextError::TooLong | TextError::TooShort(_) => "bad-length",
        TextError::Padding => "bad-padding",
        TextError::Share(error) => Self::from(error).0,
    };
    WireError: error => match error {
        WireError::Malformed(_) => "bad-keyfile",
        WireError::NotForUs(_) => "not-a-recipient",
        WireError::Altered => "bad-tag",
        WireError::Share(error) => Self::from(error).0,
        WireError::BadKey(_) | WireError::Entropy(_) => writing(),
    };
    Flaw: flaw => match flaw {
        Flaw::Foreign => "foreign-share",
        Flaw::Outdated { .. } => "old-share",
        Flaw::Newer { .. } => "new-share",
        Flaw::Wrong => "wrong-share",
        Flaw::Altered => "altered-share",
        Flaw::Repeated => "repeated-share",
    };
    CombineError: error => match error {
        CombineError::TooFew { .. } => "too-few-shares",
        CombineError::Group(_) => "bad-commitment",
        CombineError::WrongKey { .. } => "wrong-key",
    };
    AloneError: error => match error {
        AloneError::Short(_) | AloneError::Length { .. } => "bad-length",
        AloneError::Header(rule) => rule.kind,
        AloneError::Trailer => "bad-trailer",
    };
    ShardError: error => match error {
        ShardError::NoSuchIndex(_) | ShardError::Length { .. } => "bad-length",
        ShardError::Hash => "bad-hash",
        ShardError::Header => "bad-header",
        ShardError::Trailer => "bad-trailer",
    };
    DecodeError: error => match error {
        DecodeError::TooFew(_) => "too-few-shards",
        DecodeError::NotACodeword(_) => "bad-parity",
        DecodeError::Geometry => "bad-geometry",
    };
    pack::DecodeError: error => match error {
        pack::DecodeError::Lengths { .. } => "bad-length",
        pack::DecodeError::NotOneFrame { .. }
        | pack::DecodeError::Window { .. }
        | pack::DecodeError::Frame { .. }
        | pack::DecodeError::Short { .. } => "bad-zstd",
    };
}

/// A page's reader; `E` is how fetching failed, which is a kind already.
impl From<ReadError<super::layers::NoSuchPage>> for Refused {
    fn from(error: ReadError<super::layers::NoSuchPage>) -> Self {
        Self(match error {
            ReadError::Fetch(_) => "not-found",
            ReadError::Page(error) => Self::from(error).0,
            ReadError::TooDeep { .. } => "too-long",
            ReadError::WrongLevel { .. } => "bad-level",
            ReadError::WrongFirst { .. } | ReadError::OutOfOrder { .. } => "bad-order",
            ReadError::Overlap { .. } | ReadError::BeyondSize { .. } => "bad-extents",
        })
    }
}

fn writing() -> ! {
    panic!("an error of writing came up while reading")
}
