//! Limits on what comes from outside, checked where the wire meets the core.

/// Bytes of a node's name.
pub const NAME: usize = 253;
/// Labels of a node.
pub const LABELS: usize = 64;
/// Bytes of a label's key.
pub const LABEL_KEY: usize = 63;
/// Bytes of a label's value.
pub const LABEL_VALUE: usize = 255;
/// Channels of a session.
pub const CHANNELS: usize = 64;
/// Users of a host that declarations may name, beside the default one.
pub const USERS: usize = 64;
/// Bytes of a user's name.
pub const USER: usize = 256;
/// Bytes of an address.
pub const ADDRESS: usize = 280;
/// Bytes of a message from an agent: agents send none that is larger, and the coordinator takes none.
pub const AGENT_MESSAGE: usize = 256 * 1024;
/// Bytes of a message to an agent: the coordinator sends none that is larger, and agents take none. More: an agent needs more memory for
/// one message; less than [`AGENT_MESSAGE`]: what an agent can describe could not be assigned.
pub const NODE_MESSAGE: usize = 512 * 1024;
/// Bytes of a declaration, as a message carries it with all its parts: one fits into every message, with its envelope.
pub const DECLARATION: usize = AGENT_MESSAGE - 1024;
/// Bytes of a probe or a question to a peer, and of the answer.
pub const PROBE: usize = 4 * 1024;
/// Bytes of an operator's name, and of a join token's id.
pub const OPERATOR: usize = 64;
/// Bytes of a reason that a caller gives.
pub const REASON: usize = 256;
/// Bytes of a request from somebody who was let in. Larger than any that can be accepted, so that what is too long is refused with its
/// field named, and a name that nothing has is not found.
pub const REQUEST: usize = 1024 * 1024;
/// Bytes of a request to join, from anybody.
pub const JOINING: usize = 64 * 1024;
/// Bytes of a question to reflection, which repeats what it does not find.
pub const SYMBOL: usize = 1024;
/// CPUs of a node.
pub const CPUS: u32 = 100_000;
/// Bytes of memory or disk of a node.
pub const BYTES: u64 = 1 << 60;
