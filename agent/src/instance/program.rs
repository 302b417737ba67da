//! A started program: whether it runs, and its output.

use std::{
    io, mem,
    os::{fd::OwnedFd, unix::net::UnixStream as Pair},
    time::Duration,
};

use rustix::process::Pid;
use tokio::{
    io::AsyncReadExt,
    net::{UnixStream, unix::pipe},
    sync::{mpsc, watch},
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};
use wyneos_core::{supervisor::Input, workload::LastLine};

use super::{logs, note_soon, supervise::Happened};

/// Bytes of a program's output that are read at once.
const READ: usize = 16 * 1024;

/// Maximum bytes that wait for the disk; beyond it a program that writes more waits for this time, and its later output
/// is lost.
const WAITING: usize = 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(2);

/// Time for which the rest of a program's output is read for its last line: processes that inherited its standard error
/// may continue.
const READING: Duration = Duration::from_secs(1);

pub(super) fn pid_of(child: &std::process::Child) -> io::Result<Pid> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::Error::other("it has no process id"))
}

/// Waits until the exec shim has become the program, or has failed.
pub(super) async fn become_known(told: Pair, pid: u32, sender: mpsc::Sender<Happened>) {
    let mut reason = String::new();
    let read = async {
        told.set_nonblocking(true)?;
        UnixStream::from_std(told)?
            .take(1_024)
            .read_to_string(&mut reason)
            .await
    };
    let input = match read.await {
        Ok(0) => Input::Started { pid },
        Ok(_) => Input::NotStarted { reason },
        Err(error) => Input::NotStarted {
            reason: error.to_string(),
        },
    };
    drop(sender.send(Happened::Known(input)).await);
}

/// Stores a program's output. Publishes the last line repeatedly, until all writers have closed it.
pub(super) fn keep(from: OwnedFd, writer: logs::Writer) -> io::Result<watch::Receiver<LastLine>> {
    rustix::io::ioctl_fionbio(&from, true)?;
    let mut from = pipe::Receiver::from_owned_fd(from)?;
    let (sender, last) = watch::channel(LastLine::default());
    tokio::spawn(async move {
        let mut buffer = vec![0; READ];
        let mut output = Output::new(writer);
        loop {
            tokio::select! {
                biased;
                () = output.written(), if output.under_way.is_some() => {}
                read = from.read(&mut buffer) => {
                    let Ok(read @ 1..) = read else { break };
                    sender.send_modify(|last| last.take(&buffer[..read]));
                    output.take(&buffer[..read]).await;
                }
            }
        }
        output.rest().await;
        drop(sender);
        if let Some(lost) = output.lost().filter(|lost| *lost > 0) {
            note_soon(&format!("the disk did not accept {lost} bytes of the program's output"));
        }
    });
    Ok(last)
}

/// Output of a program that waits for the disk. Other threads write it: a process that a stalled disk blocks in the
/// kernel cannot be killed, and this process's first thread is responsible for the program's end.
struct Output {
    /// `None` during a write.
    writer: Option<logs::Writer>,
    under_way: Option<JoinHandle<logs::Writer>>,
    waiting: Vec<u8>,
    /// Whether the disk did not accept a write in time, and has not yet.
    stalled: bool,
    /// Bytes that were lost meanwhile.
    lost: u64,
}

impl Output {
    fn new(writer: logs::Writer) -> Output {
        Output {
            writer: Some(writer),
            under_way: None,
            waiting: Vec::new(),
            stalled: false,
            lost: 0,
        }
    }

    /// Takes bytes that were read. The program waits for a slow disk, but not for a stalled one: its output is then
    /// lost, and counted.
    async fn take(&mut self, bytes: &[u8]) {
        if self.waiting.len() >= WAITING && !self.stalled {
            self.stalled = timeout(PATIENCE, self.written()).await.is_err();
        }
        if self.waiting.len() >= WAITING {
            self.lost += bytes.len() as u64;
            return;
        }
        self.waiting.extend_from_slice(bytes);
        self.write();
    }

    /// Starts a write of the waiting bytes, unless one is in progress.
    fn write(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        if let Some(mut writer) = self.writer.take() {
            let bytes = mem::take(&mut self.waiting);
            self.under_way = Some(spawn_blocking(move || {
                writer.write(&bytes);
                writer
            }));
        }
    }

    /// Waits until the write in progress is done; then bytes that arrived meanwhile are written.
    async fn written(&mut self) {
        if let Some(under_way) = &mut self.under_way {
            self.writer = under_way.await.ok();
            (self.under_way, self.stalled) = (None, false);
            self.write();
        }
    }

    /// Waits until everything is written.
    async fn rest(&mut self) {
        while self.under_way.is_some() {
            self.written().await;
        }
    }

    /// Number of bytes that the disk did not accept.
    fn lost(&self) -> Option<u64> {
        self.writer.as_ref().map(|writer| writer.lost + self.lost)
    }
}

/// The last line of a program of which no process is left. The output is read meanwhile, if no other process holds the
/// pipe open.
pub(super) async fn last_line(mut last: watch::Receiver<LastLine>) -> String {
    drop(timeout(READING, async { while last.changed().await.is_ok() {} }).await);
    last.borrow().text()
}
