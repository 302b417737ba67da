//! The coordinator's disk and its publisher.

use std::{mem, sync::Arc};

use rand::RngExt;
use wyneos::canonical::Canonical;
use wyneos_core::{
    coordinator::{Input, Published},
    store::Entry,
};

use super::{DISK, WRITES_MAX, Write};
use crate::{event::What, pins::Pin, world::World};

impl World<'_> {
    pub(super) fn write(&mut self, write: Write) {
        self.host.disk.writes.push_back(write);
        let waiting = self.host.disk.writes.len();
        if waiting > WRITES_MAX {
            self.fail(format!("{waiting} writes wait for the disk"));
        }
        self.write_on();
    }

    /// Begins the next transaction unless one is under way: every batch that waits, as the store does, or a snapshot.
    fn write_on(&mut self) {
        let takes = DISK + DISK.mul_f64(self.rng.random_range(0.0..1.0));
        let disk = &mut self.host.disk;
        if disk.under_way > 0 || disk.writes.is_empty() {
            return;
        }
        let batches = disk.writes.iter().take_while(|write| matches!(write, Write::Batch(..)));
        disk.under_way = batches.count().max(1);
        let (done, generation) = (self.now.max(disk.stalled_until) + takes, self.host.generation);
        self.at(done, What::DiskDone(generation));
    }

    pub(crate) fn disk_done(&mut self, generation: u32) {
        if generation != self.host.generation {
            return;
        }
        if self.host.disk.fails {
            // What could not be kept must not be acted on: the process ends.
            self.host.disk.writes.clear();
            self.kill_coordinator();
            return;
        }
        let disk = &mut self.host.disk;
        let many = mem::take(&mut disk.under_way).min(disk.writes.len());
        let done: Vec<Write> = disk.writes.drain(..many).collect();
        let kept: Vec<Input> = done.into_iter().map(|write| self.keep(write)).collect();
        for input in kept {
            self.tell_coordinator(input);
        }
        self.write_on();
    }

    /// Puts something onto the disk; returns what the logic is to hear of it.
    pub(super) fn keep(&mut self, write: Write) -> Input {
        let host = &mut self.host;
        match write {
            Write::Batch(batch, _) => {
                let durable = &mut host.disk.kept;
                let mut went_back = None;
                for change in batch.changes() {
                    if let Entry::Node(node) = change
                        && let Some(old) = durable.nodes.get(&node.id())
                        && (old.incarnation, old.session) > (node.incarnation, node.session)
                    {
                        went_back = Some(format!("incarnation or session of {} went back", node.facts.name));
                    }
                    durable.take(change);
                }
                if let Some(what) = went_back {
                    self.fail(what);
                }
                Input::Committed
            }
            Write::Snapshot(snapshot) => {
                let canonical = Canonical::new(&snapshot, host.canonical.as_ref());
                let seal = Arc::new(host.sealer.seal(snapshot.epoch, snapshot.cycle, &canonical.bytes()));
                host.canonical = Some(canonical);
                let last = mem::replace(&mut host.disk.kept.last_snapshot, (seal.epoch, seal.cycle, seal.chain));
                host.disk.kept.lived = snapshot.lived;
                let follows = seal.previous == last.2;
                let before = mem::replace(&mut host.published, (seal.epoch, seal.cycle));
                let seal_chain = seal.chain;
                if (seal.epoch, seal.cycle) <= before {
                    self.fail(format!(
                        "snapshot {:?} was published after {before:?}",
                        (seal.epoch, seal.cycle)
                    ));
                }
                if !follows {
                    self.fail("a seal does not follow the one before".to_owned());
                }
                self.note(Pin::Seals, "seal", &seal_chain);
                Input::Published(Published {
                    seal,
                    subscribers: 0,
                    lagging: 0,
                })
            }
        }
    }
}
