//! `wynectl ca`: the CA that issues certificates, and its replacement.

use wyneos::{client, v1};

use crate::{
    args::CaCommand,
    context::Context,
    failure::Failure,
    text::{self, Table, clean},
};

/// `wynectl ca`.
pub(crate) async fn ca(context: &Context, command: CaCommand) -> Result<(), Failure> {
    let mut client = client::access(context.connect().await?);
    let (step, force) = match command {
        CaCommand::Show => {
            let answer = context
                .call("show the CAs", client.get_authorities(v1::GetAuthoritiesRequest {}))
                .await?;
            return context.show(&answer, shown);
        }
        CaCommand::Prepare => (v1::RotationStep::Prepare, false),
        CaCommand::Activate { force } => (v1::RotationStep::Activate, force),
        CaCommand::Retire { force } => (v1::RotationStep::Retire, force),
    };
    // The nodes that a step cuts off are known only before it.
    let behind = match step {
        v1::RotationStep::Retire => {
            let request = v1::GetAuthoritiesRequest {};
            let answer = context.call("show the CAs", client.get_authorities(request)).await?;
            Some(answer.nodes_behind)
        }
        _ => None,
    };
    let request = v1::RotateAuthorityRequest {
        step: step.into(),
        force,
    };
    let answer = context.call("replace the CA", client.rotate_authority(request)).await?;
    context.show(&answer, |answer| authorities(&answer.authorities))?;
    if let Some(behind) = behind {
        for line in cut_off(behind) {
            text::stderr(&line);
        }
    }
    if step == v1::RotationStep::Activate {
        text::stderr(
            "before the old CA is retired, operators must run `wynectl context renew`, and replace `ca.pem` files",
        );
    }
    Ok(())
}

/// The CAs, and the progress of their replacement.
pub(in crate::commands) fn shown(answer: &v1::GetAuthoritiesResponse) -> String {
    let whose = match answer.external {
        true => "provided by the operator, from files",
        false => "the cluster's own",
    };
    let behind = match answer.nodes_behind_unknown {
        true => "an unknown number of nodes".to_owned(),
        false => text::count(answer.nodes_behind, "node"),
    };
    let table = authorities(&answer.authorities);
    format!("{table}{whose}; certificates of {behind} are from before the last step\n")
}

/// Everyone who is cut off when a CA is retired, and the remedy.
pub(in crate::commands) fn cut_off(nodes: u32) -> Vec<String> {
    let mut lines = Vec::new();
    if nodes > 0 {
        lines.push(format!(
            "{} had no certificate of the CA that is trusted now, and can return only by joining again: `wynectl token create`, and \
             `wyneos-agent join` on the host",
            text::count(nodes, "node")
        ));
    }
    lines.push(
        "operators with earlier credentials need new ones: `wynectl operator create NAME --role ROLE --out DIR`, or \
         `wyneos-coordinator admin` on the coordinator's host; `wynectl context renew` does not work with the old ones"
            .to_owned(),
    );
    lines.push("earlier join tokens have become invalid with the old CA, and are no longer listed".to_owned());
    lines
}

fn authorities(authorities: &[v1::AuthorityDetails]) -> String {
    let mut table = Table::new(["CA", "EXPIRES", "SIGNS"]);
    for one in authorities {
        table.row([
            clean(&one.fingerprint),
            text::timestamp(one.expires.as_ref()),
            if one.signs { "yes" } else { "no" }.to_owned(),
        ]);
    }
    table.text(0)
}
