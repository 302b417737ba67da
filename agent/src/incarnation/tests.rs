use proptest::prelude::*;
use tempfile::TempDir;

use super::{next_in as next, *};

/// A start within one boot of the host.
fn count(path: &Path) -> Result<u64, Failure> {
    let start = next(path, Path::new("/nowhere/memory"), Some("life/1".to_owned()), overwrite)?;
    assert!(start.unwritten.is_none());
    Ok(start.number)
}

fn place() -> (TempDir, std::path::PathBuf) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("incarnation");
    (directory, path)
}

#[test]
fn it_grows_by_one_and_takes_no_more_room() {
    let (_directory, path) = place();
    for number in 1..=9 {
        assert_eq!(count(&path).unwrap(), number);
        assert_eq!(fs::metadata(&path).unwrap().len(), 2 * SLOT as u64);
    }
    // As an operator, or an earlier version, writes it.
    for (text, number) in [("41\n", 42), ("7", 8), (" 7 \n\n", 8)] {
        fs::write(&path, text).unwrap();
        assert_eq!(count(&path).unwrap(), number);
        assert_eq!(count(&path).unwrap(), number + 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A write that was interrupted anywhere, or left any contents in its slot, loses only the number that was being
    /// written.
    #[test]
    fn a_write_that_was_cut_off_loses_nothing_before_it(
        starts in 1..6u64,
        cut in 0..=SLOT,
        garbage in proptest::collection::vec(any::<u8>(), 0..64),
        at in 0..SLOT,
    ) {
        let (_directory, path) = place();
        for _ in 0..starts {
            count(&path).unwrap();
        }
        let before = fs::read(&path).unwrap();
        count(&path).unwrap();
        let after = fs::read(&path).unwrap();
        let slot_at = before.iter().zip(&after).position(|(one, other)| one != other).unwrap() / SLOT * SLOT;
        let mut torn = before.clone();
        torn[slot_at..slot_at + cut].copy_from_slice(&after[slot_at..slot_at + cut]);
        let end = (at + garbage.len()).min(SLOT);
        torn[slot_at + at..slot_at + end].copy_from_slice(&garbage[..end - at]);
        fs::write(&path, &torn).unwrap();
        let number = count(&path).unwrap();
        prop_assert!(number == starts + 1 || number == starts + 2, "{} after {}", number, starts);
        prop_assert_eq!(count(&path).unwrap(), number + 1);
    }

    /// A file without a valid count is never taken for one, nor for a first start.
    #[test]
    fn what_cannot_be_read_is_no_first_start(length in 0..2 * SLOT, garbage in proptest::collection::vec(any::<u8>(), 0..64)) {
        let (_directory, path) = place();
        count(&path).unwrap();
        count(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..length]).unwrap();
        prop_assert!(matches!(count(&path), Err(Failure::Damaged)));
        prop_assume!(std::str::from_utf8(&garbage).map_or(true, |text| text.trim().parse::<u64>().is_err()));
        fs::write(&path, &garbage).unwrap();
        prop_assert!(matches!(count(&path), Err(Failure::Damaged)));
    }
}

/// Sequences of starts of a host and its agent.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The agent starts on a disk that accepts writes, or does not.
    Agent(bool),
    /// The host boots.
    Host,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Agent(true)),
        4 => Just(Step::Agent(false)),
        1 => Just(Step::Host),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_number_is_used_twice_whatever_the_disk_takes(steps in steps()) {
        let (directory, path) = place();
        let memory = directory.path().join("run/memory");
        let (mut used, mut life) = (0, 1);
        for step in [Step::Agent(true)].into_iter().chain(steps) {
            match step {
                Step::Host => {
                    life += 1;
                    drop(fs::remove_file(&memory));
                }
                Step::Agent(takes) => {
                    let write = |path: &Path, into: usize, given: &Given| match takes {
                        true => overwrite(path, into, given),
                        false => Err(ErrorKind::ReadOnlyFilesystem.into()),
                    };
                    match next(&path, &memory, Some(format!("boot/{life}")), write) {
                        Ok(start) => {
                            prop_assert!(start.number > used, "{} after {}", start.number, used);
                            prop_assert_eq!(start.unwritten.is_none(), takes);
                            used = start.number;
                        }
                        Err(Failure::Write(_)) => prop_assert!(!takes),
                        Err(other) => prop_assert!(false, "{:?}", other),
                    }
                }
            }
        }
    }
}

#[test]
fn a_disk_that_takes_no_writes_keeps_no_agent_from_its_work_on_a_host_that_goes_on() {
    let (directory, path) = place();
    let memory = directory.path().join("run/memory");
    let life = || Some("boot/1".to_owned());
    let refuse = |_: &Path, _: usize, _: &Given| Err(ErrorKind::ReadOnlyFilesystem.into());
    assert_eq!(next(&path, &memory, life(), overwrite).unwrap().number, 1);
    for number in 2..RESERVE + 1 {
        assert_eq!(next(&path, &memory, life(), refuse).unwrap().number, number);
    }
    assert!(
        matches!(next(&path, &memory, life(), refuse), Err(Failure::Write(_))),
        "there are no more"
    );
    assert_eq!(next(&path, &memory, life(), overwrite).unwrap().number, RESERVE + 1);
    assert!(!memory.exists());
    assert_eq!(next(&path, &memory, life(), refuse).unwrap().number, RESERVE + 2);
    // The host is rebooted, and the memory is lost.
    fs::remove_file(&memory).unwrap();
    let after = || Some("boot/2".to_owned());
    assert!(matches!(next(&path, &memory, after(), refuse), Err(Failure::Write(_))));
    assert_eq!(
        next(&path, &memory, after(), overwrite).unwrap().number,
        2 * RESERVE + 1
    );
    // An unreadable memory is not treated as empty.
    fs::write(&memory, "incarnation").unwrap();
    assert!(matches!(next(&path, &memory, after(), refuse), Err(Failure::Write(_))));
    assert_eq!(
        next(&path, &memory, after(), overwrite).unwrap().number,
        3 * RESERVE + 1
    );
    assert_eq!(
        next(&path, &memory, after(), overwrite).unwrap().number,
        3 * RESERVE + 2
    );
    // No number is assigned that cannot be remembered.
    let nowhere = Path::new("/proc/nowhere/memory");
    assert!(matches!(next(&path, nowhere, after(), refuse), Err(Failure::Write(_))));
}
