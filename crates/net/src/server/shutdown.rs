//! `Shutdown`: one switch that threads and tasks share.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// How often a followed condition is looked at.
const POLL: Duration = Duration::from_millis(50);

/// A cloneable switch that is thrown once. Works from threads and from async code.
#[derive(Debug, Clone)]
pub struct Shutdown {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    fired: watch::Sender<bool>,
    /// Only wakes threads; the truth is in `fired`.
    lock: Mutex<()>,
    wake: Condvar,
}

impl Default for Shutdown {
    fn default() -> Self {
        let (fired, _) = watch::channel(false);
        Self { inner: Arc::new(Inner { fired, lock: Mutex::new(()), wake: Condvar::new() }) }
    }
}

impl Shutdown {
    /// A switch that is not thrown.
    pub fn new() -> Self {
        Self::default()
    }

    /// Throws it. Doing so twice changes nothing.
    pub fn fire(&self) {
        // Taken so that a thread between its look and its wait cannot miss the wake-up.
        let guard = self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.fired.send_replace(true);
        drop(guard);
        self.inner.wake.notify_all();
    }

    /// True once it was thrown.
    pub fn is_fired(&self) -> bool {
        *self.inner.fired.borrow()
    }

    /// Completes once it was thrown.
    pub async fn fired(&self) {
        let mut receiver = self.inner.fired.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = receiver.wait_for(|fired| *fired).await;
    }

    /// Blocks the thread until it is thrown or `limit` has passed; true when it was thrown.
    pub fn wait(&self, limit: Duration) -> bool {
        let start = Instant::now();
        let mut guard = self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.is_fired() {
                return true;
            }
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                return false;
            }
            guard = self.inner.wake.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Throws it once `condition` holds (a stop flag set by a signal). A small thread looks
    /// every 50 ms and ends when the switch is thrown or nobody else holds it any more.
    pub fn follow(&self, condition: impl Fn() -> bool + Send + 'static) {
        let watched = Arc::downgrade(&self.inner);
        thread::spawn(move || {
            while let Some(inner) = watched.upgrade() {
                let shutdown = Self { inner };
                if shutdown.is_fired() {
                    return;
                }
                if condition() {
                    shutdown.fire();
                    return;
                }
                drop(shutdown);
                thread::sleep(POLL);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn threads_and_tasks_wake() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.wait(Duration::from_millis(5)));
        let waiting = shutdown.clone();
        let thread = thread::spawn(move || waiting.wait(Duration::from_secs(10)));
        let waiting = shutdown.clone();
        let task = thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(waiting.fired());
        });
        shutdown.fire();
        shutdown.fire();
        assert!(thread.join().unwrap());
        task.join().unwrap();
        assert!(shutdown.is_fired() && shutdown.clone().wait(Duration::ZERO));
    }

    #[test]
    fn a_followed_flag_fires() {
        let flag = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&flag);
        let shutdown = Shutdown::new();
        shutdown.follow(move || seen.load(Ordering::SeqCst));
        assert!(!shutdown.wait(Duration::from_millis(20)));
        flag.store(true, Ordering::SeqCst);
        assert!(shutdown.wait(Duration::from_secs(5)));
    }
}
