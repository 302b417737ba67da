use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::access::{Credential, Role, Shut};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A step in the history of a cluster's operators.
#[derive(Clone, Debug)]
enum Step {
    /// Creates `count` operators with names from `first` on.
    Create { first: u16, count: u16, ttl: Duration },
    /// Revokes names, on record or not.
    Revoke { first: u16, count: u16 },
    /// Advances the running time, and sets the clock by an arbitrary offset.
    Pass { span: Duration, clock: i64 },
    /// Replaces the CA.
    ReplaceCa,
}

fn step() -> impl Strategy<Value = Step> {
    let names = || (0..12_000u16, prop_oneof![1..5u16, 900..1_200u16]);
    let ttl = prop_oneof![Just(Duration::from_secs(2)), Just(30 * DAY), Just(CREDENTIAL_LIFE)];
    let span = prop_oneof![Just(Duration::from_secs(3)), (0..400u32).prop_map(|days| DAY * days)];
    prop_oneof![
        4 => (names(), ttl).prop_map(|((first, count), ttl)| Step::Create { first, count, ttl }),
        4 => names().prop_map(|(first, count)| Step::Revoke { first, count }),
        3 => (span, -40_000_000_000..40_000_000_000i64).prop_map(|(span, clock)| Step::Pass { span, clock }),
        1 => Just(Step::ReplaceCa),
    ]
}

fn operator(name: &str, ttl: Duration, now: WallTime, lived: Duration) -> OperatorRecord {
    OperatorRecord {
        name: name.to_owned(),
        role: Role::Viewer,
        credential: Credential::Bearer([1; 32]),
        created: now,
        created_by: "admin/admin".to_owned(),
        expires: now.plus(ttl),
        lived,
        revoked: None,
        revoked_lived: None,
    }
}

fn host_made(access: &Access, name: &str, now: WallTime) -> Result<(), Shut> {
    access.check(name, Role::Admin, &[7; 32], now)
}

fn name(number: u16) -> String {
    format!("op-{number}")
}

