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
/// Bytes of a message from an agent.
pub const AGENT_MESSAGE: usize = 256 * 1024;
/// CPUs of a node.
pub const CPUS: u32 = 100_000;
/// Bytes of memory or disk of a node.
pub const BYTES: u64 = 1 << 60;
