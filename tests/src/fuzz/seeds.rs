//! Good bytes for each parser to begin with: the bodies of `tests/vectors`, the answers of real servers in `tests/answers`,
//! what was worth keeping of earlier runs in `tests/corpus`, and where there are none, what our own writers write and
//! what people do.

#![expect(clippy::unwrap_used, reason = "a seed that can't be read is a broken test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use exclave_engine::journal::{Journal, JournalEntry};
use exclave_model::{
    ChunkId, ChunkRef, Codec, Counts, DsseEnvelope, KeyId, LooseSignature, ManifestRoot, Record, RunId, SealedHead,
    Signature, SignedObject, SourceKind, UnsignedCharter, dsse::IN_TOTO, limit::RECORD_BYTES_MAX,
};

use crate::vector::{Vector, files};

/// Longer bodies of vectors make slow inputs and teach nothing that short ones don't.
const SEED_BYTES_MAX: usize = 64 << 10;

/// Every setting of a site.
const SETTINGS: &str = r#"
endpoint = "https://s3.example"
region = "eu-west-1"
ca_pem = "-----BEGIN CERTIFICATE-----"
pin = ["sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="]
proxy = "http://127.0.0.1:3128"
allow_http = true
connect_max = "250ms"
silence_max = "90s"
operation_max = "5m"
listing_max = "2h"
requests_in_flight_max = 16
upload_per_second_max = "8 MiB"
download_per_second_max = "512"
durability = "each"
[credentials.s3]
access_key = "me"
secret_key = "hunter2"
session_token = "t"
"#;

/// Which layers' bodies a parser begins with; whether the record is taken out of the signed object first.
fn layers(parser: &str) -> (&'static [&'static str], bool) {
    match parser {
        "cbor" => (&["record", "ledger", "manifest"], false),
        "context" => (&["context"], false),
        "shard-header" | "shard" => (&["shard"], false),
        "signed" => (&["signed", "charter", "head"], false),
        "charter" => (&["charter"], true),
        "charter-file" => (&["charterfile"], false),
        "envelope" => (&["envelope"], true),
        "head" => (&["head"], true),
        "plate" | "close" | "reuse" => (&["record"], false),
        "ledger" => (&["ledger"], false),
        "page" | "manifest" => (&["manifest"], false),
        "directory" => (&["directory"], false),
        "chunk" => (&["chunk"], false),
        "key-file" => (&["keyfile"], false),
        "share-set" => (&["shareset"], false),
        "log-proof" => (&["logproof"], false),
        "share-text" => (&["sharetext"], false),
        "wrapped-share" => (&["wrappedshare"], false),
        _ => (&[], false),
    }
}

/// A folder beside this package's sources.
fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// All vectors, in order of their names.
pub fn vectors() -> Vec<Vector> {
    let files = files(&folder("vectors"), "vec").unwrap();
    files
        .iter()
        .map(|path| Vector::parse(&fs::read_to_string(path).unwrap()).unwrap())
        .collect()
}

/// What servers have answered, for a parser of answers.
pub(super) fn answers(parser: &str) -> Vec<Vec<u8>> {
    let kind = parser.trim_end_matches("-answers");
    let files = files(&folder("answers").join(kind), "txt").unwrap();
    files.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Inputs that runs guided by coverage found worth keeping: a line of base64 for each.
fn kept(parser: &str) -> Vec<Vec<u8>> {
    let file = folder("corpus").join(format!("{parser}.txt"));
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| STANDARD.decode(line).unwrap()).collect()
}

/// Pages of run tables, which the vectors keep several at a time.
fn run_pages(vectors: &[Vector]) -> Vec<Vec<u8>> {
    let several = vectors.iter().filter(|vector| vector.text("layer") == Some("runs"));
    several
        .filter_map(|vector| minicbor::decode::<Vec<minicbor::bytes::ByteVec>>(&vector.body).ok())
        .flatten()
        .map(Vec::from)
        .collect()
}

/// A checkpoint as others write it (the example of C2SP tlog-cosignature).
const CHECKPOINT: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
    \u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n";

