//! Nodes × channels, and their history.

use std::{collections::VecDeque, sync::Arc};

use super::{Channel, Reading};
use crate::{id::NodeIndex, time::WallTime};

/// Every node's channels at one cycle.
#[derive(Debug, PartialEq)]
pub struct Sample {
    /// The cycle.
    pub cycle: u64,
    /// When it ran.
    pub time: WallTime,
    values: Box<[f32]>,
}

impl Sample {
    /// A channel of a node; `None` when there was no reading.
    pub fn get(&self, node: NodeIndex, channel: Channel) -> Option<f32> {
        let value = self.values.get(node.get() * Channel::COUNT + channel.column())?;
        (!value.is_nan()).then_some(*value)
    }

    /// All nodes' channels, row by row; NaN where there was no reading.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Number of rows.
    pub fn nodes(&self) -> usize {
        self.values.len() / Channel::COUNT
    }
}

/// The Telemetry Matrix: what heartbeats brought last, and a sample a cycle of the past.
///
/// A heartbeat overwrites a row; only a cycle touches the history, whose samples never change once taken, so that readers
/// share them.
#[derive(Debug)]
pub struct Matrix {
    latest: Vec<f32>,
    history: VecDeque<Arc<Sample>>,
    keep: usize,
    received: u64,
}

impl Matrix {
    /// A matrix that keeps `keep` samples.
    pub fn new(keep: usize) -> Matrix {
        Matrix {
            latest: Vec::new(),
            history: VecDeque::with_capacity(keep),
            keep: keep.max(1),
            received: 0,
        }
    }

    /// Makes room for a node, without readings.
    pub fn add(&mut self, node: NodeIndex) {
        let rows = (node.get() + 1) * Channel::COUNT;
        if self.latest.len() < rows {
            self.latest.resize(rows, f32::NAN);
        }
    }

    /// Notes a node's values: `values[i]` belongs to `channels[i]`, except the positions in `absent`. The lengths were
    /// checked to be equal.
    pub fn record(&mut self, node: NodeIndex, channels: &[Option<Channel>], values: &[f32], absent: &[u32]) {
        let row = node.get() * Channel::COUNT;
        let Some(row) = self.latest.get_mut(row..row + Channel::COUNT) else {
            return;
        };
        row.fill(f32::NAN);
        for (channel, value) in channels.iter().zip(values) {
            if let Some(channel) = channel {
                row[channel.column()] = *value;
            }
        }
        for &position in absent {
            if let Some(Some(channel)) = channels.get(position as usize) {
                row[channel.column()] = f32::NAN;
            }
        }
        self.received += (values.len() - absent.len().min(values.len())) as u64;
    }

    /// Forgets a node's values: it is no longer heard.
    pub fn silence(&mut self, node: NodeIndex) {
        let row = node.get() * Channel::COUNT;
        if let Some(row) = self.latest.get_mut(row..row + Channel::COUNT) {
            row.fill(f32::NAN);
        }
    }

    /// Keeps room for so many nodes at most.
    pub fn truncate(&mut self, nodes: usize) {
        self.latest.truncate(nodes * Channel::COUNT);
        // What is left of the room is given back once it is most of it.
        if self.latest.capacity() > 2 * self.latest.len() {
            self.latest.shrink_to_fit();
        }
    }

    /// Takes the cycle's sample, and drops the oldest beyond what is kept.
    pub fn sample(&mut self, cycle: u64, time: WallTime) -> Arc<Sample> {
        let sample = Arc::new(Sample {
            cycle,
            time,
            values: self.latest.as_slice().into(),
        });
        if self.history.len() == self.keep {
            self.history.pop_front();
        }
        self.history.push_back(Arc::clone(&sample));
        sample
    }

    /// A node's newest values.
    pub fn reading(&self, node: NodeIndex) -> Reading {
        let row = node.get() * Channel::COUNT;
        let mut reading = [None; Channel::COUNT];
        if let Some(row) = self.latest.get(row..row + Channel::COUNT) {
            for (cell, value) in reading.iter_mut().zip(row) {
                *cell = (!value.is_nan()).then_some(*value);
            }
        }
        reading
    }

    /// The samples that are kept, oldest first.
    pub fn history(&self) -> &VecDeque<Arc<Sample>> {
        &self.history
    }

    /// The sample `back` cycles before the newest.
    pub fn back(&self, back: usize) -> Option<&Arc<Sample>> {
        self.history
            .len()
            .checked_sub(back + 1)
            .and_then(|at| self.history.get(at))
    }

    /// Values that heartbeats delivered.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Samples kept at most.
    pub fn keep(&self) -> usize {
        self.keep
    }
}
