//! Times, spans, sizes and digests.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost_types::{Duration as Span, Timestamp};
use wyneos::convert;

/// The text for a missing value.
pub(crate) const NONE: &str = "-";

/// A duration for people: `420ms`, `42s`, `3m12s`, `5h3m`, `2d7h`.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 if span.is_zero() => "0s".to_owned(),
        0 => format!("{}ms", span.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// A duration of the protocol; an invalid one counts as missing.
fn std_duration(span: Option<&Span>) -> Option<Duration> {
    convert::duration_in("", span?).ok()
}

/// A duration of the protocol for people; a negative one has a minus sign.
pub(crate) fn span_of(wire: Option<&Span>) -> String {
    let Some(wire) = wire else {
        return NONE.to_owned();
    };
    let negative = wire.seconds < 0 || wire.nanos < 0;
    let positive = Span {
        seconds: wire.seconds.saturating_abs(),
        nanos: wire.nanos.saturating_abs(),
    };
    let text = std_duration(Some(&positive)).map_or_else(|| NONE.to_owned(), span);
    if negative { format!("-{text}") } else { text }
}

/// A time of the protocol. A time that is unset, invalid or before 1970 counts as missing: an unknown time is 0.
fn system_time(time: Option<&Timestamp>) -> Option<SystemTime> {
    let millis = convert::timestamp_in("", time?).ok()?.0;
    let millis = u64::try_from(millis).ok().filter(|millis| *millis > 0)?;
    UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}

/// A time in full, in UTC.
pub(crate) fn timestamp(time: Option<&Timestamp>) -> String {
    system_time(time).map_or_else(
        || NONE.to_owned(),
        |time| humantime::format_rfc3339_millis(time).to_string(),
    )
}

/// The time of day, in UTC.
pub(crate) fn time_of_day(time: Option<&Timestamp>) -> String {
    let full = timestamp(time);
    full.get(11..23).map_or(full.clone(), str::to_owned)
}

/// This machine's clock.
fn now() -> SystemTime {
    #[cfg(test)]
    if let Some(now) = super::fixed::now() {
        return now;
    }
    SystemTime::now()
}

/// Age of a time, by this machine's clock. Clocks differ: a time in the future counts as now.
pub(crate) fn age(time: Option<&Timestamp>) -> String {
    system_time(time).map_or_else(
        || NONE.to_owned(),
        |time| span(now().duration_since(time).unwrap_or_default()),
    )
}

/// The same with "ago", if there is an age.
pub(crate) fn ago(time: Option<&Timestamp>) -> String {
    match age(time).as_str() {
        NONE => NONE.to_owned(),
        age => format!("{age} ago"),
    }
}

/// "for" and the duration of a state, to follow its name; nothing if that is not known.
pub(crate) fn for_so_long(since: Option<&Timestamp>) -> String {
    match age(since).as_str() {
        NONE => String::new(),
        age => format!(" for {age}"),
    }
}

/// Bytes in binary units.
pub(crate) fn bytes(number: f64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut number, mut unit) = (number, 0);
    while number.abs() >= 1024.0 && unit + 1 < UNITS.len() {
        number /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{number:.0} {}", UNITS[unit])
    } else {
        format!("{number:.1} {}", UNITS[unit])
    }
}

/// A channel's value in its unit.
pub(crate) fn value(value: f32, unit: &str) -> String {
    match unit {
        "ratio" => format!("{:.1}%", f64::from(value) * 100.0),
        "bytes/s" => format!("{}/s", bytes(f64::from(value))),
        "bytes" => bytes(f64::from(value)),
        _ => {
            let text = format!("{value:.2}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The beginning of an id or a digest, long enough to distinguish it.
pub(crate) fn short(text: &str) -> String {
    super::clean(&text.chars().take(8).collect::<String>())
}
