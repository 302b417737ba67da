//! Values hidden from display.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

/// The value of an environment variable. It is stored and sent to the node that runs the program; formatting shows
/// [`Secret::HIDDEN`] instead.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Placeholder shown instead of the value.
    pub const HIDDEN: &str = "(hidden)";

    /// The plain value, for the program, the store, and callers authorized to see it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Secret {
        Secret(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Secret::HIDDEN)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        // The deserializer's own error would repeat the value.
        let value =
            String::deserialize(deserializer).map_err(|_| de::Error::custom("the value of a variable is text"))?;
        Ok(Secret(value))
    }
}
