//! `wynectl audit`: who did what, and who was refused.

use std::collections::BTreeSet;

use wyneos::{
    audit::{Intents, Verifier},
    client, v1,
};
use wyneos_core::integrity::PublicKey;

use super::{PAGE, follow::Follower, nothing};
use crate::{
    args::AuditArgs,
    context::Context,
    exit::Exit,
    failure::Failure,
    text::{self, clean},
};

const WHAT: &str = "read the audit";

/// Lists, verifies, follows.
pub(crate) async fn run(context: &Context, args: AuditArgs) -> Result<(), Failure> {
    let mut client = client::access(context.connect().await?);
    let mut merged = v1::ListAuditResponse::default();
    let mut verifier: Option<Verifier> = None;
    let mut intents = Intents::default();
    let (mut from, mut read) = (args.from.unwrap_or_default(), 0u64);
    loop {
        let request = v1::ListAuditRequest {
            from_sequence: from,
            page_size: PAGE,
        };
        let mut page = context.call(WHAT, client.list_audit(request)).await?;
        if args.verify && verifier.is_none() {
            verifier = Some(verifier_for(&args, &page)?);
        }
        for entry in &page.entries {
            read += 1;
            from = sequence(entry) + 1;
            verify(verifier.as_mut(), entry)?;
            intents.take(&entry.record.clone().unwrap_or_default());
        }
        let next = page.next_sequence;
        if context.is_json() && !args.follow {
            merged.entries.append(&mut page.entries);
            (merged.public_key, merged.cluster_id) = (page.public_key, page.cluster_id);
        } else {
            hand_out(context, &page.entries)?;
        }
        if next == 0 {
            break;
        }
        if next < from {
            return Err(Failure::new(
                Exit::Failed,
                "read the audit: the server's pages have no end",
            ));
        }
    }
    if args.follow {
        return follow(context, from.max(1), verifier).await;
    }
    if context.is_json() {
        context.json(&merged)?;
    } else if read == 0 {
        nothing("entries");
    }
    if args.verify {
        text::stderr(&format!(
            "verified {}",
            text::count(read, "entry").replace("entrys", "entries")
        ));
        for line in account(&intents) {
            text::stderr(&line);
        }
        none_lost(verifier.as_ref())?;
    }
    Ok(())
}

/// Fails when the coordinator itself says that entries are missing.
fn none_lost(verifier: Option<&Verifier>) -> Result<(), Failure> {
    let lost = verifier.map(Verifier::lost).unwrap_or_default();
    let Some((_, last)) = lost.last() else { return Ok(()) };
    let told: Vec<String> = lost.iter().map(|(first, last)| format!("{first} to {last}")).collect();
    let message = format!(
        "entries {} were lost: the coordinator found them missing at a start",
        told.join(", ")
    );
    let hint = format!(
        "`wynectl audit` says when; `--from {}` verifies what came after",
        last.saturating_add(2)
    );
    Err(Failure::new(Exit::Unverified, message).hint(hint))
}

/// Which intents have no outcome of their own, by their numbers.
fn account(intents: &Intents) -> Vec<String> {
    let told = [
        (
            &intents.open,
            "no outcome (under way now, or the coordinator ended and has not started since): ",
        ),
        (&intents.applied, "cut off by the coordinator's end, and carried out: "),
        (&intents.not_applied, "cut off, and not carried out: "),
        (&intents.unknown, "cut off, and what came of it is not known: "),
    ];
    let some = told.into_iter().filter(|(numbers, _)| !numbers.is_empty());
    some.map(|(numbers, what)| {
        format!(
            "{}: {what}{}",
            text::count(numbers.len() as u64, "intent"),
            ranges(numbers)
        )
    })
    .collect()
}

/// Ascending numbers, those that follow one another as a range.
fn ranges(numbers: &BTreeSet<u64>) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let told = ranges.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    told.collect::<Vec<_>>().join(", ")
}

fn sequence(entry: &v1::AuditEntry) -> u64 {
    entry.record.as_ref().map_or(0, |record| record.sequence)
}

fn verifier_for(args: &AuditArgs, page: &v1::ListAuditResponse) -> Result<Verifier, Failure> {
    let wrong = |what: &str| Failure::new(Exit::Failed, format!("{WHAT}: the server sent no {what}"));
    let cluster = page.cluster_id.parse().map_err(|_| wrong("cluster id"))?;
    let key = match args.public_key {
        Some(key) => key,
        None => PublicKey(page.public_key.as_slice().try_into().map_err(|_| wrong("public key"))?),
    };
    Ok(Verifier::new(cluster, key))
}

fn verify(verifier: Option<&mut Verifier>, entry: &v1::AuditEntry) -> Result<(), Failure> {
    let Some(verifier) = verifier else { return Ok(()) };
    verifier.next(entry).map_err(|error| {
        let message = format!("entry {}: verification failed: {error}", sequence(entry));
        Failure::new(Exit::Unverified, message)
    })
}

fn hand_out(context: &Context, entries: &[v1::AuditEntry]) -> Result<(), Failure> {
    if context.is_json() {
        return entries.iter().try_for_each(|entry| context.json_line(entry));
    }
    let lines: String = entries.iter().map(line).collect();
    context.text(&lines)
}

fn line(entry: &v1::AuditEntry) -> String {
    let Some(record) = &entry.record else {
        return "(an empty entry)\n".to_owned();
    };
    let action = record.action.strip_prefix("wyneos.v1.").unwrap_or(&record.action);
    let code = tonic::Code::from_i32(i32::try_from(record.code).unwrap_or_default());
    let outcome = match (record.kind(), code) {
        (v1::AuditKind::Intent, _) => "begun".to_owned(),
        (v1::AuditKind::Reconciled | v1::AuditKind::Lost, _) => clean(&record.reason),
        (_, tonic::Code::Ok) => "done".to_owned(),
        (_, code) => format!("{code:?}: {}", clean(&record.reason)),
    };
    let of = match record.intent {
        0 => String::new(),
        intent => format!(" (intent {intent})"),
    };
    let again = match record.repeats {
        0 => String::new(),
        more => format!(" (and {more} more like it)"),
    };
    format!(
        "{:>8}   {}   {:<24}   {:<21}   {}   {}   {outcome}{of}{again}\n",
        record.sequence,
        text::timestamp(record.time.as_ref()),
        clean(&record.principal),
        clean(&record.source),
        clean(action),
        clean(&record.target),
    )
}

async fn follow(context: &Context, mut next: u64, mut verifier: Option<Verifier>) -> Result<(), Failure> {
    let mut follower = Follower::new(context, "follow the audit");
    let mut client = client::access(context.connect().await?);
    loop {
        let request = v1::WatchAuditRequest { from_sequence: next };
        let Some(mut stream) = follower.open(client.watch_audit(request)).await? else {
            continue;
        };
        loop {
            match stream.message().await {
                Ok(Some(v1::WatchAuditResponse { entry: Some(entry) })) => {
                    follower.heard();
                    verify(verifier.as_mut(), &entry)?;
                    next = sequence(&entry) + 1;
                    hand_out(context, &[entry])?;
                }
                Ok(Some(_)) => {}
                Ok(None) => {
                    follower.ended().await;
                    break;
                }
                Err(status) => {
                    follower.lost(&status).await?;
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_follow_one_another_are_a_range() {
        assert_eq!(ranges(&BTreeSet::from([1, 2, 3, 7, 9, 10])), "1-3, 7, 9-10");
        assert_eq!(ranges(&BTreeSet::new()), "");
    }
}
