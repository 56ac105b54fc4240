//! The tensors of a model folder as one set, whichever way they are split into files.
//!
//! `model.safetensors`, or the files that `model.safetensors.index.json` names. A layer may span
//! files. Names in the index are file names, never paths. Pickle files are never opened.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use safetensors::Dtype;
use serde_json::Value;

use crate::error::{ModelError, Result};
use crate::json_file::JsonFile;
use crate::tensor_file::{Entry, TensorFile};

/// Name of the single weights file.
pub(crate) const WEIGHTS_FILE: &str = "model.safetensors";
pub(crate) const INDEX_FILE: &str = "model.safetensors.index.json";

/// Every weights file of a folder, headers checked.
#[derive(Debug)]
pub(crate) struct Shards {
    dir: PathBuf,
    files: Vec<TensorFile>,
    /// Tensor name to position in `files`.
    places: BTreeMap<String, usize>,
}

impl Shards {
    /// Opens the weights of a model folder.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let single = dir.join(WEIGHTS_FILE);
        if single.exists() {
            let file = TensorFile::open(&single)?;
            let places = file.entries().keys().map(|name| (name.clone(), 0)).collect();
            return Ok(Self { dir: dir.to_owned(), files: vec![file], places });
        }
        match JsonFile::read_optional(&dir.join(INDEX_FILE))? {
            Some(index) => Self::from_index(dir, &index),
            None => Err(no_weights(dir, single)),
        }
    }

    /// All tensor names, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        self.places.keys().cloned().collect()
    }

    /// Whether there is a tensor of this name.
    pub(crate) fn names_contain(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// Every weights file with the names of its tensors, sorted.
    pub(crate) fn files(&self) -> Vec<(&Path, Vec<&str>)> {
        self.files
            .iter()
            .map(|file| (file.path(), file.entries().keys().map(String::as_str).collect()))
            .collect()
    }

    /// Type and shape of a tensor.
    pub(crate) fn entry(&self, name: &str) -> Result<&Entry> {
        let file = &self.files[self.place(name)?];
        file.entries().get(name).ok_or_else(|| ModelError::tensor(file.path(), name, "missing"))
    }

    /// The file that holds a tensor.
    pub(crate) fn path_of(&self, name: &str) -> &Path {
        self.places.get(name).map_or(&self.dir, |&at| self.files[at].path())
    }

    /// The values of a tensor of exactly this shape, as f32.
    pub(crate) fn read_f32(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.check_shape(name, shape)?;
        let at = self.place(name)?;
        self.files[at].read_f32(name)
    }

    /// As [`Shards::read_f32`], piece by piece, in order.
    pub(crate) fn for_each_f32(
        &mut self,
        name: &str,
        shape: &[usize],
        take: impl FnMut(&[f32]),
    ) -> Result<()> {
        self.check_shape(name, shape)?;
        let at = self.place(name)?;
        self.files[at].for_each_f32(name, take)
    }

    /// The bytes of a U8 tensor of exactly this shape.
    pub(crate) fn read_bytes(&mut self, name: &str, shape: &[usize]) -> Result<Vec<u8>> {
        self.check_shape(name, shape)?;
        let dtype = self.entry(name)?.dtype;
        if dtype != Dtype::U8 {
            return Err(ModelError::tensor(
                self.path_of(name),
                name,
                format!("type {dtype:?} instead of U8"),
            ));
        }
        let mut bytes = Vec::with_capacity(shape.iter().product());
        self.for_each_chunk(name, |chunk| {
            bytes.extend_from_slice(chunk);
            Ok(())
        })?;
        Ok(bytes)
    }

    fn check_shape(&self, name: &str, shape: &[usize]) -> Result<()> {
        let found = &self.entry(name)?.shape;
        if found == shape {
            return Ok(());
        }
        let problem = format!("shape {found:?}, but the config asks for {shape:?}");
        Err(ModelError::tensor(self.path_of(name), name, problem))
    }

    /// Hands the raw bytes of a tensor to `take`, in order.
    pub(crate) fn for_each_chunk(&mut self, name: &str, take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let at = self.place(name)?;
        self.files[at].for_each_chunk(name, take)
    }

    fn place(&self, name: &str) -> Result<usize> {
        self.places.get(name).copied().ok_or_else(|| ModelError::tensor(&self.dir, name, "missing"))
    }

    fn from_index(dir: &Path, index: &JsonFile) -> Result<Self> {
        const KEY: &str = "weight_map";
        let map = match index.get(KEY) {
            Some(Value::Object(map)) if !map.is_empty() => map,
            Some(other) => return Err(index.wrong(KEY, "an object that names tensors", other)),
            None => return Err(index.missing(KEY)),
        };
        let (mut files, mut places) = (Vec::<TensorFile>::new(), BTreeMap::new());
        let mut positions: BTreeMap<&str, usize> = BTreeMap::new();
        for (tensor, value) in map {
            let name = file_name(index, &format!("{KEY}.{tensor}"), value)?;
            let at = *positions.entry(name).or_insert(files.len());
            if at == files.len() {
                files.push(open_shard(dir.join(name), tensor)?);
            }
            if !files[at].entries().contains_key(tensor) {
                let problem = format!("{INDEX_FILE} says it is in this file, but it is not");
                return Err(ModelError::tensor(files[at].path(), tensor.as_str(), problem));
            }
            places.insert(tensor.clone(), at);
        }
        // A tensor that only the file knows would be ignored by other readers; it is reported later
        // as unexpected, so it must be in the set.
        for (at, file) in files.iter().enumerate() {
            for name in file.entries().keys() {
                if *places.entry(name.clone()).or_insert(at) != at {
                    return Err(ModelError::tensor(file.path(), name.as_str(), "is in two files"));
                }
            }
        }
        Ok(Self { dir: dir.to_owned(), files, places })
    }
}

fn open_shard(path: PathBuf, tensor: &str) -> Result<TensorFile> {
    if path.exists() {
        return TensorFile::open(&path);
    }
    let hint = format!("{INDEX_FILE} says it holds tensor `{tensor}`");
    Err(ModelError::MissingFile { path, hint })
}

fn file_name<'a>(index: &JsonFile, key: &str, value: &'a Value) -> Result<&'a str> {
    let name = value.as_str().ok_or_else(|| index.wrong(key, "a file name", value))?;
    if is_plain_name(name) {
        return Ok(name);
    }
    Err(index.error(key, format!("`{name}` is not a plain file name inside the model folder")))
}

fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
        && !name.contains(['\\', '\0'])
}

fn no_weights(dir: &Path, single: PathBuf) -> ModelError {
    let pickled = ["pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth"];
    if let Some(path) = pickled.iter().map(|name| dir.join(name)).find(|path| path.exists()) {
        let problem = "pickled weights can run code when opened and are not read; \
                       convert the model to safetensors";
        return ModelError::malformed(&path, problem);
    }
    let hint = format!("neither it nor {INDEX_FILE} is in the model folder");
    ModelError::MissingFile { path: single, hint }
}
