//! Durations in scenario files.

use std::time::Duration;

use serde::Deserialize;

/// Maximum duration of a scenario: a week.
pub(crate) const MAX_DURATION: Duration = Duration::from_secs(7 * 24 * 3600);

/// Deserializes a duration such as `6s`, `500ms`, `1m 30s`.
pub(crate) fn span<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let span = humantime::parse_duration(&text)
        .map_err(|error| serde::de::Error::custom(format!("{text:?} is no span of time such as \"6s\": {error}")))?;
    if span > MAX_DURATION {
        return Err(serde::de::Error::custom(format!("{text:?} is longer than a week")));
    }
    Ok(span)
}

pub(crate) fn some_span<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    span(deserializer).map(Some)
}
