//! Evidence as it is stored: in words, as every version reads it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::evidence::{Evidence, Fact, Source};
use crate::time::WallTime;

/// A row of evidence.
#[derive(Serialize, Deserialize)]
struct Row {
    time: WallTime,
    source: String,
    fact: String,
}

impl Serialize for Evidence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = Row {
            time: self.time,
            source: self.source.to_string(),
            fact: self.fact.to_string(),
        };
        row.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Evidence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Evidence, D::Error> {
        let row = Row::deserialize(deserializer)?;
        Ok(Evidence {
            time: row.time,
            source: Source::Told(row.source),
            fact: Fact::Told(row.fact),
        })
    }
}
