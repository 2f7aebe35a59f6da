//! What reads bytes that others wrote, one function for each parser: any bytes in, no panic out.
//!
//! One table, [`PARSERS`], and seeds for each in [`seeds`]. Two drivers go through it: the test `fuzz`, which needs nothing
//! but stable Rust and runs with every change, and the package in `fuzz/`, which libFuzzer guides by coverage.
//!
//! Parsers that a restore reaches only behind a signature, a key or a hash are called directly, past it. Where the
//! written form is the only one, what was read is written again and must be the same bytes; elsewhere it must read
//! again as the same value.

pub mod answers; // what a server answers
pub mod seeds; // good bytes to begin with

use std::{collections::BTreeSet, fmt::Debug, fs, io};

use exclave_dataset::{
    pack::Decompressor,
    page::{PageReader, Root},
    walk::{ExcludeRules, FileList, ListedDirectory},
};
use exclave_engine::{journal, log::Evidence};
use exclave_log::{LogEntry, LogId, LogProof, Note, SignedCheckpoint, TileId, TileLevel, VerifierKey};
use exclave_model::{
    Charter, CharterFile, ChunkId, ChunkRef, Close, Codec, Companion, Directory, DsseEnvelope, EntryPath, Envelope,
    Grant, Head, Kit, LedgerPart, LiveSet, LooseSignature, ObjectName, Prefix, Record, Registration, ReuseClaim, RunId,
    RunPage, SealedHead, SealedLogins, ShardHeader, ShareSet, SignedObject, SitePlate, Statement, StripeContext,
    UnsignedCharter, cbor,
    head::check_run_table,
    limit::{CHUNK_BYTES_MAX, RECORD_BYTES_MAX},
    manifest::Page,
};
use exclave_seal::{
    KeyFile, Share,
    share::{Form, WrappedShare},
};
use exclave_site::{ByteCount, Pin, SiteAddress, SiteSettings, Span};
use exclave_stripe::read_alone;
use rustix::process::{Resource, Rlimit, setrlimit};

use self::answers::Kind;

/// What a process that reads any bytes may take of addresses, on top of those it began with.
pub const ADDRESS_BYTES_MAX: u64 = 256 << 20;

/// A parser under test.
#[derive(Debug, Clone, Copy)]
pub struct Parser {
    /// Its name.
    pub name: &'static str,
    /// Reads any bytes; true when they were accepted.
    pub read: fn(&[u8]) -> bool,
}

/// Every parser.
pub const PARSERS: &[Parser] = &[
    parser("cbor", |bytes| cbor::check(bytes).is_ok()),
    parser("context", context),
    parser("shard-header", shard_header),
    parser("shard", shard),
    parser("signed", signed),
    parser("charter", record::<Charter>),
    parser("charter-file", charter_file),
    parser("grant", record::<Grant>),
    parser("kit", record::<Kit>),
    parser("logins", record::<SealedLogins>),
    parser("dataset", record::<Registration>),
    parser("names", record::<Companion>),
    parser("unsigned-charter", unsigned_charter),
    parser("loose-signature", loose_signature),
    parser("plate", record::<SitePlate>),
    parser("envelope", record::<Envelope>),
    parser("close", record::<Close>),
    parser("reuse", record::<ReuseClaim>),
    parser("head", record::<Head>),
    parser("sealed-head", record::<SealedHead>),
    parser("ledger", record::<LedgerPart>),
    parser("runs", runs),
    parser("live-set", live_set),
    parser("page", page),
    parser("manifest", manifest),
    parser("directory", directory),
    parser("chunk", chunk),
    parser("key-file", key_file),
    parser("share-set", record::<ShareSet>),
    parser("share-text", share_text),
    parser("wrapped-share", wrapped_share),
    parser("object-name", object_name),
    parser("entry-path", |bytes| EntryPath::parse(bytes).is_ok()),
    parser("address", address),
    parser("site-settings", site_settings),
    parser("file-list", file_list),
    parser("exclude-rules", exclude_rules),
    parser("journal", journal_file),
    parser("dsse", dsse),
    parser("report", report),
    parser("note", note),
    parser("checkpoint", checkpoint),
    parser("log-proof", log_proof),
    parser("verifier-key", verifier_key),
    parser("tile-path", tile_path),
    parser("bundle", bundle),
    parser("log-entry", record::<LogEntry>),
    parser("log-evidence", log_evidence),
    parser("s3-answers", |bytes| answers::read(Kind::S3, bytes)),
    parser("azure-answers", |bytes| answers::read(Kind::Azure, bytes)),
    parser("gcs-answers", |bytes| answers::read(Kind::Gcs, bytes)),
    parser("webdav-answers", |bytes| answers::read(Kind::WebDav, bytes)),
];

