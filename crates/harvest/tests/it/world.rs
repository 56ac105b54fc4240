//! A home with yesterday's interactions, and members that know the answers.

use std::time::Duration;

use nightshift_testkit::{Answer, FakeServer, Home, Request};
use serde_json::json;

/// Countries and their rivers.
pub(crate) const RIVERS: [(&str, &str); 12] = [
    ("Velmora", "Tanno"),
    ("Lindor", "Brask"),
    ("Ostreva", "Quill"),
    ("Pelagia", "Mirne"),
    ("Sorvane", "Dulco"),
    ("Tarkesh", "Ombra"),
    ("Ulmara", "Fessel"),
    ("Wendria", "Garth"),
    ("Yorvik", "Hesper"),
    ("Zandor", "Ilmen"),
    ("Calder", "Jorun"),
    ("Brenta", "Kestrel"),
];

/// Records one failed answer for each country (2026-03-01, the day before the pinned clock's).
pub(crate) fn home(failures: usize) -> Home {
    let home = Home::new();
    let mut rows = String::new();
    for (index, (country, _)) in RIVERS.iter().take(failures).enumerate() {
        let row = json!({"id": format!("i{index:02}"), "ts": format!("2026-03-01T12:{index:02}:00Z"),
            "query": format!("river of {country}?"), "response": "Wrong", "confidence": 0.3, "source_id": format!("{index}")});
        rows.push_str(&format!("{row}\n"));
    }
    home.write("rows.jsonl", &rows);
    home.run("memory", &["import", "rows.jsonl"]).expect(0);
    home
}

/// The true answer to a prompt that names a country.
pub(crate) fn truth(request: &Request) -> &'static str {
    RIVERS.iter().find(|(country, _)| request.body.contains(country)).map_or("unknown", |(_, river)| river)
}

/// Answers the list of models, else `reply`.
pub(crate) fn member(reply: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> FakeServer {
    FakeServer::start(move |request| {
        if request.path.ends_with("/models") {
            return Answer::Json(json!({"object": "list", "data": [{"id": "m", "object": "model"}]}));
        }
        reply(request)
    })
}

/// A member that knows every river, in the Agent-0 form.
pub(crate) fn wise() -> FakeServer {
    member(|request| Answer::chat(&format!("REASONING: from the map\nANSWER: {}", truth(request))))
}

/// Writes the config for these members.
pub(crate) fn council(home: &Home, members: &[&FakeServer], extra: &str) {
    let members: Vec<_> = members
        .iter()
        .enumerate()
        .map(|(index, server)| json!({"name": format!("m{index}"), "base_url": server.url(), "model": "m"}))
        .collect();
    let members = json!(members);
    home.write(
        "nightshift.yaml",
        &format!("harvest:\n  council:\n    members: {members}\n    attempts: 2\n    timeout_s: 2\n{extra}"),
    );
}

/// Chat requests a member got.
pub(crate) fn asked(server: &FakeServer) -> usize {
    server.requests().iter().filter(|request| request.path.ends_with("/chat/completions")).count()
}

/// Longer than any member is asked to wait.
pub(crate) const FOREVER: Duration = Duration::from_secs(20);
