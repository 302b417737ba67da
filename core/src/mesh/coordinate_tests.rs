//! Network coordinates in networks with known distances.

use std::time::Duration;

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::{Coordinate, DIMENSIONS, OBSERVERS};

/// Machines on a plane, milliseconds apart, each with its own access delay.
struct Plane {
    places: Vec<(f64, f64, f64)>,
}

impl Plane {
    fn new(rng: &mut Pcg64Mcg, nodes: usize) -> Plane {
        let place = |rng: &mut Pcg64Mcg| {
            let at = |rng: &mut Pcg64Mcg| rng.random_range(0.0..40.0);
            (at(rng), at(rng), rng.random_range(0.1..2.0))
        };
        Plane {
            places: (0..nodes).map(|_| place(rng)).collect(),
        }
    }

    fn rtt(&self, one: usize, other: usize) -> Duration {
        let (a, b) = (self.places[one], self.places[other]);
        let apart = ((a.0 - b.0).powi(2) + (a.1 - b.1).powi(2)).sqrt();
        Duration::from_secs_f64((apart + a.2 + b.2) / 1e3)
    }
}

#[test]
fn pairs_that_never_probed_one_another_are_told_to_within_a_tenth() {
    let mut rng = Pcg64Mcg::seed_from_u64(1);
    let nodes = 100;
    let plane = Plane::new(&mut rng, nodes);
    let targets: Vec<Vec<usize>> = (0..nodes)
        .map(|node| (0..OBSERVERS).map(|step| (node + 1 + step * 7) % nodes).collect())
        .collect();
    let mut places = vec![Coordinate::default(); nodes];
    for _second in 0..300 {
        for node in 0..nodes {
            for &target in &targets[node] {
                let jitter = rng.random_range(0.95..1.15);
                let (there, rtt) = (places[target], plane.rtt(node, target).mul_f64(jitter));
                places[node].update(&there, rtt, rng.random_range(0..DIMENSIONS));
            }
        }
    }
    let mut errors = Vec::new();
    for one in 0..nodes {
        for other in one + 1..nodes {
            if !targets[one].contains(&other) && !targets[other].contains(&one) {
                let truth = plane.rtt(one, other).as_secs_f64();
                let told = places[one].distance(&places[other]).as_secs_f64();
                errors.push((told - truth).abs() / truth);
            }
        }
    }
    errors.sort_unstable_by(f64::total_cmp);
    assert!(errors.len() > 3_000);
    let median = errors[errors.len() / 2];
    assert!(median < 0.1, "median error {median}");
}

proptest! {
    /// Every sequence of measurements and claimed coordinates leaves a valid coordinate.
    #[test]
    fn no_measurement_leads_out_of_range(
        steps in proptest::collection::vec((any::<[f64; DIMENSIONS]>(), any::<f64>(), any::<f64>(), any::<u64>(), any::<usize>()), 1..200)
    ) {
        let mut place = Coordinate::default();
        for (position, height, error, rtt, axis) in steps {
            if let Some(other) = Coordinate::new(position, height, error) {
                place.update(&other, Duration::from_nanos(rtt), axis);
            }
            place.update(&place.clone(), Duration::from_nanos(rtt), axis);
            prop_assert!(Coordinate::new(place.position, place.height, place.error) == Some(place));
        }
    }
}
