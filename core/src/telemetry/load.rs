//! A node's load indicator.

use super::Channel;

/// One value a channel, in the unit of the channel; `None` where there is no reading.
pub type Reading = [Option<f32>; Channel::COUNT];

/// The node's load indicator, 0 (idle) to 1 (saturated):
///
/// `max(cpu.used, ½·load.per_core, memory.used, pressure.cpu, pressure.memory, pressure.io)`, each clamped to 0..=1.
///
/// The largest, not the mean: a node is as loaded as the resource that gives out first. The load average counts half, so
/// that one runnable task a CPU reads 0.5 and two read 1. A missing channel counts 0.
pub fn load(reading: &Reading) -> f32 {
    let value = |channel: Channel| reading[channel.column()].unwrap_or(0.0);
    [
        value(Channel::CpuUsed),
        0.5 * value(Channel::LoadPerCore),
        value(Channel::MemoryUsed),
        value(Channel::PressureCpu),
        value(Channel::PressureMemory),
        value(Channel::PressureIo),
    ]
    .into_iter()
    .fold(0.0, |most, share| most.max(share.clamp(0.0, 1.0)))
}
