//! The systems of the coordinator. Each owns its state; the engine carries what one concludes to the others.

pub(crate) mod guardian;
