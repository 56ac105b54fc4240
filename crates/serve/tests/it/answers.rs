//! Answers as OpenAI's API has them: plain, streamed, completed, scored.

use serde_json::{Value, json};

use crate::house::{Server, ask, home, rows, text};

const CHAT: &str = "/v1/chat/completions";

#[test]
fn plain_streamed_and_repeated_answers_are_the_same_text() {
    let home = home(512);
    let server = Server::start(&home, &["--no-follow"]);
    let plain = server.chat("nightshift", "What is two and two?", 24);
    assert_eq!(text(&plain), text(&server.chat("", "What is two and two?", 24)), "greedy answers repeat");
    let body = plain.json();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!((&body["model"], &body["system_fingerprint"]), (&json!("nightshift"), &json!("fp_base")));
    assert_eq!(body["choices"][0]["finish_reason"], "length");
    assert_eq!(body["usage"]["completion_tokens"], 24);
    assert_eq!(
        (plain.headers["x-nightshift-adapter"].as_str(), plain.headers["x-nightshift-generation"].as_str()),
        ("none", "0")
    );
    assert_eq!(body["id"], format!("chatcmpl-{}", plain.headers["x-request-id"]));

    let mut request = ask("nightshift", "What is two and two?", 24);
    request["stream"] = true.into();
    request["stream_options"] = json!({"include_usage": true});
    let streamed = server.post(CHAT, &request).expect(200);
    assert_eq!(streamed.headers["content-type"], "text/event-stream");
    assert_eq!(streamed.headers["x-nightshift-adapter"], "none");
    let events = streamed.events();
    let pieces: String =
        events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(pieces, text(&plain));
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let (usage, last) = (&events[events.len() - 1], &events[events.len() - 2]);
    assert_eq!((&usage["choices"], &usage["usage"]), (&json!([]), &body["usage"]));
    assert_eq!(last["choices"][0]["finish_reason"], "length");
    assert_eq!(last["nightshift"], body["nightshift"]);
    assert!(events.len() > 10, "it comes in pieces");
}

#[test]
fn log_probabilities_agree_with_the_confidence() {
    let home = home(512);
    let server = Server::start(&home, &["--no-follow"]);
    let mut request = ask("nightshift", "Say it.", 12);
    request["logprobs"] = true.into();
    request["top_logprobs"] = 3.into();
    let body = server.post(CHAT, &request).expect(200).json();
    let tokens = body["choices"][0]["logprobs"]["content"].as_array().unwrap();
    let joined: String = tokens.iter().map(|token| token["token"].as_str().unwrap()).collect();
    assert_eq!(joined, body["choices"][0]["message"]["content"].as_str().unwrap());
    let probabilities: Vec<f64> =
        tokens.iter().map(|token| token["logprob"].as_f64().unwrap().exp()).collect();
    assert_eq!(probabilities.len(), 12, "the limit ended it: no end token");
    let smallest = probabilities.iter().copied().fold(1.0, f64::min);
    let mean = probabilities.iter().sum::<f64>() / 12.0;
    let near = |value: &Value, expected: f64| (value.as_f64().unwrap() - expected).abs() < 1e-9;
    assert!(near(&body["nightshift"]["min_token_prob"], smallest), "{body}");
    assert!(near(&body["nightshift"]["mean_token_prob"], mean), "{body}");
    assert_eq!(body["nightshift"]["confidence"], body["nightshift"]["min_token_prob"], "not calibrated");
    for token in tokens {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        assert_eq!(top[0]["logprob"], token["logprob"], "greedy takes the most probable");
        assert!(top[0]["logprob"].as_f64() >= top[2]["logprob"].as_f64());
    }
}

#[test]
fn completions_continue_a_text() {
    let home = home(512);
    let server = Server::start(&home, &["--no-follow"]);
    let request =
        json!({"model": "base", "prompt": "Once upon", "temperature": 0, "max_tokens": 8, "logprobs": 2});
    let body = server.post("/v1/completions", &request).expect(200).json();
    assert_eq!(body["object"], "text_completion");
    let plain = body["choices"][0]["text"].as_str().unwrap();
    let lists = &body["choices"][0]["logprobs"];
    assert_eq!(lists["tokens"].as_array().unwrap().len(), 8);
    assert_eq!(lists["text_offset"][0], 0);

    let request =
        json!({"prompt": "Once upon", "model": "", "temperature": 0, "max_tokens": 8, "echo": true});
    let echoed = server.post("/v1/completions", &request).expect(200).json();
    assert_eq!(echoed["choices"][0]["text"], format!("Once upon{plain}"));

    let request = json!({"prompt": "Once upon", "model": "nightshift", "temperature": 0, "max_tokens": 8, "stream": true});
    let events = server.post("/v1/completions", &request).expect(200).events();
    let pieces: String = events.iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
    assert_eq!(pieces, plain);
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "length");
}

