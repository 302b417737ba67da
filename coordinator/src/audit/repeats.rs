//! Refusals of one kind and source: one per minute is written, with the number of similar ones.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use wyneos::v1;
use wyneos_shell::listener;

use super::NOBODY;

/// Maximum number of kinds of refusals that are distinguished at once, for authenticated and for unauthenticated
/// callers, and for one caller. Further ones are counted together.
const KINDS: usize = 1_024;
const KINDS_OF_ONE: usize = 32;

/// Aggregation interval for refusals of one kind and source.
const MINUTE: Duration = Duration::from_secs(60);

/// Refusals of one kind and source.
#[derive(Debug)]
struct Repeated {
    since: Instant,
    last: v1::AuditRecord,
    more: u64,
}

/// The refused caller: a name, or an address. The caller's own statements are not part of it, because it can choose
/// them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    Named(String),
    At(Option<IpAddr>),
}

/// Caller, action, and gRPC status.
type Kind = (Who, String, u32);

/// Refusals of the last minute, by kind.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    kinds: HashMap<Kind, Repeated>,
    of: HashMap<Who, usize>,
}

impl Repeats {
    /// Returns the refusal, unless a similar one was written within the last minute.
    pub(super) fn fold(&mut self, record: v1::AuditRecord, now: Instant) -> Option<v1::AuditRecord> {
        let address = record.source.parse().ok();
        let address = address.map(|source: SocketAddr| listener::source(source.ip()));
        let who = match record.principal.as_str() {
            NOBODY => Who::At(address),
            name => Who::Named(name.to_owned()),
        };
        let mut kind = (who.clone(), record.action.clone(), record.code);
        let full = self.kinds.len() >= KINDS || self.of.get(&who).is_some_and(|kinds| *kinds >= KINDS_OF_ONE);
        if full && !self.kinds.contains_key(&kind) {
            kind = (Who::At(None), "several".to_owned(), 0);
        }
        if let Some(repeated) = self.kinds.get_mut(&kind) {
            repeated.more += 1;
            repeated.last = record;
            return None;
        }
        let repeated = Repeated {
            since: now,
            last: record.clone(),
            more: 0,
        };
        *self.of.entry(kind.0.clone()).or_default() += 1;
        self.kinds.insert(kind, repeated);
        Some(record)
    }

    /// The counts of a finished minute.
    pub(super) fn elapsed(&mut self, now: Instant) -> Vec<v1::AuditRecord> {
        let due = |repeated: &Repeated| now.duration_since(repeated.since) >= MINUTE;
        let due: Vec<(Kind, Repeated)> = self.kinds.extract_if(|_, repeated| due(repeated)).collect();
        for ((who, ..), _) in &due {
            if let Some(kinds) = self.of.get_mut(who) {
                *kinds -= 1;
                if *kinds == 0 {
                    self.of.remove(who);
                }
            }
        }
        due.into_iter().filter_map(|(_, repeated)| told(repeated)).collect()
    }

    /// The counts up to now.
    pub(super) fn all(&mut self) -> Vec<v1::AuditRecord> {
        self.of.clear();
        self.kinds.drain().filter_map(|(_, repeated)| told(repeated)).collect()
    }
}

fn told(repeated: Repeated) -> Option<v1::AuditRecord> {
    let repeats = repeated.more;
    (repeats > 0).then_some(v1::AuditRecord {
        repeats,
        ..repeated.last
    })
}
