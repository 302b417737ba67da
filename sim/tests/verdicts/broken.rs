//! Deliberately broken rules, which the checks must detect within a few seeds. A check that does not detect a broken
//! rule is ineffective.

use std::time::Duration;

use wyneos_sim::{Rules, Scenario, run, run_with};

/// Seeds, one of which must reveal a broken rule, and with all of which the original rules hold.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=12;

/// A broken rule, and scenarios at least one of which reveals it.
struct Broken {
    what: &'static str,
    rules: Rules,
    scenarios: Vec<String>,
}

/// A node dies and must be offline by this second.
fn death(nodes: u32, by: u32) -> String {
    format!(
        "name = \"a death\"\nduration = \"60s\"\n[cluster]\nnodes = {nodes}\n\
         [[fault]]\nat = \"20300ms\"\nkind = \"crash\"\ntargets = [\"node-1\"]\n\
         [[expect]]\ntargets = [\"node-1\"]\nliveness = \"offline\"\nby = \"{by}s\"\n"
    )
}

/// The coordinator and node-3 are cut off from the other two nodes, and remain a minority.
const MINORITY: &str = "name = \"the coordinator in the minority\"\nduration = \"60s\"\n[cluster]\nnodes = 3\n\
    [[fault]]\nat = \"20s\"\nkind = \"cut\"\ntargets = [\"coordinator\", \"node-3\"]\npeers = [\"node-1\", \"node-2\"]\n";

/// The agent is killed while its machine lives.
const KILLED: &str = "name = \"an agent is killed\"\nduration = \"40s\"\n[cluster]\nnodes = 8\n\
    [[fault]]\nat = \"20s\"\nkind = \"kill\"\ntargets = [\"node-1\"]\n";

/// A chain of three nodes that the coordinator reaches through a fourth one, among others that it hears.
const CHAIN: &str = "name = \"a chain\"\nduration = \"120s\"\n[cluster]\nnodes = 9\n\
    [[fault]]\nat = \"20s\"\nkind = \"coordinator-cut\"\ntargets = [\"node-1\", \"node-2\", \"node-3\"]\n\
    [[fault]]\nat = \"20s\"\nkind = \"cut\"\ntargets = [\"node-1\"]\npeers = [\"node-3\"]\n\
    [[fault]]\nat = \"20s\"\nkind = \"cut\"\ntargets = [\"node-1\", \"node-2\"]\npeers = [\"node-4\"]\n\
    [[fault]]\nat = \"20s\"\nkind = \"cut\"\ntargets = [\"node-1\", \"node-2\", \"node-3\"]\n\
    peers = [\"node-5\", \"node-6\", \"node-7\", \"node-8\", \"node-9\"]\n\
    [[expect]]\ntargets = [\"node-1\", \"node-2\", \"node-3\"]\nliveness = \"unreachable\"\nby = \"60s\"\n";

/// Many links are cut; one machine is left with a single neighbour, which the coordinator reaches only through others.
const THREE_HOPS: &str = include_str!("../../../scenarios/way-of-three-hops.toml");

/// Most packets are lost for a while.
fn lossy(nodes: u32, loss: u32) -> String {
    let everybody = "[\"all\", \"coordinator\"]";
    format!(
        "name = \"a lossy network\"\nduration = \"200s\"\n[cluster]\nnodes = {nodes}\n\
         [[fault]]\nat = \"15s\"\nkind = \"loss\"\nloss = 0.{loss}\ntargets = {everybody}\npeers = {everybody}\n"
    )
}

/// Nodes die one after another until few are left, each while a minority is silent.
const ROLLING: &str = "name = \"one after another\"\nduration = \"120s\"\n[cluster]\nnodes = 6\n\
    [[fault]]\nat = \"20s\"\nkind = \"crash\"\ntargets = [\"node-1\"]\n\
    [[fault]]\nat = \"35s\"\nkind = \"crash\"\ntargets = [\"node-2\"]\n\
    [[fault]]\nat = \"50s\"\nkind = \"crash\"\ntargets = [\"node-3\"]\n\
    [[fault]]\nat = \"65s\"\nkind = \"crash\"\ntargets = [\"node-4\"]\n";

/// Twelve nodes are pending; of five members, the coordinator loses three.
const PENDING: &str = "name = \"many wait to be admitted\"\nduration = \"60s\"\n[cluster]\nnodes = 17\n\
    pending = [\"node-6\", \"node-7\", \"node-8\", \"node-9\", \"node-10\", \"node-11\", \"node-12\", \"node-13\", \"node-14\", \
    \"node-15\", \"node-16\", \"node-17\"]\n\
    [[fault]]\nat = \"20s\"\nkind = \"cut\"\ntargets = [\"coordinator\", \"node-4\", \"node-5\"]\npeers = [\"node-1\", \"node-2\", \"node-3\"]\n";

/// The coordinator was away for a minute.
const RESTART: &str = "name = \"a coordinator comes back\"\nduration = \"160s\"\n[cluster]\nnodes = 1\nrestart_grace = \"60s\"\n\
    [[fault]]\nat = \"20s\"\nfor = \"50s\"\nkind = \"coordinator-crash\"\n";

