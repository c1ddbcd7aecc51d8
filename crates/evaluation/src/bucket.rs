//! The bucket of a target in a percentage rollout.

/// The bucket (1…100) of a target whose attribute `bucket_by` has this text.
///
/// ```
/// assert_eq!(ff_evaluation::bucket("identifier", "harness"), 6);
/// ```
pub fn bucket(bucket_by: &str, text: &str) -> u32 {
    hash(bucket_by, text) % 100 + 1
}

/// Buckets that were computed for one target: most flags of an environment split by the same
/// attribute, and so by the same bucket.
#[derive(Debug, Default)]
pub(crate) struct Buckets<'f, 't>(Option<(&'f str, &'t str, u32)>);

impl<'f, 't> Buckets<'f, 't> {
    pub(crate) fn of(&mut self, bucket_by: &'f str, text: &'t str) -> u32 {
        match self.0 {
            Some((by, of, bucket)) if by == bucket_by && std::ptr::eq(of, text) => bucket,
            _ => {
                let bucket = bucket(bucket_by, text);
                self.0 = Some((bucket_by, text, bucket));
                bucket
            }
        }
    }
}

/// murmur3 x86 32-bit with seed 0 of `<bucket_by>:<text>`.
fn hash(bucket_by: &str, text: &str) -> u32 {
    let mut bytes = bucket_by.bytes().chain([b':']).chain(text.bytes());
    let mut hash: u32 = 0;
    let mut length: u32 = 0;
    loop {
        let mut block: u32 = 0;
        let mut filled: u32 = 0;
        for byte in bytes.by_ref().take(4) {
            block |= u32::from(byte) << (8 * filled);
            filled += 1;
        }
        length = length.wrapping_add(filled);
        let mixed = block
            .wrapping_mul(0xcc9e_2d51)
            .rotate_left(15)
            .wrapping_mul(0x1b87_3593);
        hash ^= mixed;
        if filled < 4 {
            return finish(hash ^ length);
        }
        hash = hash
            .rotate_left(13)
            .wrapping_mul(5)
            .wrapping_add(0xe654_6b64);
    }
}

fn finish(mut hash: u32) -> u32 {
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_of_the_contract() {
        for (bucket_by, text, expected_hash, expected) in [
            ("identifier", "harness", 3_586_580_905, 6),
            ("email", "alice@harness.io", 32_588_612, 13),
            ("name", "Bob Smith", 1_870_072_121, 22),
            ("age", "56", 2_591_529_295, 96),
            ("identifier", "日本", 2_569_590_030, 31),
        ] {
            assert_eq!(hash(bucket_by, text), expected_hash, "{bucket_by}:{text}");
            assert_eq!(bucket(bucket_by, text), expected, "{bucket_by}:{text}");
        }
    }
}
