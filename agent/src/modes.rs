//! Modes of the files in the agent's data_dir.

use std::path::Path;

/// The mode of a path below the data_dir; `None` for files that an instance's program has created in its own directory,
/// and for a key: a key that others could read is refused, rather than corrected silently.
///
/// Directories that an instance's user passes through are 0711: passed, and not listed. `instances` is the mode of the
/// directory of instances, which depends on the host's means of containment.
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
