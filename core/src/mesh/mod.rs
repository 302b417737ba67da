//! The Guardian Mesh: who probes whom, links, what observers see, topology.

mod components;
mod link;
mod plan;
mod sight;
#[cfg(test)]
mod tests;
mod topology;

pub use link::{DOWN_AFTER, Link, LinkMeter, LinkReport, LinkState, REPORTS, WINDOW};
pub use plan::{ALL_PAIRS, OBSERVERS, Plan, Planner};
pub use sight::{Observation, Sight, Tally};
pub use topology::{LISTED, Mesh, ObserverLinks, Topology};
