use nightshift_net::openai::*;
use serde_json::{Value, json};

fn chat(extra: Value) -> Result<ChatRequest, String> {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    serde_json::from_str(&body.to_string()).map_err(|error| error.to_string())
}

#[test]
fn a_full_request_is_read() {
    let request = chat(json!({
        "max_tokens": 5, "max_completion_tokens": 7, "temperature": 0, "top_p": 0.5, "seed": -3,
        "stop": "\n", "stream": true, "stream_options": {"include_usage": true}, "logprobs": true,
        "top_logprobs": 2, "response_format": {"type": "json_object"}, "user": "u", "n": 1,
        "metadata": {"kind": "arithmetic"}, "tools": [], "frequency_penalty": 0.1
    }))
    .unwrap();
    assert_eq!(request.answer_limit(), Some(7));
    assert_eq!(request.stop, ["\n"]);
    assert!(request.stream && request.wants_usage_chunk() && request.logprobs && request.wants_json());
    assert_eq!(request.metadata["kind"], "arithmetic");
    assert_eq!(request.seed, Some(-3));
    request.check().unwrap();
    let again: ChatRequest = serde_json::from_str(&serde_json::to_string(&request).unwrap()).unwrap();
    assert_eq!(again, request);
}

#[test]
fn nulls_mean_absent() {
    let request = chat(json!({
        "max_tokens": null, "temperature": null, "stop": null, "stream": null, "stream_options": null,
        "logprobs": null, "metadata": null, "n": null, "seed": null
    }))
    .unwrap();
    assert_eq!(request, ChatRequest::new("m", vec![Message::user("hi")]));
    assert_eq!(
        serde_json::to_value(&request).unwrap(),
        json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
    );
}

#[test]
fn content_may_be_text_parts() {
    let messages = json!({"messages": [
        {"role": "system", "content": [{"type": "text", "text": "a"}, {"text": "b", "type": "text", "x": 1}]},
        {"role": "assistant", "content": null},
    ]});
    let request = chat(messages).unwrap();
    assert_eq!(request.messages, [Message::system("a\nb"), Message::assistant("")]);
}

#[test]
fn wrong_types_say_what_is_expected() {
    for (extra, expected) in [
        (json!({"messages": [{"role": "user", "content": 3}]}), "expected a string or a list of parts"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}),
            "content part of type `image_url` is not supported",
        ),
        (json!({"messages": [{"role": "user", "content": [{"text": "a"}]}]}), "missing field `type`"),
        (json!({"messages": [{"role": "user", "content": ["a"]}]}), "expected a part"),
        (
            json!({"messages": [{"role": "robot", "content": ""}]}),
            "unknown variant `robot`, expected one of `system`",
        ),
        (json!({"messages": [{"role": "user"}]}), "missing field `content`"),
        (json!({"messages": "hi"}), "expected a sequence"),
        (json!({"stop": 3}), "expected a string or a list of strings"),
        (json!({"stop": [3]}), "expected a string"),
        (json!({"metadata": {"a": 3}}), "invalid type: integer `3`, expected a string"),
        (json!({"max_tokens": -1}), "expected u32"),
        (json!({"temperature": "hot"}), "expected f64"),
    ] {
        let message = chat(extra.clone()).unwrap_err();
        assert!(message.contains(expected), "{extra}: {message}");
    }
}

#[test]
fn values_out_of_range_name_the_field() {
    for (extra, param) in [
        (json!({"messages": []}), "messages"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"max_completion_tokens": 0}), "max_completion_tokens"),
        (json!({"temperature": 2.1}), "temperature"),
        (json!({"temperature": -0.1}), "temperature"),
        (json!({"top_p": 0}), "top_p"),
        (json!({"top_p": 1.01}), "top_p"),
        (json!({"n": 2}), "n"),
        (json!({"n": 0}), "n"),
        (json!({"stop": ["a", "b", "c", "d", "e"]}), "stop"),
        (json!({"stop": ""}), "stop"),
        (json!({"top_logprobs": 3}), "top_logprobs"),
        (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs"),
        (json!({"response_format": {"type": "xml"}}), "response_format.type"),
    ] {
        let request = chat(extra.clone()).unwrap();
        assert_eq!(request.check().unwrap_err().param, param, "{extra}");
    }
}

#[test]
fn a_completion_takes_one_prompt() {
    let read = |prompt: Value| {
        serde_json::from_value::<CompletionRequest>(json!({"model": "m", "prompt": prompt}))
            .map(|request| request.prompt)
            .map_err(|error| error.to_string())
    };
    assert_eq!(read(json!("a")).unwrap(), "a");
    assert_eq!(read(json!(["a"])).unwrap(), "a");
    assert!(read(json!(["a", "b"])).unwrap_err().contains("exactly one prompt"));
    assert!(read(json!([])).unwrap_err().contains("exactly one prompt"));
    assert!(read(json!([1, 2])).unwrap_err().contains("expected a string"));
}

#[test]
fn answers_of_other_servers_are_read() {
    let body = r#"{"choices":[{"message":{"role":"assistant","content":"4","refusal":null},
        "logprobs":{"content":[{"token":"4","logprob":-0.5,"top_logprobs":null}],"refusal":null}}],
        "usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4,"details":{}}}"#;
    let response: ChatResponse = serde_json::from_str(body).unwrap();
    assert_eq!(response.text(), Some("4"));
    assert_eq!(response.finish_reason(), None);
    assert_eq!(response.tokens()[0].logprob, -0.5);
    assert_eq!(response.usage, Some(Usage::new(3, 1)));
    assert!(
        serde_json::from_str::<ChatResponse>(r#"{"id":"x"}"#).unwrap_err().to_string().contains("choices")
    );
}

#[test]
fn our_extension_is_left_out_when_absent() {
    let mut response = ChatResponse { id: "c1".into(), ..ChatResponse::default() };
    assert!(serde_json::to_value(&response).unwrap().get("nightshift").is_none());
    response.nightshift = Some(Nightshift { confidence: Some(0.25), ..Nightshift::default() });
    let value = serde_json::to_value(&response).unwrap();
    assert_eq!(value["nightshift"], json!({"adapter": null, "confidence": 0.25}));
    assert_eq!(serde_json::from_value::<ChatResponse>(value).unwrap(), response);
}
