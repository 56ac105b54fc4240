//! The thread that keeps the server in step with the store, which it only reads.
//!
//! Every 100 ms it looks at the pointer row; a change is loaded here, beside the traffic, and then
//! switched. When the pointer's adapter cannot be loaded the old one goes on answering, `/health`
//! says why, and the load is tried again. Every few seconds it fetches the calibration.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nightshift_core::clock::Clock;
use nightshift_core::pointer::{self, Pointer};
use nightshift_core::store::Store;
use nightshift_core::{Failure, OrFail, interaction};
use nightshift_net::server::Shutdown;

use crate::adapters::Adapters;
use crate::confidence::Confidence;

/// How often the pointer is read; the contract promises 200 ms.
const POLL: Duration = Duration::from_millis(100);
/// How often an adapter that failed to load is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// How often the calibration is read.
const CALIBRATION: Duration = Duration::from_secs(3);

/// What is read of the store, and who is told.
#[derive(Debug)]
pub(crate) struct Follower {
    store_path: PathBuf,
    target: String,
    clock: Clock,
    adapters: Arc<Adapters>,
    confidence: Arc<Confidence>,
    /// Whether the pointer is followed, or only the calibration.
    pointer: bool,
    store: Option<Store>,
    calibrated: Option<Instant>,
    /// The state of the pointer that failed to load, and when.
    failed: Option<(Wanted, Instant)>,
    served: Wanted,
}

/// What must be live.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Wanted {
    generation: i64,
    adapter: Option<String>,
}

impl Follower {
    /// A follower of `target`'s pointer (if `pointer`) and calibration in the store at `store_path`.
    pub(crate) fn new(
        store_path: PathBuf,
        target: String,
        clock: Clock,
        adapters: Arc<Adapters>,
        confidence: Arc<Confidence>,
        pointer: bool,
    ) -> Self {
        Self {
            store_path,
            target,
            clock,
            adapters,
            confidence,
            pointer,
            store: None,
            calibrated: None,
            failed: None,
            served: Wanted::default(),
        }
    }

    /// Looks once, as the thread does: a server that starts begins with the pointer's adapter.
    pub(crate) fn look(&mut self) {
        if let Err(failure) = self.try_look() {
            // The store may be replaced or repaired: open it anew next time.
            self.store = None;
            self.adapters.set_trouble(Some(format!("the pointer cannot be read: {}", failure.chain())));
        }
    }

    /// Looks until `shutdown`.
    pub(crate) fn spawn(mut self, shutdown: Shutdown) -> Result<JoinHandle<()>, Failure> {
        std::thread::Builder::new()
            .name("follow".into())
            .spawn(move || {
                while !shutdown.wait(POLL) {
                    self.look();
                }
            })
            .or_fail(|| "cannot start the thread that follows the pointer".into())
    }

    fn try_look(&mut self) -> Result<(), Failure> {
        let due = self.calibrated.is_none_or(|at| at.elapsed() >= CALIBRATION);
        if self.store.is_none() || due {
            // Opened anew from time to time, so that a file put in its place is noticed.
            self.store = Store::open_read_only(&self.store_path)?;
        }
        let Some(store) = &self.store else {
            return if self.store_path.exists() { Err(other_version(&self.store_path)) } else { Ok(()) };
        };
        if due {
            self.confidence.set(interaction::calibration(store.read(), &self.target)?);
            self.calibrated = Some(Instant::now());
        }
        if self.pointer {
            let pointer = pointer::read(store.read(), &self.target)?;
            self.obey(&pointer);
        }
        Ok(())
    }

    fn obey(&mut self, pointer: &Pointer) {
        let seen = Instant::now();
        let effective = pointer.effective(&self.clock).map(str::to_owned);
        let wanted = Wanted { generation: pointer.generation, adapter: effective };
        if wanted == self.served {
            self.failed = None;
            self.adapters.set_trouble(None);
            return;
        }
        if self.failed.as_ref().is_some_and(|(failed, at)| *failed == wanted && at.elapsed() < RETRY) {
            return;
        }
        let previous = pointer.previous_adapter_id.as_deref();
        match self.adapters.follow(wanted.generation, wanted.adapter.as_deref(), previous, seen) {
            Ok(()) => {
                let adapter = wanted.adapter.as_deref().unwrap_or("none");
                tracing::info!(generation = wanted.generation, adapter, "switched");
                self.served = wanted;
                self.failed = None;
                self.adapters.set_trouble(None);
            }
            Err(error) => {
                let adapter = wanted.adapter.as_deref().unwrap_or("none");
                let reason = format!("generation {} names {adapter}: {error}", wanted.generation);
                tracing::error!("the pointer's adapter cannot be loaded, the old one goes on: {reason}");
                self.adapters.set_trouble(Some(reason));
                self.failed = Some((wanted, seen));
            }
        }
    }
}

fn other_version(path: &Path) -> Failure {
    Failure::config(format!("{} has another version than this program", path.display()))
}
