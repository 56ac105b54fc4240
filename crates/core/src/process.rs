//! Starting sibling programs, with a deadline, in their own process group.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::clock::Clock;
use crate::error::{Failure, OrFail};
use crate::signal::Stop;

/// Time between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// How a child ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Exit code; 128 + signal when killed.
    pub code: i32,
    /// Everything it wrote to stdout.
    pub stdout: String,
    /// Everything it wrote to stderr.
    pub stderr: String,
    /// True when the deadline ended it.
    pub timed_out: bool,
    /// How long it ran.
    pub seconds: f64,
}

impl Ended {
    /// The last JSON object on stdout.
    pub fn json(&self) -> Option<serde_json::Value> {
        self.stdout.lines().rev().find_map(|line| serde_json::from_str(line).ok())
    }
}

/// The sibling program `name`: beside this one.
pub fn sibling(name: &str) -> Result<PathBuf, Failure> {
    let me = std::env::current_exe().or_fail(|| "cannot find this program's own file".into())?;
    // Tests run from target/<profile>/deps; the programs lie one level up.
    let folders = [me.parent(), me.parent().and_then(Path::parent)];
    let found = folders.into_iter().flatten().map(|folder| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| {
        Failure::failed(format!("the program `{name}` is not beside {}", me.display()))
            .hint("build or install all programs into one folder: cargo build --release")
    })
}

/// Starts this program over with its heap on huge pages, where the C library is glibc, which learns that from
/// the environment only, before `main`. For programs that read a model's weights again and again: with small
/// pages they wait for the translation of addresses as much as for memory. So that weights lie in the heap,
/// and not in maps of their own that begin and end within a huge page, and what is freed at its end is not
/// given back and cleared again at once, glibc's limits for both are what it would raise them to by itself.
/// Where it cannot be had (a kernel without them, another C library) everything stays as it is.
pub fn on_huge_pages() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const HUGE: &str = "glibc.malloc.hugetlb";
        const LIMITS: &str = "glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=67108864";
        let tunables = crate::env::Env::read().get(crate::env::GLIBC_TUNABLES).unwrap_or_default().to_owned();
        if tunables.contains(HUGE) {
            return;
        }
        let separator = if tunables.is_empty() { "" } else { ":" };
        // By its path: /proc/self/exe would name the process `exe` to whoever looks for it.
        let Ok(me) = std::env::current_exe() else { return };
        let mut arguments = std::env::args_os();
        let mut again = Command::new(me);
        if let Some(name) = arguments.next() {
            again.arg0(name);
        }
        // Comes back only when it failed: then small pages must do.
        let _failed = again
            .args(arguments)
            .env(crate::env::GLIBC_TUNABLES, format!("{tunables}{separator}{HUGE}=1:{LIMITS}"))
            .exec();
    }
}

/// Makes a command lead its own process group and die with this process.
pub fn prepare(command: &mut Command) {
    command.process_group(0).env("NIGHTSHIFT_PARENT", std::process::id().to_string());
}

/// Called by every program at its start: when a Nightshift parent started it, it dies with that parent.
pub(crate) fn follow_parent(environment: &crate::env::Env) {
    let Some(parent) = environment.get("NIGHTSHIFT_PARENT").and_then(|pid| pid.parse::<i32>().ok()) else {
        return;
    };
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let orphaned = rustix::process::getppid().is_none_or(|pid| pid.as_raw_nonzero().get() != parent);
    if orphaned && rustix::process::getppid().is_some_and(|pid| pid.as_raw_nonzero().get() == 1) {
        // The parent died before the line above took effect.
        let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
    }
}

