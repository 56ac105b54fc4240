//! A made-up fleet of agents: what it does, what goes wrong with it, and the exact truth about both.
//!
//! Everything follows from the seed. Times follow a daily wave; lines of different sessions are
//! interleaved in order of time as in a real file. What is planted is listed in the truth.

use std::collections::{BTreeMap, BinaryHeap};
use std::io::{self, Write};

use nightshift_core::random::Rng;
use rand::RngExt;
use serde::Serialize;

use super::lines::{DIALECTS, Dialect, write};

/// What to make.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// About how many bytes.
    pub(crate) bytes: u64,
    /// Days that the log spans, from Monday 2026-01-05.
    pub(crate) days: u32,
    /// Nothing is planted.
    pub(crate) clean: bool,
    /// Broken lines among the good ones, and a torn one at the end.
    pub(crate) garbage: bool,
}

/// What a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Tool,
    Llm,
    Task,
}

/// One call.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) what: What,
    pub(crate) name: &'a str,
    pub(crate) session: u64,
    /// The task that it works for, where its line says so.
    pub(crate) task: Option<&'a str>,
    /// Microseconds since 1970.
    pub(crate) at: i64,
    pub(crate) duration_us: u64,
    pub(crate) error: Option<String>,
    pub(crate) error_type: &'a str,
    pub(crate) cost_nano: i64,
    pub(crate) tokens: (u32, u32),
    pub(crate) argument: &'a str,
    pub(crate) text: &'a str,
}

/// The exact truth about a log.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Truth {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    pub(crate) bad_lines: BTreeMap<&'static str, u64>,
    pub(crate) operations: BTreeMap<String, Operation>,
    /// Errors by the number of their template; 20 is unique noise.
    pub(crate) templates: BTreeMap<usize, u64>,
    pub(crate) planted: Vec<Planted>,
    /// Calls in the second quarter of the time, `[since, until)`.
    pub(crate) window: Option<Quarter>,
}

/// Of one operation; quantiles in milliseconds between neighbours, as NumPy has them.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Operation {
    pub(crate) calls: u64,
    pub(crate) errors: u64,
    pub(crate) timeouts: u64,
    pub(crate) cost_nano: i64,
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
    pub(crate) max_ms: f64,
    /// Microseconds since 1970.
    pub(crate) first_us: i64,
    pub(crate) last_us: i64,
    pub(crate) p50_ms: f64,
    pub(crate) p95_ms: f64,
    pub(crate) p99_ms: f64,
    #[serde(skip)]
    durations_us: Vec<u64>,
}

/// A problem that was put in on purpose.
#[derive(Debug, Serialize)]
pub(crate) struct Planted {
    pub(crate) pattern_type: &'static str,
    pub(crate) operation: String,
    /// RFC 3339.
    pub(crate) from: String,
    pub(crate) until: String,
    pub(crate) note: &'static str,
}

/// Counts of a part of the time.
#[derive(Debug, Serialize)]
pub(crate) struct Quarter {
    pub(crate) since: String,
    pub(crate) until: String,
    pub(crate) entries: u64,
    pub(crate) calls: BTreeMap<String, u64>,
}

/// 2026-01-05T00:00:00Z.
const START: i64 = 1_767_571_200_000_000;
const HOUR: i64 = 3_600_000_000;

