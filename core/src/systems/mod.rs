//! The systems of the coordinator. Each owns its state; the engine passes the conclusions of one system to the others.

pub(crate) mod admission;
pub(crate) mod autonomy;
pub(crate) mod behaviour;
pub(crate) mod coherence;
pub(crate) mod fleet;
pub(crate) mod guardian;
pub(crate) mod integrity;
pub(crate) mod predictive;
pub(crate) mod telemetry;
pub(crate) mod work;
