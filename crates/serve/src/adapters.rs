//! The loaded adapters, and which one is live.
//!
//! Loading (files, hashes, shapes, finiteness, a trial run) happens in the caller's thread and never
//! in a worker's. A switch is the exchange of one `Arc`: a request takes its own when a worker begins
//! it, so its answer comes whole from one adapter, and memory is freed when the last one lets go.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use nightshift_core::Failure;
use nightshift_core::clock::{Clock, rfc3339};
use nightshift_core::release::{self, Manifest};
use nightshift_model::{Adapter, Threads};

use crate::base::Base;
use crate::trial;

/// Most adapters in memory at once.
pub(crate) const LIMIT: usize = 16;

/// An adapter in memory.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The release's id, or the name it was loaded under when it is not a release.
    pub(crate) id: String,
    /// Content digest of its two PEFT files.
    pub(crate) digest: String,
    /// Whether it is a release, whose files its manifest vouches for.
    pub(crate) release: bool,
    /// The folder it was read from.
    pub(crate) dir: PathBuf,
    /// When (RFC 3339).
    pub(crate) loaded_at: String,
    /// The numbers.
    pub(crate) adapter: Adapter<f32>,
}

/// An adapter (or the base) and how it came to answer. What a request holds is never changed under it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pinned {
    /// Generation of the pointer that chose it; 0 when none did.
    pub(crate) generation: i64,
    /// `None` is the base.
    pub(crate) adapter: Option<Arc<Loaded>>,
}

impl Pinned {
    /// The adapter's id.
    pub(crate) fn adapter_id(&self) -> Option<&str> {
        self.adapter.as_ref().map(|adapter| adapter.id.as_str())
    }
}

/// Why an adapter was not loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The path leads out of `loras/`.
    #[error("{} is not inside {}", path.display(), loras.display())]
    Outside {
        /// Where it leads.
        path: PathBuf,
        /// The folder it must be in.
        loras: PathBuf,
    },
    /// There is no adapter.
    #[error("there is no adapter folder at {}", .0.display())]
    Missing(PathBuf),
    /// The files are no adapter for this base.
    #[error("{0}")]
    Invalid(String),
    /// The name is in use for other content.
    #[error(
        "`{name}` is already loaded with other content (digest {digest}); unload it first or use a new name"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Digest of what has the name.
        digest: String,
    },
    /// Too many are loaded.
    #[error("{LIMIT} adapters are loaded; unload one first")]
    Full,
}

/// Why an adapter was not unloaded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnloadError {
    /// No adapter has this name.
    #[error("no adapter is loaded as `{0}`")]
    Unknown(String),
    /// It answers the served model.
    #[error("`{0}` is live; move the pointer first (deploy, rollback)")]
    IsLive(String),
}

/// How a load ended.
#[derive(Debug, Clone)]
pub(crate) struct LoadOutcome {
    /// The adapter.
    pub(crate) loaded: Arc<Loaded>,
    /// True when the same content had the name already.
    pub(crate) already: bool,
    /// How long it took.
    pub(crate) took: Duration,
}

#[derive(Debug)]
struct Entry {
    loaded: Arc<Loaded>,
    /// Brought in (or taken over) by the pointer: let go once the pointer has moved on.
    by_pointer: bool,
}

/// Times of the newest load and switch, and how many switches there were.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SwitchTimes {
    /// From the first byte read to ready, seconds.
    pub(crate) load_s: Option<f64>,
    /// From seeing the new pointer to answering with its adapter, a load included, seconds.
    pub(crate) switch_s: Option<f64>,
    /// The slowest switch since the start, seconds.
    pub(crate) slowest_switch_s: f64,
    /// Switches since the start.
    pub(crate) switches: u64,
}