/// Tools: name, median milliseconds, error rate.
const TOOLS: &[(&str, f64, f64)] = &[
    ("web_search", 820.0, 0.020),
    ("browse", 1400.0, 0.030),
    ("code_exec", 2300.0, 0.040),
    ("file_read", 12.0, 0.004),
    ("file_write", 18.0, 0.006),
    ("shell", 350.0, 0.030),
    ("db_query", 95.0, 0.010),
    ("vector_search", 60.0, 0.008),
    ("http_get", 240.0, 0.025),
    ("send_mail", 510.0, 0.010),
    ("calendar", 130.0, 0.005),
    ("pdf_parse", 1900.0, 0.035),
];
/// Models: name, median milliseconds, nano-dollars a token.
const MODELS: &[(&str, f64, i64)] = &[
    ("small-1", 600.0, 200),
    ("large-2", 3100.0, 3_000),
    ("code-3", 1800.0, 1_200),
    ("reason-4", 9000.0, 12_000),
];
/// Tasks: name, error rate.
const TASKS: &[(&str, f64)] = &[
    ("report", 0.04),
    ("research", 0.08),
    ("triage", 0.02),
    ("refactor", 0.12),
    ("inbox", 0.03),
    ("etl", 0.06),
    ("backup", 0.01),
];
/// Error texts; `#` is a number, `@` an id, `/` a path, `~` one of many words. The first five are time-outs.
const ERRORS: &[(&str, &str)] = &[
    ("request to host-# timed out after #s", "TimeoutError"),
    ("Connection timeout while calling ~", "ConnectTimeout"),
    ("context deadline exceeded for job @", "DeadlineExceeded"),
    ("upstream request timeout (attempt # of 3)", "GatewayTimeout"),
    ("Read timed out. (session @)", "ReadTimeout"),
    ("HTTP 429 too many requests, retry in # seconds", "RateLimited"),
    ("HTTP 503 service unavailable from host-#", "Unavailable"),
    ("connection refused by #.#.#.#:#", "ConnectionError"),
    ("connection reset by peer @", "ConnectionError"),
    ("file not found: /", "FileNotFoundError"),
    ("permission denied: /", "PermissionError"),
    ("no space left on device while writing /", "OSError"),
    ("invalid JSON in answer at line # column #", "ParseError"),
    ("unexpected token ~ in expression", "SyntaxError"),
    ("key ~ is missing in row #", "KeyError"),
    ("value # is out of range for column ~", "ValueError"),
    ("user @ has no quota left", "QuotaError"),
    ("worker # was killed by signal 9", "Killed"),
    ("schema version # does not match #", "SchemaError"),
    ("checksum of / differs: @ instead of @", "ChecksumError"),
];
const TIMEOUTS: usize = 5;
const WORDS: &[&str] = &[
    "alpha", "binary", "cargo", "delta", "engine", "filter", "gamma", "header", "index", "journal", "kernel",
    "ledger", "matrix", "needle", "offset", "packet", "quorum", "record", "signal", "tensor", "update",
    "vector", "window", "yield",
];

/// A line that waits for its time.
struct Pending {
    at: i64,
    order: u64,
    text: String,
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Pending {}
impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Pending {
    /// The earliest is the greatest: a heap gives the greatest first.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

struct World {
    rng: Rng,
    clean: bool,
    days: u32,
    order: u64,
    filler: String,
    pending: BinaryHeap<Pending>,
    truth: Truth,
}

/// Writes the log and gives its truth.
pub(crate) fn generate(plan: &Plan, out: &mut impl Write) -> io::Result<Truth> {
    // A first small log tells how many sessions make so many bytes.
    let mut probe = World::new(plan);
    probe.sessions(200, false, &mut io::sink())?;
    let sessions = (plan.bytes * 200 / probe.truth.bytes.max(1)).max(1);
    let mut world = World::new(plan);
    world.sessions(sessions, plan.garbage, out)?;
    let mut truth = world.truth;
    for operation in truth.operations.values_mut() {
        operation.durations_us.sort_unstable();
        for (q, place) in
            [(0.50, &mut operation.p50_ms), (0.95, &mut operation.p95_ms), (0.99, &mut operation.p99_ms)]
        {
            *place = quantile(&operation.durations_us, q) / 1000.0;
        }
    }
    Ok(truth)
}

/// Hyndman and Fan, type 7.
fn quantile(sorted: &[u64], q: f64) -> f64 {
    let rank = q * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[rank.floor() as usize] as f64, sorted[rank.ceil() as usize] as f64);
    low + (rank - rank.floor()) * (high - low)
}

fn iso(us: i64) -> String {
    nightshift_core::clock::rfc3339(
        nightshift_core::jiff::Timestamp::from_microsecond(us).expect("a generated time"),
    )
}

impl World {
    fn new(plan: &Plan) -> Self {
        let mut rng = nightshift_core::random::rng(plan.seed, "logs");
        let mut filler = String::new();
        while filler.len() < 1 << 16 {
            filler.push_str(WORDS[rng.random_range(0..WORDS.len())]);
            // Some quotes, newlines and letters beyond ASCII, as in real texts.
            filler.push_str(match rng.random_range(0..60) {
                0 => " \"",
                1 => "\n",
                2 => " é",
                3 => ", ",
                _ => " ",
            });
        }
        let truth = Truth { window: None, ..Truth::default() };
        Self { rng, clean: plan.clean, days: plan.days, order: 0, filler, pending: BinaryHeap::new(), truth }
    }

