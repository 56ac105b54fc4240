//! What a deployment would do: everything that can be known without the server, checked and printable.

use std::fmt;
use std::path::{Path, PathBuf};

use nightshift_core::config::Rule;
use nightshift_core::evalset::{self, EvalItem, Purpose};
use nightshift_core::interaction::Message;
use nightshift_core::pointer::{self, Pointer};
use nightshift_core::release::{self, ADAPTER_CONFIG, ADAPTER_MODEL, Manifest};
use nightshift_core::store::Store;
use nightshift_core::{Ctx, Failure, OrFail};
use nightshift_verify::Check;
use serde::Serialize;
use serde_json::Value;

/// A gate item with its check read.
#[derive(Debug, Clone)]
pub(crate) struct GateItem {
    /// Unique within the set.
    pub(crate) id: String,
    /// The conversation to be answered.
    pub(crate) messages: Vec<Message>,
    /// The right answer, where there is one.
    pub(crate) reference: Option<String>,
    /// How an answer is judged.
    pub(crate) check: Check,
}

/// A checked plan.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Plan {
    /// The adapter to be made live.
    pub(crate) candidate: String,
    /// Its content digest.
    pub(crate) digest: String,
    /// The base model that it belongs to.
    pub(crate) base_fingerprint: String,
    /// Its folder.
    pub(crate) folder: PathBuf,
    /// What is live now.
    pub(crate) live: Pointer,
    /// The candidate is what is live.
    pub(crate) already_live: bool,
    /// It was banned, and the user insists.
    pub(crate) lifts_ban: bool,
    /// The gate set.
    pub(crate) gate_set: String,
    /// Its version.
    pub(crate) gate_set_version: i64,
    /// How many items.
    pub(crate) gate_items: usize,
    /// Seconds of watching.
    pub(crate) watch_s: f64,
    /// What the watch decides by.
    pub(crate) rule: Rule,
    /// The items themselves.
    #[serde(skip)]
    pub(crate) items: Vec<GateItem>,
}

impl Plan {
    /// Checks release, ban list and gate set, and says what would be done. Changes nothing.
    pub(crate) fn make(ctx: &Ctx, store: &Store, wanted: &str, force: bool) -> Result<Self, Failure> {
        let (folder, manifest) = whole_release(ctx, wanted)?;
        let registered = release::by_id(store.read(), &manifest.adapter_id)?.ok_or_else(|| {
            Failure::refused(format!("{} is not registered as a release", manifest.adapter_id))
                .hint("publish adapters with train-lora")
        })?;
        if registered.digest != manifest.digest {
            return Err(Failure::refused(format!(
                "{} is not the release that was published: its digest differs from the store's",
                folder.display()
            ))
            .hint("the folder was replaced after it was published: train again"));
        }
        let banned = registered.status == "bad";
        if banned && !force {
            let why = registered.reason.as_deref().unwrap_or("no reason was recorded");
            return Err(Failure::refused(format!("{} is banned: {why}", manifest.adapter_id))
                .hint("train again, or insist with --force: gate and watch still decide"));
        }
        let live = pointer::read(store.read(), &ctx.config.target)?;
        let already_live = live.effective(&ctx.clock) == Some(manifest.adapter_id.as_str());
        let set = &ctx.config.deploy.gate_set;
        let (gate_set_version, items) = gate_set(store, set)?;
        Ok(Self {
            candidate: manifest.adapter_id,
            digest: manifest.digest,
            base_fingerprint: manifest.base_fingerprint,
            folder,
            live,
            already_live,
            lifts_ban: banned,
            gate_set: set.clone(),
            gate_set_version,
            gate_items: items.len(),
            watch_s: ctx.config.deploy.watch_s,
            rule: ctx.config.deploy.rule,
            items,
        })
    }

    /// What is live now; `None` for the base model.
    pub(crate) fn incumbent<'a>(&'a self, ctx: &Ctx) -> Option<&'a str> {
        self.live.effective(&ctx.clock)
    }
}

/// The plan alone, for `--dry-run`: no lock is taken and no file is made.
pub(crate) fn dry(ctx: &Ctx, wanted: &str, force: bool) -> Result<Plan, Failure> {
    whole_release(ctx, wanted)?;
    let store = Store::open_read_only(&ctx.paths.store())?.ok_or_else(|| {
        Failure::refused("this home has no store yet: nothing was published here")
            .hint("train an adapter with train-lora first")
    })?;
    Plan::make(ctx, &store, wanted, force)
}

