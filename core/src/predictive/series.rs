//! One series' forecast: damped trend, with an interval that keeps its coverage.
//!
//! Level and trend: Gardner & McKenzie, "Forecasting trends in time series" (1985), additive damped trend:
//! `lₜ = α·yₜ + (1−α)(lₜ₋₁ + φ·bₜ₋₁)`, `bₜ = β(lₜ − lₜ₋₁) + (1−β)φ·bₜ₋₁`, `ŷₜ₊ₕ = lₜ + (φ + φ² + … + φʰ)·bₜ`.
//!
//! Interval: the half-width follows the 80% quantile of the absolute error by stochastic gradient, as in adaptive conformal
//! inference (Gibbs & Candès 2021), so that its long-run coverage is 80% whatever the errors' distribution.

/// Weight of the newest value in the level.
const ALPHA: f32 = 0.4;
/// Weight of the newest step in the trend.
const BETA: f32 = 0.1;
/// How much of the trend is left a cycle later: half of it after 138 cycles. Nearer to 1 than is usual, since a step is
/// seconds and a disk fills for hours; a trend can carry the level by 199 of its steps at most.
const PHI: f32 = 0.995;
/// Cycles ahead that are forecast, and on which skill is measured.
pub const HORIZON: usize = 10;
/// Forecasts measured before a series is judged.
pub const MEASURED_ENOUGH: u32 = 20;
/// Share of values meant to fall into the interval.
pub const COVERAGE: f32 = 0.8;

/// Weight that a measured error keeps a cycle later: half of it is left after 693 cycles.
const MEMORY: f32 = 0.999;
/// Step of the half-width, in shares of the mean absolute error.
const QUANTILE_STEP: f32 = 0.1;

/// `φ + φ² + … + φʰ`.
fn damping(steps: f32) -> f32 {
    PHI * (1.0 - PHI.powf(steps)) / (1.0 - PHI)
}

/// A forecast that was made, until what it forecast is there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Made {
    value: f32,
    half_width: f32,
    /// The value when it was made: what persistence forecasts.
    naive: f32,
}

/// What a series has learnt. The forecasts that it made are kept apart: a cycle reads and writes one of [`HORIZON`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct State {
    level: f32,
    trend: f32,
    half_width: f32,
    absolute_error: f32,
    model_error: f32,
    naive_error: f32,
    hits: f32,
    weight: f32,
    measured: u32,
    seen: u32,
}

/// One series by itself; fixed size.
#[derive(Clone, Debug, Default)]
pub struct Series {
    state: State,
    made: [Made; HORIZON],
    /// Which of them is the oldest.
    slot: usize,
}

/// What a series says of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlook {
    /// Expected value [`HORIZON`] cycles ahead.
    pub value: f32,
    /// Lower end of the 80% interval.
    pub low: f32,
    /// Upper end of the 80% interval.
    pub high: f32,
    /// 1 − model's mean squared error ÷ persistence's, at the horizon.
    pub skill: f32,
    /// Share of past values that fell into their interval.
    pub coverage: f32,
    /// Forecasts measured.
    pub measured: u32,
}

impl Series {
    /// Takes the next value, one a cycle. A gap starts the series anew: see [`Series::reset`].
    pub fn observe(&mut self, value: f32) {
        self.state.observe(&mut self.made[self.slot], value);
        self.slot = (self.slot + 1) % HORIZON;
    }

    /// Forgets everything: the values had a gap.
    pub fn reset(&mut self) {
        self.state.reset();
    }

    /// True when it saw nothing.
    pub fn is_empty(&self) -> bool {
        self.state.seen == 0
    }

    /// Its forecast and how good those before were; `None` with too little data to judge.
    pub fn outlook(&self) -> Option<Outlook> {
        self.state.outlook()
    }

    /// Cycles until the expected value reaches `threshold` from below: 0 when it is there, `None` when it never does.
    pub fn cycles_to(&self, threshold: f32) -> Option<f32> {
        self.state.cycles_to(threshold)
    }
}

impl State {
    /// Takes the next value. `made` is what was forecast [`HORIZON`] cycles ago, and becomes what is forecast now.
    pub(super) fn observe(&mut self, made: &mut Made, value: f32) {
        if self.seen >= HORIZON as u32 {
            self.measure(*made, value);
        }
        if self.seen == 0 {
            self.level = value;
        } else {
            let before = self.level;
            self.level = ALPHA * value + (1.0 - ALPHA) * (before + PHI * self.trend);
            self.trend = BETA * (self.level - before) + (1.0 - BETA) * PHI * self.trend;
        }
        *made = Made {
            value: self.ahead(),
            half_width: self.half_width,
            naive: value,
        };
        self.seen = self.seen.saturating_add(1);
    }

    fn measure(&mut self, made: Made, value: f32) {
        let error = (value - made.value).abs();
        let naive = value - made.naive;
        self.weight = self.weight * MEMORY + 1.0;
        self.model_error = self.model_error * MEMORY + error * error;
        self.naive_error = self.naive_error * MEMORY + naive * naive;
        self.absolute_error = self.absolute_error * MEMORY + error;
        let hit = error <= made.half_width;
        self.hits = self.hits * MEMORY + if hit { 1.0 } else { 0.0 };
        let step = QUANTILE_STEP * self.absolute_error / self.weight;
        // Upwards when a value fell outside, downwards when inside; in balance when 80% fall inside.
        let pull = if error > self.half_width {
            COVERAGE
        } else {
            COVERAGE - 1.0
        };
        self.half_width = if self.measured == 0 {
            error
        } else {
            (self.half_width + step * pull).max(0.0)
        };
        self.measured = self.measured.saturating_add(1);
    }

    /// Forgets everything: the values had a gap.
    pub(super) fn reset(&mut self) {
        if self.seen > 0 {
            *self = State::default();
        }
    }

    fn ahead(&self) -> f32 {
        self.level + damping(HORIZON as f32) * self.trend
    }

    /// Its forecast and how good those before were; `None` with too little data to judge.
    pub(super) fn outlook(&self) -> Option<Outlook> {
        if self.measured < MEASURED_ENOUGH {
            return None;
        }
        let skill = if self.naive_error > 0.0 {
            1.0 - self.model_error / self.naive_error
        } else {
            0.0
        };
        let value = self.ahead();
        let coverage = self.hits / self.weight;
        let (low, high) = (value - self.half_width, value + self.half_width);
        Some(Outlook {
            value,
            low,
            high,
            skill,
            coverage,
            measured: self.measured,
        })
    }

    /// Cycles until the expected value reaches `threshold` from below: 0 when it is there, `None` when it never does.
    pub(super) fn cycles_to(&self, threshold: f32) -> Option<f32> {
        let missing = threshold - self.level;
        if missing <= 0.0 {
            return Some(0.0);
        }
        // level + damping(h)·trend = threshold, solved for h.
        let left = 1.0 - missing * (1.0 - PHI) / (PHI * self.trend);
        (self.trend > 0.0 && left > 0.0).then(|| left.ln() / PHI.ln())
    }
}
