//! A message that was encoded before it met its readers.

use bytes::{Buf, BufMut, Bytes};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, WireType, skip_field},
};

/// The wire form of a message: what goes to a thousand subscribers is encoded once.
///
/// Stands for the message's own type where a server sends it (see `build.rs`). It only sends: merging into it skips.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Encoded(pub Bytes);

/// Prints its length alone: what is sent to an agent has the environments of its instances in it.
impl std::fmt::Debug for Encoded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Encoded({} bytes)", self.0.len())
    }
}

impl Encoded {
    /// The wire form of `message`.
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
