//! Releases: immutable adapter folders `loras/<adapter-id>/`.
//!
//! An adapter is named by its date and the first 12 hex digits of its content digest. The digest
//! covers `adapter_config.json` and `adapter_model.safetensors` only, so equal adapters are one
//! release, and a ban (status `bad`) goes by digest. A folder is never written again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::clock::rfc3339;
use crate::ctx::Ctx;
use crate::error::{Failure, OrFail};
use crate::paths::Paths;
use crate::random::{hex, sha256_hex};
use crate::store::Store;
use crate::{events, files};

/// PEFT's configuration file.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// PEFT's tensor file.
pub const ADAPTER_MODEL: &str = "adapter_model.safetensors";
/// Our manifest.
pub const MANIFEST: &str = "manifest.json";

/// `manifest.json` of a release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Grows when the meaning of a field changes.
    pub format_version: u32,
    /// Name of the folder.
    pub adapter_id: String,
    /// Content digest.
    pub digest: String,
    /// SHA-256 of every other file in the folder.
    pub files: BTreeMap<String, String>,
    /// Fingerprint of the base model that it belongs to.
    pub base_fingerprint: String,
    /// Digest of the rows it was trained on.
    pub dataset_sha256: Option<String>,
    /// Adapters it was continued from.
    pub parents: Vec<String>,
    /// LoRA rank.
    pub rank: usize,
    /// Version of the tool that wrote it.
    pub tool_version: String,
    /// When (RFC 3339).
    pub created_at: String,
}

/// What a trainer knows when it publishes.
#[derive(Debug, Clone)]
pub struct NewRelease {
    /// Fingerprint of the base.
    pub base_fingerprint: String,
    /// Digest of the rows.
    pub dataset_sha256: Option<String>,
    /// Adapters it was continued from.
    pub parents: Vec<String>,
    /// LoRA rank.
    pub rank: usize,
    /// More facts for the store (counts, losses).
    pub facts: Value,
}

/// A row of the table `releases`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Release {
    /// Name of the folder.
    pub adapter_id: String,
    /// Content digest.
    pub digest: String,
    /// When (RFC 3339).
    pub created_at: String,
    /// Fingerprint of the base.
    pub base_fingerprint: String,
    /// new, good, bad or gone.
    pub status: String,
    /// Why it is bad.
    pub reason: Option<String>,
}

/// SHA-256 over name, length and bytes of the two PEFT files.
pub fn digest_dir(dir: &Path) -> Result<String, Failure> {
    let mut hasher = Sha256::new();
    for name in [ADAPTER_CONFIG, ADAPTER_MODEL] {
        let bytes = files::read(&dir.join(name))
            .map_err(|error| Failure::from(error).with_exit(crate::Exit::Refused))?;
        hasher.update(name.as_bytes());
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(&bytes);
    }
    Ok(hex(&hasher.finalize()))
}

/// The name of an adapter made at `now`.
pub fn adapter_id(now: Timestamp, digest: &str) -> String {
    format!("{}-{}", now.strftime("%Y%m%d"), &digest[..12.min(digest.len())])
}

/// Publishes a staged folder (inside `loras/`, name starting with `.tmp-`) as an immutable release,
/// registers it and moves `loras/latest`. The same content published again is the same release.
pub fn publish(ctx: &Ctx, store: &mut Store, staged: &Path, new: &NewRelease) -> Result<Manifest, Failure> {
    let digest = digest_dir(staged)?;
    let now = ctx.clock.now();
    if let Some(known) = by_digest(store.read(), &digest)? {
        let folder = ctx.paths.loras().join(&known.adapter_id);
        if folder.exists() {
            files::remove_dir(staged)?;
            point_latest(&ctx.paths, &known.adapter_id)?;
            return load_manifest(&folder);
        }
    }
    let mut hashes = BTreeMap::new();
    for path in files::list(staged)? {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name != MANIFEST {
            hashes.insert(name, sha256_hex(&files::read(&path)?));
        }
    }
    let manifest = Manifest {
        format_version: 1,
        adapter_id: adapter_id(now, &digest),
        digest,
        files: hashes,
        base_fingerprint: new.base_fingerprint.clone(),
        dataset_sha256: new.dataset_sha256.clone(),
        parents: new.parents.clone(),
        rank: new.rank,
        tool_version: env!("CARGO_PKG_VERSION").into(),
        created_at: rfc3339(now),
    };
    let text = serde_json::to_vec_pretty(&manifest).or_fail(|| "the manifest cannot be written".into())?;
    files::write_atomic(&staged.join(MANIFEST), &text)?;
    let folder = ctx.paths.loras().join(&manifest.adapter_id);
    ctx.crash.reach("train.staged", "");
    if folder.exists() {
        // A crash between the rename and the row: the same bytes under the same name.
        verify(&folder)?;
        files::remove_dir(staged)?;
    } else {
        files::publish_dir(staged, &folder)?;
    }
    ctx.crash.reach("train.published", "");
    store.write(|tx| register(tx, now, &manifest, &new.facts))?;
    point_latest(&ctx.paths, &manifest.adapter_id)?;
    Ok(manifest)
}

fn point_latest(paths: &Paths, adapter_id: &str) -> Result<(), Failure> {
    Ok(files::replace_symlink(Path::new(adapter_id), &paths.loras().join("latest"))?)
}

