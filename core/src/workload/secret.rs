//! Values that are not shown.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

/// The value of an environment variable. It is stored, and handed to the node that runs it; what formats it shows
/// [`Secret::HIDDEN`] instead.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Stands in the place of a value that is not shown.
    pub const HIDDEN: &str = "(hidden)";

    /// The value: for the program, for the store, and for callers whose role sees it.
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
        // The deserializer's own error repeats what it found.
        let value =
            String::deserialize(deserializer).map_err(|_| de::Error::custom("the value of a variable is text"))?;
        Ok(Secret(value))
    }
}
