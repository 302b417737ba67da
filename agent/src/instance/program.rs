//! A program that was started: whether it runs, and what it writes.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream as Pair},
};

use rustix::process::Pid;
use tokio::{
    io::AsyncReadExt,
    net::{UnixStream, unix::pipe},
    sync::mpsc,
};
use wyneos_core::supervisor::Input;

use super::{logs, note, supervise::Happened};

/// Bytes that are read of what a program writes at once.
const READ: usize = 16 * 1024;

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

/// Keeps what a program writes.
pub(super) fn keep(from: OwnedFd, mut writer: logs::Writer) -> io::Result<()> {
    rustix::io::ioctl_fionbio(&from, true)?;
    let mut from = pipe::Receiver::from_owned_fd(from)?;
    tokio::spawn(async move {
        let mut buffer = vec![0; READ];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            writer.write(&buffer[..read]);
        }
        if writer.lost > 0 {
            note(&format!(
                "the disk did not take {} bytes of what the program wrote",
                writer.lost
            ));
        }
    });
    Ok(())
}
