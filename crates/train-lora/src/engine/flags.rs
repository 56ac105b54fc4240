//! Which trainer: the keys `engine*` of the section `train`, and their flags.

use clap::ValueEnum;
use nightshift_core::Failure;
use nightshift_core::config::{Engine, Train};

/// Who trains.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
#[command(next_help_heading = "Another trainer (section `train`; see docs/engines.md)")]
pub struct EngineFlags {
    /// Who trains [default: builtin]
    #[arg(long, value_name = "NAME")]
    pub engine: Option<EngineName>,
    /// Program and arguments of `--engine command`; {job}, {out} and {base} become folders. Split into words as a
    /// shell does, but no shell runs
    #[arg(long, value_name = "WORDS")]
    pub engine_command: Option<String>,
    /// Minutes the program may take [default: 120]
    #[arg(long, value_name = "X")]
    pub engine_minutes: Option<f64>,
    /// Minutes without output or progress after which it counts as stuck [default: 15]
    #[arg(long, value_name = "X")]
    pub engine_stale_minutes: Option<f64>,
    /// Further environment variables that it may see, separated by commas; `NAME` or `PREFIX*`
    #[arg(long, value_name = "NAMES", value_delimiter = ',', action = clap::ArgAction::Set, num_args = 1)]
    pub engine_env: Option<Vec<String>>,
}

/// Trainers by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EngineName {
    /// This program
    Builtin,
    /// An external program
    Command,
}

/// An external trainer, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EngineSettings {
    /// Program and arguments, with placeholders.
    pub(crate) command: Vec<String>,
    /// Seconds it may take.
    pub(crate) wall_s: f64,
    /// Seconds without any sign of life.
    pub(crate) stale_s: f64,
    /// Names of further variables.
    pub(crate) env: Vec<String>,
}

impl EngineFlags {
    /// Lays the flags over the config.
    pub(crate) fn overlay(&self, train: &mut Train) -> Result<(), Failure> {
        if let Some(engine) = self.engine {
            train.engine = match engine {
                EngineName::Builtin => Engine::Builtin,
                EngineName::Command => Engine::Command,
            };
        }
        if let Some(words) = &self.engine_command {
            train.engine_command = shlex::split(words).ok_or_else(|| {
                Failure::usage(format!("--engine-command: a quote is not closed in `{words}`"))
            })?;
        }
        train.engine_minutes = self.engine_minutes.unwrap_or(train.engine_minutes);
        train.engine_stale_minutes = self.engine_stale_minutes.unwrap_or(train.engine_stale_minutes);
        if let Some(names) = &self.engine_env {
            train.engine_env.clone_from(names);
        }
        Ok(())
    }
}

impl EngineSettings {
    /// The external trainer that the settings name, if any.
    pub(crate) fn new(train: &Train) -> Result<Option<Self>, Failure> {
        for (name, minutes) in
            [("engine_minutes", train.engine_minutes), ("engine_stale_minutes", train.engine_stale_minutes)]
        {
            // A year of minutes: more would overflow a duration somewhere.
            if !(minutes > 0.0 && minutes <= 525_600.0) {
                return Err(Failure::usage(format!(
                    "train.{name} is {minutes}, but it must be above 0 minutes"
                )));
            }
        }
        if train.engine == Engine::Builtin {
            return Ok(None);
        }
        if train.engine_command.first().is_none_or(|program| program.trim().is_empty()) {
            return Err(Failure::usage(
                "train.engine is `command`, but train.engine_command names no program",
            )
            .hint("write engine_command: [python3, train.py, \"{job}\", \"{out}\"]"));
        }
        if let Some((word, name)) =
            train.engine_command.iter().find_map(|word| unknown_placeholder(word).map(|name| (word, name)))
        {
            return Err(Failure::usage(format!("`{name}` in `{word}` is no placeholder"))
                .hint("the placeholders are {job}, {out} and {base}; write {{ and }} for braces"));
        }
        Ok(Some(Self {
            command: train.engine_command.clone(),
            wall_s: 60.0 * train.engine_minutes,
            stale_s: 60.0 * train.engine_stale_minutes,
            env: train.engine_env.clone(),
        }))
    }

