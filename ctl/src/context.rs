//! The environment of every command: the connection, and the output of answers.

use std::{
    future::Future,
    io::{self, IsTerminal as _, Write as _},
    sync::{Arc, LazyLock},
    time::Duration,
};

use prost::{Message, Name};
use prost_reflect::{DescriptorError, DescriptorPool, DynamicMessage, SerializeOptions};
use rustls::ClientConfig;
use serde_json::ser::PrettyFormatter;
use tonic::{Response, Status, transport::Channel};
use wyneos::client;

use crate::{
    args::Format,
    config::Way,
    exit::Exit,
    failure::{Failure, is_transport},
    text,
};

/// The options of every command, and standard output.
pub(crate) struct Context {
    /// Address of the coordinator.
    pub(crate) address: String,
    tls: Option<Arc<ClientConfig>>,
    /// Notified when the coordinator refuses the certificate because of its dates.
    undated: client::Undated,
    /// Time limit for one answer; in a stream, for each of its messages.
    pub(crate) timeout: Duration,
    format: Format,
    colours: bool,
}

impl Context {
    /// A context for this terminal.
    pub(crate) fn new(way: Way, timeout: Duration, format: Format) -> Context {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Context {
            address: way.address,
            tls: way.tls,
            undated: client::Undated::default(),
            timeout,
            format,
            colours: io::stdout().is_terminal() && !no_colour,
        }
    }

    /// The same context for another coordinator.
    pub(crate) fn to(&self, way: Way) -> Context {
        Context {
            address: way.address,
            tls: way.tls,
            undated: client::Undated::default(),
            ..*self
        }
    }

    /// Returns whether answers are written for programs.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Connects.
    pub(crate) async fn connect(&self) -> Result<Channel, Failure> {
        let connect = client::connect_noting(&self.address, self.tls.as_ref(), &self.undated);
        match tokio::time::timeout(self.timeout, connect).await {
            Ok(connected) => connected.map_err(|error| Failure::connect(&error, &self.address)),
            Err(_) => Err(Failure::timeout("connect", self.timeout, &self.address)),
        }
    }

    /// The failure of `what`, by the server or the connection.
    pub(crate) fn failed(&self, what: &str, status: &Status) -> Failure {
        // The request may have been cut off before the reason arrived.
        match is_transport(status) && self.undated.take() {
            true => Failure::undated(what, &self.address),
            false => Failure::status(what, status, &self.address),
        }
    }

    /// Waits for the answer to `what`.
    pub(crate) async fn call<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.failed(what, &status)),
            Err(_) => Err(Failure::timeout(what, self.timeout, &self.address)),
        }
    }

    /// Writes text for people; it ends with a line feed.
    pub(crate) fn text(&self, text: &str) -> Result<(), Failure> {
        let raw = text::is_raw(&io::stdout());
        write(&text::render(text, self.colours, raw))
    }

    /// Writes a message for programs, over several lines.
    pub(crate) fn json<M: Message + Name>(&self, message: &M) -> Result<(), Failure> {
        let json = json(message, true).map_err(cannot_show)?;
        write(&format!("{json}\n"))
    }

    /// Writes a message of a stream for programs, on one line.
    pub(crate) fn json_line<M: Message + Name>(&self, message: &M) -> Result<(), Failure> {
        let json = json(message, false).map_err(cannot_show)?;
        write(&format!("{json}\n"))
    }

    /// Writes a message as JSON, or as rendered by `view`.
    pub(crate) fn show<M: Message + Name>(&self, message: &M, view: impl FnOnce(&M) -> String) -> Result<(), Failure> {
        if self.is_json() {
            self.json(message)
        } else {
            self.text(&view(message))
        }
    }
}

/// Writes to standard output without buffering: the reader of a follower waits for each line.
fn write(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
        .map_err(Failure::output)
}

fn cannot_show(error: Box<dyn std::error::Error>) -> Failure {
    Failure::new(Exit::Failed, format!("cannot write the answer as JSON: {error}"))
}

/// Descriptors of the messages' fields. Decoded once: followers write one message per line.
static POOL: LazyLock<Result<DescriptorPool, DescriptorError>> =
    LazyLock::new(|| DescriptorPool::decode(wyneos::FILE_DESCRIPTOR_SET));

/// Descriptors of the messages' fields, for tests that create messages from JSON.
#[cfg(test)]
pub(crate) fn pool() -> Result<&'static DescriptorPool, &'static DescriptorError> {
    POOL.as_ref()
}

/// The protobuf JSON mapping of a message. Fields without presence are always included, so that scripts find them.
pub(crate) fn json<M: Message + Name>(message: &M, pretty: bool) -> Result<String, Box<dyn std::error::Error>> {
    let name = M::full_name();
    let descriptor = POOL
        .as_ref()?
        .get_message_by_name(&name)
        .ok_or_else(|| format!("{name} is not described"))?;
    let mut dynamic = DynamicMessage::new(descriptor);
    dynamic.transcode_from(message)?;
    let options = SerializeOptions::new().skip_default_fields(false);
    let mut bytes = Vec::new();
    if pretty {
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, PrettyFormatter::new());
        dynamic.serialize_with_options(&mut serializer, &options)?;
    } else {
        dynamic.serialize_with_options(&mut serde_json::Serializer::new(&mut bytes), &options)?;
    }
    Ok(text::json_safe(&String::from_utf8(bytes)?))
}

#[cfg(test)]
mod tests;
