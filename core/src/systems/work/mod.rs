//! Work: what operators declared, what is done so that it runs, and what agents tell of it.

pub(crate) mod adoption;
mod agenda;
mod carry_out;
pub(crate) mod declare;
mod dialogue;
mod parcels;
mod place;
mod plan;
mod reads;
mod recall;
mod restored;
mod told;

use std::sync::Arc;

use agenda::Agenda;
use dialogue::Dialogues;

use crate::{
    ctx::Ctx,
    store::Restored,
    workload::{AssignmentId, Table, View},
};

/// What the coordinator knows of work.
#[derive(Debug)]
pub(crate) struct Work {
    table: Table,
    agenda: Agenda,
    /// Instances placed in this epoch.
    placed: u64,
    dialogues: Dialogues,
    restored: Option<Restored>,
}

impl Work {
    /// No work, in a state that may have been restored from a backup.
    pub(crate) fn new(restored: Option<Restored>) -> Work {
        Work {
            table: Table::default(),
            agenda: Agenda::default(),
            placed: 0,
            dialogues: Dialogues::default(),
            restored,
        }
    }

    /// Workloads and instances.
    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// Takes back what was tried on a copy of the table.
    pub(crate) fn put_back(&mut self, untouched: Table) {
        self.table = untouched;
    }

    /// These instances are written down.
    pub(crate) fn kept(&mut self, ids: Vec<AssignmentId>) {
        for id in ids {
            self.table.kept(id);
        }
    }

    /// Shows readers the instances of nodes in doubt as such. Returns true when readers are to see something else than they do.
    pub(crate) fn show(&mut self, ctx: &mut Ctx) -> bool {
        for index in ctx.outbox.take_restood() {
            self.table.stands(index, ctx.registry[index].shown);
        }
        self.table.is_touched()
    }

    /// Workloads and instances for readers; `None` when they are as readers saw them.
    pub(crate) fn changed_view(&mut self) -> Option<Arc<View>> {
        self.table.changed_view()
    }

    /// A copy for plans, which ask no agent.
    pub(crate) fn to_plan_with(&self) -> Work {
        Work {
            table: self.table.clone(),
            agenda: self.agenda.clone(),
            placed: self.placed,
            dialogues: Dialogues::default(),
            restored: self.restored,
        }
    }

    #[cfg(test)]
    pub(crate) fn table_mut(&mut self) -> &mut Table {
        &mut self.table
    }

    /// Nodes with which something is talked over.
    #[cfg(test)]
    pub(crate) fn dialogues(&self) -> usize {
        self.dialogues.nodes.len()
    }
}
