//! A response body that is made once and served many times: bytes, strong ETag and, on first
//! demand, its compressed forms.

use std::{fmt::Write as _, io::Write as _, sync::OnceLock};

use bytes::Bytes;
use http::HeaderValue;
use sha2::{Digest, Sha256};

use super::ids::Hex;

/// A content coding that the relay offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    /// The token of `Accept-Encoding` and `Content-Encoding`.
    pub fn token(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

/// Immutable bytes of an answer with what HTTP wants to know of them.
pub struct Body {
    bytes: Bytes,
    hash: [u8; 32],
    compressed: [OnceLock<Bytes>; 3],
    /// Of the bytes as they are, which most ask for.
    etag: OnceLock<HeaderValue>,
}

impl Body {
    /// Hashes the bytes once.
    pub fn new(bytes: Bytes) -> Self {
        let hash = Sha256::digest(&bytes).into();
        Self {
            bytes,
            hash,
            compressed: Default::default(),
            etag: OnceLock::new(),
        }
    }

    /// The body as it is.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// SHA-256 of the bytes.
    pub fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// The strong ETag of the body in a coding.
    pub fn etag(&self, coding: Option<Coding>) -> HeaderValue {
        match coding {
            None => self.etag.get_or_init(|| etag(&self.hash, None)).clone(),
            some => etag(&self.hash, some),
        }
    }

    /// The body in a coding, compressed at the first request for it and kept.
    pub fn compressed(&self, coding: Coding) -> &Bytes {
        self.compressed[coding as usize].get_or_init(|| compress(&self.bytes, coding))
    }
}

/// A strong ETag of a hash; a compressed form is another representation and has another one.
pub fn etag(hash: &[u8], coding: Option<Coding>) -> HeaderValue {
    let mut text = String::with_capacity(48);
    text.push('"');
    let hash = Hex(&hash[..hash.len().min(16)]);
    write!(text, "{hash}").expect("a string takes everything");
    if let Some(coding) = coding {
        text.push('-');
        text.push_str(coding.token());
    }
    text.push('"');
    HeaderValue::try_from(text).expect("hex digits and a token are a valid header value")
}

/// Compresses bytes; a codec that fails (it cannot, in memory) leaves them empty-handed, so the
/// plain bytes of a failed codec are never labelled as compressed.
pub fn compress(bytes: &[u8], coding: Coding) -> Bytes {
    const IN_MEMORY: &str = "writing to a vector does not fail";
    match coding {
        Coding::Gzip => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
            encoder.write_all(bytes).expect(IN_MEMORY);
            encoder.finish().expect(IN_MEMORY).into()
        }
        Coding::Brotli => {
            let mut out = Vec::new();
            {
                let mut encoder = brotli::CompressorWriter::new(&mut out, 4096, 5, 22);
                encoder.write_all(bytes).expect(IN_MEMORY);
            }
            out.into()
        }
        Coding::Zstd => zstd::bulk::compress(bytes, 3).expect(IN_MEMORY).into(),
    }
}
