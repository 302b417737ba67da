//! The Guardian Mesh: who probes whom, links, topology.

mod components;
mod link;
mod plan;
#[cfg(test)]
mod tests;
mod topology;

pub use link::{DOWN_AFTER, Link, LinkMeter, LinkReport, LinkState, REPORTS, WINDOW};
pub use plan::{ALL_PAIRS, OBSERVERS, Plan, Planner};
pub use topology::{LISTED, Mesh, ObserverLinks, Topology};
