//! Identifiers as types: what an environment and an SDK key hash are called everywhere.

use std::{fmt, sync::Arc};

use sha2::{Digest, Sha256};

/// The UUID of an environment, as SaaS spells it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnvironmentId(Arc<str>);

impl EnvironmentId {
    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for EnvironmentId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl std::borrow::Borrow<str> for EnvironmentId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EnvironmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EnvironmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The SHA-256 of an SDK key: all that the relay ever keeps of one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// Hashes a clear SDK key.
    pub fn of_key(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    /// Reads 64 hexadecimal digits; `None` for anything else.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let (high, low) = (hex_digit(pair[0])?, hex_digit(pair[1])?);
            *byte = high << 4 | low;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for KeyHash {
    /// All 64 lower-case digits, as config and cache spell it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

/// Bytes as lower-case hexadecimal digits.
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        // Many at once: each write costs more than its digits, and tokens and ETags are full of them.
        for bytes in self.0.chunks(32) {
            let mut digits = [0; 64];
            for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
                pair[0] = DIGITS[usize::from(byte >> 4)];
                pair[1] = DIGITS[usize::from(byte & 15)];
            }
            let digits = std::str::from_utf8(&digits[..2 * bytes.len()]);
            f.write_str(digits.expect("digits are ASCII"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for KeyHash {
    /// Logs show four characters of a key at the most.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}{:02x}…", self.0[0], self.0[1])
    }
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|d| u8::try_from(d).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_reads_back_and_a_malformed_one_is_refused() {
        let hash = KeyHash::of_key("key");
        assert_eq!(KeyHash::from_hex(&hash.to_string()), Some(hash));
        for bad in ["", "zz", &"g".repeat(64), &"0".repeat(63), &"é".repeat(32)] {
            assert_eq!(KeyHash::from_hex(bad), None, "{bad}");
        }
    }

    #[test]
    fn bytes_become_all_their_digits() {
        let bytes: Vec<u8> = (0..=255).collect();
        let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let digits = digits.concat();
        for length in [0, 1, 31, 32, 33, 64, 256] {
            assert_eq!(Hex(&bytes[..length]).to_string(), digits[..2 * length]);
        }
    }

    #[test]
    fn a_log_shows_four_characters_of_a_hash() {
        assert_eq!(format!("{:?}", KeyHash::of_key("key")).chars().count(), 5);
    }
}
