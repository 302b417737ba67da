use super::*;
use crate::id::{Cycle, Epoch, Uuid};

const CLUSTER: Uuid = Uuid([3; 16]);

type Sealed = (Vec<u8>, Seal);

fn chain(count: u64) -> (PublicKey, Vec<Sealed>) {
    let mut sealer = Sealer::new(CLUSTER, &[5; 32], ZERO_DIGEST);
    let sealed = (1..=count).map(|cycle| {
        let bytes = cycle.to_be_bytes().to_vec();
        let seal = sealer.seal(Epoch(1), Cycle(cycle), &bytes);
        (bytes, seal)
    });
    let sealed = sealed.collect();
    (sealer.public_key(), sealed)
}

fn check(key: PublicKey, sealed: &[Sealed]) -> Result<(), BadSeal> {
    let mut verifier = Verifier::new(CLUSTER, key)?;
    sealed.iter().try_for_each(|(bytes, seal)| verifier.check(bytes, seal))
}

#[test]
fn an_unaltered_chain_verifies_from_anywhere() {
    let (key, sealed) = chain(5);
    assert_eq!(check(key, &sealed), Ok(()));
    assert_eq!(check(key, &sealed[2..]), Ok(()));
    assert_eq!(sealed[0].1.previous, ZERO_DIGEST);
    // A restarted sealer continues after the last seal.
    let mut again = Sealer::new(CLUSTER, &[5; 32], sealed[4].1.chain);
    let mut longer = sealed;
    longer.push((b"six".to_vec(), again.seal(Epoch(2), Cycle(6), b"six")));
    assert_eq!(check(key, &longer), Ok(()));
}

#[test]
fn whatever_is_altered_is_named() {
    let (key, sealed) = chain(3);
    let altered = |alter: &dyn Fn(&mut Vec<Sealed>)| {
        let mut copy = sealed.clone();
        alter(&mut copy);
        check(key, &copy)
    };
    assert_eq!(altered(&|all| all[1].0[0] ^= 1), Err(BadSeal::Digest));
    assert_eq!(altered(&|all| all[1].1.digest[0] ^= 1), Err(BadSeal::Digest));
    assert_eq!(altered(&|all| all[1].1.previous[0] ^= 1), Err(BadSeal::Chain));
    assert_eq!(altered(&|all| all[1].1.epoch.0 ^= 1), Err(BadSeal::Chain));
    assert_eq!(altered(&|all| all[1].1.cycle.0 ^= 1), Err(BadSeal::Chain));
    assert_eq!(altered(&|all| all[1].1.chain[0] ^= 1), Err(BadSeal::Chain));
    assert_eq!(altered(&|all| all[1].1.key_id[0] ^= 1), Err(BadSeal::KeyId));
    assert_eq!(altered(&|all| all[1].1.signature[0] ^= 1), Err(BadSeal::Signature));
    assert_eq!(altered(&|all| drop(all.remove(1))), Err(BadSeal::Link));
    assert_eq!(altered(&|all| all.swap(0, 1)), Err(BadSeal::Link));
}

#[test]
fn another_cluster_or_key_does_not_verify() {
    let (key, sealed) = chain(1);
    let mut other = Verifier::new(Uuid([4; 16]), key).unwrap();
    assert_eq!(other.check(&sealed[0].0, &sealed[0].1), Err(BadSeal::Chain));
    let foreign = Sealer::new(CLUSTER, &[6; 32], ZERO_DIGEST).public_key();
    assert_eq!(check(foreign, &sealed), Err(BadSeal::KeyId));
}

#[test]
fn a_secret_is_never_shown() {
    let sealer = Sealer::new(CLUSTER, &[5; 32], ZERO_DIGEST);
    let shown = format!("{sealer:?}");
    assert!(!shown.contains("5, 5") && !shown.contains("0505"), "{shown}");
}
