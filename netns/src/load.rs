//! Clients of an HTTP service, each with one request after the other, that count what fails.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Clients at once.
const CLIENTS: usize = 8;

/// Between two requests of a client: what is measured is not how much the service bears.
const PAUSE: Duration = Duration::from_millis(8);

/// A request that takes this long has failed.
const STALLED: Duration = Duration::from_secs(5);

/// Bytes of a line, and of a body, at most.
const LINE: u64 = 4_096;
const BODY: usize = 65_536;

/// A request that failed.
#[derive(Clone, Debug)]
pub struct Failed {
    /// When it was sent.
    pub began: Instant,
    /// When it had failed.
    pub ended: Instant,
    /// In which way.
    pub why: String,
}

/// Requests on their way to an HTTP service, until they are told to end.
pub struct Load {
    sent: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Failed>>>,
}

impl Load {
    /// Begins to send requests to a socket. A good answer has status 200 and begins with `expected`.
    pub fn start(socket: &Path, expected: &str) -> Load {
        let (sent, ends) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let client = |_| {
            let mut client = Client {
                socket: socket.to_owned(),
                expected: expected.to_owned(),
                stream: None,
            };
            let (sent, ends) = (Arc::clone(&sent), Arc::clone(&ends));
            thread::spawn(move || {
                let mut failed = Vec::new();
                while !ends.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    if let Err(error) = client.ask() {
                        client.stream = None;
                        let (ended, why) = (Instant::now(), error.to_string());
                        failed.push(Failed { began, ended, why });
                    }
                    sent.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(PAUSE);
                }
                failed
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Load { sent, ends, clients }
    }

    /// Requests so far that were answered or have failed.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends it; how many requests there were, and which of them failed, the earliest first.
    pub fn end(self) -> (u64, Vec<Failed>) {
        self.ends.store(true, Ordering::Relaxed);
        let failed = self.clients.into_iter().flat_map(|client| client.join().unwrap());
        let mut failed: Vec<Failed> = failed.collect();
        failed.sort_by_key(|failed| failed.ended);
        (self.sent.load(Ordering::Relaxed), failed)
    }
}

struct Client {
    socket: PathBuf,
    expected: String,
    stream: Option<BufReader<UnixStream>>,
}

impl Client {
    /// Sends a request, on the connection of the one before if that is kept, and reads its answer.
    fn ask(&mut self) -> io::Result<()> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = UnixStream::connect(&self.socket)?;
                stream.set_read_timeout(Some(STALLED))?;
                stream.set_write_timeout(Some(STALLED))?;
                BufReader::new(stream)
            }
        };
        stream.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")?;
        let status = line(&mut stream)?;
        let (mut length, mut kept) = (None, true);
        loop {
            let header = line(&mut stream)?.to_ascii_lowercase();
            match header.split_once(':') {
                None => break,
                Some(("content-length", value)) => length = value.trim().parse::<usize>().ok(),
                Some(("connection", value)) => kept = value.trim() != "close",
                Some(_) => {}
            }
        }
        let length = length.filter(|length| *length <= BODY);
        let length = length.ok_or_else(|| io::Error::other(format!("{status}, of unknown length")))?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        if !status.starts_with("HTTP/1.1 200 ") {
            return Err(io::Error::other(status));
        }
        if !body.starts_with(self.expected.as_bytes()) {
            return Err(io::Error::other(format!("the answer of another service: {body:?}")));
        }
        self.stream = kept.then_some(stream);
        Ok(())
    }
}

fn line(stream: &mut BufReader<UnixStream>) -> io::Result<String> {
    let mut line = String::new();
    if stream.take(LINE).read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}
