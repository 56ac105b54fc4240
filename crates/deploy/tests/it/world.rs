//! A home with a gate set and releases, and a stand-in for `serve`: it keeps the contracts of health,
//! loading, answering, following the pointer and recording, and misbehaves as told.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use nightshift_core::audit::audit;
use nightshift_core::clock::Clock;
use nightshift_core::evalset::{EvalItem, Purpose, register};
use nightshift_core::interaction::Message;
use nightshift_core::pointer::{self, Pointer};
use nightshift_core::release::{self, NewRelease};
use nightshift_core::rusqlite::{Connection, params};
use nightshift_core::store::Store;
use nightshift_core::{Ctx, deployment, files};
use nightshift_testkit::{Answer, FakeServer, Home, Ran, Request};
use serde_json::{Value, json};

/// Fingerprint of the base model that is "served".
pub(crate) const BASE: &str = "base-fingerprint-0001";
/// Items of the gate set.
pub(crate) const ITEMS: usize = 40;

/// What the server does.
#[derive(Debug)]
pub(crate) struct Script {
    /// Items that the candidate answers right; the base answers the even ones.
    pub(crate) right: fn(usize) -> bool,
    /// The adapter that answers like the base.
    pub(crate) incumbent: Option<String>,
    /// Follows the pointer.
    pub(crate) follows: bool,
    /// Answers at all.
    pub(crate) up: bool,
    /// Records probes in `capture.db`.
    pub(crate) records: bool,
    /// Every chat answer names this adapter, whatever was asked.
    pub(crate) names: Option<String>,
    /// Chat answers that fail with this status before the next good one.
    pub(crate) stumbles: (usize, u16),
    /// Answer to loading.
    pub(crate) load: Option<(u16, String)>,
    /// An adapter that takes this many real milliseconds for an answer.
    pub(crate) slow: Option<(String, u64)>,
    /// Loaded adapters.
    pub(crate) loaded: BTreeSet<String>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            right: |_| true,
            incumbent: None,
            follows: true,
            up: true,
            records: true,
            names: None,
            stumbles: (0, 503),
            load: None,
            slow: None,
            loaded: BTreeSet::new(),
        }
    }
}

/// One request of a user, as the server would have recorded it.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) ok: bool,
    pub(crate) class: Option<&'static str>,
    pub(crate) latency_ms: f64,
    pub(crate) tags: &'static [&'static str],
    pub(crate) thumb: Option<f64>,
}

impl Default for Live {
    fn default() -> Self {
        Self { ok: true, class: None, latency_ms: 50.0, tags: &[], thumb: None }
    }
}

/// The home, its server and its recorded traffic.
pub(crate) struct World {
    pub(crate) home: Home,
    pub(crate) server: FakeServer,
    script: Arc<Mutex<Script>>,
    capture: Arc<Mutex<Connection>>,
}

impl World {
    /// A home with a gate set and no release. `deploy` is the section of the config.
    pub(crate) fn new(deploy: &str) -> Self {
        let home = Home::new();
        let script = Arc::new(Mutex::new(Script::default()));
        let capture = Arc::new(Mutex::new(make_capture(&home)));
        let server = serve(&home, &script, &capture);
        home.write(
            "nightshift.yaml",
            &format!("deploy: {{server_url: '{}', watch_s: 0.3, min_requests: 8, {deploy}}}\n", server.url()),
        );
        let world = Self { home, server, script, capture };
        world.gate_set("gate", Purpose::Gate, &items());
        world
    }

    pub(crate) fn gate_set(&self, name: &str, purpose: Purpose, items: &[EvalItem]) {
        let now = self.ctx().clock.now();
        self.home.store().write(|tx| register(tx, now, (name, purpose, "test"), items)).unwrap();
    }

