//! `Failure`: the one error type at the edge of every tool.
//!
//! Libraries use their own `thiserror` enums; a tool turns them into a `Failure`, whose
//! `Exit` decides the exit code. The message never repeats the text of its source: the
//! chain is printed joined by `: `. Hints are imperative and printed as `hint:` lines.

use std::error::Error;
use std::fmt;

use crate::exit::Exit;

/// An error with the exit code it causes, at most a few hints, and its cause.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
    hints: Vec<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// A failure with this exit code and message.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hints: Vec::new(), source: None }
    }

    /// Exit 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// Exit 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Exit 3.
    pub fn nothing(message: impl Into<String>) -> Self {
        Self::new(Exit::NothingToDo, message)
    }

    /// Exit 4.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, message)
    }

    /// Exit 7.
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(Exit::Busy, message)
    }

    /// Exit 8.
    pub fn upstream(message: impl Into<String>) -> Self {
        Self::new(Exit::Upstream, message)
    }

    /// Exit 9.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Exit::Config, message)
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The exit code this failure causes.
    pub const fn exit(&self) -> Exit {
        self.exit
    }

    /// The same failure with another exit code.
    #[must_use]
    pub fn with_exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// What to do next, in order.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// The message and every cause, joined by `: `.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = self.source.as_deref().map(|source| source as &(dyn Error + 'static));
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

/// Turns any error into a `Failure` with context, exit 1 unless said otherwise.
pub trait OrFail<T> {
    /// Exit 1 with this message as the outermost context.
    fn or_fail(self, message: impl FnOnce() -> String) -> Result<T, Failure>;
    /// This exit code with this message as the outermost context.
    fn or_exit(self, exit: Exit, message: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> OrFail<T> for Result<T, E> {
    fn or_fail(self, message: impl FnOnce() -> String) -> Result<T, Failure> {
        self.or_exit(Exit::Failed, message)
    }

    fn or_exit(self, exit: Exit, message: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(exit, message()).because(error))
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        if let rusqlite::Error::SqliteFailure(code, _) = &error {
            match code.code {
                rusqlite::ErrorCode::DiskFull => {
                    return Self::failed("the disk is full; nothing was written")
                        .hint("free some space and run again")
                        .because(error);
                }
                rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked => {
                    return Self::busy("another process held the store for too long").because(error);
                }
                _ => {}
            }
        }
        Self::failed("the store could not be read or written").because(error)
    }
}
