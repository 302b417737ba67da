//! Medians and percentiles of small samples.

/// Returns the value below which a share `q` of `values` lies (nearest rank); NaN for an empty sample.
pub(crate) fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// Returns the median; for an even number of values, the mean of the two middle ones.
pub(crate) fn median(values: &[f64]) -> f64 {
    let upper = -quantile(&values.iter().map(|value| -value).collect::<Vec<_>>(), 0.5);
    (quantile(values, 0.5) + upper) / 2.0
}
