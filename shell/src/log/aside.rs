//! Writing of the log in a separate thread: standard error may be a file on a stalled disk, or a pipe without a reader,
//! on which a write blocks within the kernel.

use std::{
    io::{self, Write},
    sync::{
        OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread,
    time::Duration,
};

/// Maximum bytes queued for standard error. Beyond, events are dropped and counted.
const WAITING: usize = 1024 * 1024;

/// The writer thread, once it was started.
static ASIDE: OnceLock<Aside> = OnceLock::new();

struct Aside {
    queue: Sender<Message>,
    waiting: AtomicUsize,
    dropped: AtomicU64,
}

enum Message {
    Event(Vec<u8>),
    /// Signals the sender once everything queued before is written.
    Flush(SyncSender<()>),
}

/// Moves the writing of the log to a separate thread from now on. Queued events are lost if the process is killed.
///
/// # Errors
/// The thread cannot be started: the log is written as before.
pub fn aside() -> io::Result<()> {
    let (queue, messages) = channel();
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || write(&messages, &mut io::stderr()))?;
    let (waiting, dropped) = Default::default();
    // If it is set already, the earlier thread stays in use.
    let _ = ASIDE.set(Aside {
        queue,
        waiting,
        dropped,
    });
    Ok(())
}

/// Waits until everything logged before is written, but no longer than `patience`.
pub fn flush(patience: Duration) {
    if let Some(aside) = ASIDE.get() {
        let (done, written) = sync_channel(1);
        if aside.queue.send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(patience);
        }
    }
}

fn write(messages: &Receiver<Message>, to: &mut impl Write) {
    for message in messages {
        match message {
            Message::Event(bytes) => {
                // There is no other place to report the failure.
                drop(to.write_all(&bytes));
                let Some(aside) = ASIDE.get() else { continue };
                aside.waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
                let dropped = aside.dropped.swap(0, Ordering::Relaxed);
                if dropped > 0 {
                    let told = format!("{dropped} events were not logged: standard error did not take them in time\n");
                    drop(to.write_all(told.as_bytes()));
                }
            }
            Message::Flush(done) => drop(done.send(())),
        }
    }
}

/// Writes one event.
pub(super) struct Writer;

pub(super) fn writer() -> Writer {
    Writer
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(aside) = ASIDE.get() else {
            return io::stderr().write(bytes);
        };
        let waiting = aside.waiting.fetch_add(bytes.len(), Ordering::Relaxed);
        let event = Message::Event(bytes.to_vec());
        if waiting + bytes.len() > WAITING || aside.queue.send(event).is_err() {
            aside.waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
            aside.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
