use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn place() -> (TempDir, std::path::PathBuf) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("incarnation");
    (directory, path)
}

#[test]
fn it_grows_by_one_and_takes_no_more_room() {
    let (_directory, path) = place();
    for number in 1..=9 {
        assert_eq!(next(&path).unwrap(), number);
        assert_eq!(fs::metadata(&path).unwrap().len(), 2 * SLOT as u64);
    }
    // As an operator, or an earlier version, writes it.
    for (text, number) in [("41\n", 42), ("7", 8), (" 7 \n\n", 8)] {
        fs::write(&path, text).unwrap();
        assert_eq!(next(&path).unwrap(), number);
        assert_eq!(next(&path).unwrap(), number + 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A write that was cut off anywhere, or left anything in its slot, costs the number that was being written and nothing else.
    #[test]
    fn a_write_that_was_cut_off_loses_nothing_before_it(
        starts in 1..6u64,
        cut in 0..=SLOT,
        garbage in proptest::collection::vec(any::<u8>(), 0..64),
        at in 0..SLOT,
    ) {
        let (_directory, path) = place();
        for _ in 0..starts {
            next(&path).unwrap();
        }
        let before = fs::read(&path).unwrap();
        next(&path).unwrap();
        let after = fs::read(&path).unwrap();
        let slot_at = before.iter().zip(&after).position(|(one, other)| one != other).unwrap() / SLOT * SLOT;
        let mut torn = before.clone();
        torn[slot_at..slot_at + cut].copy_from_slice(&after[slot_at..slot_at + cut]);
        let end = (at + garbage.len()).min(SLOT);
        torn[slot_at + at..slot_at + end].copy_from_slice(&garbage[..end - at]);
        fs::write(&path, &torn).unwrap();
        let number = next(&path).unwrap();
        prop_assert!(number == starts + 1 || number == starts + 2, "{} after {}", number, starts);
        prop_assert_eq!(next(&path).unwrap(), number + 1);
    }

    /// What is not a count of starts is never taken for one, nor for a first start.
    #[test]
    fn what_cannot_be_read_is_no_first_start(length in 0..2 * SLOT, garbage in proptest::collection::vec(any::<u8>(), 0..64)) {
        let (_directory, path) = place();
        next(&path).unwrap();
        next(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..length]).unwrap();
        prop_assert!(matches!(next(&path), Err(Failure::Damaged)));
        prop_assume!(std::str::from_utf8(&garbage).map_or(true, |text| text.trim().parse::<u64>().is_err()));
        fs::write(&path, &garbage).unwrap();
        prop_assert!(matches!(next(&path), Err(Failure::Damaged)));
    }
}
