//! A home with releases and a history, and a stand-in for the server's `/health`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nightshift_core::audit::audit;
use nightshift_core::clock::Clock;
use nightshift_core::jiff::SignedDuration;
use nightshift_core::pointer::{self, Pointer, Switch};
use nightshift_core::release::{self, NewRelease};
use nightshift_core::store::Store;
use nightshift_core::{Ctx, files, journal};
use nightshift_testkit::{Answer, FakeServer, Home, Ran, free_port};
use serde_json::{Value, json};

pub(crate) struct World {
    pub(crate) home: Home,
}

impl World {
    /// An empty home without a server.
    pub(crate) fn new() -> Self {
        let home = Home::new();
        home.write(
            "nightshift.yaml",
            &format!("deploy: {{server_url: 'http://127.0.0.1:{}'}}\n", free_port()),
        );
        Self { home }
    }

    pub(crate) fn ctx(&self) -> Ctx {
        Ctx::for_test(self.home.path())
    }

    /// Publishes a release; its id.
    pub(crate) fn publish(&self, weights: &str) -> String {
        let ctx = self.ctx();
        let staged = ctx.paths.loras().join(".tmp-staged");
        files::create_dir(&staged).unwrap();
        files::write_atomic(&staged.join(release::ADAPTER_CONFIG), b"{\"r\": 4}").unwrap();
        files::write_atomic(&staged.join(release::ADAPTER_MODEL), weights.as_bytes()).unwrap();
        let new = NewRelease {
            base_fingerprint: "base".into(),
            dataset_sha256: None,
            parents: Vec::new(),
            rank: 4,
            facts: json!({}),
        };
        release::publish(&ctx, &mut self.home.store(), &staged, &new).unwrap().adapter_id
    }

    /// Makes an adapter live, as `deploy` does; tentative for a lease, or good at once.
    pub(crate) fn switch(&self, adapter: Option<&str>, lease: Option<SignedDuration>) {
        let (ctx, mut store) = (self.ctx(), self.home.store());
        let expected = self.pointer().generation;
        let wanted = Switch { expected, adapter_id: adapter, lease, deployment_id: None, why: "test" };
        store.write(|tx| pointer::switch(&ctx, tx, &wanted)).unwrap();
        pointer::settle(&ctx, &store, None).unwrap();
    }

    /// Publishes releases and makes one after the other live; their ids.
    pub(crate) fn history<const N: usize>(&self, weights: [&str; N]) -> [String; N] {
        weights.map(|weights| {
            let id = self.publish(weights);
            self.switch(Some(&id), None);
            id
        })
    }

    pub(crate) fn rollback(&self, arguments: &[&str]) -> Ran {
        let mut all = vec!["--json"];
        all.extend(arguments);
        self.home.run("rollback", &all)
    }

    pub(crate) fn pointer(&self) -> Pointer {
        pointer::read(self.home.store().read(), "nightshift").unwrap()
    }

    pub(crate) fn live(&self) -> Option<String> {
        self.pointer().effective(&Clock::new(None)).map(str::to_owned)
    }

    pub(crate) fn status(&self, id: &str) -> String {
        release::by_id(self.home.store().read(), id).unwrap().unwrap().status
    }

    pub(crate) fn summary(&self) -> Value {
        serde_json::from_str(&self.home.read("loras/current/rollback_summary.json")).unwrap()
    }

    pub(crate) fn entries(&self) -> usize {
        journal::verify(self.home.store().read()).unwrap().len()
    }

    #[track_caller]
    pub(crate) fn assert_consistent(&self) {
        let problems = audit(&self.ctx(), &self.home.store(), true).unwrap();
        assert!(problems.is_empty(), "{problems:#?}");
    }

    /// A server that follows the pointer, or serves the base under generation 0 for ever.
    pub(crate) fn serve(&self, follows: bool) -> (FakeServer, Arc<AtomicBool>) {
        let store = self.home.path().join("sandbox_data/learning.db");
        let asked = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&asked);
        let server = FakeServer::start(move |request| {
            assert_eq!(request.path, "/health");
            seen.store(true, Ordering::SeqCst);
            let pointer = Store::open_read_only(&store)
                .unwrap()
                .map(|store| pointer::read(store.read(), "nightshift").unwrap());
            let live = pointer.filter(|_| follows).unwrap_or_default();
            Answer::Json(json!({"status": "healthy", "generation": live.generation,
                "adapter": live.effective(&Clock::new(None))}))
        });
        self.home.write("nightshift.yaml", &format!("deploy: {{server_url: '{}'}}\n", server.url()));
        (server, asked)
    }
}
