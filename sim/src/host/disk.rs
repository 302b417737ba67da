//! The coordinator's disk and its publisher.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};

use rand::RngExt;
use wyneos::canonical::Canonical;
use wyneos_core::{
    coherence::Snapshot,
    coordinator::{Input, Published},
    store::{Batch, Durable, Entry, Restored},
    time::{Time, WallTime},
};

use super::Host;
use crate::{event::What, machines::Machines, pins::Pin, scene::Scene};

/// Minimum duration of a transaction; at most twice as long.
const DISK: Duration = Duration::from_micros(800);

/// Age of a pending batch at which the coordinator has certainly noticed: 2 s by a clock that may be slow.
const NOTICEABLY: Duration = Duration::from_millis(2_300);

/// Maximum number of pending writes: batches and one snapshot.
const WRITES_MAX: usize = 64 + 1;

/// A write.
pub(super) enum Write {
    Batch(Box<Batch>, Time),
    Snapshot(Arc<Snapshot>),
}

/// State of the disk.
pub(super) struct Disk {
    pub(super) kept: Durable,
    /// Backups and their times, by the faults that restore them.
    pub(super) backups: BTreeMap<usize, (WallTime, Durable)>,
    /// Pending writes, in order.
    pub(super) writes: VecDeque<Write>,
    /// Number of writes in the current transaction.
    pub(super) under_way: usize,
    pub(super) stalled_until: Time,
    /// Whether the next write fails and ends the process.
    pub(super) fails: bool,
}

impl Host {
    pub(crate) fn fail_disk(&mut self) {
        self.disk.fails = true;
    }

    pub(crate) fn mend_disk(&mut self) {
        self.disk.fails = false;
    }

    pub(super) fn is_full(&self) -> bool {
        self.disk.writes.len() >= WRITES_MAX - 1
    }

    /// Whether a batch has been pending for so long that the coordinator must have noticed.
    pub(crate) fn is_behind(&self, now: Time) -> bool {
        let batches = self.disk.writes.iter().filter_map(|write| match write {
            Write::Batch(_, at) => Some(*at),
            Write::Snapshot(_) => None,
        });
        batches.min().is_some_and(|at| now.since(at) >= NOTICEABLY)
    }

    pub(crate) fn stall_disk(&mut self, until: Time) {
        self.disk.stalled_until = self.disk.stalled_until.max(until);
    }

    /// Makes a backup for the fault that restores it.
    pub(crate) fn back_up(&mut self, scene: &mut Scene<'_>, fault: usize) {
        let now = self.clock.wall(scene.stage.now);
        let disk = &mut self.disk;
        disk.backups.insert(fault, (now, disk.kept.clone()));
    }

    /// Replaces the state of the disk by the backup for this fault.
    pub(crate) fn restore(&mut self, scene: &mut Scene<'_>, fault: usize) {
        let now = self.clock.wall(scene.stage.now);
        let Some((taken, mut durable)) = self.disk.backups.remove(&fault) else {
            return scene.stage.fail("there is no backup to restore".to_owned());
        };
        let Some(restored) = Restored::new(durable.epoch, durable.last_event, taken, now) else {
            return scene.stage.fail("the clock is behind the backup".to_owned());
        };
        (durable.epoch, durable.last_event) = (restored.epoch, restored.event);
        durable.restored = Some(restored);
        self.disk.kept = durable;
    }

    pub(super) fn write(&mut self, scene: &mut Scene<'_>, write: Write) {
        self.disk.writes.push_back(write);
        let waiting = self.disk.writes.len();
        if waiting > WRITES_MAX {
            scene.stage.fail(format!("{waiting} writes wait for the disk"));
        }
        self.write_on(scene);
    }

    /// Begins the next transaction unless one is in progress: all pending batches, as the store does, or a snapshot.
    fn write_on(&mut self, scene: &mut Scene<'_>) {
        let takes = DISK + DISK.mul_f64(scene.stage.rng.random_range(0.0..1.0));
        let disk = &mut self.disk;
        if disk.under_way > 0 || disk.writes.is_empty() {
            return;
        }
        let batches = disk.writes.iter().take_while(|write| matches!(write, Write::Batch(..)));
        disk.under_way = batches.count().max(1);
        let (done, generation) = (scene.stage.now.max(disk.stalled_until) + takes, self.generation);
        scene.stage.at(done, What::DiskDone(generation));
    }

    pub(crate) fn disk_done(&mut self, scene: &mut Scene<'_>, machines: &Machines, generation: u32) {
        if generation != self.generation {
            return;
        }
        if self.disk.fails {
            // A failed write must not be acted on, so the process ends.
            self.disk.writes.clear();
            self.kill(scene);
            return;
        }
        let disk = &mut self.disk;
        let many = mem::take(&mut disk.under_way).min(disk.writes.len());
        let done: Vec<Write> = disk.writes.drain(..many).collect();
        let kept: Vec<Input> = done.into_iter().map(|write| self.keep(scene, write)).collect();
        for input in kept {
            self.tell(scene, machines, input);
        }
        self.write_on(scene);
    }

    /// Applies a write and returns the input for the coordinator.
    pub(super) fn keep(&mut self, scene: &mut Scene<'_>, write: Write) -> Input {
        let host = &mut *self;
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
                    scene.stage.fail(what);
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
                    scene.stage.fail(format!(
                        "snapshot {:?} was published after {before:?}",
                        (seal.epoch, seal.cycle)
                    ));
                }
                if !follows {
                    scene.stage.fail("a seal does not follow the one before".to_owned());
                }
                scene.stage.note(Pin::Seals, "seal", &seal_chain);
                Input::Published(Published {
                    seal,
                    subscribers: 0,
                    lagging: 0,
                })
            }
        }
    }
}