    /// A context of the library in this home, with the config's defaults.
    pub(crate) fn ctx(&self) -> Ctx {
        Ctx::for_test(self.home.path())
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// Publishes a release; its id.
    pub(crate) fn publish(&self, weights: &str) -> String {
        self.publish_for(weights, BASE)
    }

    pub(crate) fn publish_for(&self, weights: &str, base: &str) -> String {
        let ctx = self.ctx();
        let staged = ctx.paths.loras().join(".tmp-staged");
        files::create_dir(&staged).unwrap();
        files::write_atomic(&staged.join(release::ADAPTER_CONFIG), b"{\"r\": 4}").unwrap();
        files::write_atomic(&staged.join(release::ADAPTER_MODEL), weights.as_bytes()).unwrap();
        files::write_atomic(&staged.join("training_config.json"), b"{}").unwrap();
        let new = NewRelease {
            base_fingerprint: base.into(),
            dataset_sha256: None,
            parents: Vec::new(),
            rank: 4,
            facts: json!({}),
        };
        release::publish(&ctx, &mut self.home.store(), &staged, &new).unwrap().adapter_id
    }

    pub(crate) fn deploy(&self, arguments: &[&str]) -> Ran {
        let mut all = vec!["--json"];
        all.extend(arguments);
        self.home.run("deploy", &all)
    }

    /// Publishes and deploys a first adapter, which becomes the incumbent.
    pub(crate) fn incumbent(&self) -> String {
        let id = self.publish("the incumbent");
        self.deploy(&["--watch-s", "0"]).expect(0);
        self.script().incumbent = Some(id.clone());
        id
    }

    pub(crate) fn pointer(&self) -> Pointer {
        pointer::read(self.home.store().read(), "nightshift").unwrap()
    }

    /// What must answer now.
    pub(crate) fn effective(&self) -> Option<String> {
        self.pointer().effective(&Clock::new(None)).map(str::to_owned)
    }

    pub(crate) fn deployments(&self) -> Vec<deployment::Deployment> {
        deployment::list(self.home.store().read(), "nightshift", 99).unwrap()
    }

    pub(crate) fn release_status(&self, id: &str) -> String {
        release::by_id(self.home.store().read(), id).unwrap().unwrap().status
    }

    /// What does not agree; `idle` when nothing may be half-done.
    pub(crate) fn problems(&self, idle: bool) -> Vec<String> {
        audit(&self.ctx(), &self.home.store(), idle).unwrap()
    }

    /// The invariants, with nobody at work.
    #[track_caller]
    pub(crate) fn assert_consistent(&self) {
        let problems = self.problems(true);
        assert!(problems.is_empty(), "{problems:#?}");
    }

    /// Traffic under whatever is live.
    pub(crate) fn traffic(&self, rows: impl IntoIterator<Item = Live>) {
        let pointer = self.pointer();
        let capture = self.capture.lock().unwrap();
        for row in rows {
            record(&capture, &pointer, "live", &row);
        }
    }

    /// Traffic of `row(n)` every few milliseconds, under whatever is live, while `during` runs. What an adapter
    /// that is not `incumbent` answers is told to `row` as `true`.
    pub(crate) fn traffic_while<T>(
        &self,
        incumbent: Option<&str>,
        row: impl Fn(usize, bool) -> Live + Sync,
        during: impl FnOnce() -> T,
    ) -> T {
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0.. {
                    if done.load(std::sync::atomic::Ordering::SeqCst) {
                        break;
                    }
                    let pointer = self.pointer();
                    let row = row(n, pointer.adapter_id.as_deref() != incumbent);
                    record(&self.capture.lock().unwrap(), &pointer, "live", &row);
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            let value = during();
            done.store(true, std::sync::atomic::Ordering::SeqCst);
            value
        })
    }

    pub(crate) fn summary(&self, generation: i64, name: &str) -> Value {
        serde_json::from_str(&self.home.read(&format!("loras/live/{generation}/{name}"))).unwrap()
    }
}

pub(crate) fn items() -> Vec<EvalItem> {
    (0..ITEMS)
        .map(|n| EvalItem {
            id: format!("q{n}"),
            messages: vec![Message::user(format!("question {n}"))],
            reference: Some(format!("answer {n}")),
            check: json!({"kind": "exact"}),
        })
        .collect()
}

fn make_capture(home: &Home) -> Connection {
    files::create_dir(&home.path().join("sandbox_data")).unwrap();
    let connection = Connection::open(home.path().join("sandbox_data/capture.db")).unwrap();
    connection.busy_timeout(Duration::from_secs(10)).unwrap();
    // The contract of docs/architecture.md 3.2.
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
             CREATE TABLE exchange (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, at TEXT NOT NULL,
               generation INTEGER NOT NULL, adapter_id TEXT, kind TEXT NOT NULL, ok INTEGER NOT NULL,
               failure_class TEXT, latency_ms REAL NOT NULL, tags TEXT NOT NULL, body TEXT NOT NULL);
             CREATE TABLE feedback (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, at TEXT NOT NULL,
               exchange_id TEXT NOT NULL, value REAL NOT NULL, source TEXT NOT NULL, comment TEXT, correction TEXT);",
        )
        .unwrap();
    connection
}