/// Evidence whose notes say nothing.
const EVIDENCE: &str =
    r#"{"format":"exclave log evidence v1","first":"a","second":"b","prefix_root":"c","proof":["d"]}"#;

/// A report with one of each thing, in the form that is signed.
const REPORT: &[u8] = include_bytes!("report.json");

/// An envelope with a signature that nobody made.
fn an_envelope() -> Vec<u8> {
    let envelope = DsseEnvelope {
        payload_type: IN_TOTO.to_owned(),
        payload: b"{}".to_vec(),
        signatures: vec![Signature {
            key: KeyId::from_bytes([7; 32]),
            ed25519: [1; 64],
            ml_dsa: Box::new([2; 3309]),
        }],
    };
    envelope.to_bytes().unwrap_or_default()
}

/// What the vectors of a layer keep behind the charters that it obeys.
fn behind(vectors: &[Vector], layer: &str) -> Vec<Vec<u8>> {
    type Behind = (Vec<minicbor::bytes::ByteVec>, minicbor::bytes::ByteVec);
    let several = vectors.iter().filter(|vector| vector.text("layer") == Some(layer));
    several
        .filter_map(|vector| minicbor::decode::<Behind>(&vector.body).ok())
        .map(|(_, bytes)| Vec::from(bytes))
        .collect()
}

/// The objects in the vectors of datasets' records.
fn datasets(vectors: &[Vector]) -> Vec<SignedObject> {
    type Behind = (Vec<minicbor::bytes::ByteVec>, Vec<minicbor::bytes::ByteVec>);
    let several = vectors.iter().filter(|vector| vector.text("layer") == Some("dataset"));
    several
        .filter_map(|vector| minicbor::decode::<Behind>(&vector.body).ok())
        .flat_map(|(_, objects)| objects)
        .filter_map(|bytes| SignedObject::from_bytes(&bytes, RECORD_BYTES_MAX).ok())
        .collect()
}

/// The records in such signed objects.
fn signed_behind(vectors: &[Vector], layer: &str) -> Vec<Vec<u8>> {
    behind(vectors, layer)
        .iter()
        .filter_map(|bytes| SignedObject::from_bytes(bytes, RECORD_BYTES_MAX).ok())
        .map(|object| object.record_bytes().to_vec())
        .collect()
}

/// Sealed heads as the engine writes them: in the vectors they lie within their boxes.
fn sealed_heads() -> Vec<Vec<u8>> {
    let page = ChunkRef {
        run: RunId::from_bytes([5; 16]),
        ordinal: 3,
        offset: 70_000,
        stored: 1_000,
        raw: 1_000,
        codec: Codec::Raw,
        id: ChunkId::from_bytes([6; 32]),
    };
    let first = SealedHead {
        name: "register".into(),
        label: String::new(),
        started: 1_800_000_000,
        finished: 1_800_000_050,
        source: SourceKind::Tree,
        source_digest: [7; 32],
        counts: Counts::default(),
        root: ManifestRoot { level: 0, page },
        dataset_secret: [8; 32],
        cutter: "gear/262144/1048576/4194304".into(),
    };
    let second = SealedHead {
        label: "restricted".into(),
        started: -1,
        source: SourceKind::Command,
        counts: Counts {
            files: u64::MAX,
            changed: 24,
            ..Counts::default()
        },
        root: ManifestRoot {
            level: 7,
            page: ChunkRef {
                stored: 900,
                codec: Codec::Zstd,
                ..page
            },
        },
        ..first.clone()
    };
    [first, second].iter().map(|head| head.to_bytes().unwrap()).collect()
}

fn a_journal() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut journal = Journal::create(&path).unwrap();
    for _ in 0..3 {
        journal.append(&JournalEntry::Committed).unwrap();
    }
    fs::read(path).unwrap()
}

