//! Visits of the kept events: each is decoded only when it is wanted, and the visitor says when it has enough.

use std::{collections::BTreeMap, ops::ControlFlow};

use serde::{Deserialize, de::IgnoredAny};
use wyneos_core::{event::Event, id::NodeId};

/// The events that are visited.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Of<'a> {
    /// All of them.
    All,
    /// Those about a node.
    Node(NodeId),
    /// Those about a workload.
    Work(&'a str),
}

/// Where a visit begins, and in which direction it goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Along {
    /// From this number on, oldest first.
    From(u64),
    /// Below this number, newest first.
    Before(u64),
}

impl Along {
    /// The numbers, of which the last is excluded, and whether the newest comes first.
    pub(super) fn range(self) -> (std::ops::Range<u64>, bool) {
        match self {
            Along::From(from) => (from..u64::MAX, false),
            Along::Before(before) => (0..before, true),
        }
    }
}

/// An event as it is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeptEvent<'a> {
    /// Its number.
    pub(crate) sequence: u64,
    /// JSON of an [`Event`].
    pub(super) json: &'a [u8],
}

/// The kind of an event; nothing else of it is kept.
#[derive(Deserialize)]
struct Skimmed<'a> {
    #[serde(borrow)]
    body: BTreeMap<&'a str, IgnoredAny>,
}

impl KeptEvent<'_> {
    /// Bytes of its record.
    pub(crate) fn len(&self) -> usize {
        self.json.len()
    }

    /// Whether its body is of that kind, without taking memory for the rest. Of what cannot be read, [`KeptEvent::decode`] tells.
    pub(crate) fn is(&self, kind: &str) -> bool {
        serde_json::from_slice(self.json).map_or(true, |skimmed: Skimmed<'_>| skimmed.body.contains_key(kind))
    }

    /// The event.
    pub(crate) fn decode(&self) -> Result<Event, serde_json::Error> {
        serde_json::from_slice(self.json)
    }
}

/// Takes events one after another, until it has enough.
pub(crate) type Visitor<'a> = dyn FnMut(KeptEvent<'_>) -> Result<ControlFlow<()>, serde_json::Error> + 'a;
