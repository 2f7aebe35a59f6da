//! Stripes and what they are made of (FORMAT.md sections 3 to 6).

use bytes::Bytes;
use exclave_dataset::pack::Decompressor;
use exclave_erasure::Coder;
use exclave_model::{
    Anchor, BufferPool, ChunkId, Code, Codec, Commitment, Directory, Geometry, LabelTag, PayloadHash, PayloadLength,
    RunId, StripeContext, StripeRecord,
    context::{CHAINING_VALUE_BYTES, HEADER_BYTES},
    limit::SEGMENT_BYTES,
};
use exclave_seal::{ChunkHasher, Entropy, NoEntropy, RunKey};
use exclave_stripe::{decode, read_alone, verify_shard};
use exclave_tests::vector::Vector;

use super::Outcome;
use crate::kinds::{Refused, need};

pub fn context(vector: &Vector) -> Outcome {
    compare(vector, &read_context(&vector.body)?)?;
    Ok(vector.body.clone())
}

fn read_context(bytes: &[u8]) -> Result<StripeContext, Refused> {
    let bytes = bytes.try_into().map_err(|_| Refused("bad-length"))?;
    Ok(StripeContext::from_bytes(bytes)?)
}

/// Compares a context with what is known of the stripe.
fn compare(vector: &Vector, context: &StripeContext) -> Result<(), Refused> {
    let anchor = vector.array("anchor").map(Anchor::from_bytes);
    let run = vector.array("run").map(RunId::from_bytes);
    let ordinal = vector.number("ordinal");
    need(anchor.is_none_or(|anchor| anchor == context.anchor), "wrong-archive")?;
    need(run.is_none_or(|run| run == context.run), "wrong-run")?;
    need(
        ordinal.is_none_or(|ordinal| ordinal == u64::from(context.ordinal)),
        "wrong-stripe",
    )
}

/// Opens a sealed stripe as a restore does: its data shards, verified by a ledger's line, joined and opened.
pub fn stripe(vector: &Vector) -> Outcome {
    let context = read_context(&vector.bytes("context").unwrap())?;
    let payload = context.payload.bytes();
    // The last shard takes what is too much or too little.
    let last = (usize::from(context.data) - 1) * payload;
    need(vector.body.len() >= last, "bad-length")?;
    let (front, rest) = vector.body.split_at(last);
    let payloads: Vec<&[u8]> = front.chunks(payload).chain([rest]).collect();
    let record = StripeRecord {
        context,
        commitment: Commitment::from_bytes(vector.array("commitment").unwrap()),
        payloads: payloads.iter().map(|payload| PayloadHash::of(payload)).collect(),
    };
    let shards = (0u8..)
        .zip(payloads)
        .map(|(index, payload)| verify_shard(&record, index, &object(payload)))
        .collect::<Result<Vec<_>, _>>()?;
    let opened = decode(&record, &shards)?.open(&run_key(vector), &BufferPool::default())?;
    Ok(opened.stored(0, opened.bytes() as u32).unwrap().to_vec())
}

/// A shard object as a reader with a ledger sees it: header and trailer are there, and nobody looks at them.
fn object(payload: &[u8]) -> Bytes {
    let trailer = payload.len() / SEGMENT_BYTES * CHAINING_VALUE_BYTES;
    [&[0; HEADER_BYTES], payload, &vec![0; trailer]].concat().into()
}

/// The `run-key` line. A run key is only ever drawn or unwrapped, so this one is drawn from a source that knows it.
pub fn run_key(vector: &Vector) -> RunKey {
    struct Known([u8; 32]);
    impl Entropy for Known {
        fn fill(&mut self, out: &mut [u8]) -> Result<(), NoEntropy> {
            out.copy_from_slice(&self.0);
            Ok(())
        }
    }
    RunKey::generate(&mut Known(vector.array("run-key").unwrap())).unwrap()
}

pub fn directory(vector: &Vector) -> Outcome {
    let directory = Directory::read(&vector.body)?;
    Ok(directory
        .entries()
        .iter()
        .flat_map(|entry| *entry.id.as_bytes())
        .collect())
}

pub fn chunk(vector: &Vector) -> Outcome {
    let codec = vector.number("codec").and_then(|codec| u8::try_from(codec).ok());
    let codec = codec.and_then(Codec::from_number).unwrap();
    // The lengths of a chunk are 32 bits wide wherever they stand.
    let raw_length = vector.number("raw-length").unwrap().try_into().unwrap();
    let hasher = ChunkHasher::from_dedup_key(vector.array("dedup-key").unwrap());
    let mut decompressor = Decompressor::new().unwrap();
    let raw = decompressor.decode(codec, &vector.body, raw_length)?;
    let expected = ChunkId::from_bytes(vector.array("chunk-id").unwrap());
    need(hasher.id(raw) == expected, "bad-chunk-id")?;
    Ok(raw.to_vec())
}

