//! `[guard]`: who may use the proxy.

use std::path::{Path, PathBuf};

use url::Url;

use super::{address, control, listen};
use crate::config::file::{self, Control, Server};
use crate::config::findings::Review;
use crate::config::problem::KeyPath;
use crate::config::secret_ref::{Variables, Wanted, Written};
use crate::net::host_policy::is_loopback_host;
use crate::net::names::{Subject, SubjectFault};
use crate::net::unix_peer::{self, UidMap};
use crate::proxy::Guard;
use crate::secret::Secret;

/// The guard, and the file that its secrets are in.
pub(super) struct Guarded {
    pub(super) guard: Guard,
    pub(super) secret_file: Option<PathBuf>,
}

pub(super) fn resolve(
    guard: file::Guard,
    server: &Server,
    control: &Control,
    variables: &Variables<'_>,
    review: &mut Review<'_>,
) -> Option<Guarded> {
    let section = KeyPath::from("guard");
    let path = section.key("allowed_hosts");
    let paths = review.elements(&path);
    let hosts: Vec<_> = paths
        .iter()
        .zip(&guard.allowed_hosts.0)
        .map(|(path, text)| address::host(path, text, review))
        .collect();
    hosts_are_trustworthy(&paths, &hosts, &guard, server, review);
    let secrets = secrets(&section, &guard, variables, review);
    uids_have_a_socket(&section, &guard, server, control, review);
    let subjects = subjects(&section, &guard, server, review);
    let path = section.key("allowed_origins");
    let paths = review.elements(&path);
    let lists_origins = !guard.allowed_origins.0.is_empty();
    let origins: Vec<_> =
        paths.iter().zip(guard.allowed_origins.0).map(|(path, text)| origin(path, text, review)).collect();
    if guard.allow_credentials && !lists_origins {
        let what = "has no effect: no origin is in `allowed_origins`";
        review.warning(&section.key("allow_credentials"), what, "add the page's origin, or take it out");
    }
    let (shared_secrets, secret_file) = secrets.ok()?;
    Some(Guarded {
        guard: Guard {
            allowed_hosts: hosts.into_iter().collect::<Option<_>>()?,
            allowed_origins: origins.into_iter().collect::<Option<_>>()?,
            allow_credentials: guard.allow_credentials,
            shared_secrets,
            allowed_uids: guard.allowed_uids,
            allowed_subjects: subjects?,
        },
        secret_file,
    })
}

/// The secrets, and the file that they are in. One that is not there is no reason to let everybody in. `Err`: something
/// was reported.
fn secrets(
    section: &KeyPath,
    guard: &file::Guard,
    variables: &Variables<'_>,
    review: &mut Review<'_>,
) -> Result<(Vec<Secret<String>>, Option<PathBuf>), ()> {
    let wanted = Wanted {
        noun: "shared secret",
        owner: "the guard",
        keys: vec![
            ("shared_secret_file", Written::File(guard.shared_secret_file.as_deref())),
            ("shared_secret_env", Written::Env(guard.shared_secret_env.as_deref())),
            ("shared_secret", Written::Inline(guard.shared_secret.as_ref())),
        ],
    };
    let Some((key, source, now)) = wanted.resolve_now(section, variables, review)? else {
        return Ok((Vec::new(), None));
    };
    let lines = now.expose().lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty());
    let secrets: Vec<(usize, Secret<String>)> =
        lines.map(|(number, line)| (number + 1, Secret::new(line.to_owned()))).collect();
    let problem = if secrets.is_empty() {
        Some("holds no shared secret".to_owned())
    } else {
        secrets.iter().find_map(|(number, secret)| {
            let what = fault(secret)?;
            Some(if secrets.len() > 1 {
                format!("the secret in line {number} {what}")
            } else {
                format!("the secret {what}")
            })
        })
    };
    if let Some(what) = problem {
        review.error(&key, what, "make one: openssl rand -hex 32");
        return Err(());
    }
    let file = source.file().map(Path::to_owned);
    Ok((secrets.into_iter().map(|(_, secret)| secret).collect(), file))
}

/// Why no client could send the secret, or any client guess it.
fn fault(secret: &Secret<String>) -> Option<String> {
    if secret.expose().chars().count() < MIN_SECRET_CHARS {
        return Some(format!("is shorter than {MIN_SECRET_CHARS} characters, and could be guessed"));
    }
    let fits = secret.expose().bytes().all(|byte| byte.is_ascii_graphic());
    (!fits).then(|| "has a space or another character that does not belong in a header field".to_owned())
}

/// Warns where a browser cannot say which page caused a request: to it, only TLS and the loopback are trustworthy.
fn hosts_are_trustworthy(
    paths: &[KeyPath],
    hosts: &[Option<String>],
    guard: &file::Guard,
    server: &Server,
    review: &mut Review<'_>,
) {
    let tls = server.tls.is_some() || review.is_spoken_for(&KeyPath::from("server.tls"));
    if tls || guard.asks_for_a_secret() || !listen::has_address(server) || !review.is_whole() {
        return;
    }
    for (path, host) in paths.iter().zip(hosts) {
        if host.as_ref().is_some_and(|host| !is_loopback_host(host)) {
            review.warning(
                path,
                "is reached over plain HTTP, where no browser says which web page caused a request: browsers are refused \
                 as far as they are recognised, by `User-Agent` above all",
                "set `tls` in [server] or `shared_secret_file`; without browsers nearby, leave it",
            );
        }
    }
}

