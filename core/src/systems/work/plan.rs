//! Planning of the next actions for a workload.

use std::collections::BTreeMap;

use super::{Work, place::place};
use crate::{
    ctx::Ctx,
    node::NodeIndex,
    placement::{self, Allowance, Fleet, Place, Plan},
    workload::{AssignmentId, Declared, Held},
};

impl Work {
    /// Plans the next actions for a workload, limited to what agents' reports allow.
    pub(crate) fn plan(
        &self,
        ctx: &Ctx,
        declared: &Declared,
        ambiguous: bool,
        fleet: &mut Fleet,
        may: Allowance<'_>,
    ) -> Plan {
        let places = self.places(declared, |index| place(ctx, index));
        let input = placement::Input {
            now: ctx.clock.now,
            table: &self.table,
            places: &places,
            ambiguous,
            may,
        };
        let plan = placement::plan(&input, declared, fleet);
        self.until_heard(ctx, declared, plan)
    }

    /// State of the nodes of a workload's instances.
    pub(crate) fn places(&self, declared: &Declared, place: impl Fn(NodeIndex) -> Place) -> BTreeMap<NodeIndex, Place> {
        let mut places = BTreeMap::new();
        let somewhere = |held: &&Held| held.index != NodeIndex::NOWHERE;
        for held in self.table.instances(declared).filter(somewhere) {
            places.entry(held.index).or_insert_with(|| place(held.index));
        }
        places
    }

    /// The id of the next instance to be placed; all existing ids are lower.
    pub(crate) fn next_assignment(&self, ctx: &Ctx) -> AssignmentId {
        AssignmentId(ctx.term.epoch.number(self.placed + 1))
    }
}
