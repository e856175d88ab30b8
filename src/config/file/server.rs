//! `[server]`, `[health]`, `[control]`, `[guard]` and `[log]`: the program's own side.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::memory::MemoryLimit;
use super::quantity::{Bytes, Period, Words};
use super::secret;
use crate::secret::Secret;
use crate::telemetry::LogFormat;

/// How the proxy listens, and its limits.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Server {
    /// Addresses to listen on, each an IP address and a port; localhost and a port, for both loopback addresses; or unix: and the
    /// path of a Unix socket.
    pub(in crate::config) listen: Words,
    /// Who may connect to the Unix sockets in `listen`, as a file's mode; "0660" lets the group in too.
    pub(in crate::config) unix_mode: String,
    /// TLS on the addresses in `listen`; Unix sockets stay plain.
    pub(in crate::config) tls: Option<Tls>,
    /// Worker threads; 0: one per core that the process may use.
    pub(in crate::config) workers: usize,
    /// Whether `listen` may have addresses that other machines can reach, and so use the token.
    pub(in crate::config) allow_remote: bool,
    /// Connections at a time; the next one waits.
    pub(in crate::config) max_connections: usize,
    /// What connections and requests may cost in memory; auto: the container's limit, or half of the machine's memory, less
    /// what the program needs; none: no limit.
    pub(in crate::config) memory_limit: MemoryLimit,
    /// Bytes of a request's head; more is answered with 431.
    pub(in crate::config) max_header_size: Bytes,
    /// Header fields of a request; more is answered with 431.
    pub(in crate::config) max_headers: usize,
    /// How long an application may take to send a request's head.
    pub(in crate::config) header_timeout: Period,
    /// How long a connection may be idle between requests.
    pub(in crate::config) keep_alive_timeout: Period,
    /// How long an application may leave an answer unread.
    pub(in crate::config) send_timeout: Period,
    /// Whether an HTTP/1.1 application that closes only its own side still gets its response; otherwise it has gone.
    pub(in crate::config) half_close: bool,
    /// HTTP/2 streams at a time on one connection.
    pub(in crate::config) max_streams: u32,
    /// HTTP/2 requests that one connection may take back in a second before it is closed.
    pub(in crate::config) max_resets: usize,
    /// How long the proxy goes on accepting after SIGTERM, while it is not ready any more, before it drains.
    pub(in crate::config) drain_delay: Period,
    /// How long requests under way may take to finish after SIGTERM and `drain_delay`.
    pub(in crate::config) drain_timeout: Period,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: Words(vec!["localhost:8080".to_owned()]),
            unix_mode: "0600".to_owned(),
            tls: None,
            workers: 0,
            allow_remote: false,
            max_connections: 10_000,
            memory_limit: MemoryLimit::Auto,
            max_header_size: Bytes(64 * 1024),
            max_headers: 100,
            header_timeout: Period::seconds(30),
            keep_alive_timeout: Period::seconds(75),
            send_timeout: Period::seconds(60),
            half_close: false,
            max_streams: 256,
            max_resets: 200,
            drain_delay: Period::seconds(0),
            drain_timeout: Period::seconds(25),
        }
    }
}

/// The proxy's own certificate, and whose certificates it asks for.
#[expect(clippy::struct_field_names, reason = "the fields are the contract's keys")]
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Tls {
    /// PEM file of the proxy's certificate with its chain; read again when it changes.
    pub(in crate::config) cert_file: Option<String>,
    /// PEM file of that certificate's private key.
    pub(in crate::config) key_file: Option<String>,
    /// PEM file of the authorities whose client certificates are demanded (mutual TLS); left out: none is asked for.
    pub(in crate::config) client_ca_file: Option<String>,
}

/// Liveness, readiness and metrics.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Health {
    /// Address of /livez, /readyz and /metrics; "[::]:9901" is every address, of IPv4 too.
    pub(in crate::config) listen: String,
    /// What /readyz waits for.
    pub(in crate::config) ready: Ready,
}

/// What readiness stands for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Ready {
    /// A usable token for each required one, at every moment.
    #[default]
    Token,
    /// The first one for each; from then on it stays, also where a token expires and cannot be renewed.
    Started,
}

impl Default for Health {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9901".to_owned(), ready: Ready::default() }
    }
}

/// Status and commands.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Control {
    /// Address of /status and the commands: localhost and a port, a loopback address, unix: and the path of a Unix socket, unix:@ and a name in
    /// Linux' abstract namespace, or none.
    pub(in crate::config) listen: String,
    /// Who may connect to a Unix socket with a path, as a file's mode; "0660" lets the group in too.
    pub(in crate::config) unix_mode: String,
}

impl Default for Control {
    fn default() -> Self {
        Self { listen: "localhost:9902".to_owned(), unix_mode: "0600".to_owned() }
    }
}

/// Who may use the proxy.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Guard {
    /// Host names that requests may name, beyond the loopback's own and the listener's address, such as orders.local.
    pub(in crate::config) allowed_hosts: Words,
    /// Web origins that may use the proxy from a browser, such as `https://app.example.com`.
    pub(in crate::config) allowed_origins: Words,
    /// Whether pages of those origins may send cookies and read the response nevertheless
    /// (Access-Control-Allow-Credentials).
    pub(in crate::config) allow_credentials: bool,
    /// File of the secrets, one per line, of which each request must bring one in X-Cupbearer-Secret; read again when it
    /// changes.
    pub(in crate::config) shared_secret_file: Option<String>,
    /// Environment variable that holds them.
    pub(in crate::config) shared_secret_env: Option<String>,
    /// The secrets themselves; for trials only.
    #[serde(skip_serializing, deserialize_with = "secret")]
    #[schemars(with = "Option<String>")]
    pub(in crate::config) shared_secret: Option<Secret<String>>,
    /// Numbers of the users that may connect to a Unix socket in `listen`; empty: all that its mode lets in.
    pub(in crate::config) allowed_uids: Vec<u32>,
    /// Names in client certificates that may use the proxy, where [server] asks for one; empty: every trusted one. Each is
    /// compared with alternative names of its own kind: DNS names; URIs where it has ://; e-mail addresses where it has @;
    /// IP addresses. cn:NAME is a common name.
    pub(in crate::config) allowed_subjects: Words,
}

/// What is logged and how.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Log {
    /// auto: text on a terminal, else JSON.
    pub(in crate::config) format: LogFormat,
    /// error, warn, info, debug, trace, or a filter such as cupbearer=debug,info.
    pub(in crate::config) level: String,
    /// Whether requests get a line.
    pub(in crate::config) access: bool,
    /// The share of the successful requests that get a line, from 0 to 1. Those that failed and slow ones always do.
    pub(in crate::config) access_sample: f64,
    /// From this duration on a request is slow.
    pub(in crate::config) access_slow: Period,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::default(),
            level: "info".to_owned(),
            access: false,
            access_sample: 1.0,
            access_slow: Period::seconds(1),
        }
    }
}
