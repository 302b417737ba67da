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
