use super::*;

fn entries() -> (Verifier, Vec<v1::AuditEntry>) {
    let cluster = wyneos_core::id::Uuid([1; 16]);
    let signer = Signer::new(&[7; 32]);
    let mut previous = [0; 32];
    let entries = (1..=3).map(|sequence| {
        let record = v1::AuditRecord {
            sequence,
            action: "test".to_owned(),
            ..v1::AuditRecord::default()
        };
        let (entry, chain) = signer.seal(cluster, previous, record);
        previous = chain;
        entry
    });
    let entries = entries.collect();
    (
        Verifier::new(cluster, DigestSigner::new(&[7; 32]).public_key()),
        entries,
    )
}

fn verified(verifier: &mut Verifier, entries: &[v1::AuditEntry]) -> Result<(), BadEntry> {
    entries.iter().try_for_each(|entry| verifier.next(entry))
}

#[test]
fn what_is_altered_left_out_or_signed_by_others_is_noticed() {
    let (mut verifier, good) = entries();
    assert_eq!(verified(&mut verifier, &good), Ok(()));
    let (mut verifier, _) = entries();
    assert_eq!(verified(&mut verifier, &good[1..]), Ok(()), "from any entry on");
    let (mut verifier, mut bad) = entries();
    bad.remove(1);
    assert_eq!(verified(&mut verifier, &bad), Err(BadEntry::Gap));
    let (mut verifier, mut bad) = entries();
    bad[1].record.as_mut().unwrap().action.push('!');
    assert_eq!(verified(&mut verifier, &bad), Err(BadEntry::Altered));
    let (mut verifier, mut bad) = entries();
    bad[2].signature[5] ^= 1;
    assert_eq!(verified(&mut verifier, &bad), Err(BadEntry::Signature));
    let (mut verifier, mut bad) = entries();
    bad[0].record = None;
    assert_eq!(verified(&mut verifier, &bad), Err(BadEntry::Incomplete));
}

#[test]
fn lost_entries_are_told_of_and_hide_no_others() {
    let (_, good) = entries();
    let cluster = wyneos_core::id::Uuid([1; 16]);
    let signer = Signer::new(&[7; 32]);
    let tells = |sequence, lost_from| v1::AuditRecord {
        sequence,
        kind: v1::AuditKind::Lost.into(),
        lost_from,
        ..v1::AuditRecord::default()
    };
    let last = |entries: &[v1::AuditEntry]| Digest::try_from(entries.last().unwrap().chain.as_slice()).unwrap();
    // After the remaining entries, and as the first entry of a new audit.
    for left in [3, 1, 0] {
        let mut all = good[..left].to_vec();
        let previous = if left == 0 { [0; 32] } else { last(&all) };
        let (lost, chain) = signer.seal(cluster, previous, tells(10, left as u64 + 1));
        let (next, _) = signer.seal(
            cluster,
            chain,
            v1::AuditRecord {
                sequence: 11,
                ..Default::default()
            },
        );
        all.extend([lost, next]);
        let (mut verifier, _) = entries();
        assert_eq!(verified(&mut verifier, &all), Ok(()));
        assert_eq!(verifier.lost(), [(left as u64 + 1, 9)]);
    }
    // It never goes back, follows the existing entries, and allows no other gap in the numbers.
    let kind = |sequence, previous, kind: v1::AuditKind| {
        let record = v1::AuditRecord {
            sequence,
            kind: kind.into(),
            ..Default::default()
        };
        [good.clone(), vec![signer.seal(cluster, previous, record).0]].concat()
    };
    for bad in [
        kind(2, last(&good), v1::AuditKind::Lost),
        kind(10, last(&good[..2]), v1::AuditKind::Lost),
        kind(10, last(&good), v1::AuditKind::Outcome),
    ] {
        let (mut verifier, _) = entries();
        assert_eq!(verified(&mut verifier, &bad), Err(BadEntry::Gap));
    }
}
