//! Clients of an HTTP service, each with one request at a time, that count failures.

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

/// Number of concurrent clients.
const CLIENTS: usize = 8;

/// Pause between two requests of a client: the capacity of the service is not measured.
const PAUSE: Duration = Duration::from_millis(8);

/// Time after which a request counts as failed.
const STALLED: Duration = Duration::from_secs(5);

/// Maximum bytes of a line, and of a body.
const LINE: u64 = 4_096;
const BODY: usize = 65_536;

/// A failed request.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Time at which the request was sent.
    pub began: Instant,
    /// Time at which it failed.
    pub ended: Instant,
    /// Description of the failure.
    pub why: String,
}

/// A stream of requests to an HTTP service, until it is ended.
pub struct Load {
    sent: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Failed>>>,
}

impl Load {
    /// Starts to send requests to a Unix socket. A valid answer has status 200 and begins with `expected`.
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

    /// Returns the number of requests so far that were answered or failed.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops the clients; returns the number of requests and the failed ones, ordered by the time of failure.
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
    /// Sends a request, on the previous connection if it was kept alive, and reads its answer.
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
