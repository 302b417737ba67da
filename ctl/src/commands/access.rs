//! Who may do what: admission, join tokens, operators, the CA.

use std::path::{Path, PathBuf};

use wyneos::{
    client, convert,
    identity::{self, Credentials, Principal},
    v1,
};
use wyneos_shell::files;

use super::{PAGE, next_page, nothing};
use wyneos_core::text::Quoted;

use crate::{
    args::{CaCommand, OperatorArgs, OperatorCommand, Role, TokenArgs, TokenCommand},
    config,
    context::Context,
    exit::Exit,
    failure::Failure,
    text::{self, Table, clean},
};

/// `wynectl admit`.
pub(crate) async fn admit(context: &Context, node: String) -> Result<(), Failure> {
    let mut client = client::cluster(context.connect().await?);
    let request = v1::AdmitNodeRequest { node: node.clone() };
    let what = format!("admit node {}", Quoted(&node));
    let answer = context.call(&what, client.admit_node(request)).await?;
    context.show(&answer, |answer| {
        changed(&node, answer.admission, answer.changed, answer.event_sequence)
    })
}

/// `wynectl revoke`.
pub(crate) async fn revoke(context: &Context, node: String, reason: String) -> Result<(), Failure> {
    let mut client = client::cluster(context.connect().await?);
    let what = format!("revoke node {}", Quoted(&node));
    let request = v1::RevokeNodeRequest {
        node: node.clone(),
        reason,
    };
    let answer = context.call(&what, client.revoke_node(request)).await?;
    context.show(&answer, |answer| {
        changed(&node, answer.admission, answer.changed, answer.event_sequence)
    })
}

fn changed(node: &str, admission: i32, changed: bool, event: u64) -> String {
    let (node, now) = (clean(node), text::admission(admission));
    match changed {
        true => format!("{node}: {now} (event {event})\n"),
        false => format!("{node}: {now} already\n"),
    }
}

/// `wynectl token`.
pub(crate) async fn token(context: &Context, command: TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::Create(args) => create_token(context, args).await,
        TokenCommand::List => list_tokens(context).await,
        TokenCommand::Delete { id } => {
            let mut client = client::access(context.connect().await?);
            let what = format!("delete join token {}", Quoted(&id));
            let request = v1::DeleteJoinTokenRequest { id: id.clone() };
            let answer = context.call(&what, client.delete_join_token(request)).await?;
            context.show(&answer, |_| format!("{}: deleted\n", clean(&id)))
        }
    }
}

async fn create_token(context: &Context, args: TokenArgs) -> Result<(), Failure> {
    let labels = args.label.iter().filter_map(|label| label.split_once('='));
    let labels = labels.map(|(key, value)| v1::Label {
        key: key.to_owned(),
        value: value.to_owned(),
    });
    let request = v1::CreateJoinTokenRequest {
        ttl: Some(convert::duration(args.ttl)),
        uses: args.uses,
        labels: labels.collect(),
        name: args.name.clone(),
        pending: args.pending,
    };
    let mut client = client::access(context.connect().await?);
    let answer = context
        .call("create a join token", client.create_join_token(request))
        .await?;
    if context.is_json() {
        return context.json(&answer);
    }
    let address = args.coordinator.as_deref().unwrap_or(&context.address);
    let address = address.strip_prefix("http://").unwrap_or(address);
    let name = match args.name.as_str() {
        "" => String::new(),
        name => format!(" --name {}", clean(name)),
    };
    let token = clean(&answer.token);
    context.text(&format!(
        "wyneos-agent join --coordinator {address}{name} --token {token}\n"
    ))?;
    let uses = text::count(args.uses, "host");
    text::stderr(&format!("for {uses}, within {}", text::span(args.ttl)));
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    if args.coordinator.is_none() && (host == "localhost" || host.starts_with("127.") || host == "[::1]") {
        text::stderr(
            "other hosts reach the coordinator by another address: --coordinator HOST:PORT puts it into the line",
        );
    }
    Ok(())
}

