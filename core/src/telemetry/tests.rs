use proptest::prelude::*;

use super::*;
use crate::{id::Cycle, node::NodeIndex, time::WallTime};

fn channels() -> Vec<Option<Channel>> {
    Channel::ALL.into_iter().map(Some).collect()
}

#[test]
fn names_are_unique_and_found_again() {
    for channel in Channel::ALL {
        assert_eq!(Channel::from_name(channel.name()), Some(channel));
        assert_eq!(Channel::ALL[channel.column()], channel);
        assert!(!channel.description().is_empty());
    }
    assert_eq!(Channel::from_name("no.such"), None);
}

#[test]
fn load_is_the_scarcest_resource() {
    let mut reading = [None; Channel::COUNT];
    assert_eq!(load(&reading), 0.0);
    reading[Channel::CpuUsed.column()] = Some(0.25);
    reading[Channel::MemoryUsed.column()] = Some(0.75);
    assert_eq!(load(&reading), 0.75);
    reading[Channel::LoadPerCore.column()] = Some(8.0);
    assert_eq!(load(&reading), 1.0);
    reading[Channel::LoadPerCore.column()] = Some(1.0);
    reading[Channel::MemoryUsed.column()] = Some(-3.0);
    assert_eq!(load(&reading), 0.5);
}

#[test]
fn a_heartbeat_replaces_the_whole_row() {
    let mut matrix = Matrix::new(3);
    let node = NodeIndex(1);
    matrix.add(node);
    matrix.record(node, &channels(), &[0.5; Channel::COUNT], &[0, 3]);
    let reading = matrix.reading(node);
    assert_eq!(reading[0], None);
    assert_eq!(reading[1], Some(0.5));
    assert_eq!(reading[3], None);
    matrix.record(node, &[None, Some(Channel::CpuUsed)], &[9.0, 0.25], &[]);
    let reading = matrix.reading(node);
    assert_eq!(reading[Channel::CpuUsed.column()], Some(0.25));
    assert_eq!(reading.iter().flatten().count(), 1);
    assert_eq!(matrix.received(), Channel::COUNT as u64 - 2 + 2);
}

#[test]
fn history_is_bounded_and_samples_never_change() {
    let mut matrix = Matrix::new(2);
    let node = NodeIndex(0);
    matrix.add(node);
    for cycle in 1..=3 {
        matrix.record(node, &[Some(Channel::Processes)], &[cycle as f32], &[]);
        matrix.sample(Cycle(cycle), WallTime(0));
    }
    let kept: Vec<_> = matrix
        .history()
        .iter()
        .map(|s| (s.cycle, s.get(node, Channel::Processes)))
        .collect();
    assert_eq!(kept, [(Cycle(2), Some(2.0)), (Cycle(3), Some(3.0))]);
    assert_eq!(matrix.back(1).map(|sample| sample.cycle), Some(Cycle(2)));
    assert_eq!(matrix.back(2), None);
    // A node that joined later has no value in an older sample.
    matrix.add(NodeIndex(5));
    assert_eq!(
        matrix
            .back(0)
            .and_then(|sample| sample.get(NodeIndex(5), Channel::Processes)),
        None
    );
    matrix.silence(node);
    assert!(matrix.reading(node).iter().all(Option::is_none));
}

proptest! {
    /// The statistics against their definitions, on sorted values.
    #[test]
    fn statistics_are_what_they_are_defined_as(values in prop::collection::vec(-1e6f32..1e6, 1..200)) {
        let mut matrix = Matrix::new(1);
        for (at, value) in values.iter().enumerate() {
            matrix.add(NodeIndex(at as u32));
            matrix.record(NodeIndex(at as u32), &[Some(Channel::DiskRead)], &[*value], &[]);
        }
        let sample = matrix.sample(Cycle(1), WallTime(0));
        let found = statistics(&sample, &mut Vec::new());
        let read = found[Channel::DiskRead.column()];
        let mut sorted = values.clone();
        sorted.sort_by(f32::total_cmp);
        let rank = |share: f64| sorted[((share * sorted.len() as f64).ceil() as usize).max(1) - 1];
        prop_assert_eq!(read.count as usize, values.len());
        prop_assert_eq!(read.min, sorted[0]);
        prop_assert_eq!(read.max, sorted[sorted.len() - 1]);
        prop_assert_eq!(read.p50, rank(0.5));
        prop_assert_eq!(read.p95, rank(0.95));
        prop_assert!(read.min <= read.mean && read.mean <= read.max);
        prop_assert_eq!(found[Channel::CpuUsed.column()].count, 0);
    }
}
