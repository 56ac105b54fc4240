//! `templates FILE`: one message a line in, one row a line out.

use std::borrow::Cow;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use nightshift_core::error::OrFail;
use nightshift_core::signal::Stop;
use nightshift_core::{Ctx, Failure, Outcome, files};
use serde::Serialize;

use super::{Miner, SignatureId, Templates};

/// Bytes of a line that are read; the miner looks at fewer.
const LINE: usize = 64 << 10;
/// Rows are handed to stdout in pieces of this size.
const PIECE: usize = 64 << 10;
const HEADER: &str = "line,template_id,template\n";

/// Arguments of `templates`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// File with one message a line; `-` reads stdin
    file: PathBuf,
    /// Where the rows `line,template_id,template` go [default: stdout]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    lines: usize,
    /// Lines that are not UTF-8; each bad sequence was read as one replacement character.
    invalid_utf8: usize,
    /// Lines longer than 64 KiB; only their beginning was looked at.
    cut: usize,
    templates: usize,
    out: Option<PathBuf>,
}

/// Gives each line of the file its template.
pub fn run(ctx: &Ctx, arguments: Arguments) -> Result<Outcome, Failure> {
    let out = arguments.out;
    if out.is_none() && ctx.printer.is_json() {
        return Err(Failure::usage("--json prints its object on stdout, where the rows would go")
            .hint("give --out FILE, or leave out --json"));
    }
    let input = read(ctx, &arguments.file)?;
    let templates = input.miner.finish();
    let rows = if ctx.dry_run { "would be in" } else { "in" };
    let text = format!(
        "{} lines, {} templates{}",
        input.ids.len(),
        templates.all().len(),
        out.as_ref().map(|out| format!(", rows {rows} {}", out.display())).unwrap_or_default()
    );
    if !ctx.dry_run {
        if let Some(out) = &out {
            files::write_atomic_with(out, |file| write_rows(&templates, &input.ids, file))?;
        } else {
            let mut pieces = Pieces { ctx, text: Vec::with_capacity(PIECE + LINE) };
            write_rows(&templates, &input.ids, &mut pieces).or_fail(|| "cannot write the rows".into())?;
            pieces.send();
        }
    }
    let report = Report {
        lines: input.ids.len(),
        invalid_utf8: input.invalid_utf8,
        cut: input.cut,
        templates: templates.all().len(),
        out: out.clone(),
    };
    if out.is_none() {
        ctx.printer.note(&text);
        return Ok(Outcome::done(&report, ""));
    }
    Ok(Outcome::done(&report, text))
}

#[derive(Debug, Default)]
struct Input {
    miner: Miner,
    ids: Vec<SignatureId>,
    invalid_utf8: usize,
    cut: usize,
}

fn read(ctx: &Ctx, file: &Path) -> Result<Input, Failure> {
    let mut input = Input::default();
    if file == Path::new("-") {
        input.read(io::stdin().lock(), &ctx.stop)?;
    } else {
        input.read(BufReader::with_capacity(1 << 20, files::open(file)?), &ctx.stop)?;
    }
    Ok(input)
}

impl Input {
    fn read(&mut self, mut reader: impl BufRead, stop: &Stop) -> Result<(), Failure> {
        let mut line = Vec::new();
        let cannot = || "cannot read the messages".to_owned();
        loop {
            line.clear();
            let limited = io::Read::take(&mut reader, LINE as u64);
            let count = { limited }.read_until(b'\n', &mut line).or_fail(cannot)?;
            if count == 0 {
                return Ok(());
            }
            if self.ids.len().is_multiple_of(1 << 16) {
                stop.check()?;
            }
            if count == LINE && line.last() != Some(&b'\n') {
                self.cut += usize::from(reader.skip_until(b'\n').or_fail(cannot)? > 1);
            }
            let bytes =
                if self.ids.is_empty() { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line) } else { &line };
            let message = String::from_utf8_lossy(bytes);
            self.invalid_utf8 += usize::from(matches!(message, Cow::Owned(_)));
            self.ids.push(self.miner.add(&message));
        }
    }
}

/// One row per line of the input.
fn write_rows(templates: &Templates, ids: &[SignatureId], out: &mut impl Write) -> io::Result<()> {
    let tails: Vec<String> = templates
        .all()
        .iter()
        .map(|template| format!(",{},{}\n", template.id, quoted(&template.text)))
        .collect();
    out.write_all(HEADER.as_bytes())?;
    for (line, &id) in (1u64..).zip(ids) {
        write!(out, "{line}")?;
        out.write_all(tails[templates.index_of(id)].as_bytes())?;
    }
    Ok(())
}

/// A field as RFC 4180 has it. A template has no line breaks.
fn quoted(field: &str) -> String {
    if field.contains(['"', ',']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_owned() }
}

/// Stdout, whole lines at a time.
struct Pieces<'a> {
    ctx: &'a Ctx,
    text: Vec<u8>,
}

impl Pieces<'_> {
    fn send(&mut self) {
        if !self.text.is_empty() {
            self.ctx.printer.data(&String::from_utf8_lossy(&self.text));
            self.text.clear();
        }
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        if self.text.len() >= PIECE && self.text.ends_with(b"\n") {
            self.send();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send();
        Ok(())
    }
}