/// A user namespace, such as that of systemd's `PrivateUsers=`, hides who connects.
fn uids_have_a_number_here(path: &KeyPath, uids: &[u32], review: &mut Review<'_>) {
    let (overflow, map) = (unix_peer::overflow_uid(), UidMap::read());
    if uids.contains(&overflow) && map.hides_users() {
        let what = format!("{overflow} stands for every user that has no number in this user namespace");
        review.error(path, what, "list the users themselves, and run the proxy in a namespace that has them");
    }
    let unmapped = uids.iter().filter(|uid| **uid != overflow && !map.has(**uid));
    let unmapped: Vec<_> = unmapped.map(ToString::to_string).collect();
    if !unmapped.is_empty() {
        let what = format!(
            "this process is in a user namespace without {}: the kernel reports such a user as {overflow}, who is refused",
            unmapped.join(", ")
        );
        review.warning(path, what, "run it without one (systemd: PrivateUsers=no; podman: --userns=host)");
    }
}

fn uids_have_a_socket(
    section: &KeyPath,
    guard: &file::Guard,
    server: &Server,
    control: &Control,
    review: &mut Review<'_>,
) {
    let listens = listen::has_socket(server)
        || control::has_socket(control)
        || review.is_spoken_for(&KeyPath::from("server.listen"));
    if guard.allowed_uids.is_empty() || !review.is_whole() {
        return;
    }
    uids_have_a_number_here(&section.key("allowed_uids"), &guard.allowed_uids, review);
    if listen::has_socket(server) && listen::has_address(server) {
        let what = "does not narrow who may connect to the other addresses in `listen`";
        let help = "listen on Unix sockets alone, or set `shared_secret_file` as well";
        if guard.shared_secret_file.is_none() && guard.shared_secret_env.is_none() {
            review.warning(&section.key("allowed_uids"), what, help);
        }
    } else if !listens {
        let what = "has no effect: only who connects to a Unix socket has a user, and none is listened on";
        review.warning(
            &section.key("allowed_uids"),
            what,
            "add \"unix:/path\" to `listen` in [server], or take it out",
        );
    }
}

/// The names, each of its kind: a DNS name is none of a URI's.
fn subjects(
    section: &KeyPath,
    guard: &file::Guard,
    server: &Server,
    review: &mut Review<'_>,
) -> Option<Vec<Subject>> {
    let path = section.key("allowed_subjects");
    let names = &guard.allowed_subjects.0;
    if names.is_empty() {
        return Some(Vec::new());
    }
    let ca = KeyPath::from("server.tls.client_ca_file");
    let asks = server.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
    if !asks && !review.is_spoken_for(&ca) && review.is_whole() {
        let what = "has no meaning where no client certificate is asked for";
        review.error(&path, what, "set `client_ca_file` in [server.tls], or take it out");
        return None;
    }
    let paths = review.elements(&path);
    let parsed: Vec<_> = paths.iter().zip(names).map(|(path, name)| subject(path, name, review)).collect();
    parsed.into_iter().collect()
}

fn subject(path: &KeyPath, name: &str, review: &mut Review<'_>) -> Option<Subject> {
    let parsed = Subject::parse(name);
    let help = match parsed {
        Ok(_) => "",
        Err(SubjectFault::Empty) => "write a name as it stands in the certificate",
        Err(SubjectFault::Wildcard) => "write each name out",
        Err(SubjectFault::Label(_)) => "write the name alone, as in \"spiffe://example.com/orders\"",
        Err(SubjectFault::Form) => {
            "write an alternative name as it stands in the certificate, or \"cn:NAME\" for a common name"
        }
    };
    parsed.map_err(|fault| review.error(path, fault.to_string(), help)).ok()
}

/// A web origin as a browser writes it (RFC 6454 section 6.2): compared byte for byte with the header. Extensions and native
/// shells have schemes of their own.
fn origin(path: &KeyPath, text: String, review: &mut Review<'_>) -> Option<String> {
    if text.contains('*') {
        review.error(path, "has a wildcard, which matches nothing", "write each origin out");
        return None;
    }
    let Some(url) = Url::parse(&text).ok().filter(Url::has_host) else {
        review.error(
            path,
            "must be a web origin: a scheme, a host, and a port where it is not the usual one",
            "write each origin out, such as \"https://app.example.com\" or \"chrome-extension://ID\"",
        );
        return None;
    };
    let serialised = match url.scheme() {
        "http" | "https" => url.origin().ascii_serialization(),
        scheme => {
            let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            format!("{scheme}://{host}{port}")
        }
    };
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

impl file::Guard {
    /// Whether requests must bring a secret.
    pub(super) const fn asks_for_a_secret(&self) -> bool {
        self.shared_secret_file.is_some() || self.shared_secret_env.is_some() || self.shared_secret.is_some()
    }
}

/// In 16 hexadecimal digits there are 64 bits, which cannot be guessed over a network.
const MIN_SECRET_CHARS: usize = 16;
