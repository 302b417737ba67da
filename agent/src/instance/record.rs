//! Recording an instance's status. The end is on the disk before an agent is informed, and is not lost with its
//! supervisor; other changes are reported immediately and written afterwards, since a power loss of the host ends the
//! instance anyway.

use std::{fs, io, time::Duration};

use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{sleep, timeout},
};
use wyneos_core::workload::{Phase, Status};

use super::{Home, note_soon};

/// Interval between two attempts to write a status that the disk did not accept, and between two checks that it still
/// exists.
const AGAIN: Duration = Duration::from_secs(1);

/// Attempts to record the end of the instance: an hour.
const TRIES: usize = 3_600;

/// Time limit for a write before the agent is told the new status anyway: a stalled disk must not hide it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Writes `status` to the disk as it changes, and passes it on to `told`. Ends once the end of an instance is recorded,
/// or never can be, because its directory is gone.
pub(super) async fn keep(home: Home, mut status: watch::Receiver<Status>, told: watch::Sender<Status>) {
    let mut failed = 0;
    loop {
        let news = status.borrow_and_update().clone();
        let (to_write, place) = (news.clone(), home.clone());
        let mut write = spawn_blocking(move || place.write_status(&to_write));
        let over = news.phase == Phase::Ended;
        if !over {
            tell(&told, &news);
        }
        let mut written = timeout(PATIENCE, &mut write).await.ok();
        tell(&told, &news);
        if written.is_none() {
            note_soon("the disk is slow: the status was reported, and is not written yet");
            written = Some(write.await);
        }
        match written {
            Some(Ok(Err(error))) => {
                failed += 1;
                if failed == 1 {
                    note_soon(&format!("cannot write the status: {error}"));
                }
                // Without its directory no agent will query it any more.
                if over && (error.kind() == io::ErrorKind::NotFound || failed >= TRIES) {
                    return;
                }
            }
            _ if over => return,
            _ => failed = 0,
        }
        loop {
            tokio::select! {
                changed = status.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                () = sleep(AGAIN) => if failed > 0 || !is_there(&home, &news) { break },
            }
        }
    }
}

fn tell(told: &watch::Sender<Status>, status: &Status) {
    told.send_if_modified(|before| {
        let news = before != status;
        before.clone_from(status);
        news
    });
}

/// Checks that the written file is still there and complete.
fn is_there(home: &Home, status: &Status) -> bool {
    let length = serde_json::to_vec(status).map_or(0, |text| text.len() as u64);
    match fs::metadata(home.status()) {
        Ok(found) => found.len() == length,
        // Nothing is written in the place of a file that cannot be examined.
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}
