//! How large a sample is, and which groups are in it.
//!
//! A site holds N groups of 64 KiB; D of them are damaged. A sample of s different groups misses all damage with the
//! probability of the hypergeometric distribution,
//!
//! ```text
//! miss(N, D, s) = C(N - D, s) / C(N, s) = product over i = 0 .. s - 1 of (N - D - i) / (N - i)
//! ```
//!
//! and finds some with 1 - miss. s is the least for which miss(N, ceil(p N), s) <= 1 - c. Each factor is at most
//! 1 - D / N <= 1 - p, so miss <= (1 - p)^s: the familiar s = ceil(ln(1 - c) / ln(1 - p)), 459 for 1 % at 99 %, is what it
//! comes to where N is large, and never too few. For small N the exact figure is smaller, and where D would be less than
//! one group it is one. Only `*`, `/` and `<=` of IEEE 754 are used, no logarithm: every machine gets the same s.
//!
//! The sample is of *one site*. Every site has its own, so the confidence holds for each: a site that lost p of what it
//! should hold is found, however well the others are.

use std::collections::BTreeSet;

use exclave_model::{Anchor, Incarnation, KeyId, RecordHash, SiteId, hex, unhex};

/// Parts of a million: whole numbers, so that they are written and compared exactly.
const MILLION: u32 = 1_000_000;

/// The seed's purpose, for BLAKE3's `derive_key`.
const SEED_CONTEXT: &str = "exclave 2026 audit seed v1";

/// The same, where logs were shown: their newest states go into the material.
const SEED_CONTEXT_LOGS: &str = "exclave 2026 audit seed v2";
/// In front of what a site's sample is drawn from.
const SAMPLE_TYPE: &[u8] = b"exclave audit sample v1\0";

/// Not a number that an audit can work with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFraction {
    /// Damage below a millionth, none, or more than all.
    #[error("damage is a fraction from 0.0001 % to 100 %, not {0} millionths")]
    Damage(u32),
    /// No confidence, or certainty, which only reading all gives.
    #[error("confidence is a fraction above 0 % and below 100 %, not {0} millionths")]
    Confidence(u32),
}

/// The share of a site's groups whose damage an audit must not miss, in parts of a million.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DamageFraction(u32);

/// How sure it must be that it does not, in parts of a million.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Confidence(u32);

impl DamageFraction {
    /// 1 %.
    pub const ONE_PERCENT: Self = Self(10_000);

    /// Checks the number.
    pub fn from_ppm(ppm: u32) -> Result<Self, BadFraction> {
        match (1..=MILLION).contains(&ppm) {
            true => Ok(Self(ppm)),
            false => Err(BadFraction::Damage(ppm)),
        }
    }

    /// Parts of a million.
    pub fn ppm(self) -> u32 {
        self.0
    }

    /// The least number of damaged groups among so many that is this much: rounded up, so at least one.
    pub fn of(self, population: u64) -> u64 {
        let exact = u128::from(population) * u128::from(self.0);
        // At most the population.
        exact.div_ceil(u128::from(MILLION)) as u64
    }
}

impl Confidence {
    /// 99 %.
    pub const NINETY_NINE: Self = Self(990_000);

    /// Checks the number.
    pub fn from_ppm(ppm: u32) -> Result<Self, BadFraction> {
        match (1..MILLION).contains(&ppm) {
            true => Ok(Self(ppm)),
            false => Err(BadFraction::Confidence(ppm)),
        }
    }

    /// Parts of a million.
    pub fn ppm(self) -> u32 {
        self.0
    }

    fn miss_max(self) -> f64 {
        f64::from(MILLION - self.0) / f64::from(MILLION)
    }
}

/// What a sample must find, and how surely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detection {
    /// Damage of this much.
    pub damage: DamageFraction,
    /// This surely.
    pub confidence: Confidence,
}

impl Default for Detection {
    fn default() -> Self {
        Self {
            damage: DamageFraction::ONE_PERCENT,
            confidence: Confidence::NINETY_NINE,
        }
    }
}

/// Groups of one site that a sample may have at most. Who wants more wants all, and reading all is dearer by less.
pub const SAMPLE_MAX: u64 = 4_000_000;

impl Detection {
    /// True when no sample has more than [`SAMPLE_MAX`] groups, however many a site holds.
    pub fn is_affordable(&self) -> bool {
        // Grows with the population towards its limit; 2^50 groups are more than any site holds.
        self.size(1 << 50) <= SAMPLE_MAX
    }

    /// How many of `population` groups must be read.
    pub fn size(&self, population: u64) -> u64 {
        let damaged = self.damage.of(population);
        let (mut size, mut miss) = (0, 1.0);
        // With one group more than there are sound ones, damage can't be missed: the loop ends.
        while size < population && miss > self.confidence.miss_max() {
            miss *= factor(population, damaged, size);
            size += 1;
        }
        size
    }
}

/// The probability that `size` different groups of `population`, `damaged` of them bad, are all sound.
pub fn miss_probability(population: u64, damaged: u64, size: u64) -> f64 {
    let mut miss = 1.0;
    for at in 0..size.min(population) {
        if miss == 0.0 {
            break;
        }
        miss *= factor(population, damaged, at);
    }
    miss
}

/// The probability, in parts of a million rounded down, that a sample of so many finds damage of this much.
pub fn power_ppm(damage: DamageFraction, population: u64, size: u64) -> u32 {
    let found = 1.0 - miss_probability(population, damage.of(population), size);
    // From 0 to a million.
    (found * f64::from(MILLION)) as u32
}

