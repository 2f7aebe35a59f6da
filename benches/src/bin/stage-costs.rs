//! What every byte must cost whatever program carries it: `stage-costs FOLDER` prints, as JSON, processor seconds for each
//! GB (10^9 bytes) of raw data, stage by stage, for a code of 4+2.
//!
//! Out: reading a file of FOLDER, cutting, naming, sealing, coding, hashing and writing half as many bytes again as new
//! files. Back: reading and hashing k shards, opening, naming, and writing. Nothing is charged for packing, for requests,
//! or for bringing bytes from one processor's cache to another's: what a pipeline adds to the sum is its own affair. Each
//! stage runs alone on one core ("alone"), and on all cores at the same time, each with data of its own ("together"): the
//! second is what a machine gives whose cores share memory. The work is done in pieces that fit the second cache (64 KiB)
//! where the pipeline does so, and passes over 128 MiB, so that nothing but the piece at hand is warm.
//!
//! `benches/end_to_end.py --costs` runs it in every round and prints the bound.

use std::{
    env, error, fs,
    hint::black_box,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use exclave_dataset::cut::{ChunkSizes, Cutter, GearTable};
use exclave_erasure::Coder;
use exclave_model::{
    Anchor, Code, Geometry, LabelTag, PayloadLength, RunId, StripeContext,
    limit::{SEGMENT_BYTES, TAG_BYTES},
};
use exclave_seal::{DatasetSecret, Entropy as _, RunKey, SeededEntropy, StripeKey, stripe_key::SegmentPosition};

type Failed = Box<dyn error::Error + Send + Sync>;

/// Bytes that a stage passes over, and of the file that is read.
const BYTES: usize = 128 << 20;
/// Bytes of one read, and of one write.
const PIECE_BYTES: usize = 1 << 20;
/// Bytes of one new file: a shard of a full stripe.
const FILE_BYTES: usize = 8 << 20;
const DATA: u8 = 4;
const PARITY: u8 = 2;
/// The middle of so many passes counts.
const PASSES: usize = 5;

/// One core's work: its data, keys and files.
struct Core {
    folder: PathBuf,
    data: Vec<u8>,
    cutter: Cutter,
    secret: DatasetSecret,
    context: StripeContext,
    key: StripeKey,
    coder: Coder,
}

impl Core {
    fn new(folder: PathBuf) -> Result<Self, Failed> {
        fs::create_dir(&folder)?;
        let mut entropy = SeededEntropy::new(7);
        let mut data = vec![0; BYTES];
        entropy.fill(&mut data)?;
        fs::write(folder.join("source"), &data)?;
        let secret = DatasetSecret::from_bytes([3; 32]);
        let gear = GearTable::from_le_bytes(secret.gear_bytes().as_bytes());
        let context = StripeContext {
            code: Code::ReedSolomonVandermonde,
            data: DATA,
            payload: PayloadLength::new(FILE_BYTES, DATA)?,
            anchor: Anchor::from_bytes([1; 32]),
            run: RunId::from_bytes([2; 16]),
            ordinal: 0,
            salt: [0; 32],
            label_tag: LabelTag::from_bytes([0; 16]),
        };
        Ok(Self {
            folder,
            data,
            cutter: Cutter::content_defined(&gear, ChunkSizes::DEFAULT),
            secret,
            key: StripeKey::derive(&RunKey::generate(&mut entropy)?, &context),
            context,
            coder: Coder::new(Code::ReedSolomonVandermonde, Geometry::new(DATA, PARITY)?),
        })
    }

    fn read(&mut self) -> Result<(), Failed> {
        let mut file = fs::File::open(self.folder.join("source"))?;
        let mut piece = vec![0; PIECE_BYTES];
        while file.read(&mut piece)? > 0 {
            black_box(&piece);
        }
        Ok(())
    }

    fn cut(&mut self) -> Result<(), Failed> {
        let mut at = 0;
        while at < self.data.len() {
            at += black_box(self.cutter.cut(&self.data[at..]));
        }
        Ok(())
    }

    fn name(&mut self) -> Result<(), Failed> {
        let hasher = self.secret.chunk_hasher();
        for chunk in self.data.chunks(PIECE_BYTES) {
            black_box(hasher.id(chunk));
        }
        Ok(())
    }

    fn seal(&mut self) -> Result<(), Failed> {
        let segments = self.context.segments();
        for (number, segment) in self.data.chunks_exact_mut(SEGMENT_BYTES).enumerate() {
            let position = SegmentPosition::of(&self.context, (number % segments) as u32);
            self.key.seal_segment(position, segment);
        }
        Ok(())
    }

    /// Opens segments that were sealed before the clock started.
    fn open(&mut self) -> Result<(), Failed> {
        let segments = self.context.segments();
        let mut plain = vec![0; SEGMENT_BYTES - TAG_BYTES];
        for (number, segment) in self.data.chunks_exact(SEGMENT_BYTES).enumerate() {
            let position = SegmentPosition::of(&self.context, (number % segments) as u32);
            self.key.open_segment(position, segment, &mut plain)?;
            black_box(&plain);
        }
        Ok(())
    }

    fn code(&mut self) -> Result<(), Failed> {
        let mut parity = vec![vec![0; SEGMENT_BYTES]; usize::from(PARITY)];
        for column in self.data.chunks_exact(SEGMENT_BYTES * usize::from(DATA)) {
            let blocks: Vec<&[u8]> = column.chunks_exact(SEGMENT_BYTES).collect();
            let mut parity: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
            self.coder.encode_column(&blocks, black_box(&mut parity));
        }
        Ok(())
    }

    fn hash(&mut self) -> Result<(), Failed> {
        for block in self.data.chunks_exact(SEGMENT_BYTES) {
            black_box(blake3::hash(block));
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), Failed> {
        for (number, shard) in self.data.chunks(FILE_BYTES).enumerate() {
            let mut file = fs::File::create_new(self.folder.join(number.to_string()))?;
            for piece in shard.chunks(PIECE_BYTES) {
                file.write_all(piece)?;
            }
        }
        Ok(())
    }

    /// Removes what a pass has written; not timed.
    fn clear(&self) -> Result<(), io::Error> {
        for number in 0..BYTES.div_ceil(FILE_BYTES) {
            match fs::remove_file(self.folder.join(number.to_string())) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A stage: what is done before the clock starts, what is timed, and how many bytes it handles for each raw byte.
struct Stage {
    name: &'static str,
    before: fn(&mut Core) -> Result<(), Failed>,
    work: fn(&mut Core) -> Result<(), Failed>,
    share: f64,
}

const fn stage(name: &'static str, work: fn(&mut Core) -> Result<(), Failed>, share: f64) -> Stage {
    Stage {
        name,
        before: |_| Ok(()),
        work,
        share,
    }
}

/// n / k.
const WIDENED: f64 = (DATA + PARITY) as f64 / DATA as f64;

const OUT: [Stage; 7] = [
    stage("read", Core::read, 1.0),
    stage("cut", Core::cut, 1.0),
    stage("name", Core::name, 1.0),
    stage("seal", Core::seal, 1.0),
    stage("code", Core::code, 1.0),
    stage("hash n shards", Core::hash, WIDENED),
    stage("write n shards", Core::write, WIDENED),
];

const BACK: [Stage; 5] = [
    stage("read k shards", Core::read, 1.0),
    stage("hash k shards", Core::hash, 1.0),
    Stage {
        name: "open",
        before: Core::seal,
        work: Core::open,
        share: 1.0,
    },
    stage("name", Core::name, 1.0),
    stage("write", Core::write, 1.0),
];

impl Stage {
    /// Seconds for each GB of raw data: the middle of some passes, each core's mean.
    fn cost(&self, cores: &mut [Core]) -> Result<f64, Failed> {
        let mut passes = Vec::with_capacity(PASSES);
        for _ in 0..PASSES {
            let barrier = Barrier::new(cores.len());
            let times = thread::scope(|scope| {
                let running: Vec<_> = cores
                    .iter_mut()
                    .map(|core| scope.spawn(|| self.pass(core, &barrier)))
                    .collect();
                running
                    .into_iter()
                    .map(|core| core.join().map_err(|_| Failed::from("a core's thread panicked"))?)
                    .collect::<Result<Vec<Duration>, Failed>>()
            })?;
            passes.push(times.iter().map(Duration::as_secs_f64).sum::<f64>() / times.len() as f64);
        }
        passes.sort_by(f64::total_cmp);
        Ok(passes[PASSES / 2] * self.share * 1e9 / BYTES as f64)
    }

    fn pass(&self, core: &mut Core, barrier: &Barrier) -> Result<Duration, Failed> {
        let ready = (self.before)(core);
        // All arrive, whatever happened: nobody waits for ever.
        barrier.wait();
        ready?;
        let begun = Instant::now();
        (self.work)(core)?;
        let taken = begun.elapsed();
        core.clear()?;
        Ok(taken)
    }
}

fn way(stages: &[Stage], cores: &mut [Core]) -> Result<String, Failed> {
    let costs = stages.iter().map(|stage| {
        let together = stage.cost(cores)?;
        let alone = stage.cost(&mut cores[..1])?;
        Ok(format!(
            r#""{}":{{"alone":{alone:.4},"together":{together:.4}}}"#,
            stage.name
        ))
    });
    Ok(costs.collect::<Result<Vec<String>, Failed>>()?.join(","))
}

fn run(folder: &Path) -> Result<(), Failed> {
    let count = thread::available_parallelism()?.get();
    let mut cores = (0..count)
        .map(|core| Core::new(folder.join(format!("core-{core}"))))
        .collect::<Result<Vec<_>, Failed>>()?;
    let (out, back) = (way(&OUT, &mut cores)?, way(&BACK, &mut cores)?);
    println!(r#"{{"out":{{{out}}},"back":{{{back}}}}}"#);
    Ok(())
}

fn main() -> Result<(), Failed> {
    let parent = PathBuf::from(env::args_os().nth(1).ok_or("Usage: stage-costs FOLDER")?);
    let folder = parent.join(format!("stage-costs-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let done = run(&folder);
    fs::remove_dir_all(&folder)?;
    done
}
