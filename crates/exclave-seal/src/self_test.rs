//! Known answers at program start: a processor or a build that computes wrongly must not seal anything.

use crate::{
    aead::{Cipher, NONCE_BYTES, Path},
    secret::Secret,
};

/// A cipher or hash gave a wrong answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} gives a wrong answer on this machine; nothing may be sealed with it")]
pub struct SelfTestFailed(pub &'static str);

/// AES-256-GCM, test case 14 of the GCM specification (McGrew and Viega): zero key, zero nonce, one zero block.
const GCM_CIPHERTEXT: [u8; 32] = [
    0xce, 0xa7, 0x40, 0x3d, 0x4d, 0x60, 0x6b, 0x6e, 0x07, 0x4e, 0xc5, 0xd3, 0xba, 0xf3, 0x9d, 0x18, //
    0xd0, 0xd1, 0xc8, 0xa7, 0x99, 0x99, 0x6b, 0xf0, 0x26, 0x5b, 0x98, 0xb5, 0xd4, 0x8a, 0xb9, 0x19,
];

/// BLAKE3 of nothing, from the published test vectors.
const BLAKE3_EMPTY: [u8; 32] = [
    0xaf, 0x13, 0x49, 0xb9, 0xf5, 0xf9, 0xa1, 0xa6, 0xa0, 0x40, 0x4d, 0xea, 0x36, 0xdc, 0xc9, 0x49, //
    0x9b, 0xcb, 0x25, 0xc9, 0xad, 0xc1, 0x12, 0xb7, 0xcc, 0x9a, 0x93, 0xca, 0xe4, 0x1f, 0x32, 0x62,
];

/// Runs the known answers.
pub fn self_test() -> Result<(), SelfTestFailed> {
    for (path, name) in [
        (Path::Bulk, "AES-256-GCM (bulk)"),
        (Path::Portable, "AES-256-GCM (portable)"),
    ] {
        let cipher = Cipher::on(path, &Secret::new([0; 32]));
        let mut block = [0; 32];
        cipher.seal(&[0; NONCE_BYTES], b"", &mut block);
        let sealed_right = block == GCM_CIPHERTEXT;
        if !sealed_right || cipher.open(&[0; NONCE_BYTES], b"", &mut block).is_err() || block[..16] != [0; 16] {
            return Err(SelfTestFailed(name));
        }
    }
    if *blake3::hash(b"").as_bytes() != BLAKE3_EMPTY {
        return Err(SelfTestFailed("BLAKE3"));
    }
    // The kernels for long inputs are others than those for short ones: compare them with hashing byte by byte.
    let long = vec![0x5a; 70_000];
    let mut slow = blake3::Hasher::new();
    long.chunks(997).for_each(|part| {
        slow.update(part);
    });
    if slow.finalize() != blake3::hash(&long) {
        return Err(SelfTestFailed("BLAKE3"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_machine_computes_right() {
        assert_eq!(super::self_test(), Ok(()));
    }
}