/// One observer misses node-1, and all others were just restarted.
const STARTED_ANEW: &str = "name = \"observers that are new\"\nduration = \"60s\"\n[cluster]\nnodes = 5\n\
    [[fault]]\nat = \"20s\"\nkind = \"coordinator-cut\"\ntargets = [\"node-1\"]\n\
    [[fault]]\nat = \"20s\"\nkind = \"cut\"\ntargets = [\"node-2\"]\npeers = [\"node-1\"]\n\
    [[fault]]\nat = \"PHASE\"\nkind = \"restart\"\ntargets = [\"node-3\", \"node-4\", \"node-5\"]\n";

const FLAPS: &str = "name = \"a link comes and goes\"\nduration = \"120s\"\n[cluster]\nnodes = 8\n\
    [[fault]]\nat = \"20s\"\nfor = \"60s\"\nkind = \"flap\"\nperiod = \"2s\"\ntargets = [\"node-1\"]\n\
    [[expect]]\ntransitions_at_most = 8\n";

/// The coordinator is cut off from all nodes for a while, during which one node loses its peers.
const APART_MEANWHILE: &str = include_str!("../../../scenarios/a-node-apart-while-the-coordinator-was-cut-off.toml");

/// Returns the scenario with its last fault at each of these tenths of a second.
fn phases(tenths: std::ops::Range<u32>, scenario: &str) -> Vec<String> {
    let at = |tenth: u32| scenario.replace("PHASE", &format!("{}ms", tenth * 100));
    tenths.map(at).collect()
}

fn broken() -> Vec<Broken> {
    let sound = Rules::default();
    let always = Duration::from_secs(7 * 24 * 3_600);
    let many = |what, rules, scenarios: Vec<String>| Broken { what, rules, scenarios };
    let rule = |what, rules, scenario: &str| many(what, rules, vec![scenario.to_owned()]);
    #[rustfmt::skip]
    let broken = vec![
        rule("no window", Rules { window: Duration::ZERO, ..sound }, &death(5, 23)),
        rule("a window of a second", Rules { window: Duration::from_secs(1), ..sound }, &death(5, 23)),
        rule("no window for a host without an agent", Rules { gone_window: Duration::ZERO, ..sound }, KILLED),
        rule("a question by way of a peer says nothing", Rules { asked_for: Duration::ZERO, ..sound }, CHAIN),
        rule("answers may take for ever", Rules { ping_patience: always, ..sound }, &death(5, 23)),
        many("one observer is enough", Rules { quorum_percent: 0, ..sound }, phases(210..222, STARTED_ANEW)),
        rule("never ambiguous", Rules { ambiguous_percent: 100, ..sound }, MINORITY),
        rule("always ambiguous", Rules { ambiguous_percent: 0, ..sound }, &death(5, 23)),
        rule("the coordinator never counts", Rules { smallest: 0, ..sound }, &death(1, 40)),
        rule("no longer window where many are missed", Rules { stretch: 0.0, ..sound }, THREE_HOPS),
        rule("no breaker", Rules { breaker_min: usize::MAX, ..sound }, ROLLING),
        rule("the breaker forgets", Rules { breaker_window: Duration::ZERO, ..sound }, ROLLING),
        rule("a breaker for more than all", Rules { breaker_percent: 101, ..sound }, ROLLING),
        rule("back at once", Rules { steady: Duration::ZERO, ..sound }, FLAPS),
        rule("whoever waits to be admitted counts", Rules { admitted_only: false, ..sound }, PENDING),
        rule("nobody is given the time to come back", Rules { wait_for_returns: false, ..sound }, APART_MEANWHILE),
        many("nobody confirms", Rules { confirm: false, ..sound }, vec![lossy(3, 64), lossy(2, 36), lossy(8, 75), lossy(4, 84)]),
    ];
    broken
}

fn parsed(text: &str) -> Scenario {
    text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Returns whether the checks distinguish these rules from the original ones.
fn is_noticed(scenarios: &[String], rules: Rules) -> bool {
    let shows = |scenario: &Scenario, seed| {
        !run_with(scenario, seed, rules, |_| true).passed() && run(scenario, seed, |_| true).passed()
    };
    let scenarios: Vec<Scenario> = scenarios.iter().map(|text| parsed(text)).collect();
    SEEDS
        .into_iter()
        .any(|seed| scenarios.iter().any(|scenario| shows(scenario, seed)))
}

#[test]
fn a_rule_that_is_broken_is_noticed() {
    let broken = broken().into_iter();
    let unnoticed: Vec<&str> = broken
        .filter(|one| !is_noticed(&one.scenarios, one.rules))
        .map(|one| one.what)
        .collect();
    assert_eq!(unnoticed, [""; 0]);
}

#[test]
fn no_time_for_nodes_to_come_back_after_a_restart_is_noticed() {
    let sound = parsed(RESTART);
    let hasty = parsed(&RESTART.replace(
        "restart_grace = \"60s\"",
        "restart_grace = \"0s\"\nsuspect_grace = \"5s\"",
    ));
    let passes = |scenario: &Scenario, seed| run(scenario, seed, |_| true).passed();
    assert!(
        SEEDS
            .into_iter()
            .any(|seed| passes(&sound, seed) && !passes(&hasty, seed))
    );
}
