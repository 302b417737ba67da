//! What the parts of the simulator that act, act upon.

use crate::{stage::Stage, wires::Wires, witness::Witness};

/// The stage, the wires, and the witness of what happens.
pub(crate) struct Scene<'a> {
    pub(crate) stage: Stage<'a>,
    pub(crate) wires: Wires,
    pub(crate) witness: Witness,
}
