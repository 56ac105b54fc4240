//! Asking a server over HTTP, as users and as the demo's examiner.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nightshift_core::{Exit, Failure, OrFail};
use nightshift_net::Secret;
use nightshift_net::openai::{ChatRequest, Client, ClientOptions, Message, ResponseFormat, Timeouts};
use serde_json::{Value, json};

use crate::questions::Question;

/// Header by which a request says that it is not a user's.
const KIND_HEADER: &str = "x-nightshift-kind";

/// What a server answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Its id, for feedback.
    pub id: String,
    /// The text.
    pub text: String,
    /// The adapter named in the header; `None` for the base.
    pub adapter: Option<String>,
    /// Smallest token probability.
    pub min_token_prob: Option<f64>,
}

/// A client of one server.
#[derive(Debug, Clone)]
pub struct Asker {
    client: Client,
    model: String,
}

impl Asker {
    /// A user: requests are live traffic.
    pub fn user(url: &str) -> Result<Self, Failure> {
        Self::new(ClientOptions::new(url))
    }

    /// The examiner: requests are recorded as probes, never as traffic.
    pub fn examiner(url: &str) -> Result<Self, Failure> {
        let mut options = ClientOptions::new(url);
        options.headers.push((KIND_HEADER.into(), Secret::new("probe")));
        Self::new(options)
    }

    fn new(options: ClientOptions) -> Result<Self, Failure> {
        let total = Duration::from_secs(30);
        let options = options.timeouts(Timeouts { total, ..Timeouts::default() });
        let client = Client::new(options).or_fail(|| "the demo's server cannot be asked".into())?;
        Ok(Self { client, model: "nightshift".into() })
    }

    /// The same client asking one model by its name: an adapter, or `base`.
    #[must_use]
    pub fn of_model(&self, model: &str) -> Self {
        Self { model: model.into(), ..self.clone() }
    }

    /// Asks one question. JSON is asked for as JSON, and the request is tagged with its type.
    pub fn ask(&self, question: &Question) -> Result<Answer, Failure> {
        self.send(&question.text, question.tag(), question.is_json())
    }

    /// Asks any text; an empty tag is none.
    pub fn send(&self, text: &str, tag: &str, as_json: bool) -> Result<Answer, Failure> {
        let mut request = ChatRequest::new(self.model.clone(), vec![Message::user(text)]);
        request.temperature = Some(0.0);
        if !tag.is_empty() {
            request.metadata.insert("tags".into(), tag.into());
        }
        request.response_format = as_json.then(ResponseFormat::json_object);
        let reply = self
            .client
            .chat(&request)
            .or_exit(Exit::Upstream, || format!("no answer to `{text}` from {}", self.client.server()))?;
        let adapter = reply.adapter.filter(|name| !matches!(name.as_str(), "none" | "base"));
        let extra = reply.body.nightshift.as_ref();
        Ok(Answer {
            id: reply.body.id.clone(),
            text: reply.body.text().unwrap_or_default().to_owned(),
            adapter,
            min_token_prob: extra.and_then(|extra| extra.min_token_prob),
        })
    }

    /// A thumb down on an answer, with the text that a user claims would be right.
    pub fn thumb_down(&self, id: &str, correction: Option<&str>) -> Result<(), Failure> {
        let body = json!({"id": id, "value": "down", "source": "user", "correction": correction});
        self.client
            .post_json::<_, Value>("/v1/feedback", &body)
            .or_exit(Exit::Upstream, || format!("feedback on {id} was not taken"))?;
        Ok(())
    }

    /// A page of the server as text.
    pub fn page(&self, path: &str) -> Result<String, Failure> {
        let reply = self.client.get_text(path).or_exit(Exit::Upstream, || format!("no {path}"))?;
        Ok(reply.body)
    }

    /// Asks all questions over two connections; answers in the order of the questions.
    pub fn ask_all(&self, questions: &[Question], each: &(dyn Fn() + Sync)) -> Result<Vec<Answer>, Failure> {
        let next = AtomicUsize::new(0);
        let answers = Mutex::new(vec![None; questions.len()]);
        let worker = || -> Result<(), Failure> {
            loop {
                let index = next.fetch_add(1, Ordering::SeqCst);
                let Some(question) = questions.get(index) else { return Ok(()) };
                let answer = self.ask(question)?;
                if let Ok(mut answers) = answers.lock() {
                    answers[index] = Some(answer);
                }
                each();
            }
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(worker);
            worker().and(other.join().unwrap_or_else(|_| Err(Failure::failed("an asking thread panicked"))))
        })?;
        let answers = answers.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(answers.into_iter().flatten().collect())
    }
}
