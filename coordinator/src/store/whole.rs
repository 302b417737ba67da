//! Visits as lists, for tests.

use std::ops::ControlFlow;

use wyneos_core::{event::Event, id::NodeId};

use super::{Along, History, Of, StoreError};

impl dyn History {
    fn list(&self, of: Of<'_>, along: Along, most: usize) -> Result<(Vec<Event>, u64), StoreError> {
        let mut events = Vec::new();
        let oldest = self.visit(of, along, &mut |kept| {
            if events.len() == most {
                return Ok(ControlFlow::Break(()));
            }
            events.push(kept.decode()?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok((events, oldest))
    }

    pub(crate) fn events(&self, from: u64, most: usize) -> Result<(Vec<Event>, u64), StoreError> {
        self.list(Of::All, Along::From(from), most)
    }

    pub(crate) fn events_of(&self, node: NodeId, before: u64, most: usize) -> Result<Vec<Event>, StoreError> {
        Ok(self.list(Of::Node(node), Along::Before(before), most)?.0)
    }

    pub(crate) fn events_of_work(&self, workload: &str, before: u64, most: usize) -> Result<Vec<Event>, StoreError> {
        Ok(self.list(Of::Work(workload), Along::Before(before), most)?.0)
    }

    pub(crate) fn events_of_from(&self, node: NodeId, from: u64, most: usize) -> Result<Vec<Event>, StoreError> {
        Ok(self.list(Of::Node(node), Along::From(from), most)?.0)
    }

    pub(crate) fn events_before(&self, before: u64, most: usize) -> Result<Vec<Event>, StoreError> {
        Ok(self.list(Of::All, Along::Before(before), most)?.0)
    }
}
