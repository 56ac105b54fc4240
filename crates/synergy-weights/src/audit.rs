//! Lines in the audit trail of the programs that exporter and trainer stand in for.
//!
//! With `SANDBOX_CENTRAL_LOGGING=1`: `- {json, keys sorted}` in `AUDIT_LOG_PATH`; the dash says that a line is
//! not signed. With `KAFKA_HOSTS` the objects are kept in `<audit log>.kafka` too, for whoever brings them there.

use std::path::PathBuf;

use nightshift_core::commit::with_suffix;
use nightshift_core::{Ctx, Failure, env, files};
use serde_json::{Map, Value, json};

/// An audit trail, or nothing when it is not wanted.
#[derive(Debug, Clone)]
pub(crate) struct Audit {
    path: Option<PathBuf>,
    spool: Option<PathBuf>,
    ctx: Ctx,
}

impl Audit {
    /// As the environment says; what is done instead of sending to Kafka is said.
    pub(crate) fn new(ctx: &Ctx) -> Self {
        let wanted = ctx.env.get(env::SANDBOX_CENTRAL_LOGGING) == Some("1");
        let path = wanted.then(|| match ctx.env.get(env::AUDIT_LOG_PATH) {
            Some(path) => ctx.paths.home().join(path),
            None => ctx.paths.logs().join("audit.log"),
        });
        let kafka = ctx.env.get(env::KAFKA_HOSTS).is_some();
        let spool = path.as_ref().filter(|_| kafka).map(|path| with_suffix(path, ".kafka"));
        if let Some(spool) = &spool {
            let place = spool.display();
            ctx.printer.note(&format!(
                "note: this program does not speak to Kafka; what is meant for KAFKA_HOSTS is kept in {place}"
            ));
        }
        Self { path, spool, ctx: ctx.clone() }
    }

    /// Records an event. A trail that cannot be written is said and stops nothing.
    pub(crate) fn record(&self, event: &str, fields: Value) {
        if let Err(failure) = self.try_record(event, fields) {
            tracing::warn!(error = failure.chain(), event, "the audit trail cannot be written");
        }
    }

    fn try_record(&self, event: &str, fields: Value) -> Result<(), Failure> {
        let Some(path) = &self.path else { return Ok(()) };
        let mut line = std::collections::BTreeMap::from([
            ("timestamp".to_owned(), json!(self.ctx.clock.now().as_second())),
            ("event".to_owned(), json!(event)),
        ]);
        if let Value::Object(fields) = fields {
            line.extend(fields);
        }
        let line = Value::Object(line.into_iter().collect::<Map<_, _>>()).to_string();
        if let Some(folder) = path.parent() {
            files::create_dir(folder)?;
        }
        files::append_line(path, &format!("- {line}"))?;
        if let Some(spool) = &self.spool {
            files::append_line(spool, &line)?;
        }
        Ok(())
    }
}
