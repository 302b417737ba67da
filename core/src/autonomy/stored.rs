//! Storage format of evidence: a sentence, which every version can read, and the same fact as data. Data unknown to
//! this version, because it was written by an earlier or a later one, is read as its sentence.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::IgnoredAny};

use super::evidence::{Evidence, Fact, Source};
use crate::time::WallTime;

/// Serialized form of a row of evidence.
#[derive(Serialize)]
struct Written<'a> {
    time: WallTime,
    source: String,
    fact: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'a Source>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Fact>,
}

/// Deserialized form of a row of evidence.
#[derive(Deserialize)]
struct Read {
    time: WallTime,
    source: String,
    fact: String,
    #[serde(default)]
    by: Option<Known<Source>>,
    #[serde(default)]
    data: Option<Known<Fact>>,
}

/// Data in the format of this version or of a later one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Known<T> {
    This(T),
    Later(IgnoredAny),
}

fn known<T>(data: Option<Known<T>>) -> Option<T> {
    match data? {
        Known::This(data) => Some(data),
        Known::Later(IgnoredAny) => None,
    }
}

impl Serialize for Evidence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let by = Some(&self.source).filter(|source| !matches!(source, Source::Told(_)));
        let data = Some(&self.fact).filter(|fact| !matches!(fact, Fact::Told(_)));
        let row = Written {
            time: self.time,
            source: self.source.to_string(),
            fact: self.fact.to_string(),
            by,
            data,
        };
        row.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Evidence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Evidence, D::Error> {
        let row = Read::deserialize(deserializer)?;
        Ok(Evidence {
            time: row.time,
            source: known(row.by).unwrap_or(Source::Told(row.source)),
            fact: known(row.data).unwrap_or(Fact::Told(row.fact)),
        })
    }
}
