//! The Guardian Mesh: probe plans, links, observations, and topology.

mod bad;
mod beacons;
mod components;
mod coordinate;
#[cfg(test)]
mod coordinate_tests;
#[cfg(test)]
mod cut_tests;
mod cuts;
mod finding;
mod findings;
mod islands;
mod link;
mod meter;
mod patterns;
mod plan;
mod sight;
mod survey;
mod surveyor;
#[cfg(test)]
mod tests;
mod topology;
mod view;

pub use beacons::Direction;
pub use coordinate::{Coordinate, DIMENSIONS};
pub use cuts::{Cut, Groups};
pub use finding::{Candidate, Finding, FindingKind};
pub use findings::{Change, FINDINGS, Findings, Followed};
pub use link::{Link, LinkFailure, LinkReport, LinkState, REPORTS};
pub use meter::{DOWN_AFTER, LOSSY_FROM, LinkMeter, RESENT_MICROS, SLOW_MICROS, SLOW_TIMES, WINDOW};
pub use plan::{ALL_PAIRS, OBSERVERS, Plan, Planner};
pub use sight::{Observation, Sight, Tally, Trouble};
pub use survey::Survey;
pub use topology::{LISTED, Mesh, ObserverLinks, Topology};
pub use view::Nodes;
