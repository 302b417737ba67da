//! Medians and percentiles of few values.

/// The value below which a share `q` of `values` lies (nearest rank); NaN when there is none.
pub(crate) fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// The middle value; of two, the mean.
pub(crate) fn median(values: &[f64]) -> f64 {
    let upper = -quantile(&values.iter().map(|value| -value).collect::<Vec<_>>(), 0.5);
    (quantile(values, 0.5) + upper) / 2.0
}
