//! Forecasts of `N` series in parallel: damped trend, with an interval that maintains its coverage.
//!
//! Every series follows the same formulas independently. Loops over series are branch-free, so that compilers can
//! vectorize them.
//!
//! Level and trend: Gardner & McKenzie, "Forecasting trends in time series" (1985), additive damped trend: `lₜ = α·yₜ +
//! (1−α)(lₜ₋₁ + φ·bₜ₋₁)`, `bₜ = β(lₜ − lₜ₋₁) + (1−β)φ·bₜ₋₁`, `ŷₜ₊ₕ = lₜ + (φ + φ² + … + φʰ)·bₜ`.
//!
//! Interval: the half-width follows the 80% quantile of the absolute error by stochastic gradient, as in adaptive
//! conformal inference (Gibbs & Candès 2021), so that its long-run coverage is 80% whatever the distribution of errors.

/// Weight of the newest value in the level.
const ALPHA: f32 = 0.4;
/// Weight of the newest step in the trend.
const BETA: f32 = 0.1;
/// Damping of the trend per cycle: half of it remains after 138 cycles. It is closer to 1 than usual, since a step
/// takes seconds and a disk fills for hours; a trend can change the level by at most 199 of its steps.
const PHI: f32 = 0.995;
/// Forecast horizon in cycles, at which skill is measured.
pub const HORIZON: usize = 10;
/// Number of evaluated forecasts before a series is judged.
pub const MEASURED_ENOUGH: u32 = 20;
/// Intended fraction of values within the interval.
pub const COVERAGE: f32 = 0.8;

/// Decay of an evaluated error per cycle: half of its weight remains after 693 cycles.
const MEMORY: f32 = 0.999;
/// Step of the half-width, as a fraction of the mean absolute error.
const QUANTILE_STEP: f32 = 0.1;

/// `φ + φ² + … + φʰ`.
fn damping(steps: f32) -> f32 {
    PHI * (1.0 - PHI.powf(steps)) / (1.0 - PHI)
}

/// Forecasts, retained until the actual values are known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Made<const N: usize> {
    value: [f32; N],
    half_width: [f32; N],
    /// The value at the time of the forecast, which is the forecast by persistence.
    naive: [f32; N],
}

impl<const N: usize> Default for Made<N> {
    fn default() -> Made<N> {
        let zero = [0.0; N];
        Made {
            value: zero,
            half_width: zero,
            naive: zero,
        }
    }
}

/// State of `N` series. Forecasts are stored separately: a cycle reads and writes one of [`HORIZON`] lists.
#[derive(Clone, Copy, Debug)]
pub(super) struct States<const N: usize> {
    level: [f32; N],
    trend: [f32; N],
    half_width: [f32; N],
    absolute_error: [f32; N],
    model_error: [f32; N],
    naive_error: [f32; N],
    hits: [f32; N],
    weight: [f32; N],
    measured: [u32; N],
    seen: [u32; N],
}

impl<const N: usize> Default for States<N> {
    fn default() -> States<N> {
        let (zero, none) = ([0.0; N], [0; N]);
        States {
            level: zero,
            trend: zero,
            half_width: zero,
            absolute_error: zero,
            model_error: zero,
            naive_error: zero,
            hits: zero,
            weight: zero,
            measured: none,
            seen: none,
        }
    }
}

/// A forecast, and the skill of earlier ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlook {
    /// Predicted value [`HORIZON`] cycles ahead.
    pub value: f32,
    /// Lower bound of the 80% interval.
    pub low: f32,
    /// Upper bound of the 80% interval.
    pub high: f32,
    /// 1 − the model's mean squared error ÷ that of persistence, at the horizon.
    pub skill: f32,
    /// Fraction of past values within their interval.
    pub coverage: f32,
    /// Number of evaluated forecasts.
    pub measured: u32,
}

/// Skill of `N` series, and the forecasts of those with any.
pub(super) struct Outlooks<'a, const N: usize> {
    states: &'a States<N>,
    skill: [f32; N],
    /// Bit mask of the series with too little data to judge.
    pub(super) warming: u32,
    /// Bit mask of the series with skill above zero.
    pub(super) skilled: u32,
}

/// Returns the number of trend steps by which `HORIZON` cycles change the level.
fn ahead() -> f32 {
    damping(HORIZON as f32)
}

