//! `wynectl token`: tokens with which hosts join.

use wyneos::{client, convert, v1};
use wyneos_core::text::Quoted;

use super::or_none;
use crate::{
    args::{TokenArgs, TokenCommand},
    commands::{PAGE, next_page, nothing},
    context::Context,
    failure::Failure,
    text::{self, Table, clean},
};

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
            "other hosts reach the coordinator at another address: --coordinator HOST:PORT puts it into the line",
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
    context.show(&answer, |answer| all(&answer.tokens))
}

/// A table of join tokens.
pub(in crate::commands) fn all(tokens: &[v1::JoinToken]) -> String {
    let mut table = Table::new(["ID", "USES LEFT", "EXPIRES", "ADMITS", "NAME", "LABELS", "CREATED BY"]);
    for token in tokens {
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
}
