//! Parsers for values of the command line.

use std::{str::FromStr, time::Duration};

use wyneos_core::integrity::PublicKey;

const HEARTBEAT_MIN: Duration = Duration::from_millis(100);
const HEARTBEAT_MAX: Duration = Duration::from_secs(60);

/// The reason for which a value is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadValue {
    #[error("not a duration such as 500ms, 10s or 1m")]
    Span,
    #[error("a duration of zero")]
    NoSpan,
    #[error("not between 100ms and 60s")]
    Heartbeat,
    #[error("not KEY=VALUE")]
    Selector,
    #[error("neither KEY=VALUE, which sets a label, nor KEY-, which removes it")]
    Label,
    #[error("not 64 hexadecimal digits")]
    PublicKey,
}

/// A duration above zero.
pub(super) fn timeout(text: &str) -> Result<Duration, BadValue> {
    match humantime::parse_duration(text) {
        Ok(span) if span.is_zero() => Err(BadValue::NoSpan),
        Ok(span) => Ok(span),
        Err(_) => Err(BadValue::Span),
    }
}

/// A label selector.
pub(super) fn selector(text: &str) -> Result<String, BadValue> {
    match text.split_once('=') {
        Some((key, _)) if !key.is_empty() => Ok(text.to_owned()),
        _ => Err(BadValue::Selector),
    }
}

/// A public key in hexadecimal.
pub(super) fn public_key(text: &str) -> Result<PublicKey, BadValue> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() == 64).ok_or(BadValue::PublicKey)?;
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8);
    }
    Ok(PublicKey(key))
}

/// One change of a node's labels, in kubectl's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LabelChange {
    /// KEY=VALUE.
    Set(String, String),
    /// KEY-.
    Remove(String),
}

impl FromStr for LabelChange {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<LabelChange, BadValue> {
        if let Some((key, value)) = text.split_once('=') {
            return match key {
                "" => Err(BadValue::Label),
                key => Ok(LabelChange::Set(key.to_owned(), value.to_owned())),
            };
        }
        match text.strip_suffix('-') {
            Some(key) if !key.is_empty() => Ok(LabelChange::Remove(key.to_owned())),
            _ => Err(BadValue::Label),
        }
    }
}

/// A heartbeat interval; `None` for the cluster's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval(pub(crate) Option<Duration>);

impl FromStr for Interval {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Interval, BadValue> {
        if text == "default" {
            return Ok(Interval(None));
        }
        let span = humantime::parse_duration(text).map_err(|_| BadValue::Span)?;
        if !(HEARTBEAT_MIN..=HEARTBEAT_MAX).contains(&span) {
            return Err(BadValue::Heartbeat);
        }
        Ok(Interval(Some(span)))
    }
}
