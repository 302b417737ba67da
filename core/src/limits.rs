//! Limits on external input, checked where wire messages are converted to domain types.

/// Maximum length of a node name, in bytes.
pub const NAME: usize = 253;
/// Maximum number of labels of a node.
pub const LABELS: usize = 64;
/// Maximum length of a label key, in bytes.
pub const LABEL_KEY: usize = 63;
/// Maximum length of a label value, in bytes.
pub const LABEL_VALUE: usize = 255;
/// Maximum number of telemetry channels of a session.
pub const CHANNELS: usize = 64;
/// Maximum number of host users that workloads may name, in addition to the default user.
pub const USERS: usize = 64;
/// Maximum length of a user name, in bytes.
pub const USER: usize = 256;
/// Maximum length of an address, in bytes.
pub const ADDRESS: usize = 280;
/// Maximum size of a message from an agent, in bytes. Agents send no larger message, and the coordinator accepts none.
pub const AGENT_MESSAGE: usize = 256 * 1024;
/// Maximum size of a message to an agent, in bytes. The coordinator sends no larger message, and agents accept none. A
/// larger value costs an agent more memory per message; with a value below [`AGENT_MESSAGE`], an instance that an agent
/// can describe could not be assigned.
pub const NODE_MESSAGE: usize = 512 * 1024;
/// Maximum size of an encoded workload specification, in bytes. One specification fits into every message together with
/// its envelope.
pub const DECLARATION: usize = AGENT_MESSAGE - 1024;
/// Maximum size of a probe, of a question to a peer, and of the answer, in bytes.
pub const PROBE: usize = 4 * 1024;
/// Maximum length of an operator name and of a join token's id, in bytes.
pub const OPERATOR: usize = 64;
/// Maximum length of a reason given by a caller, in bytes.
pub const REASON: usize = 256;
/// Maximum size of a request from an authenticated caller, in bytes. It exceeds every acceptable request, so that an
/// oversized field is rejected by name and an oversized resource name is reported as not found.
pub const REQUEST: usize = 1024 * 1024;
/// Maximum size of a join request from an unauthenticated caller, in bytes.
pub const JOINING: usize = 64 * 1024;
/// Maximum size of a reflection request, in bytes; the response repeats a symbol that is not found.
pub const SYMBOL: usize = 1024;
/// Maximum number of CPUs of a node.
pub const CPUS: u32 = 100_000;
/// Maximum memory or disk size of a node, in bytes.
pub const BYTES: u64 = 1 << 60;
