//! A streamed chat answer, read chunk by chunk.

use std::collections::VecDeque;
use std::fmt;
use std::io::Read;
use std::sync::Arc;

use ureq::{Body, BodyReader};

use super::ChatChunk;
use super::client::scrub_all;
use crate::sse::{self, Event};
use crate::transport::{Started, error_message, excerpt};
use crate::{NetError, Secret};

/// Iterator over the chunks of one answer. It ends after `[DONE]`, or after the first error; a
/// stream that stops before `[DONE]` is an error, because the answer may be cut.
pub struct ChatStream {
    reader: BodyReader<'static>,
    started: Started,
    peer: String,
    parser: sse::Parser,
    waiting: VecDeque<Event>,
    left: usize,
    limit: usize,
    ended: bool,
    secrets: Arc<[Secret]>,
}

impl ChatStream {
    pub(super) fn new(
        body: Body,
        started: Started,
        peer: String,
        limit: usize,
        secrets: Arc<[Secret]>,
    ) -> Self {
        Self {
            reader: body.into_reader(),
            started,
            peer,
            parser: sse::Parser::new(limit),
            waiting: VecDeque::new(),
            left: limit,
            limit,
            ended: false,
            secrets,
        }
    }

    fn step(&mut self) -> Result<Option<ChatChunk>, NetError> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                if event.data.trim() == sse::DONE {
                    return Ok(None);
                }
                return self.chunk(&event.data).map(Some);
            }
            let mut buffer = [0; 8 * 1024];
            let read = self
                .reader
                .read(&mut buffer)
                .map_err(|error| self.started.explain(error.into(), &self.peer))?;
            if read == 0 {
                let reason = format!("the stream ended before {}", sse::DONE);
                return Err(NetError::Broken { peer: self.peer.clone(), reason });
            }
            self.left = self.left.checked_sub(read).ok_or_else(|| self.too_large())?;
            let events = self.parser.push(&buffer[..read]).map_err(|sse::TooLong| self.too_large())?;
            self.waiting.extend(events);
        }
    }

    fn chunk(&self, data: &str) -> Result<ChatChunk, NetError> {
        serde_json::from_str(data).map_err(|error| {
            let peer = self.peer.clone();
            match error_message(data.as_bytes()) {
                Some(message) => NetError::Upstream { peer, message: scrub_all(&self.secrets, &message) },
                None => NetError::BadBody {
                    peer,
                    reason: error.to_string(),
                    body_excerpt: scrub_all(&self.secrets, &excerpt(data.as_bytes())),
                },
            }
        })
    }

    fn too_large(&self) -> NetError {
        NetError::TooLarge { peer: self.peer.clone(), limit_bytes: self.limit }
    }
}

impl Iterator for ChatStream {
    type Item = Result<ChatChunk, NetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = self.step().transpose();
        self.ended = !matches!(item, Some(Ok(_)));
        item
    }
}

impl fmt::Debug for ChatStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatStream")
            .field("peer", &self.peer)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
