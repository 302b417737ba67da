//! A program that was started: whether it runs, and what it writes.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream as Pair},
    time::Duration,
};

use rustix::process::Pid;
use tokio::{
    io::AsyncReadExt,
    net::{UnixStream, unix::pipe},
    sync::{mpsc, watch},
    time::timeout,
};
use wyneos_core::{supervisor::Input, workload::LastLine};

use super::{logs, note, supervise::Happened};

/// Bytes that are read of what a program writes at once.
const READ: usize = 16 * 1024;

/// How long the rest of what a program wrote is read for its last line: whoever inherited its standard error may live on.
const READING: Duration = Duration::from_secs(1);

pub(super) fn pid_of(child: &std::process::Child) -> io::Result<Pid> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::Error::other("it has no process id"))
}

/// Waits until the program runs in the place of what was started, or could not.
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

/// Keeps what a program writes. Hands out the last line, again and again, until nobody writes any more.
pub(super) fn keep(from: OwnedFd, mut writer: logs::Writer) -> io::Result<watch::Receiver<LastLine>> {
    rustix::io::ioctl_fionbio(&from, true)?;
    let mut from = pipe::Receiver::from_owned_fd(from)?;
    let (sender, last) = watch::channel(LastLine::default());
    tokio::spawn(async move {
        let mut buffer = vec![0; READ];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            writer.write(&buffer[..read]);
            sender.send_modify(|last| last.take(&buffer[..read]));
        }
        drop(sender);
        if writer.lost > 0 {
            note(&format!(
                "the disk did not take {} bytes of what the program wrote",
                writer.lost
            ));
        }
    });
    Ok(last)
}

/// The last line that a program wrote of which nothing is left. What it wrote is read meanwhile, if nobody else holds the pipe open.
pub(super) async fn last_line(mut last: watch::Receiver<LastLine>) -> String {
    drop(timeout(READING, async { while last.changed().await.is_ok() {} }).await);
    last.borrow().text()
}