/// Runs a command to its end, or ends its whole process group at the deadline or when asked to stop.
pub fn run(mut command: Command, deadline: Duration, clock: &Clock, stop: &Stop) -> Result<Ended, Failure> {
    prepare(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let name = command.get_program().to_string_lossy().into_owned();
    let started = clock.elapsed();
    let mut child = command.spawn().or_fail(|| format!("cannot start {name}"))?;
    let out = drain(child.stdout.take());
    let err = drain(child.stderr.take());
    let mut timed_out = false;
    let status = loop {
        if let Some(status) = child.try_wait().or_fail(|| format!("cannot wait for {name}"))? {
            break status;
        }
        timed_out = clock.elapsed() - started >= deadline;
        if timed_out || stop.requested().is_some() {
            break end(&mut child, clock)?;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let code = status
        .code()
        .unwrap_or_else(|| 128 + std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(0));
    let seconds = (clock.elapsed() - started).as_secs_f64();
    Ok(Ended { code, stdout: join(out), stderr: join(err), timed_out, seconds })
}

/// Ends a child's process group: SIGTERM, then SIGKILL.
pub fn end(child: &mut Child, clock: &Clock) -> Result<std::process::ExitStatus, Failure> {
    end_within(child, clock, GRACE)
}

/// As [`end`], with `grace` between the two signals.
pub fn end_within(
    child: &mut Child,
    clock: &Clock,
    grace: Duration,
) -> Result<std::process::ExitStatus, Failure> {
    let id = child.id();
    signal_group(id, Signal::TERM);
    let asked = clock.elapsed();
    while clock.elapsed() - asked < grace {
        if let Some(status) = child.try_wait().or_fail(|| "cannot wait for a child".into())? {
            end_group(id);
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    end_group(id);
    child.wait().or_fail(|| "cannot wait for a child".into())
}

/// Kills whatever a child that has ended left running in its group.
pub fn end_group(id: u32) {
    signal_group(id, Signal::KILL);
}

fn signal_group(id: u32, signal: Signal) {
    if let Some(group) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, signal);
    }
}

/// Ends the group of a process that an earlier run of this program started and could not end. Only one that
/// carries `mark` (`NAME=value`) in its environment is touched: ids are used again. True when there was one.
pub fn end_stray(id: u32, mark: &str, grace: Duration) -> bool {
    let alive = || {
        let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|pair| pair == mark.as_bytes())
    };
    if !alive() {
        return false;
    }
    signal_group(id, Signal::TERM);
    let step = Duration::from_millis(20);
    let mut waited = Duration::ZERO;
    while alive() && waited < grace {
        std::thread::sleep(step);
        waited += step;
    }
    end_group(id);
    true
}

/// Sends a signal by name (`HUP`, `SIGUSR1`, ...) to another process.
pub fn signal(pid: i32, name: &str) -> Result<(), Failure> {
    let signal = match name.strip_prefix("SIG").unwrap_or(name) {
        "HUP" => Signal::HUP,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        "TERM" => Signal::TERM,
        "INT" => Signal::INT,
        _ => return Err(Failure::config(format!("`{name}` is none of HUP, USR1, USR2, TERM, INT"))),
    };
    // 0 and 1 would be our own group and init.
    let target = Some(pid).filter(|pid| *pid > 1).and_then(Pid::from_raw);
    let target = target.ok_or_else(|| Failure::failed(format!("{pid} is no process to be signalled")))?;
    rustix::process::kill_process(target, signal).or_fail(|| format!("cannot send {name} to process {pid}"))
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> Option<std::thread::JoinHandle<String>> {
    pipe.map(|mut pipe| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = pipe.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    })
}

fn join(handle: Option<std::thread::JoinHandle<String>>) -> String {
    handle.and_then(|handle| handle.join().ok()).unwrap_or_default()
}

/// Peak resident memory of this process in bytes, from the kernel's own account.
pub fn peak_rss_bytes() -> u64 {
    account_of_this_process("VmHWM:")
}

/// Resident memory of this process in bytes, now.
pub fn rss_bytes() -> u64 {
    account_of_this_process("VmRSS:")
}

/// A line of the kernel's account of this process, in bytes.
fn account_of_this_process(name: &str) -> u64 {
    field(&std::fs::read_to_string("/proc/self/status").unwrap_or_default(), name).unwrap_or(0) * 1024
}

/// Memory in bytes that this process may still take: what the machine has available, or what the limits
/// of its control groups (version 2, or 1) leave. `None` where the kernel does not say.
pub fn available_memory_bytes() -> Option<u64> {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| field(&text, "MemAvailable:"));
    let machine = machine.map(|kilobytes| kilobytes * 1024);
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let group = |line: &str| -> Option<(PathBuf, PathBuf, [&str; 3])> {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            let names = ["memory.max", "memory.current", "inactive_file"];
            return Some((PathBuf::from("/sys/fs/cgroup"), path.into(), names));
        }
        let names = ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"];
        let memory = controllers.split(',').any(|controller| controller == "memory");
        memory.then(|| (PathBuf::from("/sys/fs/cgroup/memory"), path.into(), names))
    };
    // A limit anywhere above holds as well; inside a container only the root may be visible.
    let limits = groups.lines().filter_map(group).flat_map(|(root, path, names)| {
        let folders: Vec<PathBuf> = path.ancestors().map(|folder| root.join(folder)).collect();
        folders.into_iter().filter_map(move |folder| left_in_group(&folder, names))
    });
    machine.into_iter().chain(limits).min()
}

