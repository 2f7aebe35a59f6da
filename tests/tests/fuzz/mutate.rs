//! Turns good inputs into nearly good ones.

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014).
pub struct Chance(pub u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, or 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Lengths and numbers at the edges of their types.
const EDGES: [u64; 12] = [
    0,
    1,
    0x17,
    0x18,
    0xff,
    0x100,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0xffff_ffff,
    i64::MAX as u64,
    u64::MAX,
];

/// One to four changes of a seed; the other seeds give pieces.
pub fn mutate(chance: &mut Chance, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[chance.below(seeds.len())].clone();
    for _ in 0..=chance.below(4) {
        change(chance, &mut bytes, seeds);
    }
    bytes
}

fn change(chance: &mut Chance, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let at = chance.below(bytes.len() + 1);
    let to = at + chance.below((bytes.len() - at + 1).min(64));
    match chance.below(10) {
        0 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
        1 if at < bytes.len() => bytes[at] = chance.next() as u8,
        // A number at an edge, in place, as wide as fixed fields are.
        2 => {
            let edge = EDGES[chance.below(EDGES.len())].to_be_bytes();
            let width = [1, 2, 4, 8][chance.below(4)];
            for (slot, byte) in bytes.iter_mut().skip(at).zip(&edge[8 - width..]) {
                *slot = *byte;
            }
        }
        // A head of CBOR with another number, in the shortest form, instead of the byte there.
        3 if at < bytes.len() => {
            let major = bytes[at] & 0xe0;
            let head = cbor_head(major, EDGES[chance.below(EDGES.len())]);
            bytes.splice(at..=at, head);
        }
        // A head whose number is one off.
        4 if at < bytes.len() => bytes[at] = bytes[at].wrapping_add(1),
        5 if at < bytes.len() => bytes[at] = bytes[at].wrapping_sub(1),
        6 => _ = bytes.drain(at..to),
        7 => {
            let piece = bytes[at..to].to_vec();
            bytes.splice(to..to, piece);
        }
        8 => {
            let other = &seeds[chance.below(seeds.len())];
            let from = chance.below(other.len() + 1);
            let end = from + chance.below((other.len() - from + 1).min(256));
            bytes.splice(at..to, other[from..end].iter().copied());
        }
        _ => bytes.truncate(at),
    }
}

fn cbor_head(major: u8, number: u64) -> Vec<u8> {
    let wide = number.to_be_bytes();
    let (low, width) = match number {
        0..0x18 => return vec![major | number as u8],
        0x18..0x100 => (24, 1),
        0x100..0x1_0000 => (25, 2),
        0x1_0000..0x1_0000_0000 => (26, 4),
        _ => (27, 8),
    };
    [&[major | low], &wide[8 - width..]].concat()
}
