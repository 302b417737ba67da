use std::time::Duration;

use super::*;

/// The field for which a modified specification is refused.
fn refused(spoil: impl FnOnce(&mut Spec)) -> String {
    let mut spec = Spec::new("web", "/bin/web");
    assert_eq!(spec.check(), Ok(()));
    spoil(&mut spec);
    spec.check().unwrap_err().field
}

#[test]
fn every_field_that_is_wrong_is_named() {
    assert_eq!(refused(|spec| spec.name = "Web".to_owned()), "name");
    assert_eq!(refused(|spec| spec.name = "-web".to_owned()), "name");
    assert_eq!(refused(|spec| spec.command.clear()), "command");
    assert_eq!(refused(|spec| spec.command = "a\0b".to_owned()), "command");
    assert_eq!(
        refused(|spec| spec.kind = Kind::Service { replicas: 100_001 }),
        "replicas"
    );
    let many = || {
        (0..10_000)
            .map(|number| (format!("V{number}"), Secret::default()))
            .collect()
    };
    assert_eq!(refused(|spec| spec.env = many()), "env");
    assert_eq!(
        refused(|spec| drop(spec.env.insert("1A".to_owned(), Secret::default()))),
        "env"
    );
    assert_eq!(refused(|spec| spec.args = vec!["x".repeat(5_000)]), "args[0]");
    let long = vec!["x".repeat(4_000); 20];
    assert_eq!(refused(|spec| spec.args = long), "args and env, bytes together");
    assert_eq!(refused(|spec| spec.resources.cpu_millis = 0), "resources.cpu");
    assert_eq!(
        refused(|spec| spec.resources.memory_bytes = u64::MAX),
        "resources.memory"
    );
    assert_eq!(refused(|spec| spec.limits.cpu_millis = 9), "limits.cpu");
    assert_eq!(refused(|spec| spec.limits.pids = 0), "limits.pids");
    assert_eq!(refused(|spec| spec.ports = vec!["http".to_owned(); 2]), "ports[1]");
    assert_eq!(refused(|spec| spec.stop.signal = 0), "stop.signal");
    assert_eq!(refused(|spec| spec.update.max_parallel = 0), "update.max_parallel");
    assert_eq!(
        refused(|spec| spec.restart.backoff_max = Duration::ZERO),
        "restart.backoff_max"
    );
    assert_eq!(refused(|spec| spec.priority = 101), "priority");
    let singleton = |spec: &mut Spec| {
        spec.singleton = true;
        spec.kind = Kind::Service { replicas: 2 };
    };
    assert_eq!(refused(singleton), "singleton");
    let check = |spec: &mut Spec| {
        spec.checks.push(Check {
            probe: Probe::Tcp("http".to_owned()),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            failures: 3,
            start_grace: None,
            address: String::new(),
        });
    };
    assert_eq!(refused(check), "checks[0].port");
    let constraint = |spec: &mut Spec| {
        spec.constraints.push(Constraint {
            key: "zone".to_owned(),
            operator: Operator::In,
            values: Vec::new(),
        });
    };
    assert_eq!(refused(constraint), "constraints[0].values");
}

#[test]
fn constraints_mean_what_they_say() {
    let of = |operator, values: &[&str]| Constraint {
        key: "zone".to_owned(),
        operator,
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    };
    let met = |operator, values: &[&str]| {
        let constraint = of(operator, values);
        [Some("a"), Some("b"), None].map(|value| constraint.is_met_by(value))
    };
    assert_eq!(met(Operator::In, &["a", "c"]), [true, false, false]);
    assert_eq!(met(Operator::NotIn, &["a"]), [false, true, true]);
    assert_eq!(met(Operator::Exists, &[]), [true, true, false]);
    assert_eq!(met(Operator::Absent, &[]), [false, false, true]);
}

mod rows {
    use std::{collections::BTreeMap, sync::Arc};

    use proptest::prelude::*;

