//! The socket with which `wynectl dev kill`, `stop`, `cont` and `start` reach the running `wynectl dev`.
//!
//! The name is abstract (unix(7)), and contains the user and the coordinator's address: like the address it is unique
//! in a network namespace, it leaves no file, and it is free again when its process ends. Each side verifies the
//! other's user. A request is one line, and so is its answer.

use std::{net::SocketAddr, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use rustix::process::geteuid;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{DevError, child::Exited};
use crate::{exit::Exit, failure::Failure};

#[cfg(test)]
pub(super) mod tests;

/// Maximum length of a process's name in a request, bytes.
pub(super) const NAME_MOST: usize = 64;

/// Maximum length of a request with its line feed, bytes: the longest action, a blank and a name.
const REQUEST_MOST: u64 = 5 + 1 + NAME_MOST as u64 + 1;

/// Maximum length of an answer, bytes; a longer one is truncated.
const ANSWER_MOST: u64 = 4 * 1024;

/// Connections at a time; others wait in the kernel's queue.
const CONNECTIONS: usize = 8;

/// Time limit for a connection from its beginning to its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Time that a killed process may take to end before the answer reports only that it was killed.
const ENDING: Duration = Duration::from_secs(3);

/// Delay after a connection could not be accepted, for example because of a lack of descriptors.
const RETRY: Duration = Duration::from_millis(100);

/// An action on a process of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// SIGKILL.
    Kill,
    /// SIGSTOP.
    Stop,
    /// SIGCONT.
    Cont,
    /// Starts the process again.
    Start,
}

impl Action {
    const ALL: [Action; 4] = [Action::Kill, Action::Stop, Action::Cont, Action::Start];

    /// The word on the command line and in requests.
    pub(super) fn word(self) -> &'static str {
        match self {
            Action::Kill => "kill",
            Action::Stop => "stop",
            Action::Cont => "cont",
            Action::Start => "start",
        }
    }
}

/// An action on a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) action: Action,
    /// The name as it was typed: `node-2`, `agent-2` or `coordinator`, or an unknown one.
    pub(super) name: String,
}

impl FromStr for Request {
    type Err = &'static str;

    fn from_str(line: &str) -> Result<Request, &'static str> {
        let (word, name) = line.split_once(' ').ok_or("not an action and a name")?;
        let action = Action::ALL.into_iter().find(|action| action.word() == word);
        if name.is_empty() || name.len() > NAME_MOST || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("not a name");
        }
        Ok(Request {
            action: action.ok_or("not an action")?,
            name: name.to_owned(),
        })
    }
}

/// Result of a request, with a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The action was carried out.
    Done(String),
    /// The action is not possible in the present state.
    Refused(String),
    /// There is no such process.
    Unknown(String),
}

impl Answer {
    fn line(&self) -> String {
        let (word, text) = match self {
            Answer::Done(text) => ("done", text),
            Answer::Refused(text) => ("refused", text),
            Answer::Unknown(text) => ("unknown", text),
        };
        format!("{word} {}\n", text.replace('\n', " "))
    }

    fn parse(line: &str) -> Option<Answer> {
        let (word, text) = line.strip_suffix('\n')?.split_once(' ')?;
        let text = text.to_owned();
        match word {
            "done" => Some(Answer::Done(text)),
            "refused" => Some(Answer::Refused(text)),
            "unknown" => Some(Answer::Unknown(text)),
            _ => None,
        }
    }

    /// The sentence, or the failure of the command that asked.
    fn result(self) -> Result<String, Failure> {
        match self {
            Answer::Done(text) => Ok(text),
            Answer::Refused(text) => Err(Failure::new(Exit::Failed, text)),
            Answer::Unknown(text) => Err(Failure::new(Exit::NotFound, text)),
        }
    }
}

/// An answer, and the end of a process that it waits for.
pub(super) struct Reply {
    pub(super) answer: Answer,
    pub(super) once: Option<Exited>,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Reply {
        Reply { answer, once: None }
    }
}

/// A request that waits for its reply.
pub(super) struct Asked {
    pub(super) request: Request,
    pub(super) reply: oneshot::Sender<Reply>,
}

/// The socket of a running cluster.
pub(super) struct Control {
    asked: mpsc::Receiver<Asked>,
    serving: JoinHandle<()>,
}