/// Bytes that one control group leaves: limit - usage + page cache that can be dropped.
fn left_in_group(folder: &Path, [limit, usage, cache]: [&str; 3]) -> Option<u64> {
    let number =
        |name: &str| -> Option<u64> { std::fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok() };
    let statistics = std::fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let used = number(usage)?.saturating_sub(field(&statistics, cache).unwrap_or(0));
    Some(number(limit)?.saturating_sub(used))
}

/// The number behind a name in a file of `name number` lines.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_stuck_child_is_ended_with_its_children() {
        let clock = Clock::new(None);
        let ended =
            run(shell("sleep 60 & sleep 60"), Duration::from_millis(100), &clock, &Stop::default()).unwrap();
        assert!(ended.timed_out && ended.code == 143 && ended.seconds < 4.0, "{ended:?}");
    }

    #[test]
    fn the_tightest_group_counts_and_droppable_cache_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["memory.max", "memory.current", "inactive_file"];
        let write = |name: &str, text: &str| {
            crate::files::write_atomic(&dir.path().join(name), text.as_bytes()).unwrap();
        };
        write("memory.current", "700\n");
        write("memory.stat", "anon 1\ninactive_file 300\n");
        write("memory.max", "max\n");
        assert_eq!(left_in_group(dir.path(), names), None, "no limit");
        write("memory.max", "1000\n");
        assert_eq!(left_in_group(dir.path(), names), Some(600));
        let available = available_memory_bytes().unwrap();
        assert!(available > rss_bytes() && rss_bytes() > 1 << 20, "{available}");
    }

    #[test]
    fn a_stray_is_ended_only_by_its_mark() {
        let mut command = shell("sleep 60");
        command.env("NIGHTSHIFT_TEST_MARK", "a");
        prepare(&mut command);
        let mut child = command.spawn().unwrap();
        // Until the new program has taken the place of the fork, its environment is ours.
        let carries = || {
            let pairs = std::fs::read(format!("/proc/{}/environ", child.id())).unwrap_or_default();
            String::from_utf8_lossy(&pairs).contains("NIGHTSHIFT_TEST_MARK=a")
        };
        while !carries() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let short = Duration::from_millis(200);
        assert!(!end_stray(child.id(), "NIGHTSHIFT_TEST_MARK=b", short));
        assert!(child.try_wait().unwrap().is_none(), "another job's process is left alone");
        assert!(end_stray(child.id(), "NIGHTSHIFT_TEST_MARK=a", short));
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn output_and_code_come_back() {
        let clock = Clock::new(None);
        let script = "echo noise; echo '{\"a\": 1}'; echo bad >&2; exit 4";
        let ended = run(shell(script), Duration::from_secs(20), &clock, &Stop::default()).unwrap();
        assert_eq!((ended.code, ended.stderr.as_str(), ended.timed_out), (4, "bad\n", false));
        assert_eq!(ended.json().unwrap()["a"], 1);
    }
}
