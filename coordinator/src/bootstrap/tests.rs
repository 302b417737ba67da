use std::{
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::Builder;
use wyneos_shell::{exit, start::Fatal as _};

use super::{
    BootError,
    lead::was_taken,
    serve::STOP,
    threads::{joined, tell},
};

#[test]
fn a_thread_that_does_not_end_is_given_up_and_named() {
    let (let_go, waits) = std::sync::mpsc::channel::<()>();
    let stuck = thread::spawn(move || waits.recv());
    let error = joined("audit", stuck, Instant::now() + Duration::from_millis(50)).unwrap_err();
    assert!(error.to_string().contains("the audit thread"), "{error}");
    assert_eq!(error.exit_code(), exit::FAILED);
    drop(let_go);
    let until = Instant::now() + STOP;
    assert_eq!(joined("audit", thread::spawn(|| 7), until).unwrap(), 7);
    let panics = thread::spawn(move || assert_eq!(until, until + STOP));
    assert!(matches!(joined("audit", panics, until), Err(BootError::System(..))));
    // A full queue that is never emptied is not waited for.
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    tell(
        &runtime,
        Instant::now() + Duration::from_millis(50),
        std::future::pending(),
    );
}

#[test]
fn of_a_step_before_the_newest_one_it_is_not_known_whether_it_was_taken() {
    // Two steps without an outcome: the CA's state names only the later one.
    assert_eq!(was_taken(8, 5), None);
    assert_eq!(was_taken(8, 8), Some(true));
    assert_eq!(was_taken(8, 9), Some(false));
    assert_eq!(was_taken(0, 5), Some(false), "no step was ever taken");
}