/// The registry.
#[derive(Debug)]
pub(crate) struct Adapters {
    base: Arc<Base>,
    loras: PathBuf,
    clock: Clock,
    entries: Mutex<BTreeMap<String, Entry>>,
    live: RwLock<Pinned>,
    /// Held while an adapter is read, so that two loads of one name become one.
    loading: Mutex<()>,
    trouble: Mutex<Option<String>>,
    times: Mutex<SwitchTimes>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Adapters {
    /// An empty registry; the base is live.
    pub(crate) fn new(base: Arc<Base>, loras: PathBuf, clock: Clock) -> Self {
        Self {
            base,
            loras,
            clock,
            entries: Mutex::default(),
            live: RwLock::default(),
            loading: Mutex::default(),
            trouble: Mutex::default(),
            times: Mutex::default(),
        }
    }

    /// What answers now.
    pub(crate) fn live(&self) -> Pinned {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The adapter with this name.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Loaded>> {
        lock(&self.entries).get(name).map(|entry| Arc::clone(&entry.loaded))
    }

    /// Every name with its adapter, sorted.
    pub(crate) fn list(&self) -> Vec<(String, Arc<Loaded>)> {
        lock(&self.entries).iter().map(|(name, entry)| (name.clone(), Arc::clone(&entry.loaded))).collect()
    }

    /// Why the pointer's adapter does not answer.
    pub(crate) fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    /// Says (or takes back) why the pointer's adapter does not answer.
    pub(crate) fn set_trouble(&self, trouble: Option<String>) {
        *lock(&self.trouble) = trouble;
    }

    /// Times of the newest load and switch.
    pub(crate) fn times(&self) -> SwitchTimes {
        *lock(&self.times)
    }

    /// Loads a folder inside `loras/` under a name. Blocks for as long as reading takes.
    pub(crate) fn load_named(&self, name: &str, wanted: &Path) -> Result<LoadOutcome, LoadError> {
        let missing = || LoadError::Missing(wanted.to_owned());
        let candidates = [wanted.to_owned(), self.loras.join("..").join(wanted), self.loras.join(wanted)];
        let found = candidates.iter().find(|path| path.exists()).ok_or_else(missing)?;
        let path = std::fs::canonicalize(found).map_err(|_| missing())?;
        let loras = std::fs::canonicalize(&self.loras).unwrap_or_else(|_| self.loras.clone());
        if !path.starts_with(&loras) || path == loras {
            return Err(LoadError::Outside { path, loras });
        }
        self.load(name, &path, false)
    }

    /// Loads any folder under a name.
    pub(crate) fn load(&self, name: &str, dir: &Path, by_pointer: bool) -> Result<LoadOutcome, LoadError> {
        if !dir.join(release::ADAPTER_CONFIG).exists() {
            return Err(LoadError::Missing(dir.to_owned()));
        }
        let started = Instant::now();
        let _one_at_a_time = lock(&self.loading);
        let release = dir.join(release::MANIFEST).exists();
        if by_pointer && let Some(loaded) = self.take_over(name) {
            return Ok(LoadOutcome { loaded, already: true, took: started.elapsed() });
        }
        let invalid = |failure: Failure| LoadError::Invalid(failure.chain());
        let manifest = release.then(|| release::verify(dir)).transpose().map_err(invalid)?;
        let digest = match &manifest {
            Some(manifest) => manifest.digest.clone(),
            None => release::digest_dir(dir).map_err(invalid)?,
        };
        if let Some(loaded) = self.get(name) {
            if loaded.digest != digest {
                return Err(LoadError::NameTaken { name: name.into(), digest: loaded.digest.clone() });
            }
            return Ok(LoadOutcome { loaded, already: true, took: started.elapsed() });
        }
        if !by_pointer && lock(&self.entries).len() >= LIMIT {
            return Err(LoadError::Full);
        }
        let id = match manifest {
            Some(manifest) => self.check(name, by_pointer, manifest)?,
            None => name.to_owned(),
        };
        let mut adapter = Adapter::load(dir, &self.base.model.config)
            .map_err(|error| LoadError::Invalid(error.to_string()))?;
        // The norms of a DoRA adapter, once: decoding must not wait for them.
        adapter.prepare(&self.base.model, Threads::ONE);
        trial::run(&self.base, &adapter)
            .map_err(|why| LoadError::Invalid(format!("{}: {why}", dir.display())))?;
        let loaded_at = rfc3339(self.clock.now());
        let loaded = Arc::new(Loaded { id, digest, release, dir: dir.to_owned(), loaded_at, adapter });
        lock(&self.entries).insert(name.to_owned(), Entry { loaded: Arc::clone(&loaded), by_pointer });
        let took = started.elapsed();
        lock(&self.times).load_s = Some(took.as_secs_f64());
        Ok(LoadOutcome { loaded, already: false, took })
    }

    /// The release with this id, if it was loaded under it: from now on the pointer decides how long
    /// it stays. Releases never change, so its files are not read again.
    fn take_over(&self, id: &str) -> Option<Arc<Loaded>> {
        let mut entries = lock(&self.entries);
        let entry = entries.get_mut(id).filter(|entry| entry.loaded.release && entry.loaded.id == id)?;
        entry.by_pointer = true;
        Some(Arc::clone(&entry.loaded))
    }

    /// The id of a release that fits this base (and, for the pointer, its folder's name).
    fn check(&self, name: &str, by_pointer: bool, manifest: Manifest) -> Result<String, LoadError> {
        let id = manifest.adapter_id;
        if manifest.base_fingerprint != self.base.fingerprint {
            let (found, here) = (manifest.base_fingerprint, &self.base.fingerprint);
            return Err(LoadError::Invalid(format!(
                "{id} was trained on the base {found}, this server has {here}"
            )));
        }
        if by_pointer && id != name {
            return Err(LoadError::Invalid(format!("the folder `{name}` holds the release {id}")));
        }
        Ok(id)
    }

    /// Forgets a name. Requests that use the adapter finish with it.
    pub(crate) fn unload(&self, name: &str) -> Result<(), UnloadError> {
        let mut entries = lock(&self.entries);
        let Some(entry) = entries.get(name) else { return Err(UnloadError::Unknown(name.into())) };
        if self.live().adapter.is_some_and(|live| Arc::ptr_eq(&live, &entry.loaded)) {
            return Err(UnloadError::IsLive(name.into()));
        }
        entries.remove(name);
        Ok(())
    }

    /// Makes an adapter of `loras/` (or the base) live under a generation, loading it if needed.
    /// `seen` is when the change was noticed. Adapters that only earlier pointers needed are let go;
    /// `previous` is kept for the way back.
    pub(crate) fn follow(
        &self,
        generation: i64,
        adapter_id: Option<&str>,
        previous: Option<&str>,
        seen: Instant,
    ) -> Result<(), LoadError> {
        let adapter = match adapter_id {
            None => None,
            Some(id) => Some(self.load(id, &self.loras.join(id), true)?.loaded),
        };
        self.switch(Pinned { generation, adapter }, seen);
        let kept = [adapter_id, previous];
        lock(&self.entries).retain(|name, entry| !entry.by_pointer || kept.contains(&Some(name.as_str())));
        Ok(())
    }

    /// Makes this live now.
    pub(crate) fn switch(&self, live: Pinned, seen: Instant) {
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = live;
        let mut times = lock(&self.times);
        let took = seen.elapsed().as_secs_f64();
        times.switch_s = Some(took);
        times.slowest_switch_s = times.slowest_switch_s.max(took);
        times.switches += 1;
    }
}
