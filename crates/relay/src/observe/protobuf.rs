//! Writes protocol buffers: the few kinds of fields that profiles and traces are made of. Pure.

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

#[cfg(test)]
mod tests {
    use super::Message;

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
        assert_eq!(message.into_bytes(), expected.concat());
    }
}
