//! A supervisor's socket: agents learn the instance's status, and send it orders.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, watch},
    time::sleep,
};
use wyneos_core::workload::Status;

use super::supervise::Happened;

/// Delay between two attempts to accept a connection.
const AGAIN: Duration = Duration::from_millis(100);

/// Sends agents the instance's status, and receives their orders.
pub(super) async fn attend(listener: UnixListener, status: watch::Receiver<Status>, sender: mpsc::Sender<Happened>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(converse(stream, status.clone(), sender.clone()))),
            // A lack of descriptors or memory is temporary: the client is answered later.
            Err(_) => sleep(AGAIN).await,
        }
    }
}

async fn converse(stream: UnixStream, mut status: watch::Receiver<Status>, sender: mpsc::Sender<Happened>) {
    let (from, mut to) = stream.into_split();
    if sender.send(Happened::Attended(true)).await.is_err() {
        return;
    }
    let tell = async {
        loop {
            let mut line = serde_json::to_vec(&*status.borrow_and_update())?;
            line.push(b'\n');
            to.write_all(&line).await?;
            if status.changed().await.is_err() {
                return Ok(());
            }
        }
    };
    let listen = async {
        let mut lines = BufReader::new(from).lines();
        while let Some(line) = lines.next_line().await? {
            // Unknown messages of an agent of another version are ignored.
            if let Ok(told) = serde_json::from_str(&line)
                && sender.send(Happened::Told(told)).await.is_err()
            {
                break;
            }
        }
        Ok(())
    };
    let ended: io::Result<()> = tokio::select! {
        ended = tell => ended,
        ended = listen => ended,
    };
    drop(ended);
    drop(sender.send(Happened::Attended(false)).await);
}
