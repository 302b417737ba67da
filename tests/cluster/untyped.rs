//! Calls of any rpc, with encoded messages.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _};
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

use crate::harness::PATIENCE;

/// A codec that passes messages as bytes.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let length = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(length).to_vec()))
    }
}

/// The answer to a call: its messages (for an endless stream, the first ones), and its error with all details.
pub struct Told {
    pub messages: Vec<Vec<u8>>,
    pub error: Option<Status>,
}

/// Maximum number of messages read from a stream.
const READ: usize = 20;

/// A call of any rpc.
pub struct Call<'a> {
    pub channel: &'a Channel,
    /// Path, as in `wyneos.v1.Service/Rpc`.
    pub rpc: &'a str,
    pub request: Vec<u8>,
    /// Whether the client's side of the stream stays open after the request.
    pub stays: bool,
    /// Maximum wait for the first message and for each further one, since some streams do not end.
    pub patience: [Duration; 2],
}

impl Call<'_> {
    pub async fn answers(self) -> Told {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(64 << 20);
        grpc.ready().await.unwrap();
        let path = format!("/{}", self.rpc).parse().unwrap();
        let request = tokio_stream::once(self.request);
        let answer = match self.stays {
            true => {
                timeout(
                    PATIENCE,
                    grpc.streaming(Request::new(request.chain(tokio_stream::pending())), path, Raw),
                )
                .await
            }
            false => timeout(PATIENCE, grpc.streaming(Request::new(request), path, Raw)).await,
        };
        let mut told = Told {
            messages: Vec::new(),
            error: None,
        };
        let mut stream = match answer.expect("no answer at all") {
            Ok(answer) => answer.into_inner(),
            Err(status) => {
                told.error = Some(status);
                return told;
            }
        };
        while told.messages.len() < READ {
            let patience = self.patience[usize::from(!told.messages.is_empty())];
            match timeout(patience, stream.message()).await {
                Ok(Ok(Some(message))) => told.messages.push(message),
                Ok(Err(status)) => {
                    told.error = Some(status);
                    break;
                }
                Ok(Ok(None)) | Err(_) => break,
            }
        }
        told
    }
}
