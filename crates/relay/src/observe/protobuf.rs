//! Protocol buffers: the few kinds of fields that profiles and traces are made of, and the reading
//! of an answer. Pure.

/// A message in the making. Fields at their default are left out, as proto3 has it.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// An integer, boolean or enum.
    pub(super) fn int(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.tag(field, 0);
            self.varint(value);
        }
    }

    /// A `fixed64`.
    pub(super) fn fixed(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.tag(field, 1);
            self.0.extend(value.to_le_bytes());
        }
    }

    /// Bytes or text.
    pub(super) fn bytes(&mut self, field: u32, value: impl AsRef<[u8]>) {
        if !value.as_ref().is_empty() {
            self.element(field, value);
        }
    }

    /// Bytes or text that counts also when it is empty: of a list, or of a choice.
    pub(super) fn element(&mut self, field: u32, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        self.tag(field, 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
    }

    /// A message within.
    pub(super) fn message(&mut self, field: u32, write: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        write(&mut inner);
        self.element(field, inner.0);
    }

    /// A packed list of integers.
    pub(super) fn packed(&mut self, field: u32, values: impl IntoIterator<Item = u64>) {
        let mut list = Message::default();
        values.into_iter().for_each(|value| list.varint(value));
        self.bytes(field, list.0);
    }

    fn tag(&mut self, field: u32, wire: u32) {
        self.varint(u64::from(field << 3 | wire));
    }

    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }
}

/// A field that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field<'a> {
    /// An integer, boolean or enum.
    Int(u64),
    /// Bytes, text or a message.
    Bytes(&'a [u8]),
    /// Of a fixed width.
    Fixed(&'a [u8]),
}

/// The fields of a message with their numbers, up to where it is malformed.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for (at, byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.0 = &self.0[at + 1..];
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Field<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Int(self.varint()?),
            1 => Field::Fixed(self.take(8)?),
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.take(length)?)
            }
            5 => Field::Fixed(self.take(4)?),
            _ => return None,
        };
        Some((u32::try_from(tag >> 3).ok()?, field))
    }
}

#[cfg(test)]
mod tests {
    use super::{Field, Fields, Message};

    #[test]
    fn fields_are_the_bytes_of_the_specification() {
        let mut message = Message::default();
        message.int(1, 150);
        message.int(2, 0);
        message.bytes(2, "testing");
        message.message(3, |inner| inner.int(1, 150));
        message.packed(4, [3, 270, 86_942]);
        message.fixed(5, 1);
        let expected = [
            &[0x08, 0x96, 0x01][..],
            b"\x12\x07testing",
            &[0x1a, 3, 0x08, 0x96, 0x01],
            &[0x22, 6, 0x03, 0x8e, 0x02, 0x9e, 0xa7, 0x05],
            &[0x29, 1, 0, 0, 0, 0, 0, 0, 0],
        ];
        let bytes = message.into_bytes();
        assert_eq!(bytes, expected.concat());
        let read: Vec<_> = Fields(&bytes).collect();
        let expected = [
            (1, Field::Int(150)),
            (2, Field::Bytes(b"testing")),
            (3, Field::Bytes(&[0x08, 0x96, 0x01])),
            (4, Field::Bytes(&[0x03, 0x8e, 0x02, 0x9e, 0xa7, 0x05])),
            (5, Field::Fixed(&[1, 0, 0, 0, 0, 0, 0, 0])),
        ];
        assert_eq!(read, expected);
    }
}
