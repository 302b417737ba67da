//! Times and durations.

use std::time::Duration;

use wyneos_core::time::WallTime;

use super::ConvertError;

/// Converts a wall-clock time for the wire.
pub fn timestamp(time: WallTime) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.0.div_euclid(1000),
        nanos: (time.0.rem_euclid(1000) * 1_000_000) as i32,
    }
}

/// Converts a wall-clock time from the wire; 0001-01-01 to 9999-12-31.
pub fn timestamp_in(field: &str, time: &prost_types::Timestamp) -> Result<WallTime, ConvertError> {
    let in_range =
        (-62_135_596_800..=253_402_300_799).contains(&time.seconds) && (0..1_000_000_000).contains(&time.nanos);
    if !in_range {
        return Err(ConvertError::new(field, "not a time between the years 1 and 9999"));
    }
    Ok(WallTime(time.seconds * 1000 + i64::from(time.nanos) / 1_000_000))
}

/// Converts a duration for the wire, limited to its maximum of 10,000 years.
pub fn duration(span: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX).min(315_576_000_000),
        nanos: span.subsec_nanos() as i32,
    }
}

/// Converts a duration from the wire; 0 to 10,000 years.
pub fn duration_in(field: &str, span: &prost_types::Duration) -> Result<Duration, ConvertError> {
    let (seconds, nanos) = (u64::try_from(span.seconds), u32::try_from(span.nanos));
    match (seconds, nanos) {
        (Ok(seconds), Ok(nanos)) if seconds <= 315_576_000_000 && nanos < 1_000_000_000 => {
            Ok(Duration::new(seconds, nanos))
        }
        _ => Err(ConvertError::new(field, "not a span between 0 and 10,000 years")),
    }
}