/// Executes the steps, and checks after each that no barred certificate is accepted again.
fn holds(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let (mut access, mut lived, mut now) = (Access::default(), Duration::from_secs(1), WallTime(1_000_000_000_000));
    // Time of the last creation or revocation of each name: certificates created on the host until then are barred.
    let mut shut: BTreeMap<String, Duration> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Create { first, count, ttl } => {
                for name in (first..first.saturating_add(count)).map(name) {
                    let known = access.operators.get(&name).is_some_and(|known| known.holds(now));
                    if !known && access.admit(operator(&name, ttl, now, lived), lived).is_ok() {
                        shut.insert(name, lived);
                    }
                }
            }
            Step::Revoke { first, count } => {
                for name in (first..first.saturating_add(count)).map(name) {
                    let known = access.operators.contains_key(&name) || access.shut_out.contains_key(&name);
                    let revoked = access.revoke(&name, now, lived, "admin/admin");
                    prop_assert!(revoked.is_ok() || !known, "{name} is known, and is not revoked");
                    if revoked.is_ok() {
                        prop_assert_eq!(host_made(&access, &name, now), Err(Shut::Revoked));
                        shut.insert(name, lived);
                    } else {
                        prop_assert_eq!(access.shut_out.len(), NAMES);
                    }
                }
            }
            Step::Pass { span, clock } => {
                lived += span;
                now = WallTime(now.0 + span.as_millis() as i64 + clock);
            }
            Step::ReplaceCa => {
                access.signs_from = Some(lived);
                lived += Duration::from_secs(1);
                access.trusted_from = access.signs_from;
                let from = lived - Duration::from_secs(1);
                access.drop_free_names(lived);
                shut.retain(|_, at| *at >= from);
            }
        }
        prop_assert!(access.operators.len() <= OPERATORS && access.shut_out.len() <= NAMES);
        for (name, at) in &shut {
            if lived - *at < CREDENTIAL_LIFE {
                prop_assert!(
                    host_made(&access, name, now).is_err(),
                    "{name} is back after {:?}",
                    lived - *at
                );
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_name_stays_shut_out_as_long_as_a_certificate_of_it_can_hold(steps in vec(step(), 1..20)) {
        holds(steps)?;
    }
}

fn fill(access: &mut Access, prefix: &str, ttl: Duration, now: WallTime, lived: Duration) -> (usize, NoRoom) {
    for number in 0.. {
        let record = operator(&format!("{prefix}-{number}"), ttl, now, lived);
        if let Err(why) = access.admit(record, lived) {
            return (number, why);
        }
    }
    unreachable!()
}

#[test]
fn a_revocation_has_room_where_all_operators_hold_and_makes_room_for_a_creation() {
    let (mut access, now, lived) = (Access::default(), WallTime(1_000_000), DAY);
    assert_eq!(fill(&mut access, "op", DAY, now, lived), (OPERATORS, NoRoom::Operators));
    let stolen = access.revoke("stolen", now, lived, "admin/admin").unwrap();
    assert_eq!(stolen.known_role(), None);
    assert_eq!(host_made(&access, "stolen", now), Err(Shut::Revoked));
    access.revoke("op-7", now, lived, "admin/admin").unwrap();
    access.admit(operator("new", DAY, now, lived), lived).unwrap();
    assert_eq!(host_made(&access, "op-7", now), Err(Shut::Revoked));
}

#[test]
fn creations_leave_room_for_revocations_and_the_cas_replacement_makes_more() {
    let (mut access, now, mut lived) = (Access::default(), WallTime(1_000_000), DAY);
    let mut made = 0;
    let full = loop {
        let record = operator(&format!("job-{made}"), Duration::from_secs(1), now, lived);
        match access.admit(record, lived) {
            Ok(()) => made += 1,
            // Operators on record are valid until their validity has passed.
            Err(NoRoom::Operators) => {
                lived += Duration::from_secs(1);
                let later = now.plus(lived);
                let record = operator(&format!("job-{made}"), Duration::from_secs(1), later, lived);
                match access.admit(record, lived) {
                    Ok(()) => made += 1,
                    Err(why) => break why,
                }
            }
            Err(why) => break why,
        }
    };
    assert!(matches!(full, NoRoom::Names(left) if left > 365 * DAY), "{full:?}");
    assert_eq!(made, NAMES_OF_CREATED + OPERATORS);
    let later = now.plus(lived);
    // A known name has room, since it replaces its own record.
    access.admit(operator("job-3", DAY, later, lived), lived).unwrap();
    // Made-up names are revoked until there is no more room.
    let mut revoked = 0;
    while access
        .revoke(&format!("made-up-{revoked}"), later, lived, "admin/thief")
        .is_ok()
    {
        revoked += 1;
    }
    assert!(revoked >= NAMES - NAMES_OF_CREATED, "{revoked}");
    assert!(access.revoke("stolen", later, lived, "admin/admin").is_err());
    for known in ["job-3", "job-5", "made-up-9"] {
        access.revoke(known, later, lived, "admin/admin").unwrap();
    }
    lived += DAY;
    access.signs_from = Some(lived);
    access.trusted_from = access.signs_from;
    access.drop_free_names(lived);
    access.revoke("stolen", later, lived, "admin/admin").unwrap();
    assert_eq!(host_made(&access, "stolen", later), Err(Shut::Revoked));
}

#[test]
fn the_time_of_records_of_earlier_versions_counts_from_when_their_names_are_kept() {
    let mut record = operator("old", DAY, WallTime(1_000_000), Duration::ZERO);
    assert_eq!(record.shut_out(500 * DAY).left(500 * DAY), CREDENTIAL_LIFE);
    record.lived = DAY;
    assert_eq!(record.shut_out(2 * DAY).left(2 * DAY), CREDENTIAL_LIFE - DAY);
    record.revoked = Some((WallTime(2_000_000), "eve".to_owned()));
    assert_eq!(record.shut_out(500 * DAY).left(500 * DAY), CREDENTIAL_LIFE);
}
