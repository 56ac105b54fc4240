//! Which file is the store: `--db`, else the home's own, else an original's `data/learning.db`.

use std::path::{Path, PathBuf};

use clap::Args;
use nightshift_core::store::Store;
use nightshift_core::{Ctx, Failure, files};

/// The option that names another store.
#[derive(Debug, Clone, Default, Args)]
pub struct Db {
    /// The store [default: the home's learning.db; an original's data/learning.db if the home has none]
    #[arg(long, value_name = "FILE")]
    pub db: Option<PathBuf>,
}

/// The file of the store, there or not.
pub fn locate(ctx: &Ctx, db: &Db) -> PathBuf {
    if let Some(path) = &db.db {
        return path.clone();
    }
    let own = ctx.paths.store();
    let original = ctx.paths.home().join("data").join("learning.db");
    if !own.exists() && original.exists() { original } else { own }
}

/// Opens the store for writing, making the home's own when there is none. A file of the original is backed up and
/// gains what it lacks; the mode is 0600 from then on.
pub fn open(ctx: &Ctx, db: &Db) -> Result<Store, Failure> {
    let path = locate(ctx, db);
    let store = Store::open(&path)?;
    files::make_private(&path)?;
    Ok(store)
}

/// Opens a store that is there, for a question. Exit 3 when there is none yet, 1 when `--db` names nothing.
pub(super) fn open_existing(ctx: &Ctx, db: &Db) -> Result<Store, Failure> {
    let path = locate(ctx, db);
    if !path.exists() {
        return Err(missing(&path, db.db.is_some()));
    }
    open(ctx, db)
}

fn missing(path: &Path, named: bool) -> Failure {
    let message = format!("there is no store at {}", path.display());
    if named {
        Failure::failed(message).hint("name an existing learning.db with --db")
    } else {
        Failure::nothing(message).hint("fill one with: analyze-logs analyze --store")
    }
}
