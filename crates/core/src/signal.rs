//! A stop flag set by SIGINT and SIGTERM, and by tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Failure;
use crate::exit::Exit;

/// A cloneable flag that long loops look at between units of work.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    interrupt: Arc<AtomicBool>,
    terminate: Arc<AtomicBool>,
}

impl Stop {
    /// A flag that SIGINT and SIGTERM set. The second signal of a kind ends the process at once.
    pub fn on_signals() -> std::io::Result<Self> {
        let stop = Self::default();
        let flags =
            [(signal_hook::consts::SIGINT, &stop.interrupt), (signal_hook::consts::SIGTERM, &stop.terminate)];
        for (signal, flag) in flags {
            // Order matters: the immediate exit looks at the flag before this signal sets it.
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(flag))?;
            signal_hook::flag::register(signal, Arc::clone(flag))?;
        }
        Ok(stop)
    }

    /// Asks for a stop as SIGTERM would.
    pub fn request(&self) {
        self.terminate.store(true, Ordering::SeqCst);
    }

    /// How the process should end, once a stop was asked for.
    pub fn requested(&self) -> Option<Exit> {
        if self.interrupt.load(Ordering::SeqCst) {
            Some(Exit::Interrupted)
        } else if self.terminate.load(Ordering::SeqCst) {
            Some(Exit::Terminated)
        } else {
            None
        }
    }

    /// An error with the right exit code, once a stop was asked for.
    pub fn check(&self) -> Result<(), Failure> {
        match self.requested() {
            Some(exit) => Err(Failure::new(exit, "stopped by a signal").hint("run again to resume")),
            None => Ok(()),
        }
    }
}
