//! Three origins with different parsers, which keep what they saw: nginx, Node, and one that reads to the letter.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::nginx::run_nginx;
use super::program::{Program, free_address, repository};

/// An origin that keeps what it saw.
#[derive(Debug)]
pub struct Recorder {
    pub name: &'static str,
    address: SocketAddr,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    /// A line of JSON for each request, by a program of its own.
    Log { file: PathBuf, read: Mutex<(usize, Vec<Record>)>, _program: Box<Program>, _dir: TempDir },
    /// In this process.
    Here { seen: Arc<Mutex<Vec<Record>>>, task: JoinHandle<()> },
}

/// What an origin saw. Bytes that are no UTF-8 are replaced in all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A whole request.
    Request { method: String, target: String, fields: Vec<(String, String)>, body: String },
    /// Something that it would not read.
    Malformed(String),
    /// A request that did not come to its end.
    Aborted,
}

impl Record {
    /// Every value of a field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let Self::Request { fields, .. } = self else { return Vec::new() };
        fields
            .iter()
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }
}

impl Recorder {
    /// nginx. Its log has only the fields in `names`.
    pub async fn nginx(names: &[String]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (address, inner) = (free_address(), free_address());
        let at = dir.path().display();
        let mut fields = String::new();
        for name in names {
            let variable = name.replace('-', "_");
            write!(fields, r#","{name}":"$http_{variable}""#).unwrap();
        }
        // The body is in the log because it is read, which it is because it is passed on.
        let configuration = format!(
            r#"
            daemon off; master_process off; pid {at}/nginx.pid; error_log {at}/error.log info;
            events {{ worker_connections 1024; }}
            http {{
                log_format seen escape=json '{{"status":$status,"completion":"$request_completion","method":"$request_method",'
                    '"target":"$request_uri","line":"$request","body":"$request_body"{fields}}}';
                access_log off;
                client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
                uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
                keepalive_timeout 300s; keepalive_requests 100000000; client_max_body_size 0;
                large_client_header_buffers 8 128k; client_body_buffer_size 256k; client_body_in_single_buffer on;
                underscores_in_headers on; ignore_invalid_headers off; merge_slashes off;
                server {{
                    listen {address};
                    access_log {at}/access.log seen;
                    location / {{ proxy_pass http://{inner}; proxy_method POST; proxy_set_header Host x; proxy_set_header Expect ""; }}
                }}
                server {{ listen {inner}; return 200 "ok"; }}
            }}
            "#
        );
        let program = run_nginx(dir.path(), &configuration, &[inner]).await;
        let file = dir.path().join("access.log");
        Self {
            name: "nginx",
            address,
            kept: Kept::Log { file, read: Mutex::default(), _program: Box::new(program), _dir: dir },
        }
    }

    /// Node.
    pub async fn node() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = free_address();
        let mut command = Program::peer("node", "nodejs");
        command.arg("--max-http-header-size=262144").arg(repository().join("tests/peers/recorder.mjs"));
        command.arg(address.port().to_string());
        let mut program = Program::spawn("node", command, dir.path());
        program.until("listening", || async move { TcpStream::connect(address).await.is_ok() }).await;
        let file = dir.path().join("node.log");
        Self {
            name: "node",
            address,
            kept: Kept::Log { file, read: Mutex::default(), _program: Box::new(program), _dir: dir },
        }
    }

    /// The one that reads to the letter.
    pub async fn raw() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Record>>> = Arc::default();
        let record = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&record)));
            }
        });
        Self { name: "raw", address, kept: Kept::Here { seen, task } }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The authority that each request must name.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// All that it saw so far.
    pub fn seen(&self) -> Vec<Record> {
        match &self.kept {
            Kept::Here { seen, .. } => seen.lock().unwrap().clone(),
            Kept::Log { file, read, .. } => {
                let log = fs::read(file).unwrap_or_default();
                let (at, seen) = &mut *read.lock().unwrap();
                let new = &log[*at..];
                let whole = new.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
                let text = String::from_utf8_lossy(&new[..whole]);
                seen.extend(
                    text.lines()
                        .filter_map(|line| serde_json::from_str(line).ok())
                        .map(|line: Value| record(&line)),
                );
                *at += whole;
                seen.clone()
            }
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Kept::Here { task, .. } = &self.kept {
            task.abort();
        }
    }
}

