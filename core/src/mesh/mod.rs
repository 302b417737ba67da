//! The Guardian Mesh: who probes whom, links, what observers see, topology.

mod beacons;
mod components;
mod coordinate;
#[cfg(test)]
mod coordinate_tests;
#[cfg(test)]
mod cut_tests;
mod cuts;
mod finding;
mod link;
mod plan;
mod sight;
mod survey;
#[cfg(test)]
mod tests;
mod topology;

pub use beacons::Direction;
pub use coordinate::{Coordinate, DIMENSIONS};
pub use cuts::Cut;
pub use finding::{Candidate, Change, FINDINGS, Finding, FindingKind, Findings, Followed};
pub use link::{
    DOWN_AFTER, Link, LinkMeter, LinkReport, LinkState, REPORTS, RESENT_MICROS, SLOW_MICROS, SLOW_TIMES, WINDOW,
};
pub use plan::{ALL_PAIRS, OBSERVERS, Plan, Planner};
pub use sight::{Observation, Sight, Tally, Trouble};
pub use survey::Survey;
pub use topology::{LISTED, Mesh, ObserverLinks, Topology};
