//! OpenAI-compatible server with live adapter switching.
//!
//! Reads the base model, the pointer and the calibration in the store (never writing to it) and the
//! adapters under `loras/`; appends every exchange to `capture.db`. Exits 0 when stopped by a signal
//! after a clean end, 1 when the address is taken or exchanges were lost, 4 for a damaged model,
//! 9 for a setting that names the wrong folder.

mod adapters;
mod admin_api;
mod answer;
mod app;
mod base;
mod capture;
mod chat_api;
mod completions_api;
mod confidence;
mod engine;
mod exchange;
mod feedback_api;
mod follow;
mod labels;
mod meters;
mod metrics_page;
mod report;
mod routes;
mod server;
mod status_api;
mod stops;
mod trial;
mod worker;

use std::path::PathBuf;

use nightshift_core::{Ctx, Failure, Outcome, Tool};

/// What `serve` says of itself.
pub const TOOL: Tool = Tool {
    name: "serve",
    about: "Serve a model over the OpenAI API, switch its adapters live and record every exchange",
    details: "
Endpoints: POST /v1/chat/completions, /v1/completions, /v1/feedback; GET /v1/models, /health, /metrics;
on this machine or with NIGHTSHIFT_ADMIN_KEY: POST /v1/load_lora_adapter, /v1/unload_lora_adapter,
GET /v1/lora_adapters.

Reads   the base model's folder, loras/, and the pointer and calibration in sandbox_data/learning.db
Writes  sandbox_data/capture.db (with --no-record nothing)

Model ids: the target (or none) is whatever the pointer makes live; `base` is the base without an
adapter; an adapter id is that adapter, if it is loaded.

Exit codes: 0 stopped by a signal, everything on file; 1 address in use, or exchanges could not be
recorded; 4 the model's files are damaged; 9 the base folder or a file in it is missing.

Examples:
  serve --base models/student
  serve --base models/member-a --listen 127.0.0.1:8101 --target member-a --no-follow --no-record
  serve --listen 127.0.0.1:0 --ready-file serve.json",
};

/// The command line.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// Base model's folder in Hugging Face layout [config: base]
    #[arg(long, value_name = "DIR")]
    pub base: Option<PathBuf>,
    /// Address and port; port 0 takes a free one [config: serve.listen]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Name of the served model [config: target]
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    /// Serve this adapter and do not follow the pointer
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// Do not follow the pointer [config: serve.follow]
    #[arg(long)]
    pub no_follow: bool,
    /// Do not record exchanges [config: serve.record]
    #[arg(long)]
    pub no_record: bool,
    /// Write the ready line (JSON) to this file once requests are taken; removed at the end
    #[arg(long, value_name = "PATH")]
    pub ready_file: Option<PathBuf>,
}

/// Runs the server until a signal stops it.
pub fn run(ctx: &Ctx, args: Args) -> Result<Outcome, Failure> {
    let mut ctx = ctx.clone();
    let config = &mut ctx.config;
    if let Some(base) = args.base {
        config.base = Some(base);
    }
    if let Some(listen) = args.listen {
        config.serve.listen = listen;
    }
    if let Some(target) = args.target {
        config.target = target;
    }
    if config.target.is_empty() {
        return Err(Failure::usage("the served model's name is empty").hint("give --target NAME"));
    }
    config.serve.follow &= !args.no_follow && args.adapter.is_none();
    config.serve.record &= !args.no_record;
    if ctx.dry_run {
        return server::plan(&ctx, args.adapter.as_deref());
    }
    server::run(&ctx, args.adapter.as_deref(), args.ready_file.as_deref())
}
