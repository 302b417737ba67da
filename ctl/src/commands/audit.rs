//! `wynectl audit`: changes and refusals, with the principals.

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

/// Indentation of the further lines of an entry.
const INDENT: usize = 9;

/// Lists, verifies, follows.
pub(crate) async fn run(context: &Context, args: AuditArgs) -> Result<(), Failure> {
    let mut client = client::access(context.connect().await?);
    let mut merged = v1::ListAuditResponse::default();
    let mut verifier: Option<Verifier> = None;
    let mut intents = Intents::default();
    let mut headed = false;
    let (mut from, mut read, mut begun) = (args.from.unwrap_or_default(), 0u64, 0u64);
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
            let record = entry.record.clone().unwrap_or_default();
            begun += u64::from(record.kind() == v1::AuditKind::Intent);
            intents.take(&record);
        }
        let next = page.next_sequence;
        if context.is_json() && !args.follow {
            merged.entries.append(&mut page.entries);
            (merged.public_key, merged.cluster_id) = (page.public_key, page.cluster_id);
        } else {
            hand_out(context, &page.entries, &mut headed)?;
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
        return follow(context, from.max(1), verifier, headed).await;
    }
    if context.is_json() {
        context.json(&merged)?;
    } else if read == 0 {
        nothing("entries");
    }
    if args.verify {
        for line in verified(read, begun, &intents) {
            text::stderr(&line);
        }
        none_lost(verifier.as_ref())?;
    }
    Ok(())
}

/// Fails if the coordinator itself reports that entries are missing.
fn none_lost(verifier: Option<&Verifier>) -> Result<(), Failure> {
    let lost = verifier.map(Verifier::lost).unwrap_or_default();
    let Some((_, last)) = lost.last() else { return Ok(()) };
    let told: Vec<String> = lost.iter().map(|(first, last)| format!("{first} to {last}")).collect();
    let message = format!(
        "entries {} were lost: the coordinator found them missing when it started",
        told.join(", ")
    );
    let hint = format!(
        "`wynectl audit` shows the time; `--from {}` verifies the later entries",
        last.saturating_add(2)
    );
    Err(Failure::new(Exit::Unverified, message).hint(hint))
}

/// Result of a verification: the entries, and whether each of the intents among them has an outcome.
pub(super) fn verified(read: u64, begun: u64, intents: &Intents) -> Vec<String> {
    let entries = match read {
        1 => "1 entry".to_owned(),
        read => format!("{read} entries"),
    };
    let accounted = match (begun, intents.open.len()) {
        (0, _) => "no intents".to_owned(),
        (1, 0) => "1 intent, with an outcome".to_owned(),
        (_, 0) => format!("{begun} intents, each with an outcome"),
        (_, open) => format!("{}, {open} of them without an outcome", text::count(begun, "intent")),
    };
    let mut lines = vec![format!("verified {entries}; {accounted}")];
    lines.extend(account(intents));
    lines
}

/// Numbers of the intents without an outcome of their own.
fn account(intents: &Intents) -> Vec<String> {
    let told = [
        (
            &intents.open,
            "no outcome (their calls are in progress, or the coordinator has not restarted since it ended): ",
        ),
        (
            &intents.applied,
            "cut off as the coordinator ended, determined to be carried out: ",
        ),
        (&intents.not_applied, "cut off, determined not to be carried out: "),
        (&intents.unknown, "cut off, outcome unknown: "),
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

/// Ascending numbers, with consecutive ones as a range.
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

fn hand_out(context: &Context, entries: &[v1::AuditEntry], headed: &mut bool) -> Result<(), Failure> {
    if context.is_json() {
        return entries.iter().try_for_each(|entry| context.json_line(entry));
    }
    let most = text::columns();
    let mut lines = String::new();
    if !entries.is_empty() && !std::mem::replace(headed, true) {
        lines += &heading(most);
    }
    lines.extend(entries.iter().map(|entry| line(entry, most)));
    context.text(&lines)
}

/// The headings of the columns.
pub(super) fn heading(most: Option<usize>) -> String {
    let prefix = format!("{:>6}   {:<24}   ", "ENTRY", "TIME");
    let told = format!("{:<24}   {:<21}   ACTION   OBJECT   OUTCOME", "WHO", "FROM");
    text::hanging(&prefix, &told, INDENT, most)
}

/// An entry in at most `most` columns.
pub(super) fn line(entry: &v1::AuditEntry, most: Option<usize>) -> String {
    let Some(record) = &entry.record else {
        return "(an empty entry)\n".to_owned();
    };
    let action = record.action.strip_prefix("wyneos.v1.").unwrap_or(&record.action);
    let code = tonic::Code::from_i32(i32::try_from(record.code).unwrap_or_default());
    let outcome = match (record.kind(), code) {
        (v1::AuditKind::Intent, _) => "begun".to_owned(),
        (v1::AuditKind::Reconciled | v1::AuditKind::Lost | v1::AuditKind::SetBack, _) => clean(&record.reason),
        (_, tonic::Code::Ok) => "done".to_owned(),
        (_, code) => format!("{}: {}", text::code(code), clean(&record.reason)),
    };
    let of = match record.intent {
        0 => String::new(),
        intent => format!(" (intent {intent})"),
    };
    let again = match record.repeats {
        0 => String::new(),
        more => format!(" (and {more} more like it)"),
    };
    let target = match record.target.as_str() {
        // Entries of earlier versions may have none.
        "" => text::NONE.to_owned(),
        target => clean(target),
    };
    let prefix = format!("{:>6}   {}   ", record.sequence, text::timestamp(record.time.as_ref()));
    let told = format!(
        "{:<24}   {:<21}   {}   {target}   {outcome}{of}{again}",
        clean(&record.principal),
        clean(&record.source),
        clean(action),
    );
    text::hanging(&prefix, &told, INDENT, most)
}

async fn follow(
    context: &Context,
    mut next: u64,
    mut verifier: Option<Verifier>,
    mut headed: bool,
) -> Result<(), Failure> {
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
                    hand_out(context, &[entry], &mut headed)?;
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
    fn a_verification_says_how_many_intents_there_are_and_which_have_no_outcome() {
        let mut intents = Intents::default();
        assert_eq!(verified(1, 0, &intents), ["verified 1 entry; no intents"]);
        assert_eq!(
            verified(12, 5, &intents),
            ["verified 12 entries; 5 intents, each with an outcome"]
        );
        intents.open = BTreeSet::from([7, 8]);
        let told = verified(12, 5, &intents);
        assert_eq!(told[0], "verified 12 entries; 5 intents, 2 of them without an outcome");
        assert!(
            told[1].starts_with("2 intents: no outcome") && told[1].ends_with(": 7-8"),
            "{told:?}"
        );
    }

    #[test]
    fn numbers_that_follow_one_another_are_a_range() {
        assert_eq!(ranges(&BTreeSet::from([1, 2, 3, 7, 9, 10])), "1-3, 7, 9-10");
        assert_eq!(ranges(&BTreeSet::new()), "");
    }
}
