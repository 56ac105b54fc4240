//! A log with planted templates: which message came from which is known.
//!
//! `SHAPES` were looked at while the rules were made. `HELD_OUT` and then `FRESH` were written before any of
//! them was tried; at first sight 479 of 500 and 337 of 400 planted templates (20 logs each) came back whole.
//! The rules have changed since, so only what comes next is held out.

/// A reproducible source of choices (SplitMix64).
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e3779b97f4a7c15) ^ 0x5851f42d4c957f2d)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e3779b97f4a7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58476d1ce4e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d049bb133111eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn hex(&mut self, digits: usize) -> String {
        (0..digits).map(|_| char::from(b"0123456789abcdef"[self.below(16)])).collect()
    }

    fn uuid(&mut self) -> String {
        [8, 4, 4, 4, 12].map(|digits| self.hex(digits)).join("-")
    }

    fn ip(&mut self) -> String {
        (0..4).map(|_| self.below(256).to_string()).collect::<Vec<_>>().join(".")
    }

    fn path(&mut self) -> String {
        let depth = 1 + self.below(4);
        let names: Vec<&str> = (0..depth).map(|_| self.pick(&NOUNS)).collect();
        format!("/{}{}", names.join("/"), self.pick(&["", ".json", ".py", "/", "-1.log"]))
    }

    /// A few different items of `from`.
    fn some(&mut self, from: &[&str], most: usize, joint: &str) -> String {
        let start = self.below(from.len());
        let count = 1 + self.below(most);
        (0..count).map(|at| from[(start + at * 3) % from.len()]).collect::<Vec<_>>().join(joint)
    }
}

const NAMES: [&str; 32] = [
    "alice", "bruno", "carla", "dmitri", "elena", "farid", "greta", "hiro", "ines", "jonas", "katya", "liam",
    "mona", "noah", "olga", "pavel", "quinn", "rosa", "samir", "tessa", "ugo", "vera", "wanda", "xavier",
    "yuki", "zoe", "anders", "bella", "cyrus", "dora", "emil", "fatima",
];
const NOUNS: [&str; 24] = [
    "report", "invoice", "backup", "cache", "index", "session", "profile", "model", "dataset", "query",
    "payload", "token", "manifest", "config", "archive", "queue", "ledger", "schema", "bucket", "volume",
    "branch", "ticket", "image", "thread",
];
const CITIES: [&str; 14] = [
    "Oslo",
    "New York",
    "Rio de Janeiro",
    "Lima",
    "San Jose",
    "Berlin",
    "Kuala Lumpur",
    "Porto",
    "Cape Town",
    "Quito",
    "Santa Cruz de Tenerife",
    "Turin",
    "Ho Chi Minh City",
    "Accra",
];
const FIELDS: [&str; 8] = ["name", "email", "age", "country", "phone", "zip", "street", "currency"];

