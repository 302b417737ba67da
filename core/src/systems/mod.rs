//! The systems of the coordinator. Each owns its state; the engine carries what one concludes to the others.

pub(crate) mod autonomy;
pub(crate) mod fleet;
pub(crate) mod guardian;
pub(crate) mod predictive;
pub(crate) mod work;
