//! Limits on the history that one answer examines.

use crate::{reads::Still, store::KeptEvent};

/// Maximum bytes of events' records that are examined for one answer. They are not held: the limit is the time of one
/// processor, some tens of milliseconds.
const LOOKED_AT_BYTES: usize = 8 << 20;

/// Events examined for one answer: bounded in number and bytes, and ended once the caller is gone.
pub(super) struct Scan<'a> {
    still: &'a Still,
    events: usize,
    bytes: usize,
}

impl<'a> Scan<'a> {
    /// Examines at most `events` events, and at least one.
    pub(super) fn new(still: &'a Still, events: usize) -> Scan<'a> {
        let bytes = LOOKED_AT_BYTES;
        Scan { still, events, bytes }
    }

    /// Returns whether the next event is examined; if not, the limit is reached.
    pub(super) fn takes(&mut self, next: &KeptEvent<'_>) -> bool {
        if self.still.is_over() || self.events == 0 {
            return false;
        }
        self.events -= 1;
        let is_first = self.bytes == LOOKED_AT_BYTES;
        let fits = is_first || next.len() <= self.bytes;
        self.bytes = self.bytes.saturating_sub(next.len());
        fits
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::sync::Arc;

    use wyneos_core::{
        event::{Event, EventBody},
        id::{Cycle, Epoch, EventNo, Uuid},
        store::Batch,
        time::WallTime,
    };

    use super::*;
    use crate::store::{Along, Memory, Of, Retention, Store as _};

    fn event(sequence: u64, text: usize) -> Arc<Event> {
        Arc::new(Event {
            sequence: EventNo(sequence),
            time: WallTime(0),
            epoch: Epoch(1),
            cycle: Cycle(1),
            node: None,
            node_name: String::new(),
            summary: "s".repeat(text),
            body: EventBody::Session { detail: String::new() },
            times: 1,
        })
    }

    #[test]
    fn an_answer_looks_at_so_many_events_and_so_many_bytes_and_none_for_nobody() {
        let mut store = Memory::new(Retention {
            events: 1_000,
            event_bytes: u64::MAX,
            snapshots: 2,
            snapshot_age: std::time::Duration::from_secs(1),
        });
        store.load(Uuid([1; 16])).unwrap();
        // One event that alone exceeds the limit, and small ones.
        let large = (1..=9).map(|sequence| event(sequence, LOOKED_AT_BYTES / 4));
        let small = (10..=100).map(|sequence| event(sequence, 10));
        let events = large.chain(small).chain([event(101, LOOKED_AT_BYTES + 1)]).collect();
        let batch = Batch {
            events,
            ..Batch::default()
        };
        store.commit(Epoch(1), &[batch]).unwrap();
        let looked = |still: &Still, before: u64, events: usize| {
            let (mut scan, mut looked) = (Scan::new(still, events), 0);
            let visit = store.history().visit(Of::All, Along::Before(before), &mut |kept| {
                if !scan.takes(&kept) {
                    return Ok(ControlFlow::Break(()));
                }
                looked += 1;
                Ok(ControlFlow::Continue(()))
            });
            visit.unwrap();
            looked
        };
        let here = Arc::new(());
        let still = Still::of(&here);
        assert_eq!(
            looked(&still, 102, 500),
            1,
            "a page goes on, however large one event is"
        );
        assert_eq!(looked(&still, 101, 500), 91 + 3);
        assert_eq!(looked(&still, 101, 20), 20);
        drop(here);
        assert_eq!(looked(&still, 101, 20), 0);
    }
}