/// What a parser begins with; never nothing.
pub fn seeds(parser: &str, vectors: &[Vector]) -> Vec<Vec<u8>> {
    let (layers, inside) = layers(parser);
    let bodies = vectors
        .iter()
        .filter(|vector| layers.contains(&vector.text("layer").unwrap()));
    let mut seeds: Vec<Vec<u8>> = bodies
        .filter_map(|vector| match inside {
            _ if parser == "chunk" => {
                let raw = vector.number("raw-length")? as u32;
                Some([&raw.to_be_bytes(), &*vector.body].concat())
            }
            true => SignedObject::from_bytes(&vector.body, RECORD_BYTES_MAX)
                .ok()
                .map(|object| object.record_bytes().to_vec()),
            false => Some(vector.body.clone()),
        })
        .collect();
    let texts: &[&str] = match parser {
        "object-name" => &["runs/0123/stripes/00/0.1.ab", "heads/", "plate"],
        "entry-path" => &["registers/land/parcels.csv", "a"],
        "address" => &[
            "/srv/exclave",
            "file:///srv/a%20b",
            "s3://bucket/some/prefix",
            "az://container/prefix",
            "gs://bucket",
            "https://host:8443/dav/",
        ],
        "file-list" => &["./a\0b/c/\0.\0", "registers\0"],
        "site-settings" => &[SETTINGS, "[credentials]\nbearer = { token = \"t\" }", ""],
        "note" | "checkpoint" => &[CHECKPOINT, "text\n\nmore\n\n\u{2014} a/b AAAAAAA=\n"],
        "verifier-key" => &["example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"],
        "tile-path" => &["tile/0/x001/x234/067", "tile/entries/000.p/5", "tile/7/000"],
        "bundle" => &["\u{1}\0\u{3}abc\0\0", "\0\0\0", "\0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"],
        "log-evidence" => &[EVIDENCE],
        "exclude-rules" => &["*.tmp\n!keep.tmp\n/cache/\n# why\n[a-z]?/**/x\\ "],
        _ => &[],
    };
    seeds.extend(texts.iter().map(|text| text.as_bytes().to_vec()));
    match parser {
        "sealed-head" => seeds = sealed_heads(),
        "runs" => seeds.extend(run_pages(vectors)),
        "grant" | "kit" | "names" => seeds.extend(signed_behind(vectors, parser)),
        "logins" => seeds.extend(behind(vectors, parser)),
        "dataset" => seeds.extend(datasets(vectors).iter().map(|object| object.record_bytes().to_vec())),
        "unsigned-charter" => seeds.extend(datasets(vectors).first().map(|object| {
            let charter = UnsignedCharter {
                history: vec![object.clone()],
                record: object.record_bytes().to_vec(),
            };
            charter.to_bytes()
        })),
        "loose-signature" => seeds.extend(datasets(vectors).first().and_then(|object| {
            let signature = LooseSignature {
                record: object.record_hash(),
                signature: object.signatures().first()?.clone(),
                plates: vec![object.clone()],
            };
            Some(signature.to_bytes())
        })),
        "live-set" => seeds.push([1u64, 2, 3, 4].iter().flat_map(|number| number.to_be_bytes()).collect()),
        "journal" => seeds.push(a_journal()),
        // Version, kind 1 (a head), a hash.
        "log-entry" => seeds.push([b"\xa3\x00\x01\x01\x01\x02\x58\x20".as_slice(), &[7; 32]].concat()),
        "report" => seeds.push(REPORT.to_vec()),
        "dsse" => seeds.push(an_envelope()),
        "s3-answers" | "azure-answers" | "gcs-answers" | "webdav-answers" => {
            seeds.extend(answers(parser));
        }
        // The level of the root stands in front, as the raw length of a chunk does.
        "manifest" => seeds.iter_mut().for_each(|seed| seed.insert(0, 0)),
        // The header alone, too: it is of one length.
        "shard-header" => seeds
            .iter_mut()
            .for_each(|seed| seed.truncate(exclave_model::context::HEADER_BYTES)),
        _ => {}
    }
    seeds.retain(|seed| seed.len() <= SEED_BYTES_MAX || parser == "shard");
    seeds.extend(kept(parser));
    assert!(!seeds.is_empty(), "{parser} has no seeds");
    seeds
}