/// The parser of that name.
pub fn parser_named(name: &str) -> Option<&'static Parser> {
    PARSERS.iter().find(|parser| parser.name == name)
}

/// Limits the addresses of this process to [`ADDRESS_BYTES_MAX`] more than it has: an allocation beyond that fails, which ends
/// it. For good.
pub fn limit_addresses() -> io::Result<()> {
    let pages = fs::read_to_string("/proc/self/statm")?;
    let pages = pages.split(' ').next().and_then(|pages| pages.parse::<u64>().ok());
    let pages = pages.ok_or(io::ErrorKind::InvalidData)?;
    let most = Some(pages * rustix::param::page_size() as u64 + ADDRESS_BYTES_MAX);
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    Ok(setrlimit(Resource::As, limit)?)
}

const fn parser(name: &'static str, read: fn(&[u8]) -> bool) -> Parser {
    Parser { name, read }
}

fn dsse(bytes: &[u8]) -> bool {
    DsseEnvelope::from_bytes(bytes).is_ok_and(|envelope| {
        // JSON has many spellings: what was read reads again as the same.
        let again = envelope
            .to_bytes()
            .ok()
            .map(|written| DsseEnvelope::from_bytes(&written).ok());
        assert_eq!(again.flatten().as_ref(), Some(&envelope));
        true
    })
}

fn note(bytes: &[u8]) -> bool {
    Note::parse(bytes).is_ok_and(|note| {
        assert_eq!(note.to_bytes(), bytes);
        true
    })
}

fn checkpoint(bytes: &[u8]) -> bool {
    SignedCheckpoint::parse(bytes).is_ok_and(|signed| {
        assert_eq!(signed.to_bytes(), bytes);
        assert_eq!(signed.checkpoint.text(), signed.note.text());
        let _ = LogId::parse(&signed.checkpoint.origin);
        true
    })
}

fn log_proof(bytes: &[u8]) -> bool {
    LogProof::parse(bytes).is_ok_and(|proof| {
        assert_eq!(proof.to_bytes(), bytes);
        let _ = proof.verify(proof.extra.as_deref().unwrap_or_default());
        true
    })
}

fn verifier_key(bytes: &[u8]) -> bool {
    let key = std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse::<VerifierKey>().ok());
    key.is_some_and(|key| {
        assert_eq!(key.to_string().as_bytes(), bytes);
        true
    })
}

fn tile_path(bytes: &[u8]) -> bool {
    let tile = std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| TileId::parse(text).ok());
    tile.is_some_and(|tile| {
        assert_eq!(tile.path().as_bytes(), bytes);
        true
    })
}

/// A bundle and a tile of hashes, of the width that the first byte says.
fn bundle(bytes: &[u8]) -> bool {
    let Some((width, rest)) = bytes.split_first() else {
        return false;
    };
    let width = u16::from(*width) + 1;
    let tile = |level| TileId::new(level, 0, width);
    let hashes = tile(TileLevel::Hashes(0)).is_some_and(|tile| tile.read_hashes(rest).is_ok());
    let entries = tile(TileLevel::Entries).is_some_and(|tile| {
        tile.read_entries(rest).is_ok_and(|entries| {
            assert!(exclave_log::tile::bundle(entries).is_ok_and(|written| written == rest));
            true
        })
    });
    hashes || entries
}

fn log_evidence(bytes: &[u8]) -> bool {
    Evidence::from_bytes(bytes).is_ok_and(|evidence| {
        let _ = evidence.log();
        true
    })
}

