//! Decisions about telemetry channels that are predicted to reach their thresholds.

use super::Autonomy;
use crate::{
    autonomy::{Alternative, Evidence, Fact, Proposal, Source},
    ctx::Ctx,
    predictive::{Forecast, HORIZON},
    telemetry::Sample,
};

/// Maximum number of threshold decisions per cycle; the rest follow in later cycles, soonest crossing first.
const DECISIONS_A_CYCLE: usize = 100;

impl Autonomy {
    /// Records decisions about channels that are predicted to reach their thresholds, and resolves those that no longer
    /// are.
    ///
    /// `crossing` lists these channels, soonest first.
    pub(crate) fn foresee(&mut self, ctx: &mut Ctx, newest: &Sample, crossing: &[Forecast]) {
        let mut taken = 0;
        for forecast in crossing {
            let open = self
                .ledger
                .still_crossing(forecast.node, forecast.channel, ctx.clock.cycle);
            if !open && taken < DECISIONS_A_CYCLE {
                taken += 1;
                let proposal = propose_threshold(ctx, newest, forecast);
                let decision = self.ledger.threshold(forecast.node, forecast.channel, proposal);
                ctx.record_decision(Some(forecast.node), decision);
            }
        }
        for decision in self.ledger.settle(ctx.clock.cycle) {
            let index = decision.node.and_then(|node| ctx.registry.find(node));
            ctx.record_decision(index, decision);
        }
    }
}

fn propose_threshold(ctx: &Ctx, newest: &Sample, forecast: &Forecast) -> Proposal {
    let node = &ctx.registry[forecast.node];
    let channel = forecast.channel;
    let (outlook, within) = (forecast.outlook, forecast.time_to_threshold.unwrap_or_default());
    let threshold = channel.threshold().unwrap_or_default();
    let wall = ctx.wall_now();
    let newest = newest.get(forecast.node, channel).unwrap_or_default();
    let ahead = ctx.config.cycle * HORIZON as u32;
    let expected = Fact::Expected {
        within: ahead,
        value: outlook.value,
        low: outlook.low,
        high: outlook.high,
    };
    let skill = Fact::Skill {
        skill: outlook.skill,
        coverage: outlook.coverage,
        forecasts: outlook.measured,
    };
    let reading = Fact::Reading {
        channel: channel.name().to_owned(),
        value: newest,
        threshold,
    };
    let evidence = vec![
        Evidence::new(wall, Source::Telemetry, reading),
        Evidence::new(wall, Source::Predictive, expected),
        Evidence::new(wall, Source::Predictive, skill),
    ];
    let soon = within.as_secs();
    Proposal {
        index: Some(forecast.node),
        node: Some(node.record.id()),
        time: wall,
        cycle: ctx.clock.cycle,
        rule: "threshold-ahead",
        action: format!(
            "{} of {} is expected to reach {threshold} in {soon} s",
            channel.name(),
            node.name()
        ),
        evidence,
        alternatives: vec![Alternative::new(
            "cordon the node",
            "the mode is observe: nothing is done",
        )],
        caused_by: Vec::new(),
    }
}
