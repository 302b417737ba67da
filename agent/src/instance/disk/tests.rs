use std::{
    sync::{Mutex, mpsc},
    time::Duration,
};

use tokio::time::timeout;

use super::*;

const MOMENT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn what_is_stuck_takes_the_threads_of_this_alone_and_the_rest_goes_on_behind_it() {
    let disk = Disk::new();
    let (thaw, stalled) = mpsc::channel::<()>();
    let stalled = Arc::new(Mutex::new(stalled));
    // Their callers do not wait for the end.
    for _ in 0..THREADS {
        let stalled = Arc::clone(&stalled);
        let stuck = disk.run(move || stalled.lock().unwrap().recv().is_err());
        assert!(timeout(MOMENT, stuck).await.is_err());
    }
    let waits = tokio::spawn({
        let disk = disk.clone();
        async move { disk.run(|| 1).await.unwrap() }
    });
    assert!(timeout(MOMENT, disk.run(|| 2)).await.is_err());
    assert!(!waits.is_finished());
    assert_eq!(spawn_blocking(|| 3).await.unwrap(), 3);
    drop(thaw);
    assert_eq!(waits.await.unwrap(), 1);
    assert_eq!(disk.run(|| 4).await.unwrap(), 4);
}