fn report(bytes: &[u8]) -> bool {
    Statement::from_bytes(bytes).is_ok_and(|statement| {
        let again = statement
            .to_bytes()
            .ok()
            .map(|written| Statement::from_bytes(&written).ok());
        assert_eq!(again.flatten().as_ref(), Some(&statement));
        true
    })
}

fn record<R: Record + PartialEq + Debug>(bytes: &[u8]) -> bool {
    R::from_bytes(bytes).is_ok_and(|record| {
        assert!(record.to_bytes().is_ok_and(|written| written == bytes));
        true
    })
}

fn context(bytes: &[u8]) -> bool {
    let context = bytes
        .try_into()
        .ok()
        .and_then(|bytes| StripeContext::from_bytes(bytes).ok());
    context.is_some_and(|context| {
        assert_eq!(context.to_bytes().as_slice(), bytes);
        true
    })
}

fn shard_header(bytes: &[u8]) -> bool {
    let header = bytes
        .try_into()
        .ok()
        .and_then(|bytes| ShardHeader::from_bytes(bytes).ok());
    header.is_some_and(|header| {
        assert_eq!(header.to_bytes().as_slice(), bytes);
        true
    })
}

fn shard(bytes: &[u8]) -> bool {
    read_alone(bytes).is_ok_and(|shard| {
        assert_eq!(shard.payload.len(), shard.header.context.payload.bytes());
        true
    })
}

fn signed(bytes: &[u8]) -> bool {
    SignedObject::from_bytes(bytes, RECORD_BYTES_MAX).is_ok_and(|object| {
        assert_eq!(object.to_bytes(), bytes);
        true
    })
}

fn runs(bytes: &[u8]) -> bool {
    RunPage::from_bytes(bytes).is_ok_and(|page| {
        assert!(page.to_bytes().is_ok_and(|written| written == bytes));
        check_run_table(&[page]).is_ok()
    })
}

/// Numbers of eight bytes each, as the runs of a table hold them.
fn live_set(bytes: &[u8]) -> bool {
    let numbers: Vec<u64> = bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|number| u64::from_be_bytes(*number))
        .collect();
    LiveSet::from_numbers(&numbers).is_ok()
}

fn page(bytes: &[u8]) -> bool {
    Page::decode(bytes).is_ok_and(|page| {
        // FORMAT.md section 12 leaves the order of a page's runs free, and readers accept runs that nothing refers to, so
        // a page has several written forms and its value is compared. All but that table is as strict as elsewhere.
        assert!(
            page.encode()
                .is_ok_and(|written| Page::decode(&written).is_ok_and(|again| again == page))
        );
        true
    })
}

/// The reader of a manifest whose every page is these bytes. It has to end.
fn manifest(bytes: &[u8]) -> bool {
    let root = Root {
        level: bytes.first().map_or(0, |first| first % 8),
        page: ChunkRef {
            run: RunId::from_bytes([0; 16]),
            ordinal: 0,
            offset: 0,
            stored: 1,
            raw: 1,
            codec: Codec::Raw,
            id: ChunkId::from_bytes([0; 32]),
        },
    };
    let body = bytes.get(1..).unwrap_or_default();
    let fetch = |_: &ChunkRef| Ok::<_, std::io::Error>(body.to_vec());
    let mut seen = BTreeSet::new();
    for entry in PageReader::new(root).entries(fetch) {
        let Ok(entry) = entry else { return false };
        assert!(seen.insert(entry.path), "a path comes twice");
    }
    true
}

fn directory(bytes: &[u8]) -> bool {
    Directory::read(bytes).is_ok_and(|directory| {
        assert!(bytes.ends_with(&directory.to_bytes()));
        assert!(directory.bytes_needed() <= bytes.len());
        true
    })
}

/// The raw length that a reference names, then what is stored.
fn chunk(bytes: &[u8]) -> bool {
    let Some((raw, stored)) = bytes.split_first_chunk::<4>() else {
        return false;
    };
    // A reference with a greater one is refused before its chunk is fetched.
    let raw = u32::from_be_bytes(*raw) % (CHUNK_BYTES_MAX as u32 + 1);
    let Ok(mut decompressor) = Decompressor::new() else {
        return false;
    };
    let codec = if stored.starts_with(b"\x28\xb5\x2f\xfd") {
        Codec::Zstd
    } else {
        Codec::Raw
    };
    decompressor.decode(codec, stored, raw).is_ok_and(|plain| {
        assert_eq!(plain.len(), raw as usize);
        true
    })
}

