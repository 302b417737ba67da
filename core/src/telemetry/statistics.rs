//! Statistics of a channel over all nodes.

use super::{Channel, Sample};

/// Statistics of a channel over the nodes that have a reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistics {
    /// The channel.
    pub channel: Channel,
    /// Number of nodes with a reading; if 0, all other fields are 0.
    pub count: u32,
    /// Minimum.
    pub min: f32,
    /// Arithmetic mean.
    pub mean: f32,
    /// Median (nearest rank).
    pub p50: f32,
    /// 95th percentile (nearest rank).
    pub p95: f32,
    /// Maximum.
    pub max: f32,
}

/// Nearest rank: the smallest value with at least `share` of the values at or below it.
fn rank(count: usize, share: f64) -> usize {
    ((share * count as f64).ceil() as usize).clamp(1, count) - 1
}

/// Computes the statistics of every channel. `scratch` is a buffer for one column, retained by the caller across
/// cycles.
pub fn statistics(sample: &Sample, scratch: &mut Vec<f32>) -> [Statistics; Channel::COUNT] {
    Channel::ALL.map(|channel| {
        scratch.clear();
        let column = sample.values().iter().skip(channel.column()).step_by(Channel::COUNT);
        scratch.extend(column.filter(|value| !value.is_nan()));
        column_statistics(channel, scratch)
    })
}

fn column_statistics(channel: Channel, values: &mut [f32]) -> Statistics {
    if values.is_empty() {
        return Statistics {
            channel,
            count: 0,
            min: 0.0,
            mean: 0.0,
            p50: 0.0,
            p95: 0.0,
            max: 0.0,
        };
    }
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64;
    let (at50, at95) = (rank(values.len(), 0.50), rank(values.len(), 0.95));
    let (below, p95, above) = values.select_nth_unstable_by(at95, f32::total_cmp);
    let p95 = *p95;
    let max = above.iter().copied().fold(p95, f32::max);
    let p50 = if at50 < at95 {
        *below.select_nth_unstable_by(at50, f32::total_cmp).1
    } else {
        p95
    };
    let min = values.iter().copied().fold(f32::INFINITY, f32::min);
    Statistics {
        channel,
        count: values.len() as u32,
        min,
        mean: mean as f32,
        p50,
        p95,
        max,
    }
}
