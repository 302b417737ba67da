//! The Telemetry Matrix: nodes × channels, bounded history, cluster statistics.

mod channel;
mod load;

pub use channel::{Channel, Unit};
pub use load::{Reading, load};
