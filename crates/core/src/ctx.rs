//! What every tool gets from the runner: it never asks the operating system itself.

use std::path::PathBuf;

use crate::clock::{Clock, parse_time, rfc3339};
use crate::config::{self, Config};
use crate::crash::CrashPoint;
use crate::env::{self, Env};
use crate::error::{Failure, OrFail};
use crate::lock::Lock;
use crate::paths::Paths;
use crate::printer::Printer;
use crate::random::{Rng, new_id, rng};
use crate::signal::Stop;
use crate::store::Store;
use crate::{pointer, process, release};

/// The options that every tool has.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Global {
    /// Home folder [env: NIGHTSHIFT_HOME; default: the working directory]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub home: Option<PathBuf>,
    /// Config file [env: NIGHTSHIFT_CONFIG; default: nightshift.yaml in the home folder]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// Print one JSON object on stdout
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Print the plan and change nothing
    #[arg(long, global = true, help_heading = "Global options")]
    pub dry_run: bool,
    /// Random seed; the same seed, inputs and clock give the same bytes
    #[arg(long, global = true, value_name = "N", help_heading = "Global options")]
    pub seed: Option<u64>,
    /// No human text on stderr, errors excepted
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub quiet: bool,
    /// More logging (-v info, -vv debug)
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
    /// Form of log lines on stderr
    #[arg(long, global = true, value_name = "FORM", value_parser = ["text", "json"], help_heading = "Global options")]
    pub log_format: Option<String>,
    /// No progress bars
    #[arg(long, global = true, help_heading = "Global options")]
    pub no_progress: bool,
}

/// Everything a tool may know of its surroundings.
#[derive(Debug, Clone)]
pub struct Ctx {
    /// Name of the running tool.
    pub tool: &'static str,
    /// UUIDv7 of this run.
    pub run_id: String,
    /// Time.
    pub clock: Clock,
    /// Settings.
    pub config: Config,
    /// Where things are.
    pub paths: Paths,
    /// Output.
    pub printer: Printer,
    /// Signals.
    pub stop: Stop,
    /// Environment.
    pub env: Env,
    /// `--dry-run`.
    pub dry_run: bool,
    /// `--seed`.
    pub seed: Option<u64>,
    /// Armed crash point, in crash tests.
    pub crash: CrashPoint,
    config_file: Option<PathBuf>,
}

impl Ctx {
    /// Reads environment, `.env` and config. Makes nothing.
    pub(crate) fn build(tool: &'static str, global: &Global, mut env: Env) -> Result<Self, Failure> {
        process::follow_parent(&env);
        let home = global.home.clone().or_else(|| env.get(env::NIGHTSHIFT_HOME).map(PathBuf::from));
        let home = match home {
            Some(home) => home,
            None => std::env::current_dir().or_fail(|| "cannot find the working directory".into())?,
        };
        let home =
            std::path::absolute(&home).or_fail(|| format!("cannot use the home {}", home.display()))?;
        env.overlay_file(&home.join(".env"))?;
        let pinned = match env.get(env::NIGHTSHIFT_NOW) {
            None => None,
            Some(text) => Some(
                parse_time(text)
                    .ok_or_else(|| Failure::config(format!("NIGHTSHIFT_NOW: `{text}` is not a time")))?,
            ),
        };
        let config_file =
            global.config.clone().or_else(|| env.get(env::NIGHTSHIFT_CONFIG).map(PathBuf::from));
        let paths = Paths::new(home, env.get(env::SANDBOX_DATA_DIR).map(PathBuf::from));
        let config = config::load(config_file.as_deref(), &paths.config(), &env)?;
        let clock = Clock::new(pinned);
        let bars = !global.no_progress && env.get(env::CI).is_none();
        Ok(Self {
            tool,
            run_id: new_id(clock.now()),
            clock,
            config,
            paths,
            printer: Printer::new(global.json, global.quiet, bars),
            stop: Stop::on_signals().or_fail(|| "cannot install the signal handlers".into())?,
            dry_run: global.dry_run,
            seed: global.seed,
            crash: CrashPoint::from_env(&env),
            env,
            config_file,
        })
    }

    /// A context for tests of libraries: home in `dir`, clock pinned to 2026-03-01T02:00:00Z.
    pub fn for_test(dir: &std::path::Path) -> Self {
        let clock = Clock::new(parse_time("2026-03-01T02:00:00Z"));
        Self {
            tool: "test",
            run_id: new_id(clock.now()),
            clock,
            config: Config::default(),
            paths: Paths::new(dir.to_owned(), None),
            printer: Printer::new(false, true, false),
            stop: Stop::default(),
            env: Env::default(),
            dry_run: false,
            seed: Some(1),
            crash: CrashPoint::default(),
            config_file: None,
        }
    }

    /// The store, made when there is none.
    pub fn store(&self) -> Result<Store, Failure> {
        Store::open(&self.paths.store())
    }

    /// The named lock, or exit 7.
    pub fn lock(&self, name: &str) -> Result<Lock, Failure> {
        Lock::take(&self.paths.lock(name), self.tool)
    }

    /// A generator: from `--seed` when given, else from the run's id.
    pub fn rng(&self, purpose: &str) -> Rng {
        let seed = self.seed.unwrap_or_else(|| {
            let digest = crate::random::sha256_hex(self.run_id.as_bytes());
            u64::from_str_radix(&digest[..16], 16).unwrap_or_default()
        });
        rng(seed, purpose)
    }

    /// The base model's folder, or exit 9.
    pub fn base(&self) -> Result<PathBuf, Failure> {
        let base = self.config.base.clone().ok_or_else(|| {
            Failure::config("no base model is configured")
                .hint("set `base:` in nightshift.yaml, or give --base")
        })?;
        Ok(base)
    }

    /// A command of a sibling program for the same home, config and pinned clock.
    pub fn sibling(&self, name: &str) -> Result<std::process::Command, Failure> {
        let mut command = std::process::Command::new(process::sibling(name)?);
        command.arg("--home").arg(self.paths.home()).env(env::SANDBOX_DATA_DIR, self.paths.data());
        if let Some(file) = &self.config_file {
            command.arg("--config").arg(file);
        }
        if let Some(seed) = self.seed {
            command.arg("--seed").arg(seed.to_string());
        }
        if self.clock.is_pinned() {
            command.env(env::NIGHTSHIFT_NOW, rfc3339(self.clock.now()));
        }
        Ok(command)
    }

    /// Repairs everything that is a projection of the store: strays, orphan releases, links.
    /// Call it under the lock `loras`.
    pub fn reconcile(&self, store: &mut Store) -> Result<(), Failure> {
        let loras = self.paths.loras();
        crate::files::create_dir(&loras)?;
        crate::files::sweep(&loras)?;
        crate::files::sweep(&loras.join("live"))?;
        release::adopt_orphans(self, store)?;
        let pointer = pointer::read(store.read(), &self.config.target)?;
        pointer::project(&self.paths, &pointer, None)
    }
}
