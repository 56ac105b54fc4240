//! Running the program: its environment, its process group, its deadline, its signs of life.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use nightshift_core::env::Env;
use nightshift_core::{Ctx, Exit, Failure, OrFail, files, process};

use crate::engine::EngineSettings;
use crate::engine::job::Places;
use crate::train;

/// Between two looks whether the program has ended.
const POLL: Duration = Duration::from_millis(20);
/// Between two looks at what it has written.
const LOOK: Duration = Duration::from_secs(1);
/// For a last checkpoint after SIGTERM at the deadline. Whoever stops us waits less long.
const GRACE: Duration = Duration::from_secs(20);
const GRACE_WHEN_STOPPED: Duration = Duration::from_secs(3);
/// Files of the output folder that are looked at; more are no sign of life.
const WATCHED_FILES: usize = 10_000;
/// Last lines of the program's own words in a failure.
const TAIL_LINES: usize = 6;

/// Variables that every program may see: where things are, and which devices it may use. Never a key.
const ALLOWED: [&str; 27] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_*",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "VIRTUAL_ENV",
    "CONDA_*",
    "PYTHONPATH",
    "HF_HOME",
    "HF_HUB_CACHE",
    "TRANSFORMERS_CACHE",
    "TORCH_HOME",
    "XDG_CACHE_HOME",
    "CUDA_*",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "NCCL_*",
    "SLURM_*",
    "KUBECONFIG",
    "RAY_ADDRESS",
    "OMP_*",
];
/// These belong to whatever launches the ranks.
const LAUNCHER: [&str; 6] =
    ["MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"];

/// Runs the program to its end. Its stdout and stderr go to files beside the job.
pub(crate) fn run(
    ctx: &Ctx,
    places: &Places,
    base: &Path,
    run_id: &str,
    engine: &EngineSettings,
    threads: usize,
) -> Result<(), Failure> {
    let absolute = std::path::absolute(base).or_fail(|| "the base folder has no path".into())?;
    let texts = [&places.job, &places.out, &absolute].map(|path| path.display().to_string());
    let argv = engine.argv(&texts[0], &texts[1], &texts[2]);
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]).current_dir(&places.root).env_clear().envs(environment(&ctx.env, &engine.env));
    command
        .env("NIGHTSHIFT_JOB", &texts[0])
        .env("NIGHTSHIFT_OUT", &texts[1])
        .env("NIGHTSHIFT_RUN_ID", run_id);
    command.env("HF_HUB_OFFLINE", "1").env("WANDB_MODE", "offline");
    command.env("OMP_NUM_THREADS", train::threads(threads).to_string());
    process::prepare(&mut command);
    let logs = ["stdout.log", "stderr.log"].map(|name| places.root.join(name));
    for log in &logs {
        files::remove_file(log)?;
    }
    command.stdin(Stdio::null()).stdout(files::open_append(&logs[0])?).stderr(files::open_append(&logs[1])?);
    let child = command.spawn().map_err(|error| {
        Failure::failed(format!("cannot start the trainer `{}`", argv[0]))
            .because(error)
            .hint("check train.engine_command: the program is looked for in PATH, or give its full path")
    })?;
    files::write_atomic(&places.root.join("pid"), child.id().to_string().as_bytes())?;
    let ended = Watch::new(ctx, places, engine)?.until_the_end(child);
    files::remove_file(&places.root.join("pid"))?;
    let status = ended.map_err(|failure| with_tail(failure, &logs))?;
    if status.success() {
        return Ok(());
    }
    let failure = Failure::failed(format!("the trainer `{}` failed: {status}", argv[0]));
    Err(with_tail(failure, &logs))
}

/// Ends the program of an earlier start that was killed and left it running: two trainers must not write into
/// one folder. Only a process that carries this very job in its environment is touched.
pub(crate) fn end_stray(places: &Places) -> Result<(), Failure> {
    let file = places.root.join("pid");
    let Some(text) = files::read_text_if_any(&file)? else { return Ok(()) };
    if let Ok(pid) = text.trim().parse() {
        process::end_stray(pid, &format!("NIGHTSHIFT_JOB={}", places.job.display()), GRACE_WHEN_STOPPED);
    }
    Ok(files::remove_file(&file)?)
}