/// Finds the release and checks every file of it.
fn whole_release(ctx: &Ctx, wanted: &str) -> Result<(PathBuf, Manifest), Failure> {
    if wanted == "loras/latest" && !ctx.paths.loras().join("latest").exists() {
        return Err(Failure::nothing("there is no release to deploy: loras/latest does not exist")
            .hint("train one with train-lora, or name a folder under loras/"));
    }
    let folder = release::resolve(&ctx.paths, wanted)?;
    let loras = std::fs::canonicalize(ctx.paths.loras()).or_fail(|| "cannot resolve loras/".into())?;
    let manifest = release::verify(&folder)?;
    check_manifest(&folder, &manifest)?;
    if folder.parent() != Some(&loras) {
        return Err(Failure::refused(format!("{} is not a release of this home", folder.display()))
            .hint(format!("releases lie in {}; publish them with train-lora", loras.display())));
    }
    Ok((folder, manifest))
}

/// A manifest names the two PEFT files, nothing outside of its folder, and the folder itself.
fn check_manifest(folder: &Path, manifest: &Manifest) -> Result<(), Failure> {
    let refuse = |what: String| {
        Err(Failure::refused(format!("{}: {what}", folder.join(release::MANIFEST).display()))
            .hint("the release was changed after it was published: train again"))
    };
    for name in [ADAPTER_CONFIG, ADAPTER_MODEL] {
        if !manifest.files.contains_key(name) {
            return refuse(format!("it does not list {name}"));
        }
    }
    let plain = |name: &str| Path::new(name).file_name().is_some_and(|file| file == name);
    if let Some(name) = manifest.files.keys().find(|name| !plain(name)) {
        return refuse(format!("`{name}` is not a plain file name"));
    }
    if folder.file_name().is_none_or(|name| name != manifest.adapter_id.as_str()) {
        return refuse(format!("it belongs to {}", manifest.adapter_id));
    }
    if manifest.base_fingerprint.is_empty() {
        return refuse("it names no base model".into());
    }
    Ok(())
}

/// The version and the items of the gate set, every check read.
fn gate_set(store: &Store, name: &str) -> Result<(i64, Vec<GateItem>), Failure> {
    let how = "register one: memory evalset add NAME FILE.jsonl --purpose gate";
    let set = evalset::list(store.read())?.into_iter().find(|set| set.name == name).ok_or_else(|| {
        Failure::refused(format!("there is no gate set `{name}`: nothing can prove the adapter better"))
            .hint(how)
    })?;
    if set.purpose != Purpose::Gate.name() {
        let message = format!("the set `{name}` is registered for {}, not for the gate", set.purpose);
        return Err(Failure::refused(message).hint(how));
    }
    let items = evalset::items(store.read(), name)?.unwrap_or_default();
    if items.is_empty() {
        return Err(Failure::refused(format!("the gate set `{name}` is empty")).hint(how));
    }
    let items = items.into_iter().map(|item| gate_item(name, item)).collect::<Result<_, _>>()?;
    Ok((set.version, items))
}

fn gate_item(set: &str, item: EvalItem) -> Result<GateItem, Failure> {
    let EvalItem { id, messages, reference, check } = item;
    let check = match check {
        // An item without a check is right when it means the same as its reference.
        Value::Null => Check::Exact { strict: false },
        check => serde_json::from_value(check).or_exit(nightshift_core::Exit::Refused, || {
            format!("the check of item `{id}` of `{set}` is unusable")
        })?,
    };
    if reference.is_none() && check.needs_reference() {
        return Err(Failure::refused(format!("item `{id}` of `{set}` has no reference to compare with")));
    }
    Ok(GateItem { id, messages, reference, check })
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let live = self.live.adapter_id.as_deref().unwrap_or("the base model alone");
        if self.already_live {
            return write!(f, "{} is live already: nothing to do", self.candidate);
        }
        let ban = if self.lifts_ban { "\n  lift its ban (--force)" } else { "" };
        write!(
            f,
            "deploy {} (now live: {live}, generation {}){ban}\n  gate: {} items of `{}` (version {}), candidate against incumbent\n  switch to generation {}, watch {} s by the rule {}, then keep it or take it back",
            self.candidate,
            self.live.generation,
            self.gate_items,
            self.gate_set,
            self.gate_set_version,
            self.live.generation + 1,
            self.watch_s,
            match self.rule {
                Rule::Evalue => "evalue",
                Rule::Fixed => "fixed",
            },
        )
    }
}