fn register(tx: &Transaction<'_>, now: Timestamp, manifest: &Manifest, facts: &Value) -> Result<(), Failure> {
    let inserted = tx.execute(
        "INSERT INTO releases (adapter_id, digest, created_at, base_fingerprint, dataset_sha256, rank, status, facts)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'new', ?7)
         ON CONFLICT (digest) DO UPDATE SET adapter_id = excluded.adapter_id,
            status = CASE status WHEN 'gone' THEN 'new' ELSE status END",
        params![
            manifest.adapter_id,
            manifest.digest,
            manifest.created_at,
            manifest.base_fingerprint,
            manifest.dataset_sha256,
            manifest.rank as i64,
            facts.to_string()
        ],
    )?;
    if inserted > 0 {
        let payload = json!({"adapter_id": manifest.adapter_id, "digest": manifest.digest, "facts": facts});
        events::publish(tx, now, events::ADAPTER_PUBLISHED, &manifest.adapter_id, &payload)?;
    }
    Ok(())
}

/// Registers release folders whose row a crash lost, and removes strays. The caller holds the lock `loras`.
pub fn adopt_orphans(ctx: &Ctx, store: &mut Store) -> Result<usize, Failure> {
    let loras = ctx.paths.loras();
    if !loras.exists() {
        return Ok(0);
    }
    let mut adopted = 0;
    for folder in files::list(&loras)? {
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name == "latest" || name == "current" || name.starts_with('.') || !folder.join(MANIFEST).exists() {
            continue;
        }
        let manifest = load_manifest(&folder)?;
        if by_digest(store.read(), &manifest.digest)?.is_none() && verify(&folder).is_ok() {
            store.write(|tx| register(tx, ctx.clock.now(), &manifest, &json!({"adopted": true})))?;
            adopted += 1;
        }
    }
    Ok(adopted)
}

/// Reads `manifest.json`; a folder without one is refused.
pub fn load_manifest(dir: &Path) -> Result<Manifest, Failure> {
    let path = dir.join(MANIFEST);
    let bytes = files::read(&path).map_err(|error| Failure::from(error).with_exit(crate::Exit::Refused))?;
    serde_json::from_slice(&bytes)
        .or_exit(crate::Exit::Refused, || format!("{} is not a release manifest", path.display()))
}

/// Checks every file of a release against its manifest, and the digest.
pub fn verify(dir: &Path) -> Result<Manifest, Failure> {
    let manifest = load_manifest(dir)?;
    for (name, expected) in &manifest.files {
        let path = dir.join(name);
        let bytes =
            files::read(&path).map_err(|error| Failure::from(error).with_exit(crate::Exit::Refused))?;
        if sha256_hex(&bytes) != *expected {
            return Err(Failure::refused(format!("{} differs from its manifest", path.display()))
                .hint("the release was changed after it was published: train again"));
        }
    }
    if digest_dir(dir)? != manifest.digest {
        return Err(Failure::refused(format!("{}: the digest differs from the manifest", dir.display())));
    }
    Ok(manifest)
}

/// The release folder meant by an id, a path, or a link such as `loras/latest`.
pub fn resolve(paths: &Paths, wanted: &str) -> Result<PathBuf, Failure> {
    let by_name = paths.loras().join(wanted);
    let candidates = [PathBuf::from(wanted), paths.home().join(wanted), by_name];
    let found = candidates.iter().find(|path| path.join(ADAPTER_CONFIG).exists());
    let path = found.ok_or_else(|| {
        Failure::refused(format!("there is no adapter at `{wanted}`"))
            .hint("train one with train-lora, or name a folder under loras/")
    })?;
    std::fs::canonicalize(path).or_fail(|| format!("cannot resolve {}", path.display()))
}

fn read_release(row: &rusqlite::Row<'_>) -> rusqlite::Result<Release> {
    Ok(Release {
        adapter_id: row.get(0)?,
        digest: row.get(1)?,
        created_at: row.get(2)?,
        base_fingerprint: row.get(3)?,
        status: row.get(4)?,
        reason: row.get(5)?,
    })
}

const SELECT: &str = "SELECT adapter_id, digest, created_at, base_fingerprint, status, reason FROM releases";

/// The release with this digest.
pub fn by_digest(connection: &Connection, digest: &str) -> Result<Option<Release>, Failure> {
    Ok(connection
        .prepare_cached(&format!("{SELECT} WHERE digest = ?1"))?
        .query_row([digest], read_release)
        .optional()?)
}

/// The release with this name.
pub fn by_id(connection: &Connection, adapter_id: &str) -> Result<Option<Release>, Failure> {
    Ok(connection
        .prepare_cached(&format!("{SELECT} WHERE adapter_id = ?1"))?
        .query_row([adapter_id], read_release)
        .optional()?)
}

/// Every release, newest first.
pub fn list(connection: &Connection) -> Result<Vec<Release>, Failure> {
    let mut statement = connection.prepare(&format!("{SELECT} ORDER BY created_at DESC, adapter_id DESC"))?;
    let rows = statement.query_map([], read_release)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Marks a release `good`, `bad` (banned by digest) or `gone`.
pub fn mark(
    tx: &Transaction<'_>,
    adapter_id: &str,
    status: &str,
    reason: Option<&str>,
) -> Result<(), Failure> {
    tx.execute(
        "UPDATE releases SET status = ?2, reason = ?3 WHERE adapter_id = ?1",
        params![adapter_id, status, reason],
    )?;
    Ok(())
}