    fn span(&self) -> i64 {
        i64::from(self.days) * 24 * HOUR
    }

    fn sessions(&mut self, count: u64, garbage: bool, out: &mut impl Write) -> io::Result<()> {
        self.plant();
        let quarter = (START + self.span() / 4, START + self.span() / 2);
        self.truth.window = Some(Quarter {
            since: iso(quarter.0),
            until: iso(quarter.1),
            entries: 0,
            calls: BTreeMap::new(),
        });
        let mut lines = 0;
        for session in 0..count {
            let at = self.begin(session as f64 / count as f64);
            self.session(session, at, quarter);
            while self.pending.peek().is_some_and(|pending| pending.at < at) {
                let Some(pending) = self.pending.pop() else { break };
                self.emit(pending.text.as_bytes(), out)?;
                lines += 1;
                if garbage && lines % 1000 == 0 {
                    self.garbage(lines / 1000, &pending.text, out)?;
                }
            }
        }
        while let Some(pending) = self.pending.pop() {
            self.emit(pending.text.as_bytes(), out)?;
        }
        if garbage {
            self.emit(br#"{"event": "tool_execution", "tool_na"#, out)?;
            *self.truth.bad_lines.entry("torn").or_default() += 1;
        }
        Ok(())
    }

    fn emit(&mut self, bytes: &[u8], out: &mut impl Write) -> io::Result<()> {
        self.truth.bytes += bytes.len() as u64;
        out.write_all(bytes)
    }

    /// A broken line; every eighth time a blank one, which is none.
    fn garbage(&mut self, number: u64, line: &str, out: &mut impl Write) -> io::Result<()> {
        let cut = line.floor_char_boundary(line.len() / 2);
        let (class, bytes): (_, Vec<u8>) = match number % 8 {
            0 => ("truncated", format!("{}\n", &line[..cut].trim_end()).into()),
            1 => ("not_json", b"Traceback (most recent call last):\n".to_vec()),
            2 => (
                "invalid_utf8",
                [br#"{"event": "tool_execution", "tool_name": "caf"#.as_slice(), b"\xe9\"}\n"].concat(),
            ),
            3 => ("two_objects", b"{\"event\": \"a\"} {\"event\": \"b\"}\n".to_vec()),
            4 => ("nul", b"{\"event\": \"tool_execution\", \"tool_name\": \"a\0b\"}\n".to_vec()),
            5 => ("not_a_number", b"{\"event\": \"sample\", \"value\": NaN}\n".to_vec()),
            6 => ("not_an_object", b"[\"tool_execution\", 12]\n".to_vec()),
            _ => ("", b"\r\n".to_vec()),
        };
        if !class.is_empty() {
            *self.truth.bad_lines.entry(class).or_default() += 1;
        }
        self.emit(&bytes, out)
    }

    /// When the session at this part of all begins: three times as many at noon as at midnight.
    fn begin(&mut self, part: f64) -> i64 {
        let days = part * f64::from(self.days);
        let (day, part) = (days.floor(), days.fract());
        // The wave's distribution function, inverted by bisection.
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..40 {
            let middle = f64::midpoint(low, high);
            let below = middle - 0.5 * (std::f64::consts::TAU * middle).sin() / std::f64::consts::TAU;
            if below < part { low = middle } else { high = middle }
        }
        START + ((day + low) * 24.0 * HOUR as f64) as i64
    }

    /// A value around the median, a factor of about 1.6 either way, now and then far above.
    fn length(&mut self, median_ms: f64) -> u64 {
        let uniform: f64 = (0..6).map(|_| self.rng.random_range(-0.5..0.5)).sum();
        let tail = if self.rng.random_range(0..200) == 0 { 4.0 } else { 1.0 };
        (median_ms * 1000.0 * (0.7 * uniform).exp() * tail) as u64 + 1
    }

    fn filled(&mut self, least: usize, most: usize) -> String {
        let length = self.rng.random_range(least..most);
        let start = self.filler.ceil_char_boundary(self.rng.random_range(0..self.filler.len() - most - 4));
        let end = self.filler.floor_char_boundary(start + length);
        self.filler[start..end].to_owned()
    }

    /// An error text of a template, and its class. Every 40th is a text of its own.
    fn error(&mut self, timeout: Option<bool>) -> (String, &'static str, bool) {
        if timeout.is_none() && self.rng.random_range(0..40) == 0 {
            *self.truth.templates.entry(ERRORS.len()).or_default() += 1;
            let words = self.filled(30, 60).replace(['"', '\n'], "");
            return (format!("{words} {:x}", self.rng.random::<u32>()), "Unexpected", false);
        }
        let number = match timeout {
            Some(true) => self.rng.random_range(0..TIMEOUTS),
            Some(false) => self.rng.random_range(TIMEOUTS..ERRORS.len()),
            None => self.rng.random_range(0..ERRORS.len()),
        };
        *self.truth.templates.entry(number).or_default() += 1;
        let (template, class) = ERRORS[number];
        let mut text = String::new();
        for c in template.chars() {
            match c {
                '#' => text.push_str(&self.rng.random_range(1..500).to_string()),
                '@' => text.push_str(&format!("{:012x}", self.rng.random::<u64>() >> 16)),
                '/' => text.push_str(&format!(
                    "/srv/data/{}/{}.csv",
                    WORDS[self.rng.random_range(0..WORDS.len())],
                    self.rng.random_range(1..9999)
                )),
                '~' => text.push_str(WORDS[self.rng.random_range(0..WORDS.len())]),
                c => text.push(c),
            }
        }
        (text, class, number < TIMEOUTS)
    }

    fn plant(&mut self) {
        if self.clean {
            return;
        }
        let span = self.span();
        let at = |part: i64| iso(START + span * part / 16);
        let mut planted = |pattern_type, operation: &str, from, until, note| {
            let (from, until) = (at(from), at(until));
            self.truth.planted.push(Planted { pattern_type, operation: operation.into(), from, until, note });
        };
        planted("level_shift", "tool:db_query", 8, 16, "three times slower from half time on");
        planted("slow_operation", "tool:pdf_parse", 0, 16, "one call in ten takes 8 to 20 s");
        planted("timeout_pattern", "task:etl", 0, 16, "one run in eight times out");
        planted("high_cost_operation", "llm:reason-4", 0, 16, "its calls cost above 0.10 USD");
        planted("burst", "tool:http_get", 10, 11, "nine calls in ten fail");
        planted(
            "inefficient_chain",
            "tool:web_search",
            0,
            16,
            "in one research task of five the same call six times",
        );
        planted("inefficient_chain", "tool:browse", 0, 16, "in one triage of six ping-pong with code_exec");
        planted("inefficient_chain", "tool:shell", 0, 16, "in one refactor of six a retry storm");
        planted("successful_pattern", "task:backup", 0, 16, "99 % succeed");
    }

    fn session(&mut self, session: u64, begin: i64, quarter: (i64, i64)) {
        let dialect = DIALECTS[(session % 3) as usize];
        let task = self.rng.random_range(0..TASKS.len());
        let (name, error_rate) = TASKS[task];
        let id = session << 20 | u64::from(self.rng.random::<u32>() >> 12);
        let mut at = begin;
        let storm = !self.clean && self.rng.random_range(0..30) < 6;
        let calls = self.rng.random_range(2..9);
        for index in 0..calls {
            if index % 2 == 0 {
                at = self.llm(dialect, id, at, quarter);
            } else {
                let tool = self.rng.random_range(0..TOOLS.len());
                at = self.tool(dialect, id, at, tool, None, None, quarter);
            }
        }
        if storm {
            at = self.waste(dialect, id, at, name, quarter);
        }
        let late = !self.clean && name == "etl" && self.rng.random_range(0..8) == 0;
        let failed = late || self.rng.random_range(0.0..1.0) < error_rate;
        let error = failed.then(|| self.error(if late { Some(true) } else { None }));
        let text = self.filled(60, 400);
        let call = Call {
            what: What::Task,
            name,
            session: id,
            task: None,
            at: if dialect == Dialect::Otel { begin } else { at },
            duration_us: (at - begin) as u64,
            error_type: error.as_ref().map_or("", |(_, class, _)| class),
            error: error.as_ref().map(|(text, ..)| text.clone()),
            cost_nano: 0,
            tokens: (0, 0),
            argument: "",
            text: &text,
        };
        self.log(dialect, &call, error.as_ref().is_some_and(|(.., timeout)| *timeout), at, quarter);
    }

    /// The planted wastes of a task; when the session ends.
    fn waste(&mut self, dialect: Dialect, id: u64, mut at: i64, task: &str, quarter: (i64, i64)) -> i64 {
        let tool =
            |name: &str| TOOLS.iter().position(|(tool, ..)| *tool == name).expect("a tool of the list");
        match task {
            "research" => {
                let argument = self.filled(20, 60);
                for _ in 0..6 {
                    at =
                        self.tool(dialect, id, at, tool("web_search"), Some(&argument), Some(false), quarter);
                }
            }
            "triage" => {
                for _ in 0..4 {
                    at = self.tool(dialect, id, at, tool("browse"), None, Some(false), quarter);
                    at = self.tool(dialect, id, at, tool("code_exec"), None, Some(false), quarter);
                }
            }
            "refactor" => {
                let argument = self.filled(20, 60);
                for _ in 0..5 {
                    at = self.tool(dialect, id, at, tool("shell"), Some(&argument), Some(true), quarter);
                }
            }
            _ => {}
        }
        at
    }

    #[expect(clippy::too_many_arguments, reason = "one call of a made-up session")]
    fn tool(
        &mut self,
        dialect: Dialect,
        id: u64,
        at: i64,
        tool: usize,
        argument: Option<&str>,
        fails: Option<bool>,
        quarter: (i64, i64),
    ) -> i64 {
        let (name, mut median, mut error_rate) = TOOLS[tool];
        let part = (at - START) * 16 / self.span();
        if !self.clean {
            if name == "db_query" && part >= 8 {
                median *= 3.0;
            }
            if name == "pdf_parse" && self.rng.random_range(0..10) == 0 {
                median = self.rng.random_range(8_000.0..20_000.0);
            }
            if name == "http_get" && part == 10 {
                error_rate = 0.9;
            }
        }
        let duration_us = self.length(median);
        let failed = fails.unwrap_or_else(|| self.rng.random_range(0.0..1.0) < error_rate);
        let error = failed.then(|| self.error(None));
        let own = self.filled(20, 80);
        let text = self.filled(150, 900);
        let end = at + duration_us as i64;
        let call = Call {
            what: What::Tool,
            name,
            session: id,
            task: None,
            at: if dialect == Dialect::Otel { at } else { end },
            duration_us,
            error_type: error.as_ref().map_or("", |(_, class, _)| class),
            error: error.as_ref().map(|(text, ..)| text.clone()),
            cost_nano: 0,
            tokens: (self.rng.random_range(0..50), 0),
            argument: argument.unwrap_or(&own),
            text: &text,
        };
        self.log(dialect, &call, error.as_ref().is_some_and(|(.., timeout)| *timeout), end, quarter);
        end + self.rng.random_range(1_000..400_000)
    }

    fn llm(&mut self, dialect: Dialect, id: u64, at: i64, quarter: (i64, i64)) -> i64 {
        // The dear model is rare, and cheap where nothing is planted.
        let model = if self.rng.random_range(0..25) == 0 { 3 } else { self.rng.random_range(0..3) };
        let (name, median, mut price) = MODELS[model];
        if self.clean {
            price = price.min(3_000);
        }
        let tokens = (self.rng.random_range(200..4_000), self.rng.random_range(20..900));
        let cost_nano =
            if model == 3 && !self.clean { 110_000_000 } else { 0 } + price * i64::from(tokens.0 + tokens.1);
        let duration_us = self.length(median);
        let error = (self.rng.random_range(0..100) == 0).then(|| self.error(None));
        let text = self.filled(150, 900);
        let end = at + duration_us as i64;
        let call = Call {
            what: What::Llm,
            name,
            session: id,
            task: None,
            at: if dialect == Dialect::Otel { at } else { end },
            duration_us,
            error_type: error.as_ref().map_or("", |(_, class, _)| class),
            error: error.as_ref().map(|(text, ..)| text.clone()),
            cost_nano,
            tokens,
            argument: "",
            text: &text,
        };
        self.log(dialect, &call, error.as_ref().is_some_and(|(.., timeout)| *timeout), end, quarter);
        end + self.rng.random_range(1_000..100_000)
    }

    /// Queues the line for its time (OpenTelemetry writes spans when they end) and counts the call.
    fn log(&mut self, dialect: Dialect, call: &Call<'_>, timeout: bool, written: i64, quarter: (i64, i64)) {
        let mut text = String::with_capacity(1200);
        write(dialect, call, &mut text);
        self.order += 1;
        self.pending.push(Pending { at: written, order: self.order, text });
        let prefix = match call.what {
            What::Tool => "tool:",
            What::Llm => "llm:",
            What::Task => "task:",
        };
        let name = format!("{prefix}{}", call.name);
        // Flat lines have milliseconds.
        let stamp = if dialect == Dialect::Flat { call.at / 1000 * 1000 } else { call.at };
        if let Some(window) = self.truth.window.as_mut().filter(|_| (quarter.0..quarter.1).contains(&stamp)) {
            window.entries += 1;
            *window.calls.entry(name.clone()).or_default() += 1;
        }
        self.truth.entries += 1;
        let operation = self.truth.operations.entry(name).or_default();
        operation.calls += 1;
        operation.errors += u64::from(call.error.is_some());
        operation.timeouts += u64::from(timeout);
        operation.cost_nano += call.cost_nano;
        if call.what == What::Llm {
            operation.prompt_tokens += u64::from(call.tokens.0);
            operation.completion_tokens += u64::from(call.tokens.1);
        }
        operation.max_ms = operation.max_ms.max(call.duration_us as f64 / 1000.0);
        operation.first_us = if operation.calls == 1 { stamp } else { operation.first_us.min(stamp) };
        operation.last_us = operation.last_us.max(stamp);
        operation.durations_us.push(call.duration_us);
    }
}
