//! `wynectl operator`: people and programs that call the coordinator.

use std::path::{Path, PathBuf};

use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use wyneos::{
    client, convert,
    identity::{self, Credentials, Principal},
    v1,
};
use wyneos_core::text::Quoted;
use wyneos_shell::files;

use super::or_none;
use crate::{
    args::{OperatorArgs, OperatorCommand, Role},
    commands::{PAGE, next_page, nothing},
    config,
    context::Context,
    exit::Exit,
    failure::Failure,
    text::{self, Table, clean},
};

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

pub(in crate::commands) fn revoked(name: &str, details: Option<&v1::Operator>) -> String {
    let name = clean(name);
    match details.is_some_and(is_on_record) {
        true => format!("{name}: revoked\n"),
        false => {
            let told = format!(
                "{name} is not on record, and is revoked by name. If it is a typo, see `wynectl operator list` and \
                 `wynectl audit`"
            );
            text::hanging("", &told, 4, text::columns())
        }
    }
}

/// Returns whether the operator was on record; false for a name that was revoked without a record.
fn is_on_record(operator: &v1::Operator) -> bool {
    operator.role() != v1::Role::Unspecified
}

/// Remark of `operator list` about operators that it cannot list.
const NOT_ON_RECORD: &str =
    "credentials created by `wyneos-coordinator admin` on the coordinator's host are not on record";

fn cannot(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, format!("cannot {what}: {error}"))
}

async fn create_operator(context: &Context, args: OperatorArgs) -> Result<(), Failure> {
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    let key = match args.bearer {
        true => None,
        false => Some(identity::new_key().map_err(|error| cannot("generate a key", &error))?),
    };
    if key.is_some() {
        has_no_key(&out)?;
    }
    let certificate_request = match &key {
        Some(key) => identity::request_for(key)
            .map_err(|error| cannot("create a request", &error))?
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
        write(&out, key, &answer)?;
    }
    if context.is_json() {
        return context.json(&answer);
    }
    if answer.off_record {
        let name = clean(&args.name);
        text::stderr(&format!(
            "{name} was not on record: credentials created for this name on the coordinator's host are revoked from now on"
        ));
    }
    let out = absolute(&out);
    match args.bearer {
        true => context.text(&format!("{}\n", clean(&answer.bearer_token)))?,
        false => context.text(&told(&args.name, &out, &context.address))?,
    }
    let details = answer.details.unwrap_or_default();
    let place = match args.bearer {
        true => "its bearer token is shown only once".to_owned(),
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

/// Fails if the directory contains a key, which would be overwritten.
fn has_no_key(out: &Path) -> Result<(), Failure> {
    if files::is_missing(&out.join("key.pem")) {
        return Ok(());
    }
    let key = absolute(out).join("key.pem");
    let message = format!("{}: a key is there already, and is not overwritten", key.display());
    Err(Failure::new(Exit::Failed, message)
        .hint("--out selects another directory; the default is ./NAME")
        .hint("or move that directory away, if its credentials are no longer used"))
}

/// Writes the key and the certificates that were issued for it into a separate directory.
fn write(out: &Path, key: PrivateKeyDer<'static>, answer: &v1::CreateOperatorResponse) -> Result<(), Failure> {
    let der = |all: &[Vec<u8>]| all.iter().map(|one| one.clone().into()).collect::<Vec<_>>();
    let chain: Vec<CertificateDer<'static>> = der(&answer.chain);
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
    config::private(out)?;
    let written = files::write_credentials(out, &credentials);
    written.map_err(|error| cannot(&format!("write into {}", out.display()), &error))
}

/// A path that is valid in every working directory.
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
    context.show(&answer, |answer| all(&answer.operators))?;
    if !context.is_json() {
        text::stderr(NOT_ON_RECORD);
    }
    Ok(())
}

/// A table of operators.
pub(in crate::commands) fn all(operators: &[v1::Operator]) -> String {
    let mut table = Table::new(["NAME", "ROLE", "BY", "EXPIRES", "REVOKED", "CREATED BY"]);
    for operator in operators {
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
}
