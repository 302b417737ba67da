//! Whether the kernel ends everything that an instance started once its supervisor is gone.

/// Probes for it; `Err` says why it does not.
pub(crate) fn containment() -> Result<(), String> {
    match rustix::process::geteuid().is_root() {
        true => Ok(()),
        false => Err("the agent does not run as root".to_owned()),
    }
}
