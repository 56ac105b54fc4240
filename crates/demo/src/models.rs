//! The demo's models, made once and cached: the student from scratch, the council as three fine-tunes of it.
//!
//! The cache is a folder named by a digest of everything that the weights follow from: seed, recipes, shape and the
//! rows themselves. It appears by one rename when all four models are whole, so a half-made one is never used.

use std::path::{Path, PathBuf};

use nightshift_core::random::sha256_hex;
use nightshift_core::{Ctx, Failure, OrFail, env, files};
use nightshift_model::{Model, ModelConfig, Tokenizer};

use crate::fit::{Fitted, Recipe, fit};
use crate::material::Material;
use crate::questions::Sets;
use crate::tokenizer::{self, END_TOKEN, Role, VOCABULARY};
use crate::world::{Size, World};

/// Names of the council members, and of their folders.
pub const MEMBERS: [&str; 3] = ["atlas", "gazette", "almanac"];
/// Name of the student's folder.
pub const STUDENT: &str = "student";
/// Threads of a training. Fixed, because the result depends on it.
const PARTS: usize = 2;
/// Width, width inside the MLP, layers and heads of every model.
const SHAPE: [usize; 4] = [128, 344, 4, 4];
/// Grows when weights of the same rows would come out differently.
const FORMAT: u32 = 2;

/// How student and members are trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// From scratch.
    pub student: Recipe,
    /// From the student.
    pub member: Recipe,
}

impl Plan {
    /// The plan for a world of this size.
    pub fn of(size: Size) -> Self {
        let (student, member, member_rows) =
            if size == Size::QUICK { (1100, 400, 16) } else { (2000, 350, 32) };
        // A higher rate is quicker and leaves a student that learns less by LoRA afterwards.
        Self {
            student: Recipe { steps: student, rows: 32, learning_rate: 2e-3, warmup: 50 },
            member: Recipe { steps: member, rows: member_rows, learning_rate: 1e-3, warmup: 20 },
        }
    }
}

/// The folder with the four models.
#[derive(Debug, Clone)]
pub struct Models {
    /// It holds [`STUDENT`] and [`MEMBERS`].
    pub dir: PathBuf,
    /// Whether they were in the cache.
    pub cached: bool,
    /// Seconds of training, or of finding them.
    pub seconds: f64,
}

impl Models {
    /// Copies a model's folder.
    pub fn copy(&self, name: &str, to: &Path) -> Result<(), Failure> {
        files::create_dir(to)?;
        for path in files::list(&self.dir.join(name))? {
            files::copy(&path, &to.join(path.file_name().unwrap_or_default()))?;
        }
        Ok(())
    }
}

/// The cache that is used unless another one is named: `$XDG_CACHE_HOME/nightshift-demo`, else
/// `~/.cache/nightshift-demo`.
pub fn default_cache(ctx: &Ctx) -> Result<PathBuf, Failure> {
    let base = match (ctx.env.get(env::XDG_CACHE_HOME), ctx.env.get(env::HOME)) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) => Path::new(home).join(".cache"),
        (None, None) => {
            return Err(Failure::usage("neither XDG_CACHE_HOME nor HOME is set").hint("give --cache-dir DIR"));
        }
    };
    Ok(base.join("nightshift-demo"))
}

/// The models of a world: from the cache, or trained now and put there.
pub fn prepare(
    ctx: &Ctx,
    seed: u64,
    (world, sets, size): (&World, &Sets, Size),
    (plan, cache): (Plan, &Path),
) -> Result<Models, Failure> {
    let started = ctx.clock.elapsed();
    let material = Material::student(seed, world, sets, size);
    let members: Vec<Material> =
        (0..MEMBERS.len()).map(|member| Material::member(seed, member, world, sets, size)).collect();
    let dir = cache.join(digest(seed, (plan, size), &material, &members));
    let found = |cached| {
        let seconds = (ctx.clock.elapsed() - started).as_secs_f64();
        Models { dir: dir.clone(), cached, seconds }
    };
    if dir.is_dir() {
        return Ok(found(true));
    }
    files::create_dir(cache)?;
    let staged = tempfile::Builder::new()
        .prefix(".tmp-")
        .tempdir_in(cache)
        .or_fail(|| format!("cannot write into the cache {}", cache.display()))?;
    let text = tokenizer::train(&material)?;
    let tokenizer = parse(&text)?;
    let mut student = Model::random(shape(&tokenizer)?, seed);
    train(ctx, "student", &mut student, &tokenizer, (&material, plan.student, seed))?;
    save(&staged.path().join(STUDENT), &student, &text, Role::Student)?;
    for (index, (name, material)) in MEMBERS.iter().zip(&members).enumerate() {
        let mut member = student.clone();
        let own_seed = seed.wrapping_mul(31).wrapping_add(index as u64 + 1);
        let what = format!("council member {name}");
        train(ctx, &what, &mut member, &tokenizer, (material, plan.member, own_seed))?;
        save(&staged.path().join(name), &member, &text, Role::Member)?;
    }
    for name in MEMBERS.iter().chain([&STUDENT]) {
        files::sync_dir(&staged.path().join(name))?;
    }
    match files::publish_dir(staged.path(), &dir) {
        // Another demo was faster; its models are the same.
        Err(_) if dir.is_dir() => {}
        result => result?,
    }
    Ok(found(false))
}