/// The variables that the program sees.
fn environment(env: &Env, further: &[String]) -> BTreeMap<String, String> {
    fn fits(allowed: &str, name: &str) -> bool {
        allowed.strip_suffix('*').map_or(allowed == name, |prefix| name.starts_with(prefix))
    }
    let allowed = |name: &str| {
        let named = further.iter().any(|further| fits(further, name));
        named || ALLOWED.iter().any(|allowed| fits(allowed, name)) && !LAUNCHER.contains(&name)
    };
    env.pairs()
        .filter(|(name, _)| allowed(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The program's last words, for a person.
fn with_tail(failure: Failure, logs: &[std::path::PathBuf; 2]) -> Failure {
    for log in logs.iter().rev() {
        let text = files::read(log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text[text.len().saturating_sub(4096)..]).into_owned();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        if !lines.is_empty() {
            let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n  ");
            return failure.hint(format!("its last words, in {}:\n  {tail}", log.display()));
        }
    }
    failure.hint("it wrote nothing to stdout or stderr")
}

/// A running program under watch.
struct Watch<'a> {
    ctx: &'a Ctx,
    places: &'a Places,
    engine: &'a EngineSettings,
    disk_bytes: u64,
}

/// What a program has written so far: any change is a sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Written {
    files: usize,
    bytes: u64,
    newest: Option<SystemTime>,
}

impl<'a> Watch<'a> {
    fn new(ctx: &'a Ctx, places: &'a Places, engine: &'a EngineSettings) -> Result<Self, Failure> {
        Ok(Self { ctx, places, engine, disk_bytes: files::disk_free(&places.root)? / 2 })
    }

    fn until_the_end(&self, mut child: Child) -> Result<std::process::ExitStatus, Failure> {
        let clock = &self.ctx.clock;
        let started = clock.elapsed();
        let (mut seen, mut alive, mut looked) = (Written::default(), started, started);
        loop {
            if let Some(status) = child.try_wait().or_fail(|| "cannot wait for the trainer".into())? {
                // Whatever it left running in its group would go on writing.
                process::end_group(child.id());
                return Ok(status);
            }
            let now = clock.elapsed();
            if now.saturating_sub(looked) >= LOOK.min(Duration::from_secs_f64(self.engine.stale_s / 4.0)) {
                looked = now;
                let written = self.look();
                if written != seen {
                    (seen, alive) = (written, now);
                }
            }
            if let Some((failure, grace)) = self.reason_to_end(now - started, now - alive, seen) {
                process::end_within(&mut child, clock, grace)?;
                return Err(failure);
            }
            std::thread::sleep(POLL);
        }
    }

    fn reason_to_end(
        &self,
        running: Duration,
        silent: Duration,
        written: Written,
    ) -> Option<(Failure, Duration)> {
        if let Err(stopped) = self.ctx.stop.check() {
            return Some((stopped, GRACE_WHEN_STOPPED));
        }
        if running.as_secs_f64() >= self.engine.wall_s {
            let message = format!("the trainer was ended after {:.1} minutes", self.engine.wall_s / 60.0);
            let failure = Failure::new(Exit::Budget, message)
                .hint("raise train.engine_minutes; a trainer that keeps checkpoints goes on from them");
            return Some((failure, GRACE));
        }
        if silent.as_secs_f64() >= self.engine.stale_s {
            let message =
                format!("the trainer showed no progress for {:.1} minutes", self.engine.stale_s / 60.0);
            let failure = Failure::failed(message)
                .hint("it must write to stdout, stderr or its output folder; train.engine_stale_minutes says how often");
            return Some((failure, GRACE));
        }
        if written.bytes > self.disk_bytes {
            let message =
                format!("the trainer wrote {:.1} GB, more than its job allows", written.bytes as f64 / 1e9);
            return Some((
                Failure::failed(message).hint("free some space, or keep fewer checkpoints"),
                GRACE,
            ));
        }
        None
    }

    fn look(&self) -> Written {
        let mut written = Written::default();
        let mut folders = vec![self.places.out.clone()];
        let mut add = |path: &Path, folders: &mut Vec<std::path::PathBuf>| {
            // Links are not followed: they lead out of the folder, or round in it.
            let Ok(meta) = std::fs::symlink_metadata(path) else { return };
            if meta.is_dir() {
                folders.push(path.to_owned());
            }
            written.files += 1;
            written.bytes += if meta.is_file() { meta.len() } else { 0 };
            written.newest = written.newest.max(meta.modified().ok());
        };
        for name in ["stdout.log", "stderr.log"] {
            add(&self.places.root.join(name), &mut folders);
        }
        let mut count = 0;
        while let Some(folder) = folders.pop() {
            for path in files::list(&folder).unwrap_or_default() {
                count += 1;
                if count > WATCHED_FILES {
                    return written;
                }
                add(&path, &mut folders);
            }
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_variables_are_passed_on() {
        let env = Env::from_pairs([
            ("PATH", "/bin"),
            ("NCCL_DEBUG", "INFO"),
            ("SLURM_JOB_ID", "7"),
            ("CUDA_VISIBLE_DEVICES", "0"),
            ("OPENAI_API_KEY", "secret"),
            ("NIGHTSHIFT_ADMIN_KEY", "secret"),
            ("RANK", "1"),
            ("AXOLOTL_X", "1"),
            ("WANDB_API_KEY", "secret"),
        ]);
        let names = |further: &[&str]| {
            let further: Vec<String> = further.iter().map(|name| (*name).to_owned()).collect();
            environment(&env, &further).into_keys().collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), ["CUDA_VISIBLE_DEVICES", "NCCL_DEBUG", "PATH", "SLURM_JOB_ID"]);
        assert_eq!(names(&["AXOLOTL_*", "WANDB_API_KEY"]).len(), 6, "what the operator names is passed on");
    }
}