impl Drop for Control {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Control {
    /// Listens to requests for the cluster whose coordinator is to listen at `address`. Fails if another one of this
    /// user runs there.
    pub(super) fn listen(address: SocketAddr) -> Result<Control, DevError> {
        let listener = UnixListener::bind(socket(address)).map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => DevError::Runs(address),
            _ => DevError::system("listen to `wynectl dev kill` and similar commands")(error),
        })?;
        let (ask, asked) = mpsc::channel(CONNECTIONS);
        let serving = tokio::spawn(serve(listener, ask));
        Ok(Control { asked, serving })
    }

    /// The next request.
    pub(super) async fn next(&mut self) -> Asked {
        match self.asked.recv().await {
            Some(asked) => asked,
            // Only after `close`.
            None => std::future::pending().await,
        }
    }

    /// Refuses requests from now on.
    pub(super) fn close(&mut self) {
        self.asked.close();
    }
}

/// The socket's name; the first byte makes it abstract.
fn socket(address: SocketAddr) -> PathBuf {
    format!("\0wyneos-dev-{}-{address}", geteuid().as_raw()).into()
}

async fn serve(listener: UnixListener, ask: mpsc::Sender<Asked>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            sleep(RETRY).await;
            continue;
        };
        let ask = ask.clone();
        tokio::spawn(async move {
            // A client that is too slow, or gone, gets no answer.
            drop(timeout(PATIENCE, attend(stream, ask)).await);
            drop(permit);
        });
    }
}

/// Returns whether the other side of a socket is a process of this user.
fn is_own(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == geteuid().as_raw())
}

async fn attend(mut stream: UnixStream, ask: mpsc::Sender<Asked>) -> std::io::Result<()> {
    if !is_own(&stream) {
        return Ok(());
    }
    let mut line = String::new();
    BufReader::new((&mut stream).take(REQUEST_MOST))
        .read_line(&mut line)
        .await?;
    let answer = match line.strip_suffix('\n').ok_or("not one short line").and_then(str::parse) {
        Ok(request) => answer(request, &ask).await,
        Err(why) => Answer::Refused(format!("not understood: {why}")),
    };
    stream.write_all(answer.line().as_bytes()).await?;
    stream.shutdown().await
}

async fn answer(request: Request, ask: &mpsc::Sender<Asked>) -> Answer {
    let (reply, replied) = oneshot::channel();
    let ended = Answer::Refused("the cluster is being ended".to_owned());
    if ask.send(Asked { request, reply }).await.is_err() {
        return ended;
    }
    let Ok(reply) = replied.await else { return ended };
    if let Some(mut exited) = reply.once {
        drop(timeout(ENDING, exited.wait_for(Option::is_some)).await);
    }
    reply.answer
}

/// Asks the `wynectl dev` whose coordinator listens at `address`; waits for at most `limit`.
pub(super) async fn ask(address: SocketAddr, request: &Request, limit: Duration) -> Result<String, Failure> {
    match timeout(limit, exchange(address, request)).await {
        Ok(Ok(Some(answer))) => answer.result(),
        Ok(Ok(None)) => Err(Failure::new(
            Exit::Failed,
            format!("`wynectl dev` at {address} gave an unintelligible answer"),
        )
        .hint("does it have another version than this program?")),
        Ok(Err(_)) => Err(Failure::new(
            Exit::Unreachable,
            format!("no `wynectl dev` of yours runs at {address}"),
        )
        .hint("`wynectl dev` starts one; --listen selects the address of another one")),
        Err(_) => Err(
            Failure::new(Exit::Unreachable, format!("`wynectl dev` at {address} does not answer"))
                .hint("is it stopped?"),
        ),
    }
}

async fn exchange(address: SocketAddr, request: &Request) -> std::io::Result<Option<Answer>> {
    let mut stream = UnixStream::connect(socket(address)).await?;
    if !is_own(&stream) {
        return Err(std::io::ErrorKind::PermissionDenied.into());
    }
    let line = format!("{} {}\n", request.action.word(), request.name);
    stream.write_all(line.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(ANSWER_MOST).read_to_string(&mut answer).await?;
    Ok(Answer::parse(&answer))
}