fn digest(seed: u64, (plan, size): (Plan, Size), student: &Material, members: &[Material]) -> String {
    let what =
        format!("{FORMAT} {seed} {plan:?} {size:?} {SHAPE:?} {VOCABULARY} {PARTS} {student:?} {members:?}");
    sha256_hex(what.as_bytes())[..16].to_owned()
}

fn parse(text: &str) -> Result<Tokenizer, Failure> {
    let failed = || "the demo's tokenizer cannot be read back".into();
    let bare = Tokenizer::parse(PathBuf::from("tokenizer.json"), text, Vec::new()).or_fail(failed)?;
    let end = bare.token_id(END_TOKEN).into_iter().collect();
    Tokenizer::parse(PathBuf::from("tokenizer.json"), text, end).or_fail(failed)
}

/// The shape of every model of the demo: 0.9 million weights.
fn shape(tokenizer: &Tokenizer) -> Result<ModelConfig, Failure> {
    let [hidden_size, intermediate_size, num_layers, num_heads] = SHAPE;
    let end =
        tokenizer.token_id(END_TOKEN).ok_or_else(|| Failure::failed("the tokenizer has no end token"))?;
    let plain = ModelConfig::llama(
        hidden_size,
        intermediate_size,
        num_layers,
        [num_heads; 2],
        tokenizer.vocab_size(),
    );
    Ok(ModelConfig { max_position_embeddings: 1024, eos_token_ids: vec![end], ..plain })
}

fn train(
    ctx: &Ctx,
    what: &str,
    model: &mut Model,
    tokenizer: &Tokenizer,
    (material, recipe, seed): (&Material, Recipe, u64),
) -> Result<(), Failure> {
    let started = ctx.clock.elapsed();
    let bar = ctx.printer.bar(recipe.steps as u64, what);
    let each_step = || bar.inc(1);
    let Fitted { tokens, loss } =
        fit(model, tokenizer, material, recipe, (seed, PARTS), (&ctx.stop, &each_step))?;
    bar.finish_and_clear();
    let seconds = (ctx.clock.elapsed() - started).as_secs_f64();
    ctx.printer.note(&format!(
        "  {what}: {} weights, {} steps, {tokens} tokens, loss {loss:.3}, {seconds:.0} s",
        model.parameters(),
        recipe.steps
    ));
    Ok(())
}

fn save(dir: &Path, model: &Model, tokenizer_json: &str, role: Role) -> Result<(), Failure> {
    files::create_dir(dir)?;
    model.save(dir).or_fail(|| format!("cannot save the model in {}", dir.display()))?;
    tokenizer::write(dir, tokenizer_json, role)
}

/// A model that trains in a moment, for tests.
#[cfg(test)]
pub(crate) fn tiny(tokenizer: &Tokenizer) -> ModelConfig {
    let config = shape(tokenizer).expect("the tokenizer has an end token");
    ModelConfig {
        hidden_size: 32,
        intermediate_size: 64,
        num_layers: 1,
        num_heads: 2,
        num_kv_heads: 2,
        head_dim: 16,
        sliding_window: vec![None],
        ..config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_made_once_and_a_half_made_cache_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let ctx = Ctx::for_test(dir.path());
        let world = World::new(1, Size::QUICK);
        let sets = Sets::new(1, &world, Size::QUICK);
        let recipe = Recipe { steps: 2, rows: 4, learning_rate: 1e-3, warmup: 1 };
        let plan = Plan { student: recipe, member: recipe };
        let prepare =
            |seed, plan| prepare(&ctx, seed, (&world, &sets, Size::QUICK), (plan, dir.path())).unwrap();
        // What a killed demo leaves behind.
        files::create_dir(&dir.path().join(".tmp-dead/student")).unwrap();
        let first = prepare(1, plan);
        assert!(!first.cached && first.dir.parent() == Some(dir.path()));
        for name in MEMBERS.iter().chain([&STUDENT]) {
            assert!(Model::load(&first.dir.join(name)).is_ok(), "{name} is whole");
        }
        let weights = files::read(&first.dir.join("atlas/model.safetensors")).unwrap();
        assert_ne!(weights, files::read(&first.dir.join("gazette/model.safetensors")).unwrap());
        assert!(prepare(1, plan).cached);
        let other = Plan { member: Recipe { steps: 3, ..recipe }, ..plan };
        assert!(!prepare(1, other).cached, "another recipe, other models");
        files::remove_dir(&first.dir).unwrap();
        let again = prepare(1, plan);
        assert!(!again.cached);
        assert_eq!(weights, files::read(&again.dir.join("atlas/model.safetensors")).unwrap(), "same bytes");
    }
}
