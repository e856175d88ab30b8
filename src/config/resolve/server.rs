//! `[server]` without its addresses, and `[log]`.

use std::time::Duration;

use super::certificates::{Pair, ca_file};
use super::{Zero, duration, listen, number};
use crate::config::file::{self, Bytes, Period, Server};
use crate::config::findings::Review;
use crate::config::problem::KeyPath;
use crate::config::secret_ref::Variables;
use crate::config::shape::{listed, nearest};
use crate::proxy::{MemoryLimit, ServerSettings, ServerTls};
use crate::telemetry::{self, AccessLog, LogSettings};

/// The limits alone.
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
        max_resets: number(&at("max_resets"), server.max_resets, 1..=MAX_RESETS, review),
        workers: (workers > 0).then_some(workers),
        max_connections: number(&at("max_connections"), server.max_connections, 1..=MAX_CONNECTIONS, review),
        memory_limit: memory_limit(server.memory_limit, &at("memory_limit"), review),
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
        half_close: server.half_close,
        max_streams: u32::try_from(streams).unwrap_or(u32::MAX),
        drain_delay: duration(&at("drain_delay"), server.drain_delay, Zero::Allowed, review),
        drain_timeout: duration(&at("drain_timeout"), server.drain_timeout, Zero::Allowed, review),
    }
}

/// That the end takes longer than whatever runs the program waits for it before it kills it.
pub(super) fn fits_grace_period(
    settings: &ServerSettings,
    variables: &Variables<'_>,
    review: &mut Review<'_>,
) {
    let (grace, source) =
        match variables.value(GRACE_PERIOD).map(|text| text.to_str().and_then(Period::parse)) {
            Some(Some(Period(grace))) => (grace, GRACE_PERIOD),
            Some(None) => {
                let what = format!("{GRACE_PERIOD} must be a duration such as \"30s\"");
                review.warning(&KeyPath::from("server.drain_delay"), what, "write it as in \"30s\"");
                return;
            }
            // Without a delay the defaults fit, and a longer `drain_timeout` is seldom used up.
            None if settings.drain_delay.is_zero() => return,
            None if variables.value(IN_KUBERNETES).is_some() => (POD_GRACE_PERIOD, "a pod's default"),
            None => return,
        };
    let end = settings.drain_delay + settings.drain_timeout;
    if end > grace {
        let (end, grace) = (Period(end), Period(grace));
        review.warning(
            &KeyPath::from("server.drain_delay"),
            format!("`drain_delay` and `drain_timeout` together take up to {end}, and the grace period is {grace} ({source})"),
            format!("make them shorter, or the grace period longer (terminationGracePeriodSeconds), and {GRACE_PERIOD} as long"),
        );
    }
}

fn memory_limit(limit: file::MemoryLimit, path: &KeyPath, review: &mut Review<'_>) -> MemoryLimit {
    match limit {
        file::MemoryLimit::Auto => MemoryLimit::Auto,
        file::MemoryLimit::None => MemoryLimit::None,
        file::MemoryLimit::Size(Bytes(bytes)) => {
            if bytes < LEAST_MEMORY {
                let what = format!(
                    "must be at least {}, not {limit}: with less, a few slow readers hold up all other requests",
                    Bytes(LEAST_MEMORY)
                );
                review.error(path, what, "set it to \"auto\"");
            }
            MemoryLimit::Bytes(bytes)
        }
    }
}

/// `tls`. `Err`: something was reported.
pub(super) fn tls(server: &Server, review: &mut Review<'_>) -> Result<Option<ServerTls>, ()> {
    let path = KeyPath::from("server.tls");
    let Some(tls) = &server.tls else {
        return if review.is_spoken_for(&path) { Err(()) } else { Ok(None) };
    };
    if listen::has_socket(server) && !listen::has_address(server) {
        let what = "has no meaning: only Unix sockets are listened on, and those stay plain";
        review.error(&path, what, "take it out, or add an address to `listen`");
        return Err(());
    }
    let pair = Pair {
        whose: "the proxy's",
        cert: (path.key("cert_file"), tls.cert_file.as_deref()),
        key: (path.key("key_file"), tls.key_file.as_deref()),
    };
    if pair.is_empty() {
        for (key, what) in
            [(&pair.cert.0, "TLS needs a certificate"), (&pair.key.0, "TLS needs a private key")]
        {
            review.missing(key, what, review.set(key));
        }
    }
    let loaded = pair.load(review);
    let client_ca_file = ca_file(&path.key("client_ca_file"), tls.client_ca_file.as_deref(), review)?;
    let certificate = loaded?.ok_or(())?;
    Ok(Some(ServerTls { cert_file: certificate.cert_file, key_file: certificate.key_file, client_ca_file }))
}

pub(super) fn log(log: file::Log, review: &mut Review<'_>) -> Option<LogSettings> {
    let path = KeyPath::from("log.level");
    // The filter's own syntax takes a misspelt level for the name of a module, and then nothing is logged.
    let misspelt = log
        .level
        .split(',')
        .map(str::trim)
        .find(|part| !part.contains(['=', '[']) && !LEVELS.contains(&part.to_ascii_lowercase().as_str()));
    if misspelt.is_some() || telemetry::filter(&log.level).is_none() {
        let help = misspelt
            .and_then(|part| nearest(part, LEVELS))
            .map_or_else(|| "set it to \"info\"".to_owned(), |level| format!("did you mean \"{level}\"?"));
        let what =
            format!("must be one of {}, or a filter such as \"cupbearer=debug,info\"", listed(&LEVELS));
        review.error(&path, what, help);
        return None;
    }
    let format = log.format;
    let at = |key| KeyPath::from("log").key(key);
    let sample = at("access_sample");
    if !(0.0..=1.0).contains(&log.access_sample) {
        review.error(
            &sample,
            "must be from 0 to 1",
            format!("{} to a share such as 0.01", review.set(&sample)),
        );
    }
    let slow = duration(&at("access_slow"), log.access_slow, Zero::Refused, review);
    for path in [sample, at("access_slow")] {
        if !log.access && review.is_given(&path) {
            let access = at("access");
            let help = format!("{} to true, or take it out", review.set(&access));
            review.warning(&path, "has no effect, as requests get no line", help);
        }
    }
    let access = log.access.then_some(AccessLog { sample: log.access_sample, slow });
    Some(LogSettings { format, level: log.level, access })
}

/// How long whatever runs the program waits for its end before it kills it: a variable that manifests set.
const GRACE_PERIOD: &str = "CUPBEARER_GRACE_PERIOD";
/// Kubernetes sets it in every container.
const IN_KUBERNETES: &str = "KUBERNETES_SERVICE_HOST";
/// `terminationGracePeriodSeconds` of a pod that does not set it.
const POD_GRACE_PERIOD: Duration = Duration::from_secs(30);
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
/// The lower bound is hyper's: a smaller buffer makes it panic.
const HEADER_SIZE: std::ops::RangeInclusive<usize> = 8 * 1024..=16 * 1024 * 1024;
/// With less, hardly a request at a time gets through.
const LEAST_MEMORY: usize = 8 * 1024 * 1024;
const MAX_WORKERS: usize = 1024;
const MAX_STREAMS: usize = 100_000;
const MAX_RESETS: usize = 1_000_000;
const MAX_CONNECTIONS: usize = 10_000_000;
/// The `http` crate's header map holds no more.
const MAX_HEADERS: usize = 24_576;
