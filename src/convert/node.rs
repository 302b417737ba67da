//! Nodes.

use wyneos_core::{
    coherence::NodeRow,
    limits,
    node::{Admission, Attributes, CONTAINMENT_REASON, Capacity, Cause, Eligibility, Labels, Liveness, User, Users},
};

use super::{ConvertError, check, time::timestamp};
use crate::v1;

/// One-to-one conversions between enums of the core and of the wire; `but` lists values that are only sent.
macro_rules! same {
    ($core:ty, $wire:ty { $($variant:ident),+ } $(but { $($out:ident),+ })?) => {
        impl From<$core> for $wire {
            fn from(value: $core) -> $wire {
                match value { $(<$core>::$variant => <$wire>::$variant,)+ }
            }
        }

        impl TryFrom<$wire> for $core {
            type Error = $crate::convert::ConvertError;

            fn try_from(value: $wire) -> Result<$core, Self::Error> {
                match value {
                    $(<$wire>::$variant => Ok(<$core>::$variant),)+
                    $($(<$wire>::$out => {
                        Err($crate::convert::ConvertError::new("", concat!("the value ", stringify!($out), " is only given out, and not taken")))
                    })+)?
                    <$wire>::Unspecified => Err($crate::convert::ConvertError::new("", "not set")),
                }
            }
        }
    };
}
pub(super) use same;

same!(
    Admission,
    v1::Admission {
        Pending,
        Admitted,
        Revoked
    }
);
same!(
    Liveness,
    v1::Liveness {
        Unseen,
        Online,
        Suspect,
        Unreachable,
        Offline,
        Left
    }
);
same!(
    Cause,
    v1::LivenessCause {
        Heartbeat,
        SessionEnded,
        Silent,
        Goodbye,
        UnseenSinceRestart,
        HostSilent,
        AgentGone,
        PeersHearIt,
        PeersLostIt,
        Flapping,
        Revoked,
        Awaited
    }
);
same!(
    Eligibility,
    v1::Eligibility {
        Eligible,
        Cordoned,
        Draining,
        Isolated
    }
);

/// Converts labels, sorted by key.
pub(super) fn labels_out(labels: &Labels) -> Vec<v1::Label> {
    labels
        .iter()
        .map(|(key, value)| v1::Label {
            key: key.clone(),
            value: value.clone(),
        })
        .collect()
}

impl TryFrom<v1::Capacity> for Capacity {
    type Error = ConvertError;

    fn try_from(capacity: v1::Capacity) -> Result<Capacity, ConvertError> {
        Ok(Capacity {
            cpu_millis: check::range("cpu_millis", capacity.cpu_millis, 1, u64::from(limits::CPUS) * 1000)?,
            memory_bytes: check::range("memory_bytes", capacity.memory_bytes, 1, limits::BYTES)?,
            disk_bytes: check::range("disk_bytes", capacity.disk_bytes, 0, limits::BYTES)?,
        })
    }
}

impl From<Capacity> for v1::Capacity {
    fn from(capacity: Capacity) -> v1::Capacity {
        let Capacity {
            cpu_millis,
            memory_bytes,
            disk_bytes,
        } = capacity;
        v1::Capacity {
            cpu_millis,
            memory_bytes,
            disk_bytes,
        }
    }
}

fn users_in(users: v1::NodeUsers) -> Result<Users, ConvertError> {
    let named = users.permitted.len().saturating_add(users.unknown.len());
    check::at_most("users", named, limits::USERS + 1)?;
    let unknown = users.unknown.into_iter().enumerate();
    let unknown = unknown.map(|(at, name)| check::text(&format!("users.unknown[{at}]"), name, limits::USER));
    let permitted = users.permitted.into_iter().enumerate().map(|(at, user)| {
        let field = format!("users.permitted[{at}].name");
        let name = check::text(&field, user.name, limits::USER)?;
        Ok(User { name, uid: user.uid })
    });
    Ok(Users {
        default: check::text("users.default_user", users.default_user, limits::USER)?,
        permitted: permitted.collect::<Result<_, ConvertError>>()?,
        unknown: unknown.collect::<Result<_, ConvertError>>()?,
        own_only: users.own_only,
    })
}

fn users_out(users: Users) -> v1::NodeUsers {
    let out = |User { name, uid }| v1::NodeUser { name, uid };
    v1::NodeUsers {
        default_user: users.default,
        permitted: users.permitted.into_iter().map(out).collect(),
        unknown: users.unknown,
        own_only: users.own_only,
    }
}

impl TryFrom<v1::Attributes> for Attributes {
    type Error = ConvertError;

    fn try_from(attributes: v1::Attributes) -> Result<Attributes, ConvertError> {
        Ok(Attributes {
            os: check::text("os", attributes.os, 64)?,
            kernel: check::text("kernel", attributes.kernel, 128)?,
            architecture: check::text("architecture", attributes.architecture, 64)?,
            cpus: check::range("cpus", attributes.cpus, 1, limits::CPUS)?,
            memory_bytes: check::range("memory_bytes", attributes.memory_bytes, 1, limits::BYTES)?,
            cgroups: check::text("cgroups", attributes.cgroups, 16)?,
            containment: check::text("containment", attributes.containment, 16)?,
            containment_reason: check::text("containment_reason", attributes.containment_reason, CONTAINMENT_REASON)?,
            users: attributes.users.map(users_in).transpose()?,
        })
    }
}

impl From<&Attributes> for v1::Attributes {
    fn from(attributes: &Attributes) -> v1::Attributes {
        let Attributes {
            os,
            kernel,
            architecture,
            cpus,
            memory_bytes,
            cgroups,
            containment,
            containment_reason,
            users,
        } = attributes.clone();
        v1::Attributes {
            os,
            kernel,
            architecture,
            cpus,
            memory_bytes,
            cgroups,
            containment,
            containment_reason,
            users: users.map(users_out),
        }
    }
}

impl From<&NodeRow> for v1::NodeRow {
    fn from(row: &NodeRow) -> v1::NodeRow {
        let (record, state) = (&row.record, &row.state);
        let facts = &record.facts;
        v1::NodeRow {
            id: facts.id.to_string(),
            name: facts.name.clone(),
            admission: v1::Admission::from(record.admission).into(),
            ruling: record.ruling.as_deref().map(|ruling| v1::Ruling {
                by: ruling.by.clone(),
                reason: ruling.reason.clone(),
                time: Some(timestamp(ruling.time)),
            }),
            liveness: v1::Liveness::from(state.liveness).into(),
            cause: v1::LivenessCause::from(state.cause).into(),
            eligibility: v1::Eligibility::from(record.eligibility).into(),
            liveness_since: Some(timestamp(state.liveness_since)),
            last_seen: state.last_seen.map(timestamp),
            incarnation: record.incarnation,
            session: record.session.0,
            load_percent: state.load_percent,
            agent_version: facts.agent_version.clone(),
            probe_address: facts.probe_address.clone(),
            capacity: Some(facts.capacity.into()),
            attributes: Some((&facts.attributes).into()),
            labels: labels_out(&record.labels()),
            binary_digest: facts.binary_digest.to_vec(),
            config_digest: facts.config_digest.to_vec(),
            boot_time: Some(timestamp(facts.boot_time)),
        }
    }
}