impl<const N: usize> States<N> {
    /// Processes the next value of each series; NaN for no value, which restarts the series. `made` holds the forecasts
    /// from [`HORIZON`] cycles ago, and is overwritten with the current ones.
    pub(super) fn observe(&mut self, made: &mut Made<N>, values: &[f32; N]) {
        let ahead = ahead();
        #[expect(clippy::needless_range_loop, reason = "one index into many arrays")]
        for at in 0..N {
            let value = values[at];
            let (is_gap, seen) = (value.is_nan(), self.seen[at]);
            // Evaluation of the forecast for this value.
            let is_measured = seen >= HORIZON as u32;
            let error = (value - made.value[at]).abs();
            let naive = value - made.naive[at];
            let weight = self.weight[at] * MEMORY + 1.0;
            let absolute_error = self.absolute_error[at] * MEMORY + error;
            let hit = if error <= made.half_width[at] { 1.0 } else { 0.0 };
            let step = QUANTILE_STEP * absolute_error / weight;
            // Grows if the value was outside, shrinks if it was inside; in equilibrium if 80% are inside.
            let is_outside = error > self.half_width[at];
            let pull = if is_outside { COVERAGE } else { COVERAGE - 1.0 };
            let followed = (self.half_width[at] + step * pull).max(0.0);
            let half_width = if self.measured[at] == 0 { error } else { followed };
            // Update of the series.
            let before = self.level[at];
            let level = ALPHA * value + (1.0 - ALPHA) * (before + PHI * self.trend[at]);
            let trend = BETA * (level - before) + (1.0 - BETA) * PHI * self.trend[at];
            let is_first = seen == 0;

            let keep = |old: f32, new: f32| {
                if is_gap {
                    0.0
                } else if is_measured {
                    new
                } else {
                    old
                }
            };
            self.weight[at] = keep(self.weight[at], weight);
            self.model_error[at] = keep(self.model_error[at], self.model_error[at] * MEMORY + error * error);
            self.naive_error[at] = keep(self.naive_error[at], self.naive_error[at] * MEMORY + naive * naive);
            self.absolute_error[at] = keep(self.absolute_error[at], absolute_error);
            self.hits[at] = keep(self.hits[at], self.hits[at] * MEMORY + hit);
            self.half_width[at] = keep(self.half_width[at], half_width);
            let measured = self.measured[at].saturating_add(u32::from(is_measured));
            self.measured[at] = if is_gap { 0 } else { measured };
            let level = if is_first { value } else { level };
            let trend = if is_first { self.trend[at] } else { trend };
            self.level[at] = if is_gap { 0.0 } else { level };
            self.trend[at] = if is_gap { 0.0 } else { trend };
            self.seen[at] = if is_gap { 0 } else { seen.saturating_add(1) };
            made.value[at] = self.level[at] + ahead * self.trend[at];
            made.half_width[at] = self.half_width[at];
            made.naive[at] = value;
        }
    }

    /// Evaluates the series with at least one value.
    pub(super) fn outlooks(&self) -> Outlooks<'_, N> {
        let mut skill = [0.0; N];
        for (at, skill) in skill.iter_mut().enumerate() {
            let (model, naive) = (self.model_error[at], self.naive_error[at]);
            *skill = if naive > 0.0 { 1.0 - model / naive } else { 0.0 };
        }
        let (mut warming, mut skilled) = (0, 0);
        for (at, &skill) in skill.iter().enumerate() {
            let is_judged = self.measured[at] >= MEASURED_ENOUGH;
            warming |= u32::from(self.seen[at] > 0 && !is_judged) << at;
            skilled |= u32::from(is_judged && skill > 0.0) << at;
        }
        Outlooks {
            states: self,
            skill,
            warming,
            skilled,
        }
    }

    /// Returns the number of cycles until the expected value of a series reaches `threshold` from below: 0 if it has
    /// reached it, `None` if it never does.
    pub(super) fn cycles_to(&self, at: usize, threshold: f32) -> Option<f32> {
        let missing = threshold - self.level[at];
        if missing <= 0.0 {
            return Some(0.0);
        }
        // level + damping(h)·trend = threshold, solved for h.
        let left = 1.0 - missing * (1.0 - PHI) / (PHI * self.trend[at]);
        (self.trend[at] > 0.0 && left > 0.0).then(|| left.ln() / PHI.ln())
    }

    /// Returns the number of series with at least one value.
    pub(super) fn seen(&self) -> u32 {
        self.seen.iter().map(|&seen| u32::from(seen > 0)).sum()
    }
}

impl<const N: usize> Outlooks<'_, N> {
    /// Returns the forecast of a series.
    pub(super) fn get(&self, at: usize) -> Outlook {
        let states = self.states;
        let value = states.level[at] + ahead() * states.trend[at];
        let half_width = states.half_width[at];
        Outlook {
            value,
            low: value - half_width,
            high: value + half_width,
            skill: self.skill[at],
            coverage: states.hits[at] / states.weight[at],
            measured: states.measured[at],
        }
    }
}