    use super::super::*;
    use crate::{
        id::{DecisionId, Revision, Uuid},
        placement::Score,
        time::WallTime,
    };

    fn row(id: u64, detail: u8) -> AssignmentRow {
        let record = Assignment {
            id: AssignmentId(id),
            workload: "web".into(),
            slot: 0,
            revision: Revision(1),
            node: Uuid([0; 16]),
            goal: Goal::Run,
            placed: WallTime(0),
            reason: detail.to_string(),
            score: Score::default(),
            decision: DecisionId(0),
            replaces: None,
            attempt: 0,
            stop_reason: String::new(),
            leaving: String::new(),
            leaving_because: None,
            end: None,
            orphan: None,
        };
        AssignmentRow {
            record: Arc::new(record),
            status: Status::default(),
            doubt: None,
            ports: Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn rows_in_pieces_are_what_a_map_is(
            begin in 0u64..2_000,
            steps in prop::collection::vec((any::<bool>(), 0u64..2_500, 0u8..3), 0..400),
        ) {
            let (mut rows, mut map) = (Rows::default(), BTreeMap::new());
            for id in 0..begin {
                prop_assert!(rows.set(row(id * 2, 0)));
                map.insert(id * 2, row(id * 2, 0));
            }
            let before = rows.clone();
            for (out, id, detail) in steps {
                if out {
                    // Removes many rows in sequence, so that chunks become small.
                    for id in id..id + 50 {
                        prop_assert_eq!(rows.remove(AssignmentId(id)), map.remove(&id).is_some());
                    }
                } else {
                    let new = row(id, detail);
                    let changed = map.insert(id, new.clone()).is_none_or(|old| old != new);
                    prop_assert_eq!(rows.set(new), changed);
                }
            }
            prop_assert_eq!(rows.len(), map.len());
            prop_assert!(rows.iter().map(|row| &**row).eq(map.values()));
            for id in 0..5_000 {
                prop_assert_eq!(rows.get(AssignmentId(id)).map(|row| &**row), map.get(&id));
            }
            prop_assert_eq!(before.len() as u64, begin);
            prop_assert!(before.iter().zip(0..).all(|(row, id)| row.record.id.0 == id * 2));
        }
    }
}

#[test]
fn what_agents_give_programs_cannot_be_declared_and_what_was_declared_before_still_runs() {
    let with = |key: &str| {
        let mut spec = Spec::new("web", "/bin/web");
        spec.ports = vec!["http".to_owned()];
        spec.env.insert(key.to_owned(), Secret::from("1".to_owned()));
        spec
    };
    for key in ["WYNEOS_FENCE", "WYNEOS_", "WYNEOS_OTHER", "PORT_http", "PORT_other"] {
        let refused = with(key).check_declared().unwrap_err();
        assert_eq!(refused.field, format!("env.{key}"));
        assert_eq!(with(key).check(), Ok(()));
    }
    for key in ["PATH", "WYNEOS", "PORT", "LD_PRELOAD", "MY_WYNEOS_FENCE"] {
        assert_eq!(with(key).check_declared(), Ok(()), "{key}");
    }
    for (user, right) in [
        ("", true),
        ("web", true),
        ("DOMAIN\\web user", true),
        ("0", true),
        ("-h", false),
        ("a:b", false),
        ("/root", false),
        ("a\nb", false),
        ("4294967294", true),
        ("4294967295", false),
        ("4294967296", false),
        ("+4294967296", false),
        ("18446744073709551616", false),
        (" 0", false),
        ("0 ", false),
    ] {
        let mut spec = Spec::new("web", "/bin/web");
        spec.user = user.to_owned();
        assert_eq!(spec.check_declared().is_ok(), right, "{user:?}");
        assert_eq!(spec.check(), Ok(()));
    }
}

#[test]
fn values_of_an_environment_are_stored_and_never_formatted() {
    let mut spec = Spec::new("web", "/bin/web");
    let canary = "correct horse";
    spec.env.insert("PASSWORD".to_owned(), Secret::from(canary.to_owned()));
    let shown = format!("{spec:?} {spec:#?}");
    assert!(shown.contains("PASSWORD") && shown.contains(Secret::HIDDEN), "{shown}");
    assert!(!shown.contains(canary), "{shown}");
    assert_eq!(spec.env["PASSWORD"].reveal(), canary);
    // A name that contains a value, and a refused value, are not repeated.
    for (name, value) in [
        (format!("PASSWORD={canary}"), String::new()),
        ("A".to_owned(), format!("{canary}\0")),
    ] {
        let mut wrong = spec.clone();
        wrong.env.insert(name, Secret::from(value));
        let told = wrong.check().unwrap_err().to_string();
        assert!(told.starts_with("env") && !told.contains(canary), "{told}");
    }
    // The placeholder is not accepted as a value.
    spec.env
        .insert("PASSWORD".to_owned(), Secret::from(Secret::HIDDEN.to_owned()));
    assert_eq!(spec.check_declared().unwrap_err().field, "env.PASSWORD");
    assert_eq!(spec.check(), Ok(()));
}

#[test]
fn every_text_of_a_declaration_has_a_bound_and_so_has_the_whole() {
    let long = |bytes: usize| "x".repeat(bytes);
    let constraint = |key: String, values: Vec<String>| Constraint {
        key,
        operator: Operator::In,
        values,
    };
    let check = |probe: Probe| Check {
        probe,
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        failures: 3,
        start_grace: None,
        address: String::new(),
    };
    assert_eq!(refused(|spec| spec.spread = long(64)), "spread");
    assert_eq!(refused(|spec| spec.near = long(64)), "near");
    assert_eq!(refused(|spec| spec.user = long(257)), "user");
    assert_eq!(refused(|spec| spec.directory = long(4_097)), "directory");
    assert_eq!(
        refused(|spec| spec.constraints = vec![constraint(long(64), vec![long(1)])]),
        "constraints[0].key"
    );
    assert_eq!(
        refused(|spec| spec.constraints = vec![constraint(long(1), vec![long(1), long(256)])]),
        "constraints[0].values[1]"
    );
    assert_eq!(
        refused(|spec| spec.affinity = vec![constraint(long(1), vec![long(1); 33])]),
        "affinity[0].values"
    );
    assert_eq!(
        refused(|spec| spec.checks = vec![check(Probe::Exec(vec![long(1); 65]))]),
        "checks[0].exec"
    );
    assert_eq!(
        refused(|spec| spec.checks = vec![check(Probe::Exec(vec![long(4_097)]))]),
        "checks[0].exec[0]"
    );
    assert_eq!(
        refused(|spec| spec.checks = vec![check(Probe::Http("http".to_owned(), long(2_049)))]),
        "checks[0].http.path"
    );
    let at = |address: &str, probe: Probe| {
        let mut one = check(probe);
        one.address = address.to_owned();
        move |spec: &mut Spec| {
            spec.ports = vec!["http".to_owned()];
            spec.checks = vec![one.clone()];
        }
    };
    for address in ["127.0.0.1:80", "a b", "http://host", &long(254)] {
        assert_eq!(refused(at(address, Probe::Tcp("http".to_owned()))), "checks[0].address");
    }
    assert_eq!(refused(at("::1", Probe::Exec(vec![long(1)]))), "checks[0].address");
    assert_eq!(
        refused(|spec| spec.restart.backoff = Duration::from_millis(49)),
        "restart.backoff"
    );
    let all = |spec: &mut Spec| {
        spec.constraints = vec![constraint(long(63), vec![long(255); 32]); 32];
    };
    assert_eq!(refused(all), "all fields together, bytes");
    let short = {
        let mut spec = Spec::new("web", "/bin/web");
        spec.restart.backoff = Duration::ZERO;
        spec.restart.backoff_max = Duration::ZERO;
        spec.clamped()
    };
    assert_eq!(short.check(), Ok(()), "what was accepted before is within the bounds");
}
