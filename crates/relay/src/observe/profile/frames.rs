//! Tells readers of a heap profile which frames are the allocator's own, so that they charge memory to
//! whoever asked for it: without that the leaf of every stack is one function of jemalloc's. Pure.

use std::io::{self, Read as _, Write as _};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};

use crate::observe::protobuf::Message;

/// Fields of a profile (<https://github.com/google/pprof/blob/main/proto/profile.proto>).
const STRINGS: u32 = 6;
const DROP_FRAMES: u32 = 7;
/// A frame that this matches is left out, with those that it calls.
const ALLOCATOR: &str =
    r"_rjem_.*|prof_.*|do_rallocx|.*tikv_jemallocator.*|(__rustc::)?__r(ust|dl|g)_(re)?alloc.*";

/// The profile, compressed as before, with the frames of the allocator marked.
///
/// # Errors
/// It is no profile.
pub(super) fn without_allocator(profile: &[u8]) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    GzDecoder::new(profile).read_to_end(&mut plain)?;
    let strings = count(&plain, STRINGS)
        .ok_or_else(|| io::Error::other("the profile's protocol buffers are cut off"))?;
    // Fields may come in any order: the name goes to the end of the list, and is referred to.
    let mut more = Message::default();
    more.element(STRINGS, ALLOCATOR);
    more.int(DROP_FRAMES, strings);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&plain)?;
    gzip.write_all(&more.into_bytes())?;
    gzip.finish()
}

/// How often a field is there; `None` where the message is cut off.
fn count(mut message: &[u8], field: u32) -> Option<u64> {
    let mut found = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        found += u64::from(tag >> 3 == u64::from(field));
        let length = match tag & 7 {
            0 => varint(&mut message).map(|_| 0)?,
            1 => 8,
            2 => varint(&mut message)?,
            5 => 4,
            _ => return None,
        };
        message = message.get(usize::try_from(length).ok()?..)?;
    }
    Some(found)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    #[test]
    fn the_frames_are_named_behind_what_was_there() {
        let mut profile = Message::default();
        profile.element(STRINGS, "");
        profile.int(9, 1 << 40);
        profile.element(STRINGS, "x".repeat(300));
        profile.fixed(10, 7);
        let profile = profile.into_bytes();
        let mut read = Vec::new();
        let marked = without_allocator(&gzip(&profile)).unwrap();
        GzDecoder::new(&marked[..]).read_to_end(&mut read).unwrap();
        let added = read.strip_prefix(&profile[..]).unwrap();
        let (name, reference) = added.split_at(added.len() - 2);
        assert!(name.ends_with(ALLOCATOR.as_bytes()));
        assert_eq!(reference, [7 << 3, 2], "the third string");
        assert_eq!(count(&read, STRINGS), Some(3));
    }

    #[test]
    fn what_is_cut_off_is_no_profile() {
        let mut profile = Message::default();
        profile.element(STRINGS, "abc");
        let profile = profile.into_bytes();
        for length in 1..profile.len() {
            assert!(without_allocator(&gzip(&profile[..length])).is_err());
        }
        assert!(without_allocator(b"no gzip").is_err());
    }
}
