//! 128-bit hashing of states, and state that is not hashed.

use core::hash::{Hash, Hasher};

/// A 128-bit fingerprint. At 10⁸ states, two differing ones are taken for one with a probability
/// of about 10⁻²³.
pub(super) fn fingerprint(value: &impl Hash) -> u128 {
    let mut hasher = Fingerprint::new();
    value.hash(&mut hasher);
    hasher.finish128()
}

const A: u64 = 0x9e37_79b9_7f4a_7c15;
const B: u64 = 0xd6e8_feb8_6659_fd93;

/// Two folded multiplications side by side.
pub(super) struct Fingerprint {
    a: u64,
    b: u64,
}

impl Fingerprint {
    pub(super) const fn new() -> Self {
        Self { a: 0x243f_6a88_85a3_08d3, b: 0x1319_8a2e_0370_7344 }
    }

    pub(super) fn finish128(&self) -> u128 {
        u128::from(fold(self.a, A)) << 64 | u128::from(fold(self.b, B))
    }
}

const fn fold(x: u64, y: u64) -> u64 {
    let wide = x as u128 * y as u128;
    wide as u64 ^ (wide >> 64) as u64
}

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.a = fold(self.a ^ word, A).wrapping_add(B);
        self.b = fold(self.b.wrapping_add(word), B).rotate_left(23) ^ A;
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(word.into());
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_u128(&mut self, word: u128) {
        self.write_u64(word as u64);
        self.write_u64((word >> 64) as u64);
    }

    fn finish(&self) -> u64 {
        self.a ^ self.b
    }
}

/// What is carried along with a state but does not tell states apart: settings that never change,
/// and what was only noted for people.
#[derive(Clone, Debug, Default)]
pub(super) struct Aside<T>(pub(super) T);

impl<T> PartialEq for Aside<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> Eq for Aside<T> {}

impl<T> Hash for Aside<T> {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn small_differences_make_different_fingerprints() {
        let mut seen = BTreeSet::new();
        for a in 0..100_u64 {
            for b in 0..100_u8 {
                assert!(seen.insert(fingerprint(&(a, b, "x"))));
            }
        }
        assert!(seen.insert(fingerprint(&"x")));
        assert!(seen.insert(fingerprint(&"y")));
        assert_eq!(fingerprint(&Aside(1)), fingerprint(&Aside(2)));
    }
}
