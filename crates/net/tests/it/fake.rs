//! Misbehaving servers: each connection is answered by the next script, the last one repeats.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What a server does with one connection after it has read the request.
#[derive(Clone)]
pub(crate) enum Script {
    /// Writes these bytes and closes.
    Say(Vec<u8>),
    /// Writes these bytes one at a time with this pause between them.
    Drip(Vec<u8>, Duration),
    /// Writes these bytes and then stays silent.
    Stall(Vec<u8>),
    /// Closes with data unread, so that the peer sees a reset.
    Reset,
    /// Writes the head and then this piece for ever.
    Endless(Vec<u8>, Vec<u8>),
}

/// A server with a script; ends with the test process.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    pub(crate) fn new(scripts: Vec<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let script = scripts[number.min(scripts.len() - 1)].clone();
                let seen = Arc::clone(&seen);
                thread::spawn(move || play(script, stream.unwrap(), &seen));
            }
        });
        Self { address, requests }
    }

    pub(crate) fn saying(response: impl Into<Vec<u8>>) -> Self {
        Self::new(vec![Script::Say(response.into())])
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything received so far, one text per request: head, blank line, body.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// A response with a right content length; `head` holds the status line and further headers.
pub(crate) fn response(head: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
        .into_bytes()
}

pub(crate) fn json(body: &str) -> Vec<u8> {
    response("200 OK\r\ncontent-type: application/json", body)
}

/// An address where nobody listens.
pub(crate) fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn play(script: Script, mut stream: TcpStream, seen: &Mutex<Vec<String>>) {
    if matches!(script, Script::Reset) {
        // Unread data in the receive buffer turns the close into a reset.
        let _ = stream.peek(&mut [0]);
        return;
    }
    let Some(request) = read_request(&stream) else { return };
    seen.lock().unwrap().push(request);
    match script {
        Script::Say(bytes) => {
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(Shutdown::Write);
        }
        Script::Drip(bytes, pause) => {
            for byte in bytes {
                if stream.write_all(&[byte]).is_err() {
                    return;
                }
                thread::sleep(pause);
            }
        }
        Script::Stall(bytes) => {
            let _ = stream.write_all(&bytes);
            // Until the client goes away.
            let _ = stream.read(&mut [0; 64]);
        }
        Script::Endless(head, piece) => {
            let _ = stream.write_all(&head);
            while stream.write_all(&piece).is_ok() {}
        }
        Script::Reset => {}
    }
}

fn read_request(stream: &TcpStream) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        head.push_str(&line);
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(head + &String::from_utf8_lossy(&body))
}
