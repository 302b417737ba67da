use std::{collections::BTreeMap, sync::Arc};

use proptest::{collection::vec, prelude::*};

use super::{LEAST, MOST, ROWS, Rows};

type Source = (u16, u32);

fn rows(list: &[Arc<Source>], before: Option<&Rows<u16, Source>>) -> Rows<u16, Source> {
    let encode = |row: &Source| vec![(row.0 % 251) as u8; (row.1 % 300) as usize];
    Rows::new(7, list, before, |row| row.0, encode)
}

/// A change of the list between two snapshots.
#[derive(Clone, Debug)]
enum Step {
    /// Changes rows, or adds missing ones.
    Put(Vec<u16>),
    /// Adds adjacent rows.
    Insert(u16, u16),
    /// Removes adjacent rows.
    Remove(u16, u16),
    Nothing,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        vec(0u16..2_000, 0..9).prop_map(Step::Put),
        (0u16..2_000, 0u16..400).prop_map(|(from, many)| Step::Insert(from, many)),
        (0u16..2_000, 0u16..400).prop_map(|(from, many)| Step::Remove(from, many)),
        Just(Step::Nothing),
    ]
}

fn carried_out(list: &mut BTreeMap<u16, Arc<Source>>, number: u32, step: &Step) {
    let row = |key: u16| {
        (
            key,
            Arc::new((key, number.wrapping_mul(31).wrapping_add(u32::from(key)))),
        )
    };
    match step {
        Step::Put(keys) => list.extend(keys.iter().map(|&key| row(key))),
        Step::Insert(from, many) => list.extend((*from..from + many).map(row)),
        Step::Remove(from, many) => list.retain(|key, _| !(*from..from + many).contains(key)),
        Step::Nothing => {}
    }
}

proptest! {
    #[test]
    fn rows_that_are_taken_over_are_those_that_would_be_encoded(steps in vec(step(), 1..30)) {
        let mut list = BTreeMap::new();
        let mut before: Option<Rows<u16, Source>> = None;
        for (number, step) in (0u32..).zip(&steps) {
            carried_out(&mut list, number, step);
            let sources: Vec<Arc<Source>> = list.values().cloned().collect();
            let (kept, anew) = (rows(&sources, before.as_ref()), rows(&sources, None));
            prop_assert_eq!(kept.all().concat(), anew.all().concat());
            prop_assert_eq!(kept.some(|_| true).concat(), anew.all().concat());
            let sizes: Vec<usize> = kept.blocks.iter().map(|block| block.rows.len()).collect();
            prop_assert!(sizes.iter().all(|&rows| 0 < rows && rows <= MOST), "{sizes:?}");
            if let Some(before) = &before {
                let odd = |row: &[u8]| row.len() % 2 == 1;
                for keep in [&(|_: &[u8]| true) as &dyn Fn(&[u8]) -> bool, &odd, &|_| false] {
                    let (changed, removed) = kept.since(before, keep);
                    let (expected, gone) = anew.since(&rows(&before_of(before), None), keep);
                    prop_assert_eq!(changed, expected);
                    prop_assert_eq!(removed, gone);
                }
            }
            before = Some(kept);
        }
    }
}

fn before_of(rows: &Rows<u16, Source>) -> Vec<Arc<Source>> {
    let rows = rows.blocks.iter().flat_map(|block| &block.rows);
    rows.filter_map(|row| row.source.clone()).collect()
}

#[test]
fn a_change_touches_the_blocks_around_it_alone() {
    let mut list: Vec<Arc<Source>> = (0..5_000u16).map(|key| Arc::new((2 * key, 9))).collect();
    let mut before = rows(&list, None);
    let mut anew = |list: &[Arc<Source>]| {
        let made = rows(list, Some(&before));
        let is_known = |block: &&Arc<_>| !before.blocks.iter().any(|old| Arc::ptr_eq(old, block));
        let anew = made.blocks.iter().filter(is_known).count();
        before = made;
        anew
    };
    assert_eq!(anew(&list), 0);
    list[777] = Arc::new((2 * 777, 10));
    assert_eq!(anew(&list), 1);
    for key in 0..MOST as u16 {
        let at = list.partition_point(|row| row.0 < 2_001 + 2 * key);
        list.insert(at, Arc::new((2_001 + 2 * key, 1)));
        assert!(anew(&list) <= 2, "insertion {key}");
    }
    for removal in 0..(2 * ROWS + LEAST) {
        list.remove(1_000);
        assert!(anew(&list) <= 2, "removal {removal}");
    }
}
