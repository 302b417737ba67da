//! The Telemetry Matrix: nodes × channels, bounded history, cluster statistics.

mod channel;
mod load;
mod matrix;
mod statistics;
#[cfg(test)]
mod tests;

pub use channel::{Channel, Unit};
pub use load::{Reading, load};
pub use matrix::{Matrix, Sample};
pub use statistics::{Statistics, statistics};
