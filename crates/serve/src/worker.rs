//! One worker: takes a job, writes its answer token by token, records it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use nightshift_model::{
    Decoder, Finish, GenerateOptions, KvCache, ModelError, TextStream, TokenOut, Tokenizer, generate,
};
use tokio::sync::mpsc::UnboundedSender;

use crate::adapters::Pinned;
use crate::confidence::TokenProbs;
use crate::engine::{Choice, Ended, Event, Job, Line, Piece, Shared, TokenInfo};
use crate::exchange::{self, Ending, Outcome};
use crate::meters::Finished;
use crate::stops::Stops;

/// Threads for one worker's arithmetic: the setting, or its share of the cores.
pub(crate) fn arithmetic_threads(setting: usize, workers: usize) -> usize {
    if setting > 0 {
        return setting;
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores / workers).max(1)
}

/// The memory that a worker uses again and again.
struct Bench {
    decoder: Decoder,
    cache: KvCache,
}

impl Bench {
    fn new(shared: &Shared, threads: usize) -> Self {
        let config = &shared.base.model.config;
        Self { decoder: Decoder::new(threads), cache: KvCache::new(config, config.max_position_embeddings) }
    }
}

/// Works until there are no more jobs.
pub(crate) fn run(shared: &Arc<Shared>, line: &Line, threads: usize) {
    let mut bench = Bench::new(shared, threads);
    while line.next(|job| {
        if !work(shared, &mut bench, job) {
            bench = Bench::new(shared, threads);
        }
    }) {}
}

/// Answers one job and records it; false when the bench may be left in disorder by a panic.
fn work(shared: &Shared, bench: &mut Bench, mut job: Job) -> bool {
    let pinned = match std::mem::replace(&mut job.choice, Choice::Base) {
        Choice::Live => shared.adapters.live(),
        Choice::Base => Pinned::default(),
        Choice::Adapter(adapter) => Pinned { generation: 0, adapter: Some(adapter) },
    };
    let mut writing = Writing::new(shared, &mut job);
    let (ending, sound) = if let Some(ending) = writing.interrupted() {
        (ending, true)
    } else {
        let _ = writing.events.send(Event::Started(pinned.clone()));
        let result = catch_unwind(AssertUnwindSafe(|| write(shared, bench, &job, &pinned, &mut writing)));
        match result {
            Ok(Ok(ending)) => (ending, true),
            Ok(Err(error)) => (Ending::Broken(error.to_string()), true),
            Err(_) => (Ending::Broken("the worker panicked".into()), false),
        }
    };
    let Writing { text, probs, count, first_token, .. } = writing;
    let milliseconds = |at: Instant| (at - job.arrived).as_secs_f64() * 1000.0;
    let outcome = Outcome {
        ending,
        text,
        probs,
        confidence: probs.smallest().map(|smallest| shared.confidence.of(smallest)),
        adapter_id: pinned.adapter_id().map(str::to_owned),
        generation: pinned.generation,
        prompt_tokens: job.prompt.len(),
        completion_tokens: count,
        latency_ms: milliseconds(Instant::now()),
        ttft_ms: first_token.map(milliseconds),
    };
    finish(shared, job, outcome);
    sound
}

/// Counts, records, and tells whoever still listens.
fn finish(shared: &Shared, job: Job, outcome: Outcome) {
    let exchange = exchange::row(job.origin, &outcome, shared.success_above);
    shared.meters.finished(Finished {
        ok: exchange.ok,
        cancelled: outcome.ending == Ending::Cancelled,
        seconds: outcome.latency_ms / 1000.0,
        first_token_s: outcome.ttft_ms.map(|milliseconds| milliseconds / 1000.0),
        prompt_tokens: outcome.prompt_tokens,
        completion_tokens: outcome.completion_tokens,
    });
    if let Ending::Broken(reason) = &outcome.ending {
        tracing::error!(id = exchange.body.id, "a request failed: {reason}");
    }
    let receipt = shared.recorder.as_ref().map(|recorder| recorder.record(exchange));
    let _ = job.events.send(Event::Ended(Box::new(Ended { outcome, receipt })));
}

fn write(
    shared: &Shared,
    bench: &mut Bench,
    job: &Job,
    pinned: &Pinned,
    writing: &mut Writing<'_>,
) -> Result<Ending, ModelError> {
    let base = &shared.base;
    let options = GenerateOptions {
        max_tokens: job.max_tokens,
        temperature: job.sampling.temperature as f32,
        top_p: job.sampling.top_p as f32,
        top_k: 0,
        seed: job.sampling.seed,
        eos: base.tokenizer.end_tokens().to_vec(),
        top_logprobs: job.top_logprobs.unwrap_or(0),
    };
    let adapter = pinned.adapter.as_ref().map(|loaded| &loaded.adapter);
    let Bench { decoder, cache } = bench;
    let generation = generate(&base.model, adapter, decoder, cache, &job.prompt, &options, &mut |token| {
        writing.token(token)
    })?;
    if let Some(logprob) = generation.stop_logprob {
        writing.end_token(f64::from(logprob));
    }
    let ending = match (writing.ending.take(), generation.finish) {
        (Some(ending), _) => ending?,
        (None, Finish::Stop) => Ending::Stop,
        (None, Finish::Length | Finish::Cancelled) => Ending::Length,
    };
    writing.close(ending)
}

