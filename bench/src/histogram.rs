//! Percentiles from the coordinator's histograms.

/// Cumulative counts by upper bound, as in `/metrics`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buckets(Vec<(f64, f64)>);

impl Buckets {
    /// Reads the histogram `name` from the text in `metrics`.
    pub(crate) fn read(metrics: &str, name: &str) -> Buckets {
        let bucket = |line: &str| {
            let rest = line.strip_prefix(name)?.strip_prefix("_bucket{le=\"")?;
            let (bound, count) = rest.split_once("\"}")?;
            let bound = if bound == "+Inf" {
                f64::INFINITY
            } else {
                bound.parse().ok()?
            };
            Some((bound, count.split_whitespace().next()?.parse().ok()?))
        };
        Buckets(metrics.lines().filter_map(bucket).collect())
    }

    /// Returns the counts accumulated since `earlier`.
    pub(crate) fn since(&self, earlier: &Buckets) -> Buckets {
        let before = |at: usize| earlier.0.get(at).map_or(0.0, |(_, count)| *count);
        let counts = self.0.iter().enumerate();
        Buckets(
            counts
                .map(|(at, &(bound, count))| (bound, count - before(at)))
                .collect(),
        )
    }

    /// Returns the sum of this histogram and `other`.
    pub(crate) fn with(&self, other: &Buckets) -> Buckets {
        let theirs = |at: usize| other.0.get(at).map_or(0.0, |(_, count)| *count);
        let counts = self.0.iter().enumerate();
        Buckets(
            counts
                .map(|(at, &(bound, count))| (bound, count + theirs(at)))
                .collect(),
        )
    }

    /// Returns the number of values.
    pub(crate) fn count(&self) -> f64 {
        self.0.last().map_or(0.0, |(_, count)| *count)
    }

    /// Returns the value below which a share `q` of the values lies, interpolated linearly within its bucket. The error
    /// is at most the width of the bucket; bucket bounds grow by a factor of two.
    pub(crate) fn quantile(&self, q: f64) -> f64 {
        let rank = q * self.count();
        let mut below = (0.0, 0.0);
        for &(bound, count) in &self.0 {
            if count >= rank && count > 0.0 {
                if bound.is_infinite() {
                    return below.0;
                }
                let share = (rank - below.1) / (count - below.1);
                return below.0 + (bound - below.0) * share;
            }
            below = (bound, count);
        }
        f64::NAN
    }
}
