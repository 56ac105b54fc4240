//! News of one program to the configured webhook, when it runs alone.
//!
//! A program that `nightly` started (environment `NIGHTSHIFT_PARENT`) stays silent: its parent tells the
//! news, once.

use nightshift_core::Ctx;
use rand::RngExt;

use crate::Secret;
use crate::retry::Pace;
use crate::webhook::{Notice, Status, Webhook};

/// Sends a title and a message, if there is a webhook and no parent. A webhook that fails is logged and
/// changes nothing.
pub fn tell(ctx: &Ctx, status: Status, title: &str, message: &str) {
    let Some(url) = ctx.config.notify.webhook.as_deref() else { return };
    if ctx.env.get("NIGHTSHIFT_PARENT").is_some() {
        return;
    }
    let notice = Notice {
        status,
        text: format!("Nightshift {}: {title}", ctx.config.target),
        message: message.to_owned(),
        at: ctx.clock.now(),
        fields: Vec::new(),
    };
    let mut rng = ctx.rng("webhook");
    let mut pace = Pace {
        elapsed: &|| ctx.clock.elapsed(),
        now: &|| ctx.clock.now(),
        sleep: &mut |time| ctx.clock.sleep(time, &ctx.stop),
        uniform: &mut || rng.random::<f64>(),
        deadline: None,
    };
    Webhook::new(Secret::new(url)).send(&notice, &mut pace);
}