/// An answer as it grows.
struct Writing<'a> {
    shared: &'a Shared,
    tokenizer: &'a Tokenizer,
    events: UnboundedSender<Event>,
    deadline: Instant,
    /// Whether somebody wants pieces before the end.
    pieces: bool,
    /// Whether somebody wants tokens.
    scored: bool,
    stream: TextStream,
    stops: Stops,
    /// What certainly belongs to the answer.
    text: String,
    /// Bytes of text that the tokens so far stand for, the held-back ones included.
    decoded: usize,
    /// Tokens not given out yet, with the place where their text begins.
    pending: Vec<(usize, TokenInfo)>,
    previous: Option<u32>,
    probs: TokenProbs,
    count: usize,
    first_token: Option<Instant>,
    /// Set when the callback ended the answer.
    ending: Option<Result<Ending, ModelError>>,
}

impl<'a> Writing<'a> {
    fn new(shared: &'a Shared, job: &mut Job) -> Self {
        Self {
            shared,
            tokenizer: &shared.base.tokenizer,
            events: job.events.clone(),
            deadline: job.deadline,
            pieces: job.pieces || job.top_logprobs.is_some(),
            scored: job.top_logprobs.is_some(),
            stream: TextStream::new(),
            stops: Stops::new(std::mem::take(&mut job.stops)),
            text: String::new(),
            decoded: 0,
            pending: Vec::new(),
            previous: job.prompt.last().copied(),
            probs: TokenProbs::default(),
            count: 0,
            first_token: None,
            ending: None,
        }
    }

    /// Why the work should not go on, if it should not.
    fn interrupted(&self) -> Option<Ending> {
        if Instant::now() >= self.deadline {
            Some(Ending::TimedOut)
        } else if !self.events.is_closed() {
            None
        } else if self.shared.shutdown.is_fired() {
            Some(Ending::Stopped)
        } else {
            Some(Ending::Cancelled)
        }
    }

    /// Takes a token; false when the answer is over.
    fn token(&mut self, token: &TokenOut) -> bool {
        self.first_token.get_or_insert_with(Instant::now);
        self.count += 1;
        self.probs.add(f64::from(token.logprob));
        if let Err(error) = self.add(token) {
            self.ending = Some(Err(error));
            return false;
        }
        if self.stops.hit() {
            self.ending = Some(Ok(Ending::Stop));
        } else if let Some(ending) = self.interrupted() {
            self.ending = Some(Ok(ending));
        }
        self.ending.is_none()
    }

    fn add(&mut self, token: &TokenOut) -> Result<(), ModelError> {
        if self.scored {
            let info = self.info(token)?;
            self.pending.push((self.decoded, info));
            self.previous = Some(token.id);
        }
        let decoded = self.stream.push(self.tokenizer, token.id)?;
        self.decoded += decoded.len();
        let certain = self.stops.push(&decoded);
        self.emit(certain);
        Ok(())
    }

    fn end_token(&mut self, logprob: f64) {
        self.first_token.get_or_insert_with(Instant::now);
        self.count += 1;
        self.probs.add(logprob);
    }

    /// Gives out what was held back.
    fn close(&mut self, ending: Ending) -> Result<Ending, ModelError> {
        let decoded = self.stream.finish(self.tokenizer)?;
        let mut certain = self.stops.push(&decoded);
        let stopped = self.stops.hit();
        if !stopped {
            certain.push_str(&self.stops.finish());
        }
        self.emit(certain);
        if !stopped && !self.pending.is_empty() {
            let tokens = self.pending.drain(..).map(|(_, info)| info).collect();
            let _ = self.events.send(Event::Piece(Piece { text: String::new(), tokens }));
        }
        Ok(if stopped && ending == Ending::Length { Ending::Stop } else { ending })
    }

    fn emit(&mut self, certain: String) {
        self.text.push_str(&certain);
        if !self.pieces || certain.is_empty() {
            return;
        }
        let ready = self.pending.iter().take_while(|(begin, _)| *begin < self.text.len()).count();
        let tokens = self.pending.drain(..ready).map(|(_, info)| info).collect();
        // A closed channel is noticed after the token.
        let _ = self.events.send(Event::Piece(Piece { text: certain, tokens }));
    }

    fn info(&self, token: &TokenOut) -> Result<TokenInfo, ModelError> {
        let mut top = Vec::with_capacity(token.top.len());
        for (id, logprob) in &token.top {
            top.push((self.token_text(*id)?, f64::from(*logprob)));
        }
        Ok(TokenInfo { text: self.token_text(token.id)?, logprob: f64::from(token.logprob), top })
    }

    /// A token's text behind the one before it: alone, some tokenizers drop its leading space.
    fn token_text(&self, id: u32) -> Result<String, ModelError> {
        let Some(previous) = self.previous else { return self.tokenizer.decode_with_special(&[id]) };
        let before = self.tokenizer.decode_with_special(&[previous])?;
        let both = self.tokenizer.decode_with_special(&[previous, id])?;
        match both.strip_prefix(before.as_str()) {
            Some(text) => Ok(text.to_owned()),
            None => self.tokenizer.decode_with_special(&[id]),
        }
    }
}