pub fn shard(vector: &Vector) -> Outcome {
    let hash = vector.array("payload-hash").map(PayloadHash::from_bytes);
    match vector.text("trust") {
        None => {
            let shard = read_alone(&vector.body)?;
            compare(vector, &shard.header.context)?;
            let index = vector.number("index");
            let commitment = vector.array("commitment").map(Commitment::from_bytes);
            need(
                index.is_none_or(|index| index == u64::from(shard.header.index)),
                "wrong-index",
            )?;
            need(
                commitment.is_none_or(|commitment| commitment == shard.header.commitment),
                "bad-commitment",
            )?;
            need(hash.is_none_or(|hash| hash == shard.hash), "bad-hash")?;
            Ok(shard.payload.to_vec())
        }
        Some("ledger") => {
            let length = vector.number("payload-length").unwrap() as usize;
            let record = ledger_line(1, length, vec![hash.unwrap()]);
            let object = Bytes::from(vector.body.clone());
            Ok(verify_shard(&record, 0, &object)?.payload().to_vec())
        }
        Some(other) => panic!("trust {other} is unknown"),
    }
}

/// A ledger's line, of which only the geometry and the hashes matter here.
fn ledger_line(data: u8, payload: usize, payloads: Vec<PayloadHash>) -> StripeRecord {
    StripeRecord {
        context: StripeContext {
            code: Code::ReedSolomonVandermonde,
            data,
            payload: PayloadLength::new(payload, data).unwrap(),
            anchor: Anchor::from_bytes([0; 32]),
            run: RunId::from_bytes([0; 16]),
            ordinal: 0,
            salt: [0; 32],
            label_tag: LabelTag::from_bytes([0; 16]),
        },
        commitment: Commitment::from_bytes([0; 32]),
        payloads,
    }
}

pub fn code(vector: &Vector) -> Outcome {
    let [data, total] = ["k", "n"].map(|key| u8::try_from(vector.number(key).unwrap()).unwrap());
    let shards: Vec<&[u8]> = vector.body.chunks(vector.body.len() / usize::from(total)).collect();
    assert_eq!(shards.len(), usize::from(total));
    match vector.text("present") {
        Some(present) => {
            let present: Vec<u8> = present.split(',').map(|index| index.parse().unwrap()).collect();
            let hashes = vector.bytes("hashes").unwrap();
            decode_verified(data, &shards, &present, hashes.as_chunks::<32>().0)?;
        }
        None => decode_every_subset(Geometry::new(data, total - data).unwrap(), &shards)?,
    }
    Ok(shards[..usize::from(data)].concat())
}

fn decode_every_subset(geometry: Geometry, shards: &[&[u8]]) -> Result<(), Refused> {
    let coder = Coder::new(Code::ReedSolomonVandermonde, geometry);
    for subset in subsets(geometry.total(), usize::from(geometry.data())) {
        let decoder = coder.decoder(&subset).unwrap();
        let sources: Vec<&[u8]> = decoder
            .sources()
            .iter()
            .map(|index| shards[usize::from(*index)])
            .collect();
        for (index, expected) in (0..geometry.data()).zip(shards) {
            let mut rebuilt = vec![0; expected.len()];
            decoder.rebuild_row(index, &sources, &mut rebuilt);
            need(rebuilt == *expected, "bad-parity")?;
        }
    }
    Ok(())
}

/// Every choice of `size` among `0..total`.
fn subsets(total: u8, size: usize) -> Vec<Vec<u8>> {
    let Some(fewer) = size.checked_sub(1) else {
        return vec![Vec::new()];
    };
    (0..total)
        .rev()
        .filter(|last| usize::from(*last) >= fewer)
        .flat_map(|last| {
            subsets(last, fewer).into_iter().map(move |mut subset| {
                subset.push(last);
                subset
            })
        })
        .collect()
}

/// Stripes have payloads of whole groups, the vectors short ones; the code works byte by byte, so each shard is
/// followed by zeros. Its hash in the ledger becomes that of the longer one, or stays wrong.
fn decode_verified(data: u8, shards: &[&[u8]], present: &[u8], hashes: &[[u8; 32]]) -> Result<(), Refused> {
    let longer: Vec<Vec<u8>> = shards
        .iter()
        .map(|shard| [*shard, &vec![0; SEGMENT_BYTES - shard.len()]].concat())
        .collect();
    let hash = |(at, hash): (usize, &[u8; 32])| match PayloadHash::of(shards[at]).as_bytes() == hash {
        true => PayloadHash::of(&longer[at]),
        false => PayloadHash::from_bytes(*hash),
    };
    let record = ledger_line(data, SEGMENT_BYTES, hashes.iter().enumerate().map(hash).collect());
    let verified = present
        .iter()
        .map(|index| verify_shard(&record, *index, &object(&longer[usize::from(*index)])))
        .collect::<Result<Vec<_>, _>>()?;
    decode(&record, &verified)?;
    Ok(())
}
