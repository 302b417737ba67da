//! The state on which the simulator's active parts operate.

use crate::{stage::Stage, wires::Wires, witness::Witness};

/// The stage, the wires, and the witness.
pub(crate) struct Scene<'a> {
    pub(crate) stage: Stage<'a>,
    pub(crate) wires: Wires,
    pub(crate) witness: Witness,
}
