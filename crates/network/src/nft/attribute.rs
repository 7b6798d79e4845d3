//! Netlink attributes, written into a buffer.

/// Says that the value is attributes.
const NESTED: u16 = 0x8000;

/// A buffer of attributes.
#[derive(Debug, Default)]
pub(crate) struct Attributes {
    pub(crate) bytes: Vec<u8>,
}

impl Attributes {
    /// One attribute of bytes.
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).expect("attributes are cut to 64 KiB");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    /// One attribute of 32 bits, big-endian as nf_tables wants them.
    pub(crate) fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// One attribute of text, with the NUL the kernel expects.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        let mut text = value.as_bytes().to_vec();
        text.push(0);
        self.bytes(kind, &text);
    }

    /// One attribute of attributes.
    pub(crate) fn nested(&mut self, kind: u16, write: impl FnOnce(&mut Attributes)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        write(self);
        let length = u16::try_from(self.bytes.len() - start).expect("attributes are cut to 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