    /// The command with its placeholders filled.
    pub(crate) fn argv(&self, job: &str, out: &str, base: &str) -> Vec<String> {
        let fill = |word: &String| {
            pieces(word)
                .into_iter()
                .map(|piece| match piece {
                    Piece::Text(text) => text,
                    Piece::Name("job") => job,
                    Piece::Name("out") => out,
                    Piece::Name(_) => base,
                })
                .collect()
        };
        self.command.iter().map(fill).collect()
    }
}

/// A part of a word.
enum Piece<'a> {
    Text(&'a str),
    Name(&'a str),
}

/// Splits `a{job}b` into its parts; `{{` and `}}` are braces, so JSON can be passed.
fn pieces(word: &str) -> Vec<Piece<'_>> {
    let (mut list, mut rest) = (Vec::new(), word);
    while let Some(at) = rest.find(['{', '}']) {
        let (before, here) = rest.split_at(at);
        list.push(Piece::Text(before));
        if here.starts_with("{{") || here.starts_with("}}") {
            list.push(Piece::Text(&here[..1]));
            rest = &here[2..];
        } else if let Some(end) = here.find('}').filter(|_| here.starts_with('{')) {
            list.push(Piece::Name(&here[1..end]));
            rest = &here[end + 1..];
        } else {
            list.push(Piece::Text(&here[..1]));
            rest = &here[1..];
        }
    }
    list.push(Piece::Text(rest));
    list
}

fn unknown_placeholder(word: &str) -> Option<String> {
    pieces(word).into_iter().find_map(|piece| match piece {
        Piece::Name(name) if !["job", "out", "base"].contains(&name) => Some(format!("{{{name}}}")),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&str]) -> Train {
        Train {
            engine: Engine::Command,
            engine_command: words.iter().map(|word| (*word).to_owned()).collect(),
            ..Train::default()
        }
    }

    #[test]
    fn placeholders_are_filled_and_unknown_ones_refused() {
        let train =
            command(&["python3", "t.py", "--job={job}/job.json", "{out}", "{base}", "{{\"a\": 1}}", "a}b"]);
        let engine = EngineSettings::new(&train).unwrap().unwrap();
        let argv = engine.argv("/j", "/o", "/b; rm -rf x");
        assert_eq!(argv, ["python3", "t.py", "--job=/j/job.json", "/o", "/b; rm -rf x", "{\"a\": 1}", "a}b"]);
        let failure = EngineSettings::new(&command(&["sh", "{jobs}"])).unwrap_err();
        assert!(failure.chain().contains("{jobs}") && failure.hints()[0].contains("{job}"));
        assert!(EngineSettings::new(&command(&[])).unwrap_err().chain().contains("engine_command"));
        assert_eq!(EngineSettings::new(&Train::default()).unwrap(), None);
        let never = Train { engine_minutes: f64::INFINITY, ..Train::default() };
        assert!(EngineSettings::new(&never).unwrap_err().chain().contains("engine_minutes"));
    }

    #[test]
    fn flags_are_split_into_words_without_a_shell() {
        let mut train = Train::default();
        let flags = EngineFlags {
            engine: Some(EngineName::Command),
            engine_command: Some("python3 'my train.py' {job} \"$HOME\"".into()),
            ..EngineFlags::default()
        };
        flags.overlay(&mut train).unwrap();
        assert_eq!(train.engine_command, ["python3", "my train.py", "{job}", "$HOME"]);
        let open = EngineFlags { engine_command: Some("a 'b".into()), ..EngineFlags::default() };
        assert!(open.overlay(&mut train).unwrap_err().chain().contains("not closed"));
    }
}
