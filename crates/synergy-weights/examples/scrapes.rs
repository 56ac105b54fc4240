//! How many scrapes a second the exporter answers while somebody writes, and whether its memory stays flat.
//! Arguments: seconds (default 20). Prints one JSON line.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nightshift_core::clock::Clock;
use nightshift_core::printer::Printer;
use nightshift_core::process::rss_bytes;
use nightshift_core::rusqlite::Connection;
use nightshift_core::signal::Stop;
use nightshift_core::synergy::history::record;
use nightshift_synergy_weights::start_exporter;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let seconds: u64 = std::env::args().nth(1).map_or(Ok(20), |text| text.parse())?;
    let dir = tempfile::tempdir()?;
    let history = dir.path().join("synergy_history.db");
    // The writer counts up from 0, and what is scraped must never go back.
    let entry = serde_json::json!({"synergy_roi": -1, "synergy_efficiency": 0.01}).as_object().cloned();
    record(&history, "bench", &[entry.unwrap_or_default()], &Clock::new(None), &Stop::default())?;
    let exporter = start_exporter(&history, "127.0.0.1", 0, Duration::from_secs(5))?;
    let (address, over) = (exporter.address(), AtomicBool::new(false));
    let (scrapes, rows, started) = (AtomicU64::new(0), AtomicU64::new(0), Instant::now());
    // The first second fills caches and buffers.
    let early = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(&history, &over, &rows));
        let readers = [(); 2].map(|()| scope.spawn(|| scrape(address, &over, &scrapes)));
        std::thread::sleep(Duration::from_secs(1));
        let early = rss_bytes();
        std::thread::sleep(Duration::from_secs(seconds.saturating_sub(1)));
        over.store(true, Ordering::SeqCst);
        for thread in readers {
            thread.join().map_err(|_| "a reader broke down")??;
        }
        writer.join().map_err(|_| "the writer broke down")??;
        Result::Ok(early)
    })?;
    let took = started.elapsed().as_secs_f64();
    let (scrapes, rows) = (scrapes.into_inner(), rows.into_inner());
    let line = serde_json::json!({
        "name": "exporter", "seconds": took, "scrapes": scrapes, "scrapes_per_s": scrapes as f64 / took,
        "rows_written": rows, "rss_mb_after_1_s": early as f64 / 1e6, "rss_mb_at_the_end": rss_bytes() as f64 / 1e6,
    });
    Printer::new(true, true, false).json(&line);
    exporter.stop()?;
    Ok(())
}

/// A row every two milliseconds.
fn write(history: &Path, over: &AtomicBool, rows: &AtomicU64) -> Result<()> {
    let connection = Connection::open(history)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let mut insert =
        connection.prepare("INSERT INTO synergy_history (source_menace_id, entry) VALUES ('bench', ?1)")?;
    while !over.load(Ordering::SeqCst) {
        let value = rows.fetch_add(1, Ordering::SeqCst);
        insert.execute([format!(
            "{{\"synergy_roi\": {value}, \"synergy_efficiency\": 0.5, \"note\": \"x\"}}"
        )])?;
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// One scrape after the other over one connection; what is read never goes back.
fn scrape(address: SocketAddr, over: &AtomicBool, scrapes: &AtomicU64) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut line, mut body, mut newest) = (String::new(), Vec::new(), f64::NEG_INFINITY);
    while !over.load(Ordering::SeqCst) {
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")?;
        let mut length = 0;
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line == "\r\n" {
                break;
            }
        }
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
        let page = std::str::from_utf8(&body)?;
        let value =
            page.lines().find_map(|line| line.strip_prefix("synergy_roi ")).ok_or("no synergy_roi")?;
        let value: f64 = value.parse()?;
        if value < newest {
            return Err("an older row after a newer one".into());
        }
        newest = value;
        scrapes.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}