async fn list_tokens(context: &Context) -> Result<(), Failure> {
    let mut client = client::access(context.connect().await?);
    let (what, mut page_token) = ("list the join tokens", String::new());
    let mut answer = v1::ListJoinTokensResponse::default();
    loop {
        let request = v1::ListJoinTokensRequest {
            page_size: PAGE,
            page_token: page_token.clone(),
        };
        let mut page = context.call(what, client.list_join_tokens(request)).await?;
        answer.tokens.append(&mut page.tokens);
        if !next_page(what, &mut page_token, &mut page.next_page_token)? {
            break;
        }
    }
    if !context.is_json() && answer.tokens.is_empty() {
        nothing("join tokens");
        return Ok(());
    }
    context.show(&answer, |answer| {
        let mut table = Table::new(["ID", "USES LEFT", "EXPIRES", "ADMITS", "NAME", "LABELS", "MADE BY"]);
        for token in &answer.tokens {
            let labels = token.labels.iter();
            let labels: Vec<String> = labels
                .map(|label| clean(&format!("{}={}", label.key, label.value)))
                .collect();
            table.row([
                clean(&token.id),
                token.uses_left.to_string(),
                text::timestamp(token.expires.as_ref()),
                if token.pending { "no" } else { "yes" }.to_owned(),
                or_none(&token.name),
                or_none(&labels.join(",")),
                clean(&token.created_by),
            ]);
        }
        table.text(0)
    })
}

fn or_none(value: &str) -> String {
    match value {
        "" => text::NONE.to_owned(),
        value => clean(value),
    }
}

/// `wynectl operator`.
pub(crate) async fn operator(context: &Context, command: OperatorCommand) -> Result<(), Failure> {
    match command {
        OperatorCommand::Create(args) => create_operator(context, args).await,
        OperatorCommand::List => list_operators(context).await,
        OperatorCommand::Revoke { name, force } => {
            let mut client = client::access(context.connect().await?);
            let what = format!("revoke operator {}", Quoted(&name));
            let request = v1::RevokeOperatorRequest {
                name: name.clone(),
                force,
            };
            let answer = context.call(&what, client.revoke_operator(request)).await?;
            context.show(&answer, |answer| revoked(&name, answer.details.as_ref()))
        }
    }
}

fn revoked(name: &str, details: Option<&v1::Operator>) -> String {
    let name = clean(name);
    match details.is_some_and(is_on_record) {
        true => format!("{name}: revoked\n"),
        false => format!(
            "{name} is not on record: it is shut out by name. If it is a typo, see `wynectl operator list` and `wynectl audit`\n"
        ),
    }
}

/// False for a name that was shut out without having been on record.
fn is_on_record(operator: &v1::Operator) -> bool {
    operator.role() != v1::Role::Unspecified
}

/// What `operator list` adds about operators that it cannot list.
const NOT_ON_RECORD: &str =
    "credentials made by `wyneos-coordinator admin` on the coordinator's host are not on record";

fn cannot(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, format!("cannot {what}: {error}"))
}

async fn create_operator(context: &Context, args: OperatorArgs) -> Result<(), Failure> {
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    let key = match args.bearer {
        true => None,
        false => Some(identity::new_key().map_err(|error| cannot("make a key", &error))?),
    };
    if !args.bearer && !files::is_missing(&out.join("key.pem")) {
        let key = absolute(&out).join("key.pem");
        let message = format!("{}: a key is there already, and is not overwritten", key.display());
        return Err(Failure::new(Exit::Failed, message)
            .hint("--out names another folder; without it the folder is ./NAME")
            .hint("or move that folder away, if nobody uses its credentials any more"));
    }
    let certificate_request = match &key {
        Some(key) => identity::request_for(key)
            .map_err(|error| cannot("make a request", &error))?
            .to_vec(),
        None => Vec::new(),
    };
    let role = match args.role {
        Role::Viewer => v1::Role::Viewer,
        Role::Operator => v1::Role::Operator,
        Role::Deployer => v1::Role::Deployer,
        Role::Admin => v1::Role::Admin,
    };
    let request = v1::CreateOperatorRequest {
        name: args.name.clone(),
        role: role.into(),
        ttl: Some(convert::duration(args.ttl)),
        certificate_request,
        force: args.force,
    };
    let mut client = client::access(context.connect().await?);
    let what = format!("create operator {}", Quoted(&args.name));
    let answer = context.call(&what, client.create_operator(request)).await?;
    if let Some(key) = key {
        let der = |all: &[Vec<u8>]| all.iter().map(|one| one.clone().into()).collect::<Vec<_>>();
        let chain: Vec<rustls_pki_types::CertificateDer<'static>> = der(&answer.chain);
        let first = chain
            .first()
            .ok_or_else(|| cannot("use the answer", &"it has no certificate"))?;
        let principal = Principal::of(first).map_err(|error| cannot("use the certificate", &error))?;
        let roots = der(&answer.roots);
        let credentials = Credentials {
            principal,
            chain,
            key,
            roots,
        };
        config::private(&out)?;
        let written = files::write_credentials(&out, &credentials);
        written.map_err(|error| cannot(&format!("write into {}", out.display()), &error))?;
    }
    if context.is_json() {
        return context.json(&answer);
    }
    if answer.off_record {
        let name = clean(&args.name);
        text::stderr(&format!(
            "{name} was not on record: credentials made for this name on the coordinator's host are shut out from now on"
        ));
    }
    let out = absolute(&out);
    match args.bearer {
        true => context.text(&format!("{}\n", clean(&answer.bearer_token)))?,
        false => context.text(&told(&args.name, &out, &context.address))?,
    }
    let details = answer.details.unwrap_or_default();
    let place = match args.bearer {
        true => "its bearer token is shown this once".to_owned(),
        false => format!("its key and certificate are in {}", clean(&out.display().to_string())),
    };
    text::stderr(&format!(
        "{}: {}, until {}; {place}",
        clean(&args.name),
        text::role(details.role),
        text::timestamp(details.expires.as_ref())
    ));
    Ok(())
}