fn factor(population: u64, damaged: u64, at: u64) -> f64 {
    let sound = population.saturating_sub(damaged).saturating_sub(at);
    sound as f64 / (population - at) as f64
}

/// What the auditor adds to a seed, so that nobody knew it before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce([u8; 32]);

impl Nonce {
    /// Takes 32 bytes that nobody could foresee.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// As hex.
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }
}

impl std::str::FromStr for Nonce {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        unhex(text)
            .map(Self)
            .ok_or_else(|| "a nonce is 64 hex digits".to_owned())
    }
}

/// A log's state: its owner, which life of it, size and root.
pub type LogState = (KeyId, Incarnation, u64, [u8; 32]);

/// What a sample is drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed([u8; 32]);

impl Seed {
    /// The seed of an audit: of this archive, of these heads (in any order, each once), with this nonce.
    ///
    /// `logs` is the digest of the newest states of the logs that were shown, when any were.
    pub fn derive(
        anchor: Anchor,
        heads: impl IntoIterator<Item = RecordHash>,
        logs: Option<RecordHash>,
        nonce: &Nonce,
    ) -> Self {
        let heads: BTreeSet<RecordHash> = heads.into_iter().collect();
        let context = if logs.is_some() {
            SEED_CONTEXT_LOGS
        } else {
            SEED_CONTEXT
        };
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(anchor.as_bytes());
        hasher.update(Self::heads_digest(&heads).as_bytes());
        if let Some(logs) = logs {
            hasher.update(logs.as_bytes());
        }
        hasher.update(nonce.as_bytes());
        Self(*hasher.finalize().as_bytes())
    }

    /// The BLAKE3 of the logs' newest states, ascending by owner and life: key id, incarnation, size (8 bytes) and root of
    /// each; `None` without logs.
    pub fn logs_digest(states: impl IntoIterator<Item = LogState>) -> Option<RecordHash> {
        let states: BTreeSet<LogState> = states.into_iter().collect();
        let mut hasher = blake3::Hasher::new();
        for (key, life, size, root) in &states {
            hasher.update(key.as_bytes());
            hasher.update(life.as_bytes());
            hasher.update(&size.to_be_bytes());
            hasher.update(root);
        }
        (!states.is_empty()).then(|| RecordHash::from_bytes(*hasher.finalize().as_bytes()))
    }

    /// The BLAKE3 of the heads' hashes, ascending.
    pub fn heads_digest(heads: &BTreeSet<RecordHash>) -> RecordHash {
        let mut hasher = blake3::Hasher::new();
        for head in heads {
            hasher.update(head.as_bytes());
        }
        RecordHash::from_bytes(*hasher.finalize().as_bytes())
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// As hex.
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }
}

/// Chooses `size` different numbers below `population` for a site, each set as likely as any other.
///
/// Floyd's algorithm (Bentley and Floyd, "A sample of brilliance", Comm. ACM 30, 1987): no more draws than the sample is
/// large, and no memory but the sample. A draw below m is 16 bytes of BLAKE3 keyed with the seed, read as an integer,
/// modulo m: what that favours is below 2^-64.
pub fn choose(seed: &Seed, site: SiteId, population: u64, size: u64) -> BTreeSet<u64> {
    let mut hasher = blake3::Hasher::new_keyed(seed.as_bytes());
    hasher.update(SAMPLE_TYPE);
    hasher.update(site.as_bytes());
    hasher.update(&population.to_be_bytes());
    hasher.update(&size.to_be_bytes());
    let mut stream = hasher.finalize_xof();
    let mut draw_below = |limit: u64| {
        let mut bytes = [0; 16];
        stream.fill(&mut bytes);
        // Below `limit`, which is a u64.
        (u128::from_be_bytes(bytes) % u128::from(limit)) as u64
    };
    let mut chosen = BTreeSet::new();
    for last in population - size.min(population)..population {
        let drawn = draw_below(last + 1);
        if !chosen.insert(drawn) {
            chosen.insert(last);
        }
    }
    chosen
}

/// The BLAKE3 of a sample's numbers, ascending, each as eight bytes, big-endian: what a report says of it.
pub fn sample_digest(chosen: &BTreeSet<u64>) -> RecordHash {
    let mut hasher = blake3::Hasher::new();
    for number in chosen {
        hasher.update(&number.to_be_bytes());
    }
    RecordHash::from_bytes(*hasher.finalize().as_bytes())
}

/// Counts laid end to end, so that a number below their sum is a place in one of them. Ten million shards in ledger parts
/// of 4,096 stripes are some hundreds of counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strata {
    ends: Vec<u64>,
}

impl Strata {
    /// Adds a count behind the others.
    pub fn push(&mut self, count: u64) {
        self.ends.push(self.total().saturating_add(count));
    }

    /// Makes the last count larger.
    pub fn extend_last(&mut self, more: u64) {
        if let Some(end) = self.ends.last_mut() {
            *end = end.saturating_add(more);
        }
    }

    /// How many counts there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Their sum.
    pub fn total(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The first number of a count; the sum, for the place behind the last one.
    pub fn start(&self, at: usize) -> Option<u64> {
        match at.checked_sub(1) {
            None => Some(0),
            Some(before) => self.ends.get(before).copied(),
        }
    }

    /// Which count a number falls into, and how far.
    pub fn locate(&self, number: u64) -> Option<(usize, u64)> {
        let at = self.ends.partition_point(|end| *end <= number);
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before)).copied();
        (at < self.ends.len()).then(|| (at, number - start.unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests;
