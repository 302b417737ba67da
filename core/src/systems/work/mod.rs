//! Work: declared workloads, the actions that make them run, and agents' reports.

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

/// The coordinator's state of work.
#[derive(Debug)]
pub(crate) struct Work {
    table: Table,
    agenda: Agenda,
    /// Number of instances placed in this epoch.
    placed: u64,
    dialogues: Dialogues,
    restored: Option<Restored>,
}

impl Work {
    /// Creates the system without work; `restored` is set if the state was restored from a backup.
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

    /// Restores the table after a trial on it.
    pub(crate) fn put_back(&mut self, untouched: Table) {
        self.table = untouched;
    }

    /// Marks the records of these instances as durable.
    pub(crate) fn kept(&mut self, ids: Vec<AssignmentId>) {
        for id in ids {
            self.table.kept(id);
        }
    }

    /// Publishes the instances of nodes in doubt as unknown. Returns whether the readers' view changes.
    pub(crate) fn show(&mut self, ctx: &mut Ctx) -> bool {
        for index in ctx.outbox.take_restood() {
            self.table.stands(index, ctx.registry[index].shown);
        }
        self.table.is_touched()
    }

    /// The view of workloads and instances for readers; `None` if it is unchanged.
    pub(crate) fn changed_view(&mut self) -> Option<Arc<View>> {
        self.table.changed_view()
    }

    /// Copies the state for planning, which sends nothing to agents.
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

    /// Number of nodes with a dialogue.
    #[cfg(test)]
    pub(crate) fn dialogues(&self) -> usize {
        self.dialogues.nodes.len()
    }
}
