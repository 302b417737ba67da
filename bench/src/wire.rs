//! A minimal gRPC client of one stream: the load generator must not cost more than the measured server.
//!
//! It implements only the part of HTTP/2 (RFC 9113) that one `AgentService.Session` requires: it announces windows so
//! large that it never updates them, answers pings and settings, and respects the server's windows.

use std::{
    cell::{Cell, RefCell},
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    sync::Arc,
};

use prost::Message as _;
use rustls::{ClientConfig, ClientConnection};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use wyneos::v1::{SessionRequest, SessionResponse, session_request, session_response};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const STREAM: u32 = 1;
const WINDOW: u32 = 0x7fff_ffff;
const DEFAULT_WINDOW: i64 = 65_535;

/// Frame types and flags (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// Header size of a frame, and of a gRPC message, in bytes.
const FRAME: usize = 9;
const PREFIX: usize = 5;

fn frame(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    out.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

/// Returns the bytes that open the connection and its stream.
fn opening(authority: &str) -> Vec<u8> {
    let mut out = PREFACE.to_vec();
    frame(&mut out, 6, SETTINGS, 0, 0);
    out.extend_from_slice(&INITIAL_WINDOW_SIZE.to_be_bytes());
    out.extend_from_slice(&WINDOW.to_be_bytes());
    frame(&mut out, 4, WINDOW_UPDATE, 0, 0);
    out.extend_from_slice(&(WINDOW - DEFAULT_WINDOW as u32).to_be_bytes());
    // HPACK (RFC 7541): indexed fields from the static table where possible, otherwise literals without Huffman coding.
    let mut headers = vec![0x83, 0x86];
    let mut literal = |name: &[u8], value: &str| {
        headers.extend_from_slice(name);
        headers.push(value.len() as u8);
        headers.extend_from_slice(value.as_bytes());
    };
    literal(&[0x04], "/wyneos.v1.AgentService/Session");
    literal(&[0x01], authority);
    literal(&[0x0f, 0x10], "application/grpc");
    literal(&[0x00, 2, b't', b'e'], "trailers");
    frame(&mut out, headers.len(), HEADERS, END_HEADERS, STREAM);
    out.append(&mut headers);
    out
}

/// The connection of one agent.
pub(crate) struct Connection {
    stream: TcpStream,
    tls: Option<RefCell<ClientConnection>>,
    /// Bytes that the socket could not accept yet.
    unsent: RefCell<Vec<u8>>,
    /// Remaining flow-control windows granted by the server: of the connection, and of the stream.
    windows: Cell<(i64, i64)>,
    initial: Cell<i64>,
    unread: RefCell<Vec<u8>>,
    body: RefCell<Vec<u8>>,
    /// Whether the coordinator's welcome was received.
    pub(crate) welcomed: Cell<bool>,
    /// Epoch and cycle of the newest seal.
    pub(crate) acknowledged: Cell<(u64, u64)>,
}

impl Connection {
    /// Connects to `address` and opens the stream.
    pub(crate) async fn open(address: SocketAddr, tls: Option<Arc<ClientConfig>>) -> io::Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let tls = match tls {
            Some(config) => {
                let name = ServerName::IpAddress(address.ip().into());
                let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
                Some(RefCell::new(connection))
            }
            None => None,
        };
        let connection = Connection {
            stream,
            tls,
            unsent: RefCell::default(),
            windows: Cell::new((DEFAULT_WINDOW, DEFAULT_WINDOW)),
            initial: Cell::new(DEFAULT_WINDOW),
            unread: RefCell::default(),
            body: RefCell::default(),
            welcomed: Cell::new(false),
            acknowledged: Cell::default(),
        };
        connection.write(&opening(&address.to_string()))?;
        Ok(connection)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &self.tls else {
            return self.write_raw(bytes);
        };
        tls.borrow_mut().writer().write_all(bytes)?;
        self.flush_tls(&mut tls.borrow_mut())
    }

    fn flush_tls(&self, tls: &mut ClientConnection) -> io::Result<()> {
        let mut out = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut out)?;
        }
        if out.is_empty() { Ok(()) } else { self.write_raw(&out) }
    }

    /// Appends received bytes to the input; with TLS, the decrypted bytes.
    fn take(&self, mut came: &[u8]) -> io::Result<()> {
        let mut unread = self.unread.borrow_mut();
        let Some(tls) = &self.tls else {
            unread.extend_from_slice(came);
            return Ok(());
        };
        let mut tls = tls.borrow_mut();
        while !came.is_empty() {
            tls.read_tls(&mut came)?;
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            let at = unread.len();
            unread.resize(at + state.plaintext_bytes_to_read(), 0);
            tls.reader().read_exact(&mut unread[at..])?;
        }
        self.flush_tls(&mut tls)
    }

    fn write_raw(&self, bytes: &[u8]) -> io::Result<()> {
        let mut unsent = self.unsent.borrow_mut();
        if !unsent.is_empty() {
            unsent.extend_from_slice(bytes);
            let sent = self.some(&unsent)?;
            unsent.drain(..sent);
            return Ok(());
        }
        let sent = self.some(bytes)?;
        unsent.extend_from_slice(bytes.get(sent..).unwrap_or_default());
        Ok(())
    }

    fn some(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.stream.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            other => other,
        }
    }

    /// Sends a message; returns false when the server's windows have no room for it.
    pub(crate) fn send(&self, message: session_request::Message, scratch: &mut Vec<u8>) -> io::Result<bool> {
        let request = SessionRequest { message: Some(message) };
        let length = request.encoded_len();
        let framed = (PREFIX + length) as i64;
        let (connection, stream) = self.windows.get();
        if framed > connection.min(stream) || self.unsent.borrow().len() > DEFAULT_WINDOW as usize {
            return Ok(false);
        }
        self.windows.set((connection - framed, stream - framed));
        scratch.clear();
        frame(scratch, PREFIX + length, DATA, 0, STREAM);
        scratch.push(0);
        scratch.extend_from_slice(&(length as u32).to_be_bytes());
        request.encode_raw(scratch);
        self.write(scratch)?;
        Ok(true)
    }

    /// Reads and processes the available input; returns false at the end of the session.
    pub(crate) async fn read(&self, buffer: &RefCell<Vec<u8>>) -> io::Result<bool> {
        self.stream.readable().await?;
        let mut buffer = buffer.borrow_mut();
        match self.stream.try_read(&mut buffer) {
            Ok(0) => Ok(false),
            Ok(got) => {
                self.take(buffer.get(..got).unwrap_or_default())?;
                self.frames()
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn frames(&self) -> io::Result<bool> {
        let mut unread = self.unread.borrow_mut();
        let mut at = 0;
        while let Some(&[a, b, c, kind, flags, s0, s1, s2, s3]) = unread.get(at..at + FRAME) {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            let Some(payload) = unread.get(at + FRAME..at + FRAME + length) else {
                break;
            };
            let stream = u32::from_be_bytes([s0, s1, s2, s3]) & WINDOW;
            if !self.hear(kind, flags, stream, payload)? {
                return Ok(false);
            }
            at += FRAME + length;
        }
        unread.drain(..at);
        Ok(true)
    }

    fn hear(&self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<bool> {
        match kind {
            SETTINGS if flags & ACK == 0 => {
                self.settings(payload);
                let mut answer = Vec::with_capacity(FRAME);
                frame(&mut answer, 0, SETTINGS, ACK, 0);
                self.write(&answer)?;
            }
            PING if flags & ACK == 0 => {
                let mut answer = Vec::with_capacity(FRAME + payload.len());
                frame(&mut answer, payload.len(), PING, ACK, 0);
                answer.extend_from_slice(payload);
                self.write(&answer)?;
            }
            WINDOW_UPDATE => {
                let more = payload.try_into().map_or(0, u32::from_be_bytes) & WINDOW;
                let (connection, of_stream) = self.windows.get();
                self.windows.set(match stream {
                    0 => (connection + i64::from(more), of_stream),
                    _ => (connection, of_stream + i64::from(more)),
                });
            }
            DATA if !self.messages(payload) => return Ok(false),
            HEADERS | DATA if flags & END_STREAM != 0 => return Ok(false),
            RESET | GO_AWAY => return Ok(false),
            _ => {}
        }
        Ok(true)
    }

    fn settings(&self, payload: &[u8]) {
        for setting in payload.as_chunks::<6>().0 {
            let [i0, i1, v0, v1, v2, v3] = *setting;
            if u16::from_be_bytes([i0, i1]) == INITIAL_WINDOW_SIZE {
                let initial = i64::from(u32::from_be_bytes([v0, v1, v2, v3]));
                let (connection, stream) = self.windows.get();
                self.windows
                    .set((connection, stream + initial - self.initial.replace(initial)));
            }
        }
    }

    /// Processes the messages in `payload`; returns false when the server ends the session.
    fn messages(&self, payload: &[u8]) -> bool {
        let mut body = self.body.borrow_mut();
        body.extend_from_slice(payload);
        let mut at = 0;
        while let Some((prefix, rest)) = body.get(at..).and_then(|body| body.split_first_chunk::<PREFIX>()) {
            let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
            let Some(message) = rest.get(..length) else { break };
            match SessionResponse::decode(message)
                .ok()
                .and_then(|response| response.message)
            {
                Some(session_response::Message::Welcome(_)) => self.welcomed.set(true),
                Some(session_response::Message::Seal(seal)) => self.acknowledged.set((seal.epoch, seal.cycle)),
                Some(session_response::Message::Refused(_)) => return false,
                _ => {}
            }
            at += PREFIX + length;
        }
        body.drain(..at);
        true
    }
}
