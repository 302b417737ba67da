//! Checks shared by several messages.

use wyneos_core::{id::Uuid, limits, node::Labels, text};

use super::ConvertError;
use crate::v1;

/// Validates a text of at most `most` bytes without control characters.
pub(super) fn text(field: &str, text: String, most: usize) -> Result<String, ConvertError> {
    if text.len() > most {
        return Err(ConvertError::new(
            field,
            format!("{} bytes; at most {most}", text.len()),
        ));
    }
    if text.chars().any(text::is_hidden) {
        return Err(ConvertError::new(
            field,
            "has a control character, or one that is not shown",
        ));
    }
    Ok(text)
}

/// Prepares a name for a lookup among names of at most `most` bytes. A longer name, or one with control characters, is
/// not an error; it matches nothing.
pub(super) fn lookup(field: &str, name: String, most: usize, remedy: &str) -> Result<String, ConvertError> {
    if name.is_empty() {
        return Err(ConvertError::new(field, format!("missing: give {remedy}")));
    }
    Ok(text::looked_up(name, most))
}

pub(super) fn uuid(field: &str, text: &str) -> Result<Uuid, ConvertError> {
    text.parse()
        .map_err(|bad: wyneos_core::id::BadUuid| ConvertError::new(field, bad.to_string()))
}

pub(super) fn digest(field: &str, bytes: &[u8]) -> Result<[u8; 32], ConvertError> {
    bytes
        .try_into()
        .map_err(|_| ConvertError::new(field, format!("{} bytes; a BLAKE3 digest has 32", bytes.len())))
}

pub(super) fn require<T>(field: &str, message: Option<T>) -> Result<T, ConvertError> {
    message.ok_or_else(|| ConvertError::new(field, "missing"))
}

pub(super) fn range<T: PartialOrd + std::fmt::Display + Copy>(
    field: &str,
    value: T,
    least: T,
    most: T,
) -> Result<T, ConvertError> {
    if value < least || value > most {
        return Err(ConvertError::new(
            field,
            format!("{value} is not between {least} and {most}"),
        ));
    }
    Ok(value)
}

pub(super) fn at_most(field: &str, count: usize, most: usize) -> Result<(), ConvertError> {
    if count > most {
        return Err(ConvertError::new(field, format!("{count} entries; at most {most}")));
    }
    Ok(())
}

pub(super) fn label_key(field: &str, key: &str) -> Result<(), ConvertError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    if key.is_empty() || key.len() > limits::LABEL_KEY || !key.bytes().all(fits) {
        let reason = format!(
            "1 to {} characters of a-z, A-Z, 0-9, '.', '_', '-' and '/'",
            limits::LABEL_KEY
        );
        return Err(ConvertError::new(field, reason));
    }
    Ok(())
}

pub(super) fn labels(field: &str, labels: Vec<v1::Label>) -> Result<Labels, ConvertError> {
    at_most(field, labels.len(), limits::LABELS)?;
    let mut checked = Labels::new();
    for (at, label) in labels.into_iter().enumerate() {
        label_key(&format!("{field}[{at}].key"), &label.key)?;
        let value = text(&format!("{field}[{at}].value"), label.value, limits::LABEL_VALUE)
            .map_err(|error| ConvertError::new(error.field, format!("of {:?}: {}", label.key, error.reason)))?;
        if checked.insert(label.key, value).is_some() {
            return Err(ConvertError::new(
                format!("{field}[{at}].key"),
                "stands twice in the list",
            ));
        }
    }
    Ok(checked)
}

/// Validates an address: empty, or host:port.
pub(super) fn address(field: &str, address: String) -> Result<String, ConvertError> {
    let address = text(field, address, limits::ADDRESS)?;
    let well_formed = || {
        let (host, port) = address.rsplit_once(':')?;
        (!host.is_empty() && !host.contains([' ', '/', '@'])).then_some(())?;
        port.parse::<u16>().ok().filter(|port| *port > 0)
    };
    if !address.is_empty() && well_formed().is_none() {
        return Err(ConvertError::new(field, "not host:port"));
    }
    Ok(address)
}