#[test]
fn stop_strings_end_answers_without_being_in_them() {
    let home = home(512);
    let server = Server::start(&home, &["--no-follow"]);
    let whole = text(&server.chat("nightshift", "Tell me a story.", 40));
    let characters: Vec<char> = whole.chars().collect();
    let stop: String = characters[characters.len() / 2..][..3].iter().collect();
    let expected = whole.split(&stop).next().unwrap();
    let mut request = ask("nightshift", "Tell me a story.", 40);
    request["stop"] = json!(stop);
    let stopped = server.post(CHAT, &request);
    assert_eq!(text(&stopped), expected);
    assert_eq!(stopped.json()["choices"][0]["finish_reason"], "stop");
    request["stream"] = true.into();
    let events = server.post(CHAT, &request).expect(200).events();
    let pieces: String =
        events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(pieces, expected);
}

#[test]
fn sampling_follows_its_seed() {
    let home = home(512);
    let server = Server::start(&home, &["--no-follow"]);
    let sample = |seed: i64, temperature: f64| {
        let mut request = ask("nightshift", "Anything?", 30);
        request["temperature"] = temperature.into();
        request["seed"] = seed.into();
        text(&server.post(CHAT, &request))
    };
    assert_eq!(sample(7, 1.0), sample(7, 1.0));
    assert_ne!(sample(7, 1.0), sample(8, 1.0));
    let mut narrow = ask("nightshift", "Anything?", 30);
    narrow["temperature"] = 2.into();
    narrow["top_p"] = 1e-9.into();
    assert_eq!(
        text(&server.post(CHAT, &narrow)),
        text(&server.chat("", "Anything?", 30)),
        "a nucleus of one"
    );
}

#[test]
fn an_answer_that_is_not_json_is_sent_and_recorded_as_failed() {
    let home = home(512);
    let server = Server::start(&home, &["--no-follow"]);
    let mut request = ask("nightshift", "Give me JSON.", 10);
    request["response_format"] = json!({"type": "json_object"});
    server.post(CHAT, &request).expect(200);
    server.chat("nightshift", "Give me text.", 10).expect(200);
    let rows = rows(&home);
    assert_eq!((rows[0].ok, rows[0].failure_class.as_deref()), (false, Some("invalid_json")));
    assert_eq!((&rows[0].body["success"], &rows[0].body["success_source"]), (&json!(false), &json!("error")));
    assert!(rows[1].ok);
}

#[test]
fn models_health_and_metrics_say_what_is_served() {
    let home = home(512);
    let server = Server::start(&home, &["--no-follow", "--target", "student"]);
    let models = server.get("/v1/models").expect(200).json();
    let ids: Vec<&str> =
        models["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["student", "base"]);
    let health = server.get("/health").expect(200).json();
    assert_eq!((&health["status"], &health["target"]), (&json!("healthy"), &json!("student")));
    assert_eq!((&health["adapter"], &health["generation"]), (&Value::Null, &json!(0)));

    server.chat("student", "Hello", 5).expect(200);
    server.chat("nobody", "Hello", 5).expect(404);
    home.store();
    let page = server.get("/metrics").expect(200);
    assert!(page.headers["content-type"].starts_with("text/plain; version=0.0.4"));
    let samples = exposition(&page.body);
    assert_eq!(samples["autogen_requests_total"], 1.0);
    assert_eq!(samples["autogen_requests_success_total"], 1.0);
    assert!(samples["autogen_latency_ms_avg"] > 0.0);
    assert_eq!(samples["nightshift_requests_total{outcome=\"invalid\"}"], 1.0);
    assert_eq!(samples["nightshift_request_duration_seconds_count"], 1.0);
    assert_eq!(samples["nightshift_tokens_total{direction=\"completion\"}"], 5.0);
    assert_eq!(samples["nightshift_captured_total"], 1.0);
    assert_eq!(samples["autogen_training_completed_total"], 0.0, "the store's counters follow");
}

/// Checks the text exposition format 0.0.4: HELP and TYPE once and before the samples of each
/// family, samples of a family together, names and values well-formed, histograms cumulative.
fn exposition(page: &str) -> std::collections::BTreeMap<String, f64> {
    let mut samples = std::collections::BTreeMap::new();
    let mut seen = Vec::new();
    let (mut help, mut kind, mut bucket) = ("", "", 0.0);
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').expect("a help text").0;
            assert!(!seen.contains(&help), "{help} twice");
            seen.push(help);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, of) = rest.split_once(' ').unwrap();
            assert_eq!(name, help, "TYPE follows HELP");
            assert!(["counter", "gauge", "histogram"].contains(&of), "{line}");
            (kind, bucket) = (of, 0.0);
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let family = match kind {
                "histogram" => {
                    ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap()
                }
                _ => name,
            };
            assert_eq!(family, help, "{line}");
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{line}");
            assert!(kind != "counter" || name.ends_with("_total"), "{line}");
            let value: f64 = value.parse().unwrap();
            if name.ends_with("_bucket") {
                assert!(value >= bucket, "{line}");
                bucket = value;
            }
            assert!(samples.insert(series.to_owned(), value).is_none(), "{series} twice");
        }
    }
    assert!(page.ends_with('\n'));
    samples
}
