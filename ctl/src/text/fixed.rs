//! A terminal of so many columns and a clock that stands still, for tests of what is shown.

use std::{cell::Cell, time::SystemTime};

thread_local! {
    static COLUMNS: Cell<Option<usize>> = const { Cell::new(None) };
    static NOW: Cell<Option<SystemTime>> = const { Cell::new(None) };
}

/// Columns that the test gave this thread.
pub(super) fn columns() -> Option<usize> {
    COLUMNS.get()
}

/// The time that the test gave this thread.
pub(super) fn now() -> Option<SystemTime> {
    NOW.get()
}

/// Calls `view` with this terminal and this time, as far as this thread is concerned.
pub(crate) fn at<T>(columns: usize, now: SystemTime, view: impl FnOnce() -> T) -> T {
    COLUMNS.set(Some(columns));
    NOW.set(Some(now));
    let shown = view();
    COLUMNS.set(None);
    NOW.set(None);
    shown
}
