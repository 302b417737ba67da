//! Visits of the retained events: each is decoded only on demand, and the visitor ends the visit when it has enough.

use std::{collections::BTreeMap, ops::ControlFlow};

use serde::{Deserialize, de::IgnoredAny};
use wyneos_core::{event::Event, id::NodeId};

/// The events to visit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Of<'a> {
    /// All events.
    All,
    /// Events about a node.
    Node(NodeId),
    /// Events about a workload.
    Work(&'a str),
}

/// Start and direction of a visit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Along {
    /// From this number on, oldest first.
    From(u64),
    /// Below this number, newest first.
    Before(u64),
}

impl Along {
    /// The range of numbers, whose end is excluded, and whether the newest comes first.
    pub(super) fn range(self) -> (std::ops::Range<u64>, bool) {
        match self {
            Along::From(from) => (from..u64::MAX, false),
            Along::Before(before) => (0..before, true),
        }
    }
}

/// A retained event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeptEvent<'a> {
    /// Number of the event.
    pub(crate) sequence: u64,
    /// JSON of an [`Event`].
    pub(super) json: &'a [u8],
}

/// The kind of an event, decoded without the rest.
#[derive(Deserialize)]
struct Skimmed<'a> {
    #[serde(borrow)]
    body: BTreeMap<&'a str, IgnoredAny>,
}

impl KeptEvent<'_> {
    /// Length of its record, bytes.
    pub(crate) fn len(&self) -> usize {
        self.json.len()
    }

    /// Returns whether its body is of that kind, without allocating memory for the rest. [`KeptEvent::decode`] reports
    /// invalid records.
    pub(crate) fn is(&self, kind: &str) -> bool {
        serde_json::from_slice(self.json).map_or(true, |skimmed: Skimmed<'_>| skimmed.body.contains_key(kind))
    }

    /// Decodes the event.
    pub(crate) fn decode(&self) -> Result<Event, serde_json::Error> {
        serde_json::from_slice(self.json)
    }
}

/// Receives events one after another, until it has enough.
pub(crate) type Visitor<'a> = dyn FnMut(KeptEvent<'_>) -> Result<ControlFlow<()>, serde_json::Error> + 'a;
