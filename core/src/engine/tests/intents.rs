//! The intent of a command is stored in the same batch as its changes, whatever the command.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;

use super::{
    rig::SECOND,
    workloads::{Site, service},
};
use crate::{
    autonomy::{Mode, PolicyChange},
    command::{self, Asked},
    engine::{ChangeWorkload, Input, RequestId, WorkloadVerb},
    node::Labels,
    store::Batch,
};

fn verb() -> impl Strategy<Value = WorkloadVerb> {
    let name = || prop::sample::select(vec!["web", "api", "nobody"]).prop_map(str::to_owned);
    prop_oneof![
        3 => (name(), 0u32..6, 0u32..2).prop_map(|(name, replicas, canary)| {
            let mut spec = service(&name, replicas);
            spec.update.canary = canary;
            WorkloadVerb::Apply(Arc::new(spec))
        }),
        3 => (name(), 0u32..6).prop_map(|(name, replicas)| WorkloadVerb::Scale { name, replicas }),
        1 => name().prop_map(|name| WorkloadVerb::Restart { name }),
        1 => name().prop_map(|name| WorkloadVerb::Promote { name }),
        1 => name().prop_map(|name| WorkloadVerb::Delete { name }),
    ]
}

fn command() -> impl Strategy<Value = Asked> {
    let node = || (1u8..5).prop_map(|number| format!("node-{number}"));
    let work = |(verb, plan)| {
        let at = None;
        ChangeWorkload {
            plan,
            at,
            verb,
            keep_replicas: false,
            force: false,
        }
    };
    prop_oneof![
        6 => (verb(), prop::bool::weighted(0.1)).prop_map(work).prop_map(Asked::from),
        1 => node().prop_map(|node| command::Cordon { node }.into()),
        1 => node().prop_map(|node| command::Uncordon { node }.into()),
        1 => node().prop_map(|node| command::Refresh { node }.into()),
        1 => (node(), any::<bool>()).prop_map(|(node, some)| {
            let interval = some.then_some(SECOND * 2);
            command::SetHeartbeat { node, interval }.into()
        }),
        1 => (node(), 0u8..3).prop_map(|(node, value)| {
            let set = Labels::from([("at".to_owned(), value.to_string())]);
            command::Label { node, set, remove: Vec::new() }.into()
        }),
        1 => node().prop_map(|node| command::Drain { node, deadline: None, keep_daemons: false, plan: false }.into()),
        1 => (node(), any::<bool>()).prop_map(|(node, revoke)| {
            let reason = String::new();
            if revoke { command::Revoke { node, reason }.into() } else { command::Admit { node }.into() }
        }),
        1 => node().prop_map(|node| command::Forget { node, plan: false, reason: String::new() }.into()),
        1 => Just(command::Rebalance { plan: false }.into()),
        1 => Just(command::SetPolicy(PolicyChange { heal: Some(Mode::Advise), ..PolicyChange::default() }).into()),
    ]
}

/// Batches caused by one input, while the store confirms nothing.
fn batches_of(site: &mut Site, input: Input) -> Vec<Batch> {
    let before = site.rig.batches.len();
    site.rig.stalled = true;
    site.rig.input(input);
    let made = site.rig.batches[before..].to_vec();
    site.rig.resume();
    made
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A crash between any two batches leaves either a change with its intent, or neither.
    #[test]
    fn a_batch_with_the_changes_of_a_command_carries_its_intent(
        steps in prop::collection::vec((command(), 0u64..3), 1..24),
    ) {
        let mut site = Site::new(4);
        site.pass(SECOND * 2);
        for (number, (command, pause)) in (1_000..).zip(steps) {
            let (request, by) = (RequestId(number), "ada".into());
            let shown = format!("{command:?}");
            let made = batches_of(&mut site, Input::Command { request, command, by });
            let answer = site.rig.answers.iter().find(|(to, _)| *to == request);
            let done = answer.expect("an answer").1.is_ok();
            let carries: Vec<bool> = made.iter().map(|batch| batch.intents == [number]).collect();
            match done {
                true => {
                    prop_assert_eq!(carries.first(), Some(&true), "{}", shown);
                    // Later batches depend on it and change nothing.
                    prop_assert!(made[1..].iter().all(Batch::is_empty), "{}: {:?}", shown, &made[1..]);
                }
                false => prop_assert!(made.iter().all(Batch::is_empty), "{}: {:?}", shown, made),
            }
            site.pass(Duration::from_millis(700) * pause as u32);
        }
    }
}
