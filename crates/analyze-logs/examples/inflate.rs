//! Packs a file, or unpacks one and throws the bytes away: the speed that no reader of that file can pass.
//!
//!     inflate pack FILE OUT.gz|OUT.zst
//!     inflate FILE.gz|FILE.zst

use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use nightshift_core::{Failure, OrFail, files};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["pack", from, to] => pack(Path::new(from), Path::new(to)),
        [file] => unpack(Path::new(file)),
        _ => Err(Failure::usage("inflate pack FILE OUT, or inflate FILE")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "inflate: {}", failure.chain());
            ExitCode::FAILURE
        }
    }
}

fn is_gzip(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gz")
}

fn pack(from: &Path, to: &Path) -> Result<(), Failure> {
    let mut plain = files::open(from)?;
    files::write_atomic_with(to, |file| {
        if is_gzip(to) {
            let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::new(6));
            io::copy(&mut plain, &mut encoder)?;
            encoder.finish().map(|_| ())
        } else {
            zstd::stream::copy_encode(&mut plain, file, 3)
        }
    })?;
    Ok(())
}

fn unpack(path: &Path) -> Result<(), Failure> {
    let told = || format!("cannot unpack {}", path.display());
    let packed = BufReader::with_capacity(1 << 16, files::open(path)?);
    let mut plain: Box<dyn Read> = if is_gzip(path) {
        Box::new(flate2::bufread::MultiGzDecoder::new(packed))
    } else {
        Box::new(zstd::stream::read::Decoder::with_buffer(packed).or_fail(told)?)
    };
    let mut buffer = vec![0; 1 << 20];
    while plain.read(&mut buffer).or_fail(told)? > 0 {}
    Ok(())
}
