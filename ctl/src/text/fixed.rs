//! A fixed terminal width and clock, for tests of the output.

use std::{cell::Cell, time::SystemTime};

thread_local! {
    static COLUMNS: Cell<Option<usize>> = const { Cell::new(None) };
    static NOW: Cell<Option<SystemTime>> = const { Cell::new(None) };
}

/// Columns that the test set for this thread.
pub(super) fn columns() -> Option<usize> {
    COLUMNS.get()
}

/// Time that the test set for this thread.
pub(super) fn now() -> Option<SystemTime> {
    NOW.get()
}

/// Calls `view` with this terminal width and time, for this thread only.
pub(crate) fn at<T>(columns: usize, now: SystemTime, view: impl FnOnce() -> T) -> T {
    COLUMNS.set(Some(columns));
    NOW.set(Some(now));
    let shown = view();
    COLUMNS.set(None);
    NOW.set(None);
    shown
}
