//! Synthetic nodes: the messages that their agents would send.

use wyneos::v1;
use wyneos_core::telemetry::{Channel, Unit};

/// Amplitude of the variation of a load and of every reading: below the resolution at which they are published.
const SWING: f32 = 0.004;

/// Scatters consecutive numbers (SplitMix64, Steele et al., 2014), so that nodes do not register in the order of their
/// ids.
fn scattered(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Returns the id of node `number`.
pub(crate) fn node(number: u64) -> wyneos_core::id::NodeId {
    let (high, low) = (scattered(2 * number), scattered(2 * number + 1));
    wyneos_core::id::Uuid((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
}

/// Returns the `Hello` message of node `number` in session `attempt` of its agent.
pub(crate) fn hello(number: u64, attempt: u64, probe_address: String) -> v1::Hello {
    v1::Hello {
        node_id: node(number).to_string(),
        name: format!("node-{number:06}"),
        incarnation: 1,
        agent_version: wyneos::VERSION.to_owned(),
        boot_time: Some(wyneos::convert::timestamp(wyneos_core::time::WallTime(
            1_700_000_000_000,
        ))),
        capacity: Some(v1::Capacity {
            cpu_millis: 8_000,
            memory_bytes: 32 << 30,
            disk_bytes: 500 << 30,
        }),
        attributes: Some(v1::Attributes {
            os: "linux".to_owned(),
            kernel: "6.1.0-18-amd64".to_owned(),
            architecture: "x86_64".to_owned(),
            cpus: 8,
            memory_bytes: 32 << 30,
            cgroups: "none".to_owned(),
            containment: wyneos_core::node::PID_NAMESPACE.to_owned(),
            containment_reason: String::new(),
            users: None,
        }),
        labels: vec![v1::Label {
            key: "zone".to_owned(),
            value: format!("zone-{}", number % 3),
        }],
        channels: Channel::ALL.iter().map(|channel| channel.name().to_owned()).collect(),
        binary_digest: vec![1; 32],
        config_digest: vec![2; 32],
        probe_address,
        attempt,
        instance: vec![1; 16],
        machine: vec![],
        last_failure: String::new(),
    }
}

/// Returns the load of node `number` at its heartbeat `sequence`.
fn load(number: u64, sequence: u64) -> f32 {
    let base = 0.05 + 0.9 * (scattered(number) % 1_000) as f32 / 1_000.0;
    let noise = scattered(number << 32 | sequence) % 2_001;
    base + SWING * (noise as f32 / 1_000.0 - 1.0)
}

/// Returns the heartbeat `sequence` of node `number`, which acknowledges the seal `acknowledged` (epoch, cycle). Every
/// channel has a reading, and no link changed.
pub(crate) fn heartbeat(number: u64, sequence: u64, wall_millis: i64, acknowledged: (u64, u64)) -> v1::Heartbeat {
    let load = load(number, sequence);
    // The readings are chosen so that the load formula yields `load`.
    let value = |channel: &Channel| match (channel, channel.unit()) {
        (Channel::CpuUsed | Channel::LoadPerCore, _) => load,
        (_, Unit::Ratio) => load / 2.0,
        _ => (load * 10_000.0).round(),
    };
    v1::Heartbeat {
        sequence,
        wall_millis,
        load,
        values: Channel::ALL.iter().map(value).collect(),
        absent: Vec::new(),
        links: Vec::new(),
        coordinate: None,
        acknowledged_epoch: acknowledged.0,
        acknowledged_cycle: acknowledged.1,
        answers: Some(0),
        sent_millis: 0,
    }
}