/// A template: its name and a message of it.
pub(crate) type Shape = (&'static str, fn(&mut Draw) -> String);

pub(crate) const SHAPES: [Shape; 26] = [
    ("refused", |d| {
        format!("Connection to {}:{} refused after {} ms", d.ip(), d.below(65536), d.below(9000))
    }),
    ("heartbeat", |d| format!("Worker {} lost heartbeat from node-{}", d.below(64), d.below(500))),
    ("file", |d| format!("File not found: {}", d.path())),
    ("rate", |d| {
        let model = d.pick(&["gpt-4o", "claude-3-5", "llama-3.1-8b", "mistral-large"]);
        format!("rate limit exceeded for model {model}: retry after {}s", d.below(60))
    }),
    ("login", |d| format!("user {} logged in from {}", d.pick(&NAMES), d.ip())),
    ("json", |d| {
        let token = d.pick(&["}", "]", ",", "end", "null", "<", "NaN", ":", "string"]);
        format!("Invalid JSON at line {} column {}: unexpected token '{token}'", d.below(90), d.below(90))
    }),
    ("three words", |d| {
        let (agent, act, step) = (
            d.pick(&["planner", "coder", "critic", "writer"]),
            d.pick(&["prepare", "run", "repeat"]),
            d.pick(&["search", "summary", "review", "upload", "plan"]),
        );
        format!("agent {agent} failed to {act} the {step} step")
    }),
    ("list in brackets", |d| format!("validation failed, missing: [{}]", d.some(&FIELDS, 5, ", "))),
    ("list", |d| format!("request lacks required fields: {}", d.some(&FIELDS, 5, ", "))),
    ("connected", |d| format!("session {} connected", d.hex(8))),
    ("disconnected", |d| format!("session {} disconnected", d.hex(8))),
    ("hit", |d| format!("cache hit for key user:{}:profile", d.below(5000))),
    ("miss", |d| format!("cache miss for key user:{}:profile", d.below(5000))),
    ("traceback", |d| {
        let key = d.pick(&NOUNS);
        format!(
            "Traceback (most recent call last):\n  File \"/srv/{}.py\", line {}\nKeyError: '{key}'",
            d.hex(4),
            d.below(400)
        )
    }),
    ("quoted", |d| {
        let name = d.some(&NOUNS, 3, " ");
        format!("tool \"{name}\" returned status {}", d.below(256))
    }),
    ("fragment", |d| {
        let message =
            d.pick(&["busy", "overloaded", "quota", "internal", "upstream", "bad gateway", "try later"]);
        format!(
            "upstream answered {}: {{\"code\": {}, \"msg\": \"{message}\"}}",
            400 + d.below(120),
            d.below(99)
        )
    }),
    ("duration", |d| {
        let (number, unit) = (d.below(900), d.pick(&["ms", "s", " ms", " seconds"]));
        format!("task {} finished in {number}{unit}", d.uuid())
    }),
    ("umlauts", |d| format!("Überlauf in Puffer {}: Größe {} überschritten", d.below(20), d.below(9000))),
    ("memory", |d| {
        format!("out of memory: needed {}.{} GiB, available {} MiB", d.below(90), d.below(10), d.below(900))
    }),
    ("deadlock", |d| format!("deadlock detected between transactions {} and {}", d.hex(6), d.hex(6))),
    ("exception", |d| {
        format!("java.lang.NullPointerException at com.acme.Service.run(Service.java:{})", d.below(900))
    }),
    ("disk", |d| format!("disk usage {}% on /dev/sd{}", d.below(100), d.pick(&["a", "b", "c1", "d2"]))),
    ("pairs", |d| {
        let reason = d.pick(&["reset", "refused", "tls", "dns", "proxy", "quota", "eof"]);
        format!(
            "retry attempt={} of max={} backoff={}.{} reason={reason}",
            d.below(9),
            d.below(9),
            d.below(9),
            d.below(10)
        )
    }),
    ("two words", |d| format!("user {} opened document {} for review", d.pick(&NAMES), d.pick(&NOUNS))),
    ("many words", |d| {
        format!("order {} shipped to {} by courier {}", d.below(99999), d.pick(&CITIES), d.below(40))
    }),
    ("timeout", |d| {
        format!("read timed out after {} seconds waiting for replica {}", d.below(90), d.below(12))
    }),
];

pub(crate) const HELD_OUT: [Shape; 25] = [
    ("expected", |d| {
        let types = ["string", "object", "array", "number"];
        let tool =
            d.pick(&["search", "browser", "shell", "editor", "calendar", "mail", "maps", "sql", "python"]);
        format!(
            "Failed to parse answer of {tool}: expected {} but got {} instead",
            d.pick(&types),
            d.pick(&types)
        )
    }),
    ("permission", |d| format!("Permission denied: '{}' (errno {})", d.path(), d.below(40))),
    ("checkpoint", |d| {
        format!(
            "[2026-0{}-1{}T0{}:12:{}.5Z] checkpoint {} saved to s3://bucket-{}/{}",
            1 + d.below(9),
            d.below(9),
            d.below(9),
            10 + d.below(49),
            d.below(900),
            d.below(9),
            d.pick(&NOUNS)
        )
    }),
    ("assertion", |d| {
        format!("assertion `left == right` failed: left: {}, right: {}", d.below(99), d.below(99))
    }),
    ("certificate", |d| {
        let host = format!(
            "{}.{}.{}",
            d.pick(&NOUNS),
            d.pick(&["example", "acme", "corp"]),
            d.pick(&["com", "org", "internal"])
        );
        format!("TLS handshake with {host} failed: certificate expired {} days ago", d.below(400))
    }),
    ("depth", |d| {
        format!("queue depth {} exceeds limit {} for tenant {}", d.below(9000), d.below(900), d.pick(&NAMES))
    }),
    ("opened", |d| format!("breaker for backend-{} opened", d.below(300))),
    ("closed", |d| format!("breaker for backend-{} closed", d.below(300))),
    ("enabled", |d| format!("feature flag exp_{} enabled for {} users", d.below(40), d.below(9000))),
    ("disabled", |d| format!("feature flag exp_{} disabled for {} users", d.below(40), d.below(9000))),
    ("assigned", |d| {
        format!("{} assigned ticket OPS-{} to {}", d.pick(&NAMES), d.below(9000), d.pick(&NAMES))
    }),
    ("column", |d| format!("column \"{}\" does not exist in the result", d.pick(&NOUNS))),
    ("used", |d| format!("tokens {}/{} used ({}%)", d.below(9000), 8192, d.below(100))),
    ("braces", |d| format!("labels {{{}}} removed from node-{}", d.some(&NOUNS, 4, ", "), d.below(90))),
    ("lease", |d| {
        let mac: Vec<String> = (0..6).map(|_| d.hex(2)).collect();
        format!("MAC {} leased {} for {}h", mac.join(":"), d.ip(), d.below(48))
    }),
    ("chinese", |d| format!("数据库连接失败: 主机=db{} 端口={}", d.below(30), d.below(9000))),
    ("payload", |d| {
        format!("payload too large: {},{:03} bytes > {} bytes", d.below(900), d.below(1000), d.below(9000))
    }),
    ("loss", |d| {
        format!("step {}/{} loss={}.{} lr=1e-0{}", d.below(900), 1000, d.below(9), d.below(1000), d.below(9))
    }),
    ("mailbox", |d| {
        let why = d.pick(&[
            "full",
            "does not exist",
            "over quota",
            "temporarily locked",
            "suspended by owner",
            "unknown",
            "moved to another server",
            "closed",
            "greylisted",
            "rejected by policy",
            "disabled",
            "under maintenance now",
        ]);
        format!("could not deliver message to {}@{}.com: mailbox {why}", d.pick(&NAMES), d.pick(&NOUNS))
    }),
    ("asked", |d| {
        let roles = ["planner", "critic", "coder"];
        let act = d.pick(&["summarise", "verify", "translate"]);
        format!("router moved work from {} over to {} because {act} was slow", d.pick(&roles), d.pick(&roles))
    }),
    ("usb", |d| {
        format!(
            "usb 1-{}.{}: new high-speed USB device number {} using xhci_hcd",
            d.below(9),
            d.below(9),
            d.below(99)
        )
    }),
    ("job", |d| format!("ETL job '{}' skipped {} rows", d.some(&NOUNS, 3, " "), d.below(9000))),
    ("search", |d| format!("search for \"{}\" returned {} results", d.some(&NOUNS, 6, " "), d.below(90))),
    ("retrying", |d| {
        format!(
            "Retrying request req_{} ({}/{}) after error: connection reset by peer",
            d.hex(10),
            d.below(5),
            5
        )
    }),
    ("function", |d| {
        format!("function {}.{}() took {}.{}s", d.pick(&NOUNS), d.pick(&NOUNS), d.below(9), d.below(10))
    }),
];

pub(crate) const FRESH: [Shape; 20] = [
    ("kafka", |d| {
        format!(
            "Consumer group {} lagging {} messages behind on partition orders-{}",
            d.pick(&NAMES),
            d.below(90000),
            d.below(32)
        )
    }),
    ("nginx", |d| {
        format!(
            "upstream prematurely closed connection while reading response header from upstream, client: {}, server: _, request: \"{} /{} HTTP/1.1\"",
            d.ip(),
            "GET",
            d.pick(&NOUNS)
        )
    }),
    ("schema", |d| {
        let kinds = ["integer", "text", "boolean", "float", "date"];
        format!(
            "schema mismatch in field {}: wanted {} found {}",
            d.pick(&FIELDS),
            d.pick(&kinds),
            d.pick(&kinds)
        )
    }),
    ("tool calls", |d| {
        format!(
            "model requested {} tool calls: {}",
            d.below(9),
            d.some(&["web_search", "read_file", "run_python", "send_mail", "list_dir", "fetch_url"], 4, ", ")
        )
    }),
    ("gc", |d| {
        format!(
            "GC pause {}.{}ms heap {}M->{}M({}M)",
            d.below(90),
            d.below(10),
            d.below(900),
            d.below(900),
            1024
        )
    }),
    ("locked", |d| format!("account {} locked after {} attempts", d.pick(&NAMES), d.below(9))),
    ("unlocked", |d| format!("account {} unlocked after {} attempts", d.pick(&NAMES), d.below(9))),
    ("http error", |d| {
        format!(
            "POST https://api.example.com/v1/{} -> {} {}",
            d.pick(&NOUNS),
            500 + d.below(5),
            d.pick(&[
                "Bad Gateway",
                "Internal Server Error",
                "Service Unavailable",
                "Gateway Time-out",
                "Not Implemented",
                "Loop Detected",
                "Insufficient Storage"
            ])
        )
    }),
    ("index", |d| {
        format!("IndexError: list index {} out of range for list of length {}", d.below(90), d.below(90))
    }),
    ("colour", |d| {
        format!(
            "\u{1b}[33mWARN\u{1b}[0m memory pressure at {}%, evicting {} entries",
            d.below(100),
            d.below(900)
        )
    }),
    ("rust", |d| {
        format!(
            "thread 'worker-{}' panicked at src/{}.rs:{}:{}",
            d.below(16),
            d.pick(&NOUNS),
            d.below(900),
            d.below(90)
        )
    }),
    ("budget", |d| {
        format!(
            "budget for team {} exhausted: spent ${}.{:02} of ${}",
            d.pick(&NAMES),
            d.below(900),
            d.below(100),
            1 + d.below(900)
        )
    }),
    ("git", |d| format!("merge conflict in {} between {} and {}", d.path(), d.hex(40), d.hex(40))),
    ("moved", |d| {
        format!(
            "moved {} from {} to {} in {} ms",
            d.pick(&NOUNS),
            d.pick(&CITIES),
            d.pick(&CITIES),
            d.below(900)
        )
    }),
    ("k8s", |d| {
        format!(
            "Back-off restarting failed container {} in pod {}-{}-{}",
            d.pick(&NOUNS),
            d.pick(&NOUNS),
            d.hex(9),
            d.hex(5)
        )
    }),
    ("russian", |d| format!("Пользователь {} не найден в группе {}", d.pick(&NAMES), d.below(90))),
    ("empty result", |d| {
        format!("query '{}' returned nothing after {} pages", d.some(&NOUNS, 5, " "), d.below(20))
    }),
    ("json line", |d| {
        format!(
            "{{\"level\":\"error\",\"code\":{},\"user\":\"{}\",\"retry\":{}}}",
            d.below(900),
            d.pick(&NAMES),
            d.pick(&["true", "false"])
        )
    }),
    ("limit", |d| {
        format!(
            "context length {} exceeds the {} tokens of {}",
            8192 + d.below(9000),
            8192,
            d.pick(&["gpt-4o-mini", "claude-3-haiku", "llama-3-70b", "mixtral-8x7b", "gemma-2-9b", "phi-3"])
        )
    }),
    ("lease", |d| {
        format!(
            "lease of {} renewed by {} until {}:{:02}",
            d.pick(&NOUNS),
            d.pick(&NAMES),
            10 + d.below(13),
            d.below(60)
        )
    }),
];

const NOISE: [&str; 60] = [
    "amber", "barely", "candle", "drift", "eleven", "forgot", "gravel", "harbour", "inside", "jumped",
    "kettle", "lantern", "meadow", "nobody", "orbit", "pebble", "quiet", "river", "shadow", "thunder",
    "under", "velvet", "window", "yellow", "zebra", "after", "broken", "copper", "dusty", "early", "frozen",
    "golden", "hollow", "iron", "jagged", "kindly", "little", "missing", "narrow", "odd", "proud", "quick",
    "rusty", "silent", "tired", "upper", "vivid", "wooden", "young", "almost", "behind", "cannot",
    "detected", "error", "failed", "because", "of", "while", "the", "in",
];

/// One message that no other resembles.
fn noise(draw: &mut Draw) -> String {
    let count = 4 + draw.below(7);
    let mut words: Vec<String> = (0..count).map(|_| draw.pick(&NOISE).to_owned()).collect();
    if draw.below(3) == 0 {
        let at = draw.below(words.len());
        words[at] = draw.below(10_000).to_string();
    }
    words.join(" ")
}

/// Messages with the name of their template, `None` for noise, in mixed order.
pub(crate) fn log(seed: u64, shapes: &[Shape], unique: usize) -> Vec<(Option<&'static str>, String)> {
    let mut draw = Draw::new(seed);
    let mut messages = Vec::new();
    for (name, shape) in shapes {
        for _ in 0..60 + draw.below(240) {
            messages.push((Some(*name), shape(&mut draw)));
        }
    }
    for _ in 0..unique {
        messages.push((None, noise(&mut draw)));
    }
    for at in (1..messages.len()).rev() {
        messages.swap(at, draw.below(at + 1));
    }
    messages
}
