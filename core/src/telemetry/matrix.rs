//! The matrix of nodes × channels, and its history.

use std::{collections::VecDeque, sync::Arc};

use super::{Channel, Reading};
use crate::{
    id::{Cycle, NodeIndex},
    time::WallTime,
};

/// All nodes' channels at one cycle.
#[derive(Debug, PartialEq)]
pub struct Sample {
    /// Number of the cycle.
    pub cycle: Cycle,
    /// Time of the cycle.
    pub time: WallTime,
    values: Box<[f32]>,
}

impl Sample {
    /// A channel of a node; `None` if there is no reading.
    pub fn get(&self, node: NodeIndex, channel: Channel) -> Option<f32> {
        let value = self.values.get(node.get() * Channel::COUNT + channel.column())?;
        (!value.is_nan()).then_some(*value)
    }

    /// All nodes' channels, row by row; NaN if there is no reading.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Number of rows.
    pub fn nodes(&self) -> usize {
        self.values.len() / Channel::COUNT
    }
}

/// The Telemetry Matrix: the latest values of heartbeats, and one sample per cycle of the past.
///
/// A heartbeat overwrites a row; only a cycle changes the history, whose samples are immutable, so that readers share
/// them.
#[derive(Debug)]
pub struct Matrix {
    latest: Vec<f32>,
    history: VecDeque<Arc<Sample>>,
    keep: usize,
    received: u64,
}

impl Matrix {
    /// Creates a matrix that retains `keep` samples.
    pub fn new(keep: usize) -> Matrix {
        Matrix {
            latest: Vec::new(),
            history: VecDeque::with_capacity(keep),
            keep: keep.max(1),
            received: 0,
        }
    }

    /// Adds a row for a node, without readings.
    pub fn add(&mut self, node: NodeIndex) {
        let rows = (node.get() + 1) * Channel::COUNT;
        if self.latest.len() < rows {
            self.latest.resize(rows, f32::NAN);
        }
    }

    /// Records a node's values: `values[i]` belongs to `channels[i]`, except for positions in `absent`. The caller has
    /// checked that the lengths are equal.
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

    /// Clears a node's values because it is no longer heard.
    pub fn silence(&mut self, node: NodeIndex) {
        let row = node.get() * Channel::COUNT;
        if let Some(row) = self.latest.get_mut(row..row + Channel::COUNT) {
            row.fill(f32::NAN);
        }
    }

    /// Reduces the matrix to this number of nodes.
    pub fn truncate(&mut self, nodes: usize) {
        self.latest.truncate(nodes * Channel::COUNT);
        // Excess capacity is released once it exceeds half.
        if self.latest.capacity() > 2 * self.latest.len() {
            self.latest.shrink_to_fit();
        }
    }

    /// Takes the cycle's sample and drops the oldest one beyond the limit.
    pub fn sample(&mut self, cycle: Cycle, time: WallTime) -> Arc<Sample> {
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

    /// Latest values of a node.
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

    /// Retained samples, oldest first.
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

    /// Number of values received in heartbeats.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Maximum number of retained samples.
    pub fn keep(&self) -> usize {
        self.keep
    }
}
