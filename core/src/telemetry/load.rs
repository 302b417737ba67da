//! The load indicator of a node.

use super::Channel;

/// One value per channel, in the channel's unit; `None` if there is no reading.
pub type Reading = [Option<f32>; Channel::COUNT];

/// Load indicator of a node, 0 (idle) to 1 (saturated):
///
/// `max(cpu.used, ½·load.per_core, memory.used, pressure.cpu, pressure.memory, pressure.io)`, each clamped to 0..=1.
///
/// The maximum is used instead of the mean because a node is as loaded as its scarcest resource. The load average
/// counts half, so that one runnable task per CPU yields 0.5 and two yield 1. A missing channel counts as 0.
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