/// A line of a log.
fn record(line: &Value) -> Record {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(reason) = line.get("malformed") {
        return Record::Malformed(text(reason));
    }
    if line.get("aborted").is_some() {
        return Record::Aborted;
    }
    let mut fields = Vec::new();
    if let Some(status) = line.get("status").and_then(Value::as_u64) {
        // nginx: one whose head it could not read has no Host on record; any other refusal is of a body that broke off.
        match (status, text(&line["completion"]).as_str()) {
            (200, "OK") => {}
            (499 | 400, _) if line.get("host").is_some_and(|host| host != "") => return Record::Aborted,
            _ => return Record::Malformed(text(&line["line"])),
        }
        for (name, value) in line.as_object().into_iter().flatten() {
            let ours = ["status", "completion", "method", "target", "line", "body"].contains(&name.as_str());
            if !ours && value != "" {
                fields.push((name.clone(), text(value)));
            }
        }
    } else {
        for pair in line["fields"].as_array().into_iter().flatten() {
            fields.push((text(&pair[0]), text(&pair[1])));
        }
    }
    Record::Request {
        method: text(&line["method"]),
        target: text(&line["target"]),
        fields,
        body: text(&line["body"]),
    }
}

/// Reads one connection's requests as RFC 9112 has them, and nothing else.
async fn serve(stream: TcpStream, record: Arc<Mutex<Vec<Record>>>) {
    let mut stream = BufReader::new(stream);
    loop {
        match request(&mut stream).await {
            Ok(None) => return,
            Ok(Some(request)) => {
                record.lock().unwrap().push(request);
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                if stream.get_mut().write_all(answer).await.is_err() {
                    return;
                }
            }
            Err(Fault::Letter(reason)) => {
                record.lock().unwrap().push(Record::Malformed(reason));
                return;
            }
            Err(Fault::Ended) => {
                record.lock().unwrap().push(Record::Aborted);
                return;
            }
        }
    }
}

enum Fault {
    Ended,
    Letter(String),
}

impl From<io::Error> for Fault {
    fn from(_: io::Error) -> Self {
        Self::Ended
    }
}

/// A line without its end; `None` where the connection ended before it.
async fn line(stream: &mut BufReader<TcpStream>) -> Result<Option<Vec<u8>>, Fault> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line).await?;
    if line.is_empty() {
        return Ok(None);
    }
    let text = line.strip_suffix(b"\r\n").ok_or_else(|| letter("a line without CRLF", &line))?;
    if text.iter().any(|byte| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f) {
        return Err(letter("a control character", text));
    }
    Ok(Some(text.to_vec()))
}

fn letter(what: &str, bytes: &[u8]) -> Fault {
    Fault::Letter(format!("{what}: {:?}", String::from_utf8_lossy(bytes)))
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}

async fn fields(stream: &mut BufReader<TcpStream>) -> Result<Vec<(String, String)>, Fault> {
    let mut fields = Vec::new();
    loop {
        let line = line(stream).await?.ok_or(Fault::Ended)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or_else(|| letter("no colon", &line))?;
        if !is_token(&line[..colon]) {
            return Err(letter("no name", &line));
        }
        let value = String::from_utf8_lossy(line[colon + 1..].trim_ascii()).into_owned();
        fields.push((String::from_utf8_lossy(&line[..colon]).into_owned(), value));
    }
}

async fn request(stream: &mut BufReader<TcpStream>) -> Result<Option<Record>, Fault> {
    let Some(start) = line(stream).await? else { return Ok(None) };
    let parts: Vec<&[u8]> = start.split(|byte| *byte == b' ').collect();
    let [method, target, b"HTTP/1.1"] = parts[..] else { return Err(letter("no request line", &start)) };
    if !is_token(method) || !(target.starts_with(b"/") || target == b"*") || target.contains(&b'#') {
        return Err(letter("no method or no target", &start));
    }
    let (method, target) = (text(method), text(target));
    let fields = fields(stream).await?;
    let all = |name: &str| -> Vec<&str> {
        fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    };
    let mut body = Vec::new();
    match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([], []) => {}
        ([length], []) if length.bytes().all(|b| b.is_ascii_digit()) => {
            body = vec![0; length.parse().map_err(|_| letter("a length", length.as_bytes()))?];
            stream.read_exact(&mut body).await?;
        }
        ([], ["chunked"]) => loop {
            let size = line(stream).await?.ok_or(Fault::Ended)?;
            let size = std::str::from_utf8(&size)
                .ok()
                .filter(|size| size.bytes().all(|b| b.is_ascii_hexdigit()))
                .and_then(|size| usize::from_str_radix(size, 16).ok())
                .ok_or_else(|| letter("a chunk's size", &size))?;
            if size == 0 {
                let _trailers = self::fields(stream).await?;
                break;
            }
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).await?;
            let data = chunk.strip_suffix(b"\r\n").ok_or_else(|| letter("a chunk's end", &chunk))?;
            body.extend_from_slice(data);
        },
        _ => return Err(letter("a framing", format!("{fields:?}").as_bytes())),
    }
    Ok(Some(Record::Request { method, target, fields, body: text(&body) }))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
