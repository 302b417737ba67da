//! Invalid scenario files: the error names the line and the reason.

use wyneos_sim::Scenario;

const HEAD: &str = "name = \"x\"\nduration = \"60s\"\n[cluster]\nnodes = 3\nzones = 2\n";

#[test]
fn a_bad_scenario_gets_the_line_and_the_reason() {
    for (rest, line, reason) in [
        ("speed = 3\n", 6, "unknown field `speed`"),
        ("[weather]\n", 6, "unknown field `weather`"),
        ("[network]\nloss = 1.5\n", 6, "loss: 1.5 is not between 0 and 1"),
        (
            "[network]\njitter = \"18446744073709551615s\"\n",
            7,
            "is longer than a week",
        ),
        (
            "uncontained = [\"node-1\", \"node-4\"]\n",
            3,
            "\"node-4\" is none of node-1 to node-3",
        ),
        ("overstated = [\"30%\"]\n", 3, "overstated: \"30%\" does not name nodes"),
        (
            "[[fault]]\nat = \"1s\"\nkind = \"supervisor-pause\"\ntargets = [\"all\"]\n",
            6,
            "for: missing",
        ),
        (
            "[[fault]]\nat = \"1s\"\nfor = \"1s\"\nkind = \"supervisor-kill\"\ntargets = [\"all\"]\n",
            6,
            "for: means nothing",
        ),
        ("[cluster.labels]\nzone = 3\n", 3, "labels: \"zone\""),
        ("[network]\nlatency = \"-3ms\"\n", 7, "\"-3ms\" is no span of time"),
        (
            "[[fault]]\nat = \"-1s\"\nkind = \"crash\"\ntargets = [\"node-1\"]\n",
            7,
            "\"-1s\" is no span of time",
        ),
        (
            "[[fault]]\nat = \"70s\"\nkind = \"crash\"\ntargets = [\"node-1\"]\n",
            6,
            "at: 70s is after the end",
        ),
        (
            "[[fault]]\nat = \"1s\"\nkind = \"crash\"\ntargets = [\"node-4\"]\n",
            6,
            "\"node-4\" is none of node-1 to node-3",
        ),
        (
            "[[fault]]\nat = \"1s\"\nkind = \"crash\"\ntargets = [\"zone-3\"]\n",
            6,
            "\"zone-3\" is none of",
        ),
        (
            "[[fault]]\nat = \"1s\"\nkind = \"burn\"\ntargets = [\"node-1\"]\n",
            8,
            "unknown variant `burn`",
        ),
        ("[[fault]]\nat = \"1s\"\nkind = \"crash\"\n", 6, "targets: missing"),
        (
            "[[fault]]\nat = \"1s\"\nkind = \"crash\"\ntargets = [\"all\"]\nloss = 0.1\n",
            6,
            "loss: means nothing for this kind of fault",
        ),
        (
            "[[fault]]\nat = \"1s\"\nkind = \"pause\"\ntargets = [\"all\"]\n",
            6,
            "for: missing",
        ),
        (
            "[[fault]]\nat = \"1s\"\nkind = \"flap\"\nperiod = \"0s\"\ntargets = [\"all\"]\n",
            6,
            "period: 0ns is shorter than 1ms",
        ),
        (
            "[[fault]]\nat = \"1s\"\nkind = \"flap\"\nperiod = \"1ns\"\ntargets = [\"all\"]\n",
            6,
            "period: 1ns is shorter than 1ms",
        ),
        (
            "[[workload]]\nat = \"61s\"\nname = \"web\"\n",
            6,
            "at: 61s is after the end",
        ),
        (
            "[[workload]]\nat = \"1s\"\nname = \"web\"\nmemory = 17592186044480\n",
            6,
            "memory: 17592186044480 is more than",
        ),
        (
            "[[command]]\nat = \"1s\"\nverb = \"restart\"\nworkload = \"web\"\n",
            6,
            "workload: there is no \"web\"",
        ),
        (
            "[[workload]]\nat = \"9s\"\nname = \"web\"\n[[command]]\nat = \"1s\"\nverb = \"restart\"\nworkload = \"web\"\n",
            9,
            "workload: \"web\" is declared at 9s only",
        ),
        (
            "[[expect]]\nworkload = \"web\"\nstarts_at_most = 0\n",
            6,
            "workload: there is no \"web\"",
        ),
        (
            "[[expect]]\ndecision = \"nobody-hears\"\nnever = true\n",
            6,
            "decision: \"nobody-hears\" is no rule; there are",
        ),
        ("heartbeat = \"61s\"\n", 3, "heartbeat: 61s is longer than 60s"),
        (
            "pending = [\"coordinator\"]\n",
            3,
            "pending: \"coordinator\" does not name nodes",
        ),
        ("[cluster.labels]\n\"a b\" = 3\n", 3, "labels: \"a b\" needs a name"),
        (
            "[[command]]\nat = \"1s\"\nverb = \"cordon\"\ntargets = [\"all\"]\nreplicas = 3\n",
            6,
            "replicas: means nothing",
        ),
        (
            "[[command]]\nat = \"1s\"\nverb = \"uncordon\"\ntargets = [\"all\"]\ndeadline = \"3s\"\n",
            6,
            "deadline: means nothing",
        ),
        (
            "[[command]]\nat = \"1s\"\nverb = \"approve\"\ntargets = [\"all\"]\n",
            6,
            "targets: means nothing",
        ),
        (
            "[[command]]\nat = \"1s\"\nverb = \"drain\"\ntargets = [\"all\"]\nheal = \"act\"\n",
            6,
            "heal: means nothing",
        ),
        (
            "[[command]]\nat = \"1s\"\nverb = \"autonomy\"\n",
            6,
            "autonomy needs one of them",
        ),
        (
            "[[command]]\nat = \"1s\"\nverb = \"set-heartbeat\"\ntargets = [\"all\"]\ninterval = \"1ns\"\n",
            6,
            "interval: 1ns is not between",
        ),
        (
            "[[workload]]\nat = \"1s\"\nname = \"web\"\n[[command]]\nat = \"2s\"\nverb = \"scale\"\nworkload = \"web\"\nreplicas = 4294967295\n",
            9,
            "replicas: 4294967295; at most",
        ),
        (
            "[[workload]]\nat = \"1s\"\nname = \"web\"\n[[command]]\nat = \"2s\"\nverb = \"restart\"\nworkload = \"web\"\ntargets = [\"all\"]\n",
            9,
            "targets: means nothing",
        ),
        (
            "[[expect]]\nliveness = \"offline\"\nnever = true\nrunning = 3\n",
            6,
            "running, starts_at_most, done: they belong to a workload",
        ),
        (
            "[[workload]]\nat = \"1s\"\nname = \"web\"\n[[expect]]\nworkload = \"web\"\nstarts_at_most = 0\nnever = true\n",
            9,
            "never: means nothing for a workload",
        ),
        (
            "[[expect]]\nliveness = \"offline\"\nby = \"61s\"\n",
            6,
            "by: 61s is after the end",
        ),
        (
            "[[expect]]\nliveness = \"offline\"\nby = \"20s\"\nafter = \"20s\"\n",
            6,
            "by: 20s is not later than after",
        ),
        (
            "[[expect]]\nliveness = \"dead\"\nnever = true\n",
            7,
            "unknown variant `dead`",
        ),
        ("[[expect]]\nliveness = \"offline\"\n", 6, "an expectation is"),
        (
            "[[expect]]\ntold = \"offline\"\nat_end = true\n",
            6,
            "an expectation is",
        ),
        (
            "[[command]]\nat = \"1s\"\nverb = \"refresh\"\ntargets = [\"coordinator\"]\n",
            6,
            "targets: the coordinator is no node",
        ),
        (
            "[[command]]\nat = \"1s\"\nverb = \"cordon\"\ntargets = [\"all\"]\ninterval = \"1s\"\n",
            6,
            "interval: means nothing",
        ),
        (
            "[[expect]]\nliveness = \"offline\"\nnever = true\ntargets = [\"coordinator\"]\n",
            6,
            "the coordinator is no node",
        ),
        (
            "[[expect]]\nliveness = \"offline\"\nnever = true\nnear = [\"node-1\"]\n",
            6,
            "they belong to a finding",
        ),
    ] {
        let bad = format!("{HEAD}{rest}").parse::<Scenario>().unwrap_err();
        assert!(bad.line == line && bad.reason.contains(reason), "{rest}: {bad}");
    }
}

