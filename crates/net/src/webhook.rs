//! News to a Slack-style webhook. Never fails the caller: what happened is in the report.
//!
//! The URL is a secret (whoever knows it can post); logs and errors name its host only.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use ureq::http::Uri;

use crate::endpoint::is_loopback;
use crate::retry::{GaveUp, Pace, Policy};
use crate::transport::{Started, agent, status_error};
use crate::{NetError, Secret};

/// Limit of one attempt.
const TIMEOUT: Duration = Duration::from_secs(5);

/// One try and two retries within seconds: nobody waits for news.
const POLICY: Policy = Policy {
    attempts: 3,
    base: Duration::from_millis(500),
    cap: Duration::from_secs(2),
    patience: Duration::from_secs(5),
};

/// How the news is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Something worked.
    Success,
    /// Something failed.
    Error,
    /// Something needs a look.
    Warning,
    /// For the record.
    Info,
}

impl Status {
    /// The word in the message.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }

    const fn color(self) -> &'static str {
        match self {
            Self::Success | Self::Info => "good",
            Self::Error | Self::Warning => "warning",
        }
    }
}

/// One piece of news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// How it is.
    pub status: Status,
    /// One line.
    pub text: String,
    /// What happened and what to do.
    pub message: String,
    /// When.
    pub at: Timestamp,
    /// Further named values.
    pub fields: Vec<(String, String)>,
}

impl Notice {
    /// The payload: `{text, attachments: [{color, fields: [Status, Message, Timestamp, ...]}]}`.
    pub fn payload(&self) -> Value {
        let field =
            |title: &str, value: &str, short: bool| json!({"title": title, "value": value, "short": short});
        let mut fields = vec![
            field("Status", self.status.as_str(), true),
            field("Message", &self.message, false),
            field("Timestamp", &format!("{:.0}", self.at), true),
        ];
        fields.extend(self.fields.iter().map(|(title, value)| field(title, value, true)));
        json!({"text": self.text, "attachments": [{"color": self.status.color(), "fields": fields}]})
    }
}

/// What became of a piece of news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Host of the webhook; empty when the URL has none.
    pub host: String,
    /// A 2xx answer arrived.
    pub delivered: bool,
    /// Attempts made.
    pub attempts: u32,
    /// The last error.
    pub error: Option<String>,
}

/// A webhook.
#[derive(Debug, Clone)]
pub struct Webhook {
    url: Secret,
    timeout: Duration,
}

impl Webhook {
    /// A webhook with 5 s per attempt. Discord's URLs are given their Slack-compatible suffix.
    pub fn new(url: Secret) -> Self {
        let needs_suffix = url.expose().parse::<Uri>().is_ok_and(|uri| {
            matches!(uri.host(), Some("discord.com" | "discordapp.com")) && !uri.path().ends_with("/slack")
        });
        let url = if needs_suffix {
            Secret::new(format!("{}/slack", url.expose().trim_end_matches('/')))
        } else {
            url
        };
        Self { url, timeout: TIMEOUT }
    }

    /// With another limit per attempt.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Posts the notice: one try, two retries on transient errors. Logs a warning when it could
    /// not be delivered.
    pub fn send(&self, notice: &Notice, pace: &mut Pace<'_>) -> Report {
        let uri = self.url.expose().parse::<Uri>().ok().filter(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
        });
        let Some(uri) = uri else {
            let error = "the webhook is not an http(s) URL".to_owned();
            return self.report(String::new(), Err(GaveUp::before_sending(NetError::Unusable(error))));
        };
        let host = uri.host().unwrap_or_default().to_owned();
        let payload = notice.payload().to_string();
        let agent = agent(is_loopback(&uri));
        let outcome = POLICY.run(pace, |attempt| {
            let total = attempt.left.map_or(self.timeout, |left| left.min(self.timeout));
            let started = Started::new(total);
            let response = agent
                .post(self.url.expose())
                .config()
                .timeout_global(Some(total))
                .build()
                .content_type("application/json")
                .send(payload.as_bytes())
                .map_err(|error| started.explain(error, &host))?;
            if response.status().is_success() { Ok(()) } else { Err(status_error(response, &host)) }
        });
        self.report(host, outcome.map(|done| done.attempts))
    }

    fn report(&self, host: String, outcome: Result<u32, GaveUp>) -> Report {
        match outcome {
            Ok(attempts) => Report { host, delivered: true, attempts, error: None },
            Err(gave_up) => {
                let error = self.url.scrub(&gave_up.error.to_string());
                tracing::warn!(host, attempts = gave_up.attempts, error, "the webhook was not delivered");
                Report { host, delivered: false, attempts: gave_up.attempts, error: Some(error) }
            }
        }
    }
}
