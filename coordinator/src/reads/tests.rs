use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use tokio::{task::JoinSet, time::timeout};

use super::*;

const LONG: Duration = Duration::from_secs(30);

fn asker(name: &str) -> Asker {
    Asker {
        who: Who::Named(name.into()),
        flight: None,
    }
}

/// Waits until a condition holds.
async fn until(condition: impl Fn() -> bool) {
    let met = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LONG, met).await.unwrap();
}

#[tokio::test]
async fn one_identity_neither_takes_all_permits_nor_leaves_reads_behind() {
    let reads = Arc::new(Reads::default());
    let (run, began) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (go, wait) = mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let mut calls = JoinSet::new();
    for _ in 0..1_000 {
        let (reads, began, run, wait) = (
            Arc::clone(&reads),
            Arc::clone(&began),
            Arc::clone(&run),
            Arc::clone(&wait),
        );
        calls.spawn(async move {
            let read = move |still: &Still| {
                began.fetch_add(1, Ordering::SeqCst);
                // Until all were abandoned.
                let _ = wait.lock().unwrap().recv();
                if !still.is_over() {
                    run.fetch_add(1, Ordering::SeqCst);
                }
            };
            reads.run(Sort::Page, &asker("viewer"), read).await
        });
    }
    until(|| began.load(Ordering::SeqCst) == PAGES.0).await;
    // Other callers are served meanwhile, even with the same kind of read.
    let (admin, viewer) = (asker("admin"), asker("viewer"));
    let served = timeout(LONG, reads.run(Sort::Page, &admin, |_| "page"));
    assert_eq!(served.await.unwrap(), Some("page"));
    let own = timeout(LONG, reads.run(Sort::Look, &viewer, |_| "look"));
    assert_eq!(own.await.unwrap(), Some("look"));
    calls.shutdown().await;
    drop(go);
    // Reads in progress end, and none of the others ever begins.
    until(|| reads.pages.are_idle()).await;
    assert_eq!(began.load(Ordering::SeqCst), PAGES.0);
    assert_eq!(run.load(Ordering::SeqCst), 0, "they see that nobody waits");
    assert_eq!(
        reads.run(Sort::Page, &asker("viewer"), |_| 1).await,
        Some(1),
        "all permits are back"
    );
}

#[tokio::test]
async fn a_read_that_panics_gives_its_permit_back() {
    let reads = Reads::default();
    for _ in 0..2 * PAGES.1 {
        let one = asker("one");
        let cut_off = reads.run(Sort::Page, &one, |_| -> () { panic!("a test") });
        assert_eq!(cut_off.await, None);
    }
    assert!(reads.pages.are_idle());
}