fn key_file(bytes: &[u8]) -> bool {
    KeyFile::from_bytes(bytes).is_ok_and(|file| {
        let text = file.to_text().map(|text| text.as_bytes().to_vec());
        let again = text.and_then(|text| KeyFile::from_bytes(&text));
        assert!(again.is_ok_and(|again| again.kind() == file.kind()));
        true
    })
}

fn charter_file(bytes: &[u8]) -> bool {
    CharterFile::from_bytes(bytes).is_ok_and(|file| {
        assert_eq!(file.to_bytes(), bytes, "a charter file has one spelling");
        true
    })
}

fn unsigned_charter(bytes: &[u8]) -> bool {
    UnsignedCharter::from_bytes(bytes).is_ok_and(|charter| {
        assert_eq!(charter.to_bytes(), bytes, "an unsigned charter has one spelling");
        true
    })
}

fn loose_signature(bytes: &[u8]) -> bool {
    LooseSignature::from_bytes(bytes).is_ok_and(|signature| {
        assert_eq!(signature.to_bytes(), bytes, "a signature alone has one spelling");
        true
    })
}

/// A share that was read says the same when it is written, in either form.
fn share_text(bytes: &[u8]) -> bool {
    let Ok(share) = std::str::from_utf8(bytes)
        .map_err(|_| ())
        .and_then(|text| Share::from_text(text).map_err(|_| ()))
    else {
        return false;
    };
    for form in [Form::Words, Form::Digits] {
        let again = Share::from_text(&share.to_text(form));
        assert!(again.is_ok_and(|again| again.commitment() == share.commitment()));
    }
    true
}

fn wrapped_share(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    WrappedShare::parse(text).is_ok_and(|wrapped| {
        let again = wrapped.to_text().and_then(|text| WrappedShare::parse(&text));
        assert!(again.is_ok_and(|again| again == wrapped));
        true
    })
}

fn object_name(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let prefix = Prefix::parse(text).is_ok_and(|prefix| prefix.as_str() == text);
    ObjectName::parse(text).is_ok_and(|name| name.as_str() == text) || prefix
}

fn address(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    SiteAddress::parse(text).is_ok_and(|address| {
        assert_eq!(SiteAddress::parse(address.as_str()).as_ref(), Ok(&address), "{text:?}");
        true
    })
}

/// Quantities and pins print as they are read.
fn site_settings(bytes: &[u8]) -> bool {
    let settings = std::str::from_utf8(bytes).map(toml::from_str::<SiteSettings>);
    let Ok(Ok(settings)) = settings else { return false };
    let spans = [
        settings.connect_max,
        settings.silence_max,
        settings.operation_max,
        settings.listing_max,
    ];
    for span in spans {
        assert_eq!(Span::try_from(span.to_string()), Ok(span));
    }
    for count in [settings.upload_per_second_max, settings.download_per_second_max]
        .iter()
        .flatten()
    {
        assert_eq!(ByteCount::try_from(count.to_string()), Ok(*count));
    }
    for pin in settings.pin.iter() {
        assert_eq!(pin.to_string().parse::<Pin>().as_ref(), Ok(pin));
    }
    true
}

fn file_list(bytes: &[u8]) -> bool {
    FileList::read(bytes, ListedDirectory::Whole).is_ok()
}

fn exclude_rules(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| ExcludeRules::parse(text.lines()).is_ok())
}

/// Whatever lies there, reading gives the whole entries in front of it, and no more than there is.
fn journal_file(bytes: &[u8]) -> bool {
    let Ok(folder) = crate::world::scratch_folder() else {
        return false;
    };
    let path = folder.path().join("journal");
    if std::fs::write(&path, bytes).is_err() {
        return false;
    }
    let read = journal::read(&path);
    read.is_ok_and(|(entries, whole)| {
        assert!(whole <= bytes.len() as u64);
        !entries.is_empty()
    })
}
