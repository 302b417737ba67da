//! Decisions, and the modes of automatic actions.

use std::collections::BTreeSet;

use tonic::transport::Channel;
use wyneos::{
    client,
    v1::{self, decision_service_client::DecisionServiceClient},
};

use super::nothing;
use crate::{
    args::{AutonomyArgs, DecisionVerb, DecisionsArgs, Mode},
    context::Context,
    exit::Exit,
    failure::Failure,
    text::{self, Table, clean},
};

/// `wynectl decisions`.
pub(crate) async fn run(context: &Context, args: DecisionsArgs) -> Result<(), Failure> {
    let mut client = client::decisions(context.connect().await?);
    match args.verb {
        Some(DecisionVerb::Approve { id }) => {
            let request = v1::ApproveDecisionRequest { id };
            let answer = context
                .call(&format!("approve decision {id}"), client.approve_decision(request))
                .await?;
            context.show(&answer, |answer| answered(answer.decision.as_ref()))
        }
        Some(DecisionVerb::Reject { id }) => {
            let request = v1::RejectDecisionRequest { id };
            let answer = context
                .call(&format!("reject decision {id}"), client.reject_decision(request))
                .await?;
            context.show(&answer, |answer| answered(answer.decision.as_ref()))
        }
        None => {
            let mut answer = newest(context, &mut client, args.limit.clamp(1, super::PAGE)).await?;
            if args.pending {
                answer
                    .decisions
                    .retain(|decision| decision.outcome() == v1::DecisionOutcome::Pending);
            }
            if !context.is_json() && answer.decisions.is_empty() {
                nothing("decisions");
                return Ok(());
            }
            context.show(&answer, |answer| list(&answer.decisions))
        }
    }
}

/// The newest decisions, at most `limit`: a page may have fewer, or none, with others behind it.
async fn newest(
    context: &Context,
    client: &mut DecisionServiceClient<Channel>,
    limit: u32,
) -> Result<v1::ListDecisionsResponse, Failure> {
    let (mut all, mut seen) = (v1::ListDecisionsResponse::default(), BTreeSet::new());
    loop {
        let request = v1::ListDecisionsRequest {
            page_size: limit - all.decisions.len() as u32,
            page_token: all.next_page_token.clone(),
            ..v1::ListDecisionsRequest::default()
        };
        let page = context
            .call("list the decisions", client.list_decisions(request))
            .await?;
        // A decision whose outcome changed is recorded again: the newest record counts.
        let news = page.decisions.into_iter().filter(|decision| seen.insert(decision.id));
        all.decisions.extend(news);
        let is_stuck = page.next_page_token == all.next_page_token;
        all.next_page_token = page.next_page_token;
        if all.decisions.len() >= limit as usize || all.next_page_token.is_empty() {
            return Ok(all);
        }
        if is_stuck {
            return Err(Failure::new(
                Exit::Failed,
                "list the decisions: the server's pages have no end",
            ));
        }
    }
}

pub(super) fn answered(decision: Option<&v1::Decision>) -> String {
    let Some(decision) = decision else { return String::new() };
    format!(
        "{} {}: {}\n",
        decision.id,
        text::outcome(decision.outcome),
        clean(&decision.action)
    )
}

pub(super) fn list(decisions: &[v1::Decision]) -> String {
    let mut table = Table::new(["DECISION", "AGE", "KIND", "MODE", "OUTCOME", "ACTION"]);
    for decision in decisions {
        table.row([
            decision.id.to_string(),
            text::age(decision.time.as_ref()),
            clean(&decision.kind),
            text::mode(decision.mode),
            text::outcome(decision.outcome),
            clean(&decision.action),
        ]);
    }
    table.text(0)
}

fn wire(mode: Option<Mode>) -> i32 {
    let mode = mode.map_or(v1::AutonomyMode::Unspecified, |mode| match mode {
        Mode::Observe => v1::AutonomyMode::Observe,
        Mode::Advise => v1::AutonomyMode::Advise,
        Mode::Act => v1::AutonomyMode::Act,
    });
    mode.into()
}

/// `wynectl autonomy`.
pub(crate) async fn autonomy(context: &Context, args: AutonomyArgs) -> Result<(), Failure> {
    let mut client = client::decisions(context.connect().await?);
    if args.heal.or(args.rebalance).or(args.preempt).is_none() {
        let request = v1::GetAutonomyRequest {};
        let answer = context.call("get autonomy", client.get_autonomy(request)).await?;
        return context.show(&answer, |answer| modes(answer.heal, answer.rebalance, answer.preempt));
    }
    let request = v1::SetAutonomyRequest {
        heal: wire(args.heal),
        rebalance: wire(args.rebalance),
        preempt: wire(args.preempt),
    };
    let answer = context.call("set autonomy", client.set_autonomy(request)).await?;
    context.show(&answer, |answer| modes(answer.heal, answer.rebalance, answer.preempt))
}

pub(super) fn modes(heal: i32, rebalance: i32, preempt: i32) -> String {
    format!(
        "heal:        {}\nrebalance:   {}\npreempt:     {}\n",
        text::mode(heal),
        text::mode(rebalance),
        text::mode(preempt)
    )
}
