use std::time::Duration;

use super::*;

/// What a spoiled spec is refused for.
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
            .map(|number| (format!("V{number}"), String::new()))
            .collect()
    };
    assert_eq!(refused(|spec| spec.env = many()), "env");
    assert_eq!(
        refused(|spec| drop(spec.env.insert("1A".to_owned(), String::new()))),
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