#[test]
fn sizes_and_spans_have_limits() {
    for (text, reason) in [
        ("name = \"x\"\nduration = \"0s\"\n", "duration: not between"),
        ("name = \"x\"\nduration = \"30days\"\n", "is longer than a week"),
        (
            "name = \"x\"\nduration = \"1s\"\n[cluster]\nnodes = 0\n",
            "nodes: 0 is not",
        ),
        (
            "name = \"x\"\nduration = \"1s\"\n[cluster]\nnodes = 30000\n",
            "nodes: 30000 is not",
        ),
        (
            "name = \"x\"\nduration = \"1s\"\n[cluster]\nzones = 21\n",
            "zones: 21 is not",
        ),
        (
            "name = \"x\"\nduration = \"1s\"\n[cluster]\ncycle = \"1ms\"\n",
            "cycle: 1ms is shorter",
        ),
        (
            "name = \"x\"\nduration = \"1s\"\n[cluster]\nclock_drift = 2.0\n",
            "clock_drift: 2 is not",
        ),
        ("name = \"x\"\nduration = \"1s\"\nname = \"y\"\n", "duplicate key"),
        ("", "missing field"),
    ] {
        let bad = text.parse::<Scenario>().unwrap_err();
        assert!(bad.reason.contains(reason) && bad.line >= 1, "{text}: {bad}");
    }
}
