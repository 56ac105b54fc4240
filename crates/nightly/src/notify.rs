//! News to the webhook: training completed, deployed, refused, rolled back, error. Never fails the night.

use nightshift_net::Secret;
use nightshift_net::retry::Pace;
use nightshift_net::webhook::{Notice, Status, Webhook};
use rand::RngExt;

use crate::night::Night;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    Trained,
    Deployed,
    Refused,
    RolledBack,
    Error,
}

impl News {
    const fn status(self) -> Status {
        match self {
            Self::Trained | Self::Deployed => Status::Success,
            Self::Refused => Status::Info,
            Self::RolledBack => Status::Warning,
            Self::Error => Status::Error,
        }
    }
}

/// Sends a notice when a webhook is configured.
pub(crate) fn send(night: &Night<'_>, news: News, message: &str) {
    let ctx = night.ctx;
    let Some(url) = &ctx.config.notify.webhook else { return };
    let notice = Notice {
        status: news.status(),
        text: format!("Nightshift {}: {message}", ctx.config.target),
        message: message.to_owned(),
        at: ctx.clock.now(),
        fields: vec![("Night".into(), night.run_key.clone())],
    };
    let mut rng = ctx.rng("webhook");
    let mut pace = Pace {
        elapsed: &|| ctx.clock.elapsed(),
        now: &|| ctx.clock.now(),
        sleep: &mut |time| ctx.clock.sleep(time, &ctx.stop),
        uniform: &mut || rng.random::<f64>(),
        deadline: None,
    };
    let report = Webhook::new(Secret::new(url)).send(&notice, &mut pace);
    if !report.delivered {
        let error = report.error.unwrap_or_default();
        night.log.say(ctx, &format!("the webhook at {} could not be reached: {error}", report.host));
    }
}
