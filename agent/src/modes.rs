//! Which modes what lies in the agent's data_dir has.

use std::path::Path;

/// The mode of what is at a path below the data_dir; `None` for what an instance's program has made in its own directory, and for a key: one
/// that others could read is refused instead of being made to look as if nobody had.
///
/// Directories that an instance's user passes through are 0711: passed, and not listed. `instances` is the mode of the directory of instances, which
/// depends on what this host can contain.
pub(crate) fn mode_of(path: &Path, is_directory: bool, instances: u32) -> Option<u32> {
    let parts: Vec<&str> = path.iter().map(|part| part.to_str()).collect::<Option<_>>()?;
    match (parts.as_slice(), is_directory) {
        (["instances"], true) => Some(instances),
        (["instances", _], true) => Some(0o711),
        (["identity"] | ["instances", _, "logs" | "work"], true) => Some(0o700),
        (
            ["node-id" | "incarnation" | "begun" | "lock" | "disk-check" | "joined.toml" | "instances.users.json"],
            false,
        ) => Some(0o600),
        (["identity", "cert.pem" | "ca.pem"], false) => Some(0o644),
        (["instances", _, _] | ["instances", _, "logs", _], false) => Some(0o600),
        _ => None,
    }
}
