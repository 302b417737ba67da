use std::time::Duration;

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::*;
use crate::{id::Cycle, telemetry::Matrix, time::WallTime};

/// A single series.
#[derive(Clone, Debug, Default)]
struct Series {
    states: States<1>,
    made: [Made<1>; HORIZON],
    slot: usize,
}

impl Series {
    fn observe(&mut self, value: f32) {
        self.states.observe(&mut self.made[self.slot], &[value]);
        self.slot = (self.slot + 1) % HORIZON;
    }

    /// Returns the forecast and the skill of earlier ones; `None` with too little data.
    fn outlook(&self) -> Option<Outlook> {
        let outlooks = self.states.outlooks();
        (self.states.seen() > 0 && outlooks.warming == 0).then(|| outlooks.get(0))
    }

    fn cycles_to(&self, threshold: f32) -> Option<f32> {
        self.states.cycles_to(0, threshold)
    }
}

fn feed(values: impl IntoIterator<Item = f32>) -> Series {
    let mut series = Series::default();
    for value in values {
        series.observe(value);
    }
    series
}

#[test]
fn a_short_series_is_not_judged() {
    let enough = HORIZON + MEASURED_ENOUGH as usize;
    assert_eq!(feed((0..enough - 1).map(|at| at as f32)).outlook(), None);
    assert!(feed((0..enough).map(|at| at as f32)).outlook().is_some());
}

#[test]
fn a_trend_is_forecast_better_than_persistence() {
    let outlook = feed((0..300).map(|at| 0.001 * at as f32)).outlook().unwrap();
    assert!(outlook.skill > 0.5, "{outlook:?}");
    let truth = 0.001 * (299 + HORIZON) as f32;
    assert!((outlook.value - truth).abs() < 0.003, "{outlook:?}");
    assert!(outlook.low <= outlook.value && outlook.value <= outlook.high);
}

#[test]
fn a_random_walk_is_not_claimed_to_be_foreseen() {
    let mut rng = Pcg64Mcg::seed_from_u64(7);
    let mut value = 0.0;
    let walk = (0..2_000).map(|_| {
        value += rng.random_range(-1.0..1.0);
        value
    });
    let outlook = feed(walk.collect::<Vec<f32>>()).outlook().unwrap();
    assert!(outlook.skill <= 0.0, "{outlook:?}");
}

#[test]
fn a_constant_has_no_skill_to_show() {
    let outlook = feed([0.25; 200]).outlook().unwrap();
    assert_eq!(outlook.skill, 0.0);
}

#[test]
fn the_interval_keeps_its_coverage_whatever_the_noise() {
    let mut rng = Pcg64Mcg::seed_from_u64(11);
    let noises: [fn(&mut Pcg64Mcg) -> f32; 2] = [
        |rng| rng.random_range(-1.0..1.0),
        // Rare, large outliers.
        |rng| {
            if rng.random_range(0.0..1.0) < 0.05 {
                20.0
            } else {
                rng.random_range(-0.5..0.5)
            }
        },
    ];
    for noise in noises {
        let outlook = feed((0..5_000).map(|_| noise(&mut rng)).collect::<Vec<f32>>())
            .outlook()
            .unwrap();
        assert!((outlook.coverage - COVERAGE).abs() < 0.05, "{outlook:?}");
    }
}

#[test]
fn time_to_threshold_is_when_the_trend_gets_there() {
    let series = feed((0..400).map(|at| 0.5 + 0.001 * at as f32));
    // From 0.899, 0.051 remain: 51 steps undamped, somewhat more with damping.
    let cycles = series.cycles_to(0.95).unwrap();
    assert!((51.0..120.0).contains(&cycles), "{cycles}");
    assert_eq!(series.cycles_to(0.5), Some(0.0));
    assert_eq!(feed((0..400).map(|at| 1.0 - 0.001 * at as f32)).cycles_to(0.95), None);
}

#[test]
fn a_gap_starts_a_series_anew() {
    let (mut matrix, mut predictor) = (Matrix::new(2), Predictor::default());
    matrix.add(NodeIndex(0));
    let mut cycle = 0;
    let mut run = |matrix: &mut Matrix, value: Option<f32>| {
        cycle += 1;
        match value {
            Some(value) => matrix.record(NodeIndex(0), &[Some(Channel::DiskUsed)], &[value], &[]),
            None => matrix.silence(NodeIndex(0)),
        }
        let sample = matrix.sample(Cycle(cycle), WallTime(0));
        predictor.cycle(&sample, Duration::from_secs(6))
    };
    for at in 0..100 {
        run(&mut matrix, Some(0.8 + 0.001 * at as f32));
    }
    let Foreseen {
        forecasts, overview, ..
    } = run(&mut matrix, Some(0.9));
    assert_eq!((overview.published, overview.unskilled, overview.warming), (1, 0, 0));
    assert_eq!(forecasts.len(), 1);
    assert_eq!(overview.crossings.len(), 1, "{forecasts:?}");
    let overview = run(&mut matrix, None).overview;
    assert_eq!((overview.published, overview.unskilled, overview.warming), (0, 0, 0));
    let overview = run(&mut matrix, Some(0.9)).overview;
    assert_eq!((overview.published, overview.warming), (0, 1));
}

/// Forecasts of individual series, computed separately.
fn by_itself(series: &mut [Series], sample: &Sample) -> Vec<(usize, Outlook)> {
    let mut published = Vec::new();
    for (at, (series, &value)) in series.iter_mut().zip(sample.values()).enumerate() {
        series.observe(value);
        published.extend(
            series
                .outlook()
                .filter(|outlook| outlook.skill > 0.0)
                .map(|outlook| (at, outlook)),
        );
    }
    published
}

proptest! {
    /// A predictor, which stores its forecasts by cycle, yields the same results as individual series, whatever gaps
    /// they have.
    #[test]
    fn a_predictor_is_its_series(steps in prop::collection::vec((0..3u32, prop::option::weighted(0.97, -0.1f32..0.2)), 100..400)) {
        let (mut matrix, mut predictor) = (Matrix::new(2), Predictor::default());
        let mut series = vec![Series::default(); 3 * Channel::COUNT];
        matrix.add(NodeIndex(2));
        let mut level = [0.0; 3];
        for (cycle, (node, step)) in steps.into_iter().enumerate() {
            match step {
                Some(step) => {
                    level[node as usize] += step;
                    let value = [level[node as usize]];
                    matrix.record(NodeIndex(node), &[Some(Channel::DiskUsed)], &value, &[]);
                }
                None => matrix.silence(NodeIndex(node)),
            }
            let sample = matrix.sample(Cycle(cycle as u64), WallTime(0));
            let told = predictor.cycle(&sample, Duration::from_secs(6));
            let told = told.forecasts.iter().map(|forecast| {
                (forecast.node.get() * Channel::COUNT + forecast.channel.column(), forecast.outlook)
            });
            prop_assert_eq!(told.collect::<Vec<_>>(), by_itself(&mut series, &sample));
        }
    }

    /// Any finite values produce an outlook within range.
    #[test]
    fn nothing_breaks_an_outlook(values in prop::collection::vec(-1e12f32..1e12, 0..300)) {
        if let Some(outlook) = feed(values).outlook() {
            prop_assert!(outlook.skill <= 1.0);
            prop_assert!((0.0..=1.0).contains(&outlook.coverage));
            prop_assert!(outlook.low <= outlook.high);
        }
    }
}
