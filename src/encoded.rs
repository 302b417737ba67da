//! Messages encoded before they are sent.

use bytes::{Buf, BufMut, Bytes};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, WireType, skip_field},
};

/// The encoding of a message, so that a message for a thousand subscribers is encoded once.
///
/// It replaces the message's own type where a server sends it (see `build.rs`). It is only sent; merging into it skips
/// the field.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Encoded(pub Bytes);

/// Shows only the length, because messages to agents contain environment variables.
impl std::fmt::Debug for Encoded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Encoded({} bytes)", self.0.len())
    }
}

impl Encoded {
    /// Encodes `message`.
    pub fn new(message: &impl Message) -> Encoded {
        Encoded(message.encode_to_vec().into())
    }
}

impl Message for Encoded {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        skip_field(wire_type, tag, buf, context)
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}