/// Appends an exchange as `serve` does; its id.
fn record(capture: &Connection, pointer: &Pointer, kind: &str, row: &Live) -> String {
    let id = nightshift_core::random::new_id(Clock::new(None).real());
    let body = json!({"ttft_ms": row.latency_ms / 5.0, "completion_tokens": 5});
    capture
        .execute(
            "INSERT INTO exchange (id, at, generation, adapter_id, kind, ok, failure_class, latency_ms, tags, body)
             VALUES (?1, '2026-03-02T02:00:00.000000Z', ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                id,
                pointer.generation,
                pointer.effective(&Clock::new(None)),
                kind,
                row.ok,
                row.class,
                row.latency_ms,
                json!(row.tags).to_string(),
                body.to_string()
            ],
        )
        .unwrap();
    if let Some(value) = row.thumb {
        capture
            .execute(
                "INSERT INTO feedback (id, at, exchange_id, value, source)
                 VALUES ('f' || ?1, '2026-03-02T02:00:00.000000Z', ?1, ?2, 'user')",
                params![id, value],
            )
            .unwrap();
    }
    id
}

fn serve(home: &Home, script: &Arc<Mutex<Script>>, capture: &Arc<Mutex<Connection>>) -> FakeServer {
    let (script, capture) = (Arc::clone(script), Arc::clone(capture));
    let store = home.path().join("sandbox_data/learning.db");
    FakeServer::start(move |request| {
        let mut script = script.lock().unwrap();
        if !script.up {
            return Answer::Reset;
        }
        let pointer = Store::open_read_only(&store)
            .unwrap()
            .map(|store| pointer::read(store.read(), "nightshift").unwrap());
        let live = pointer.filter(|_| script.follows).unwrap_or_default();
        match request.path.as_str() {
            "/health" => Answer::Json(json!({
                "status": "healthy", "target": "nightshift", "base_fingerprint": BASE, "generation": live.generation,
                "adapter": live.effective(&Clock::new(None)), "adapters": [], "uptime_s": 1.0
            })),
            "/v1/load_lora_adapter" => {
                let name = request.json()["lora_name"].as_str().unwrap().to_owned();
                if let Some((status, message)) = &script.load {
                    let body = json!({"error": {"message": message}}).to_string();
                    return Answer::Status(*status, "application/json", body, Vec::new());
                }
                script.loaded.insert(name);
                Answer::Json(json!({"status": "loaded"}))
            }
            "/v1/unload_lora_adapter" => {
                let name = request.json()["lora_name"].as_str().unwrap().to_owned();
                script.loaded.remove(&name);
                Answer::Json(json!({"status": "unloaded"}))
            }
            "/v1/chat/completions" => {
                if script.stumbles.0 > 0 {
                    script.stumbles.0 -= 1;
                    let retry = vec![("retry-after".to_owned(), "0".to_owned())];
                    return Answer::Status(script.stumbles.1, "application/json", "{}".into(), retry);
                }
                let slow = script.slow.clone();
                let (answer, adapter) = chat(&script, &capture.lock().unwrap(), &live, request);
                drop(script);
                if let Some((_, ms)) = slow.filter(|(id, _)| adapter.as_ref() == Some(id)) {
                    std::thread::sleep(Duration::from_millis(ms));
                }
                answer
            }
            other => panic!("unexpected request for {other}"),
        }
    })
}

/// An answer, and the adapter that gave it.
fn chat(
    script: &Script,
    capture: &Connection,
    live: &Pointer,
    request: &Request,
) -> (Answer, Option<String>) {
    let body = request.json();
    let model = body["model"].as_str().unwrap();
    let adapter = match model {
        "nightshift" => live.effective(&Clock::new(None)).map(str::to_owned),
        "base" => None,
        id if script.loaded.contains(id) => Some(id.to_owned()),
        id => panic!("{id} is not loaded"),
    };
    let question = body["messages"][0]["content"].as_str().unwrap();
    let number: usize = question.trim_start_matches("question ").parse().unwrap();
    let right = if adapter.is_some() && adapter != script.incumbent {
        (script.right)(number)
    } else {
        number.is_multiple_of(2)
    };
    let text = if right { format!("answer {number}") } else { "no idea".to_owned() };
    let kind = request.header("x-nightshift-kind").unwrap_or("live");
    let id = if script.records {
        let row = Live { latency_ms: 50.0, ..Live::default() };
        let pointer = if model == "nightshift" { live.clone() } else { Pointer::default() };
        record(capture, &pointer, kind, &row)
    } else {
        nightshift_core::random::new_id(Clock::new(None).real())
    };
    let named = script.names.clone().or(adapter.clone()).unwrap_or_else(|| "none".into());
    let headers = vec![
        ("x-nightshift-adapter".to_owned(), named.clone()),
        ("x-nightshift-generation".to_owned(), live.generation.to_string()),
    ];
    let reply = json!({
        "id": format!("chatcmpl-{id}"), "object": "chat.completion", "created": 0, "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    });
    (Answer::JsonWith(reply, headers), adapter)
}
