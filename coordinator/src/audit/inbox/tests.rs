use super::*;
use crate::audit::{log::Log, log::Shared};

fn log(data_dir: &Path) -> Log {
    let shared = Shared::open(data_dir, false).unwrap();
    Log::new(shared, wyneos_core::id::Uuid([1; 16]), &[7; 32], 1_000)
        .unwrap()
        .0
}

#[test]
fn a_command_of_this_host_is_in_the_audit_once_with_its_outcome() {
    let place = tempfile::tempdir().unwrap();
    let (mut log, mut inbox) = (log(place.path()), Inbox::new(place.path()));
    assert!(inbox.take(&log).is_none());
    let local = Local::begin(place.path(), "admin", "admin ada", 7).unwrap();
    assert!(inbox.take(&log).is_none(), "what came of it is not known yet");
    local.end(Some(&"no space")).unwrap();
    let taken = inbox.take(&log).unwrap();
    let [intent, outcome] = &taken.records[..] else {
        panic!("{:?}", taken.records)
    };
    assert_eq!(
        (intent.kind(), intent.target.as_str()),
        (AuditKind::Intent, "admin ada")
    );
    assert_eq!((outcome.kind(), outcome.intent), (AuditKind::Outcome, 1));
    assert_eq!(outcome.reason, "no space");
    log.append(taken.records.clone()).unwrap();
    // The coordinator ends before the file is removed.
    let again = inbox.take(&log).unwrap();
    assert!(again.records.is_empty(), "{:?}", again.records);
    inbox.done(again.files);
    assert!(inbox.take(&log).is_none());
}

#[test]
fn what_is_no_record_is_put_aside() {
    let place = tempfile::tempdir().unwrap();
    let (log, mut inbox) = (log(place.path()), Inbox::new(place.path()));
    let folder = place.path().join(FOLDER);
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("junk"), b"junk").unwrap();
    fs::write(folder.join("long"), vec![0; BYTES as usize + 1]).unwrap();
    // Files that would block, or never end.
    let pipe = folder.join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    std::os::unix::fs::symlink("/dev/zero", folder.join("link")).unwrap();
    assert!(inbox.take(&log).is_none());
    for name in ["junk", "long", "pipe", "link"] {
        let aside = folder.join(format!("{name}.bad"));
        assert!(fs::symlink_metadata(aside).is_ok(), "{name} was not put aside");
    }
}
