//! The exit codes of every Nightshift program: an API, append-only.
//!
//! Cron jobs and CI branch on these numbers, so they are a table in code; the table in
//! `docs/exit-codes.md` is compared with it by a test.

use serde::{Serialize, Serializer};

/// How a program ended. The number is the process exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// 0: the work is done.
    Done,
    /// 1: failed (environment, or a bug).
    Failed,
    /// 2: the command line was wrong.
    Usage,
    /// 3: there was nothing to do.
    NothingToDo,
    /// 4: refused by validation, gate or policy.
    Refused,
    /// 5: regressed and rolled back; the old state is serving.
    RolledBack,
    /// 6: not recovered; a person is needed.
    NotRecovered,
    /// 7: busy, another process holds the lock.
    Busy,
    /// 8: an upstream was unavailable after retries.
    Upstream,
    /// 9: the configuration is invalid.
    Config,
    /// 10: stopped by a budget or deadline; run again to resume.
    Budget,
    /// 130: interrupted (SIGINT).
    Interrupted,
    /// 143: terminated (SIGTERM).
    Terminated,
}

impl Exit {
    /// Every exit code, in numeric order.
    pub const ALL: [Self; 13] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::NothingToDo,
        Self::Refused,
        Self::RolledBack,
        Self::NotRecovered,
        Self::Busy,
        Self::Upstream,
        Self::Config,
        Self::Budget,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// The process exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NothingToDo => 3,
            Self::Refused => 4,
            Self::RolledBack => 5,
            Self::NotRecovered => 6,
            Self::Busy => 7,
            Self::Upstream => 8,
            Self::Config => 9,
            Self::Budget => 10,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// The exit for a number, if it is one of ours.
    pub fn from_code(code: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|exit| i32::from(exit.code()) == code)
    }

    /// The word that `--json` prints as `status` unless the tool has a more precise one.
    pub const fn status(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NothingToDo => "nothing_to_do",
            Self::Refused => "refused",
            Self::RolledBack => "rolled_back",
            Self::NotRecovered => "not_recovered",
            Self::Busy => "busy",
            Self::Upstream => "upstream_unavailable",
            Self::Config => "config_invalid",
            Self::Budget => "stopped_by_budget",
            Self::Interrupted => "interrupted",
            Self::Terminated => "terminated",
        }
    }

    /// One line for the documentation.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "wrong command line",
            Self::NothingToDo => "nothing to do",
            Self::Refused => "refused (validation, gate, policy, approval needed)",
            Self::RolledBack => "regressed and rolled back, old state serving",
            Self::NotRecovered => "not recovered, a person is needed",
            Self::Busy => "busy (lock held)",
            Self::Upstream => "upstream unavailable after retries",
            Self::Config => "config invalid",
            Self::Budget => "stopped by a budget or deadline, resumable",
            Self::Interrupted => "interrupted (SIGINT)",
            Self::Terminated => "terminated (SIGTERM)",
        }
    }
}

impl Serialize for Exit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.code())
    }
}
