//! A running `serve`, ended with the value.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use nightshift_core::{Ctx, Failure, OrFail, files, process};
use serde_json::Value;

use crate::home::Home;

/// The longest that a server may take to be ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that takes requests.
#[derive(Debug)]
pub struct Server {
    ctx: Ctx,
    child: Option<Child>,
    /// Address and port.
    pub address: String,
}

impl Server {
    /// Starts `serve` in a home with these further arguments, and waits until it is ready. Its output goes to
    /// `logs/serve.out` and `.err` of the home.
    pub fn start(ctx: &Ctx, home: &Home, arguments: &[&str], now: &str) -> Result<Self, Failure> {
        let ready = home.dir().join("serve.ready");
        files::remove_file(&ready)?;
        let ready_text = ready.display().to_string();
        let mut all = vec!["--ready-file", &ready_text];
        all.extend_from_slice(arguments);
        let mut command = home.command("serve", &all, now)?;
        let log = |name: &str| files::open_append(&home.dir().join("logs").join(name));
        command.stdin(Stdio::null()).stdout(log("serve.out")?).stderr(log("serve.err")?);
        process::prepare(&mut command);
        let child = command.spawn().or_fail(|| "cannot start serve".into())?;
        let mut server = Self { ctx: ctx.clone(), child: Some(child), address: String::new() };
        let began = ctx.clock.elapsed();
        loop {
            ctx.stop.check()?;
            if let Some(address) = ready_address(&ready)? {
                server.address = address;
                return Ok(server);
            }
            let ended = server.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() || ctx.clock.elapsed() - began > PATIENCE {
                let errors = files::read_text_if_any(&home.dir().join("logs/serve.err"))?.unwrap_or_default();
                let tail: Vec<&str> = errors.lines().rev().take(5).collect();
                let text = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
                return Err(Failure::failed(format!(
                    "serve in {} did not start:\n{text}",
                    home.dir().display()
                )));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// `http://address`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Largest resident memory so far, in bytes; 0 where the system does not tell.
    pub fn peak_rss_bytes(&self) -> u64 {
        self.child.as_ref().map_or(0, |child| peak_of(child.id()))
    }

    /// Ends it with SIGTERM, so that everything it recorded is on file.
    pub fn stop(mut self) -> Result<(), Failure> {
        match self.child.take() {
            Some(mut child) => process::end(&mut child, &self.ctx.clock).map(|_| ()),
            None => Ok(()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // On the way out of an error: that error is what matters.
            let _ = process::end(&mut child, &self.ctx.clock);
        }
    }
}

fn ready_address(path: &Path) -> Result<Option<String>, Failure> {
    let Some(text) = files::read_text_if_any(path)? else { return Ok(None) };
    let ready: Option<Value> = serde_json::from_str(&text).ok();
    Ok(ready.and_then(|ready| ready["address"].as_str().map(str::to_owned)))
}

/// `VmHWM` of a process.
pub fn peak_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
