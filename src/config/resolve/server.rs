//! `[server]`'s limits, `[guard]` and `[log]`.

use tracing_subscriber::EnvFilter;
use url::Url;

use super::{Zero, address, duration, number};
use crate::config::file::{self, Bytes, Server};
use crate::config::findings::Review;
use crate::config::problem::KeyPath;
use crate::config::shape::{listed, nearest};
use crate::proxy::{Guard, ServerSettings};
use crate::telemetry::{LogFormat, LogSettings};

/// Everything but the addresses.
pub(super) fn limits(server: &Server, review: &mut Review<'_>) -> ServerSettings {
    let at = |key| KeyPath::from("server").key(key);
    let Bytes(header_size) = server.max_header_size;
    let size_path = at("max_header_size");
    if !HEADER_SIZE.contains(&header_size) {
        let (low, high) = (Bytes(*HEADER_SIZE.start()), Bytes(*HEADER_SIZE.end()));
        let what = format!("must be from {low} to {high}, not {}", server.max_header_size);
        review.error(&size_path, what, "set it to \"64KiB\"");
    }
    let workers = number(&at("workers"), server.workers, 0..=MAX_WORKERS, review);
    let streams = number(&at("max_streams"), server.max_streams as usize, 1..=MAX_STREAMS, review);
    ServerSettings {
        listen: Vec::new(),
        tls: None,
        max_resets: 200,
        workers: (workers > 0).then_some(workers),
        max_connections: number(&at("max_connections"), server.max_connections, 1..=MAX_CONNECTIONS, review),
        max_header_size: header_size,
        max_headers: number(&at("max_headers"), server.max_headers, 1..=MAX_HEADERS, review),
        header_timeout: duration(&at("header_timeout"), server.header_timeout, Zero::Refused, review),
        keep_alive_timeout: duration(
            &at("keep_alive_timeout"),
            server.keep_alive_timeout,
            Zero::Refused,
            review,
        ),
        send_timeout: duration(&at("send_timeout"), server.send_timeout, Zero::Refused, review),
        max_streams: u32::try_from(streams).unwrap_or(u32::MAX),
        drain_timeout: duration(&at("drain_timeout"), server.drain_timeout, Zero::Allowed, review),
    }
}

pub(super) fn guard(guard: file::Guard, review: &mut Review<'_>) -> Option<Guard> {
    let path = KeyPath::from("guard.allowed_hosts");
    let paths = review.elements(&path);
    let hosts: Vec<_> = paths
        .iter()
        .zip(&guard.allowed_hosts.0)
        .map(|(path, text)| address::host(path, text, review))
        .collect();
    let path = KeyPath::from("guard.allowed_origins");
    let paths = review.elements(&path);
    let origins: Vec<_> =
        paths.iter().zip(guard.allowed_origins.0).map(|(path, text)| origin(path, text, review)).collect();
    Some(Guard {
        allowed_hosts: hosts.into_iter().collect::<Option<_>>()?,
        allowed_origins: origins.into_iter().collect::<Option<_>>()?,
        ..Guard::default()
    })
}

/// A web origin as a browser writes it (RFC 6454 section 6.2): compared byte for byte with the header.
fn origin(path: &KeyPath, text: String, review: &mut Review<'_>) -> Option<String> {
    let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let Some(url) = url else {
        review.error(
            path,
            "must be a web origin: http or https, a host, and a port where it is not the usual one",
            "write each origin out, such as \"https://app.example.com\"",
        );
        return None;
    };
    let serialised = url.origin().ascii_serialization();
    if serialised != text {
        review.error(
            path,
            "is not written as a browser sends it: lower case, no path, no slash at the end, no usual port",
            format!("write \"{serialised}\""),
        );
        return None;
    }
    Some(text)
}

pub(super) fn log(log: file::Log, review: &mut Review<'_>) -> Option<LogSettings> {
    let path = KeyPath::from("log.level");
    // The filter's own syntax takes a misspelt level for the name of a module, and then nothing is logged.
    let misspelt = log
        .level
        .split(',')
        .map(str::trim)
        .find(|part| !part.contains(['=', '[']) && !LEVELS.contains(&part.to_ascii_lowercase().as_str()));
    if misspelt.is_some() || EnvFilter::try_new(&log.level).is_err() {
        let mend = misspelt
            .and_then(|part| nearest(part, LEVELS))
            .map_or_else(|| "set it to \"info\"".to_owned(), |level| format!("did you mean \"{level}\"?"));
        let what =
            format!("must be one of {}, or a filter such as \"cupbearer=debug,info\"", listed(&LEVELS));
        review.error(&path, what, mend);
        return None;
    }
    let format = match log.format {
        file::LogFormat::Auto => LogFormat::Auto,
        file::LogFormat::Text => LogFormat::Text,
        file::LogFormat::Json => LogFormat::Json,
    };
    Some(LogSettings { format, level: log.level, access: log.access })
}

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
/// The lower bound is hyper's: a smaller buffer makes it panic.
const HEADER_SIZE: std::ops::RangeInclusive<usize> = 8 * 1024..=16 * 1024 * 1024;
const MAX_WORKERS: usize = 1024;
const MAX_STREAMS: usize = 100_000;
const MAX_CONNECTIONS: usize = 10_000_000;
/// The `http` crate's header map holds no more.
const MAX_HEADERS: usize = 24_576;
