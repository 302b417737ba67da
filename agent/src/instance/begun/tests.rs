use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;
use wyneos_core::id::Uuid;

use super::*;

const NODE: NodeId = Uuid([1; 16]);
const CLUSTER: ClusterId = Uuid([2; 16]);

fn open(directory: &TempDir, is_new: bool) -> Begun {
    Begun::open(directory.path().join("begun"), NODE, is_new)
}

fn ids(numbers: &[u64]) -> Vec<AssignmentId> {
    numbers.iter().copied().map(AssignmentId).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// After any sequence of beginnings and removals, the next agent reads exactly the remaining ids; for a list with
    /// any one byte changed or any part cut off, it concludes that everything may have been begun.
    #[test]
    fn a_list_is_read_as_it_was_or_not_at_all(
        steps in prop::collection::vec((any::<bool>(), any::<bool>(), 1..40u64), 1..20), at in any::<prop::sample::Index>(), flip in 1..=255u8
    ) {
        let directory = TempDir::new().unwrap();
        let begun = open(&directory, true);
        let (mut model, mut buried) = (BTreeSet::new(), BTreeSet::new());
        for (adds, buries, id) in steps {
            let id = AssignmentId(id);
            if adds {
                begun.add(&[id]).unwrap();
                model.insert(id);
            } else if buries {
                begun.bury(id).unwrap();
                buried.insert(id);
            } else {
                begun.remove(id);
                model.remove(&id);
                buried.remove(&id);
            }
        }
        begun.save().unwrap();
        let next = open(&directory, false);
        for id in (1..40).map(AssignmentId) {
            prop_assert_eq!(next.is_buried(id), buried.contains(&id));
        }
        model.extend(buried);
        prop_assert_eq!(next.ids(), model);
        prop_assert_eq!(next.beyond(), agent::Begun::None);

        let path = directory.path().join("begun");
        let whole = fs::read(&path).unwrap();
        let at = at.index(whole.len());
        let mut changed = whole.clone();
        changed[at] ^= flip;
        for damaged in [&changed[..], &whole[..at]] {
            fs::write(&path, damaged).unwrap();
            let next = open(&directory, false);
            prop_assert_eq!(next.beyond(), agent::Begun::Any);
            prop_assert!(next.may_have(AssignmentId(1_000)));
            prop_assert_eq!(fs::read(&path).unwrap(), damaged, "it stays as it is until the coordinator has said what it may have had");
        }
    }
}

#[test]
fn a_list_that_is_lost_has_had_whatever_the_coordinator_gave_out_before() {
    let directory = TempDir::new().unwrap();
    open(&directory, true).add(&ids(&[5])).unwrap();
    fs::remove_file(directory.path().join("begun")).unwrap();
    let begun = open(&directory, false);
    assert_eq!(begun.beyond(), agent::Begun::Any);
    // Nothing may be written before.
    assert!(begun.add(&ids(&[9])).is_err() && begun.save().is_err());
    assert_eq!(open(&directory, false).beyond(), agent::Begun::Any);
    begun.presume(CLUSTER, AssignmentId(9));
    begun.add(&ids(&[9])).unwrap();
    let next = open(&directory, false);
    assert_eq!(next.beyond(), agent::Begun::Below(CLUSTER, AssignmentId(9)));
    assert_eq!(next.ids().into_iter().collect::<Vec<_>>(), ids(&[9]));
    assert!(next.may_have(AssignmentId(5)) && next.may_have(AssignmentId(9)) && !next.may_have(AssignmentId(10)));
}

#[test]
fn the_list_of_another_node_is_none() {
    let directory = TempDir::new().unwrap();
    open(&directory, true).add(&ids(&[5])).unwrap();
    let path = directory.path().join("begun");
    let copy = |is_new: bool| Begun::open(path.clone(), Uuid([7; 16]), is_new);
    assert!(copy(true).ids().is_empty());
    assert_eq!(copy(true).beyond(), agent::Begun::None);
    // A node whose id was put there has begun instances elsewhere.
    assert!(copy(false).ids().is_empty());
    assert_eq!(copy(false).beyond(), agent::Begun::Any);
}

#[test]
fn a_start_that_is_not_welcomed_leaves_no_list() {
    for other in [false, true] {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("begun");
        if other {
            let other = Begun::open(path.clone(), Uuid([7; 16]), true);
            other.add(&ids(&[5])).unwrap();
        }
        let before = fs::read(&path).ok();
        drop(open(&directory, true));
        assert_eq!(fs::read(&path).ok(), before);
        // The next agent therefore does not conclude that nothing was begun.
        assert_eq!(open(&directory, false).beyond(), agent::Begun::Any);
        open(&directory, false).settle();
        assert_eq!(fs::read(&path).ok(), before);
        open(&directory, true).settle();
        assert_eq!(open(&directory, false).beyond(), agent::Begun::None);
    }
}

#[test]
fn what_the_disk_does_not_take_is_not_begun() {
    let directory = TempDir::new().unwrap();
    let begun = open(&directory, true);
    begun.add(&ids(&[1])).unwrap();
    // A directory at the temporary path does not matter, and is kept.
    fs::create_dir_all(directory.path().join("begun.new/x")).unwrap();
    begun.add(&ids(&[5])).unwrap();
    begun.remove(AssignmentId(5));
    assert!(directory.path().join("begun.new/x").is_dir());
    // A directory in the file's own place does.
    let path = directory.path().join("begun");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let error = begun.add(&ids(&[2, 3])).unwrap_err().to_string();
    assert!(error.contains(&path.display().to_string()), "{error}");
    assert_eq!(begun.ids().into_iter().collect::<Vec<_>>(), ids(&[1]));
    fs::remove_dir(&path).unwrap();
    begun.add(&ids(&[4])).unwrap();
    assert_eq!(
        open(&directory, false).ids().into_iter().collect::<Vec<_>>(),
        ids(&[1, 4])
    );
}