/// A path that means the same from every directory.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn told(name: &str, out: &Path, address: &str) -> String {
    let (name, out) = (clean(name), clean(&out.display().to_string()));
    format!("wynectl context add {name} --coordinator {address} --from {out}\n")
}

async fn list_operators(context: &Context) -> Result<(), Failure> {
    let mut client = client::access(context.connect().await?);
    let (what, mut page_token) = ("list the operators", String::new());
    let mut answer = v1::ListOperatorsResponse::default();
    loop {
        let request = v1::ListOperatorsRequest {
            page_size: PAGE,
            page_token: page_token.clone(),
        };
        let mut page = context.call(what, client.list_operators(request)).await?;
        answer.operators.append(&mut page.operators);
        if !next_page(what, &mut page_token, &mut page.next_page_token)? {
            break;
        }
    }
    if !context.is_json() && answer.operators.is_empty() {
        nothing("operators on record");
        text::stderr(NOT_ON_RECORD);
        return Ok(());
    }
    context.show(&answer, |answer| {
        let mut table = Table::new(["NAME", "ROLE", "BY", "EXPIRES", "REVOKED", "MADE BY"]);
        for operator in &answer.operators {
            table.row([
                clean(&operator.name),
                match is_on_record(operator) {
                    true => text::role(operator.role),
                    false => text::NONE.to_owned(),
                },
                match (is_on_record(operator), operator.bearer) {
                    (false, _) => text::NONE,
                    (true, true) => "bearer token",
                    (true, false) => "certificate",
                }
                .to_owned(),
                text::timestamp(operator.expires.as_ref()),
                match &operator.revoked {
                    Some(time) => text::timestamp(Some(time)),
                    None => text::NONE.to_owned(),
                },
                or_none(&operator.created_by),
            ]);
        }
        table.text(0)
    })?;
    if !context.is_json() {
        text::stderr(NOT_ON_RECORD);
    }
    Ok(())
}

/// `wynectl ca`.
pub(crate) async fn ca(context: &Context, command: CaCommand) -> Result<(), Failure> {
    let mut client = client::access(context.connect().await?);
    let (step, force) = match command {
        CaCommand::Show => {
            let answer = context
                .call("show the CAs", client.get_authorities(v1::GetAuthoritiesRequest {}))
                .await?;
            return context.show(&answer, |answer| {
                let whose = match answer.external {
                    true => "an operator's own, from files",
                    false => "the cluster's own",
                };
                let behind = match answer.nodes_behind_unknown {
                    true => "an unknown number of nodes".to_owned(),
                    false => text::count(answer.nodes_behind, "node"),
                };
                format!(
                    "{}{whose}; certificates of {behind} are from before the last step\n",
                    authorities(&answer.authorities)
                )
            });
        }
        CaCommand::Prepare => (v1::RotationStep::Prepare, false),
        CaCommand::Activate { force } => (v1::RotationStep::Activate, force),
        CaCommand::Retire { force } => (v1::RotationStep::Retire, force),
    };
    // Only before the step is it known whom it cuts off.
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
        text::stderr("before the old CA is retired, operators need `wynectl context renew`, and new `ca.pem` files");
    }
    Ok(())
}

/// Who is cut off once a CA is retired, and the way back.
fn cut_off(nodes: u32) -> Vec<String> {
    let mut lines = Vec::new();
    if nodes > 0 {
        lines.push(format!(
            "{} had no certificate of the CA that is trusted now, and can come back only by joining anew: `wynectl token create`, and \
             `wyneos-agent join` on the host",
            text::count(nodes, "node")
        ));
    }
    lines.push(
        "operators whose credentials are from before need new ones: `wynectl operator create NAME --role ROLE --out DIR`, or \
         `wyneos-coordinator admin` on the coordinator's host; `wynectl context renew` does not work with the old ones"
            .to_owned(),
    );
    lines.push("join tokens from before have ended with the old CA, and are not listed any more".to_owned());
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
