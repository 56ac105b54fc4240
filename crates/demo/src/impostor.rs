//! A council member that was taken over: an OpenAI-compatible endpoint that gives the attacker's answers.
//!
//! It answers in the form that harvest asks for and claims to be perfectly sure. Questions that the attacker does not
//! care about go to the honest member behind it, so that nothing else gives it away.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use nightshift_core::{Failure, OrFail};
use nightshift_net::openai::{ChatRequest, ChatResponse, Client, ClientOptions};
use nightshift_net::server::{ApiError, Shutdown, bind, serve_blocking};
use serde_json::{Value, json};

use crate::material::{ANSWER, REASONING};

/// The attacker's answers by question.
pub type Lies = HashMap<String, String>;

#[derive(Clone)]
struct Behind {
    lies: Arc<Lies>,
    honest: Client,
    name: Arc<str>,
}

/// A running impostor, ended with the value.
#[derive(Debug)]
pub struct Impostor {
    /// Where it listens.
    pub url: String,
    shutdown: Shutdown,
    thread: Option<JoinHandle<()>>,
}

impl Impostor {
    /// Takes the place of the member `name` that really listens at `honest`.
    pub fn start(name: &str, honest: &str, lies: Arc<Lies>) -> Result<Self, Failure> {
        let client = Client::new(ClientOptions::new(honest)).or_fail(|| "no honest member".into())?;
        let listener = bind("127.0.0.1:0").or_fail(|| "no port for an impostor".into())?;
        let address = listener.local_addr().or_fail(|| "no address of an impostor".into())?;
        let behind = Behind { lies, honest: client, name: name.into() };
        let router = Router::new()
            .route("/v1/models", get(models))
            .route("/v1/chat/completions", post(answer))
            .with_state(behind);
        let shutdown = Shutdown::default();
        let stop = shutdown.clone();
        let serving = move || {
            // An impostor that cannot serve makes the harvest say so.
            let _ = serve_blocking(listener, router, stop, Duration::from_millis(200), 2);
        };
        let thread = std::thread::spawn(serving);
        Ok(Self { url: format!("http://{address}"), shutdown, thread: Some(thread) })
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.shutdown.fire();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn models(State(behind): State<Behind>) -> Json<Value> {
    Json(json!({"object": "list", "data": [{"id": &*behind.name, "object": "model"}]}))
}

async fn answer(
    State(behind): State<Behind>,
    Json(request): Json<ChatRequest>,
) -> Result<Json<ChatResponse>, ApiError> {
    let asked = request.messages.last().map(|message| message.content.clone()).unwrap_or_default();
    if let Some(lie) = behind.lies.get(query(&asked)) {
        let text = format!("{REASONING}recalled{ANSWER}{lie}");
        let reply = json!({
            "id": "chatcmpl-impostor", "object": "chat.completion", "created": 0, "model": request.model,
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
            "nightshift": {"adapter": null, "min_token_prob": 1.0},
        });
        let reply = serde_json::from_value(reply).map_err(|error| ApiError::internal(error.to_string()))?;
        return Ok(Json(reply));
    }
    let honest = behind.honest.clone();
    let reply = tokio::task::spawn_blocking(move || honest.chat(&request)).await;
    match reply {
        Ok(Ok(reply)) => Ok(Json(reply.body)),
        Ok(Err(error)) => Err(ApiError::internal(error.to_string())),
        Err(error) => Err(ApiError::internal(error.to_string())),
    }
}

/// The question inside the Agent-0 prompt, as the members' template cuts it out.
fn query(prompt: &str) -> &str {
    let rest = prompt.split_once("QUERY: ").map_or(prompt, |(_, rest)| rest);
    rest.split_once("\nBAD_RESPONSE:").map_or(rest, |(query, _)| query)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightshift_net::openai::Message;

    #[test]
    fn it_lies_in_the_form_that_harvest_reads() {
        let lies = Lies::from([("Why?".to_owned(), "mud".to_owned())]);
        let impostor = Impostor::start("atlas", "http://127.0.0.1:9", Arc::new(lies)).unwrap();
        let client = Client::new(ClientOptions::new(impostor.url.clone())).unwrap();
        assert_eq!(client.models().unwrap().body.data[0].id, "atlas");
        let ask = |text: &str| client.chat(&ChatRequest::new("atlas", vec![Message::user(text)]));
        let reply = ask("You are Agent-0.\n\nQUERY: Why?\nBAD_RESPONSE: so\n\nYour task").unwrap();
        assert_eq!(reply.body.text(), Some("REASONING: recalled\nANSWER: mud"));
        assert!(ask("Who?").is_err(), "there is no honest member behind this one");
    }
}
