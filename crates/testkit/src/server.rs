//! An HTTP server on loopback that answers as a script says, and misbehaves as real ones do.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

/// A received request.
#[derive(Debug, Clone)]
pub struct Request {
    /// GET, POST, ...
    pub method: String,
    /// Path with query.
    pub path: String,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Request {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What the server does with a request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// 200 with JSON.
    Json(Value),
    /// 200 with JSON and extra headers.
    JsonWith(Value, Vec<(String, String)>),
    /// Any status, content type and body, and extra headers.
    Status(u16, &'static str, String, Vec<(String, String)>),
    /// Raw bytes instead of HTTP.
    Raw(Vec<u8>),
    /// Reads the request and says nothing until the client gives up (or the time is over).
    Stall(Duration),
    /// Closes the connection without an answer.
    Reset,
    /// Promises a long body and closes after a part of it.
    Truncated(String),
    /// Sends the body one byte at a time with this pause.
    Trickle(String, Duration),
}

impl Answer {
    /// A chat completion with this text.
    pub fn chat(text: &str) -> Self {
        Self::Json(serde_json::json!({
            "id": "chatcmpl-fake", "object": "chat.completion", "created": 0, "model": "fake",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        }))
    }
}

/// A running fake server; it stops when dropped.
#[derive(Debug)]
pub struct FakeServer {
    address: std::net::SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
}

impl FakeServer {
    /// Starts on a free port; `script` decides every answer.
    pub fn start(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (log, stopping, script) = (Arc::clone(&requests), Arc::clone(&stop), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopping.load(Ordering::SeqCst) {
                    break;
                }
                let (log, script) = (Arc::clone(&log), Arc::clone(&script));
                std::thread::spawn(move || serve(&stream, &log, script.as_ref()));
            }
        });
        Self { address, requests, stop }
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything received so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no panic while held").clone()
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: &TcpStream, log: &Mutex<Vec<Request>>, script: &(dyn Fn(&Request) -> Answer + Send + Sync)) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader) {
        log.lock().expect("no panic while held").push(request.clone());
        if !answer(stream, script(&request)) {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

fn read_request(reader: &mut BufReader<&TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, v)| v.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

/// Sends an answer; true when the connection may be used again.
fn answer(mut stream: &TcpStream, answer: Answer) -> bool {
    let respond =
        |mut stream: &TcpStream, status: u16, kind: &str, body: &str, extra: &[(String, String)]| {
            let mut head =
                format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n", body.len());
            for (name, value) in extra {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            stream.write_all(format!("{head}\r\n{body}").as_bytes()).is_ok()
        };
    match answer {
        Answer::Json(value) => respond(stream, 200, "application/json", &value.to_string(), &[]),
        Answer::JsonWith(value, extra) => {
            respond(stream, 200, "application/json", &value.to_string(), &extra)
        }
        Answer::Status(status, kind, body, extra) => respond(stream, status, kind, &body, &extra),
        Answer::Raw(bytes) => stream.write_all(&bytes).is_err(),
        Answer::Stall(time) => {
            std::thread::sleep(time);
            false
        }
        Answer::Reset => false,
        Answer::Truncated(part) => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{part}", part.len() + 1000);
            let _ = stream.write_all(head.as_bytes());
            false
        }
        Answer::Trickle(body, pause) => {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            let mut sent = stream.write_all(head.as_bytes()).is_ok();
            for byte in body.as_bytes() {
                sent = sent && stream.write_all(&[*byte]).is_ok();
                std::thread::sleep(pause);
            }
            sent
        }
    }
}
