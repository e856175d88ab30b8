//! From the mirror of the file to the domain's own types, with every check of a value and every check of two values
//! against each other.

mod address;
mod certificates;
mod control;
mod guard;
mod limits;
mod listen;
mod proxy;
mod recovery;
mod route;
mod server;
mod socket;
mod store;
mod telemetry;
mod token;
mod upstream;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Options;
use super::file::{File, Grant, Period};
use super::findings::Review;
use super::problem::KeyPath;
use super::secret_ref::Variables;
use crate::control::{Access, ControlSettings};
use crate::health::HealthSettings;
use crate::proxy::{Guard, ListenAddress, Route, ServerSettings, ServerTls, UpstreamSettings};
use crate::secret::SecretSource;
use crate::telemetry::LogSettings;
use crate::token::{GrantSettings, StoreSettings, TokenSettings};
use crate::traces::TracesSettings;

pub(super) use listen::Listeners;

/// The whole configuration, resolved. Its parts are comparable one by one, so that a reload keeps what did not
/// change.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    /// How the proxy listens.
    pub server: ServerSettings,
    /// Where `/livez`, `/readyz` and `/metrics` are, and what the second waits for.
    pub health: HealthSettings,
    /// Where `/status` and the commands are.
    pub control: ControlSettings,
    /// Who may use the proxy.
    pub guard: Guard,
    /// The file that the guard's secrets were read from; one that has changed counts from a reload.
    pub guard_secret_file: Option<PathBuf>,
    /// The protected APIs, by name.
    pub upstreams: BTreeMap<String, UpstreamSettings>,
    /// The tokens, by name.
    pub tokens: BTreeMap<String, TokenSettings>,
    /// Where tokens outlive a restart.
    pub store: StoreSettings,
    /// First match wins. Each names an upstream, and a token or none, that is in here.
    pub routes: Vec<Route>,
    /// What is logged.
    pub log: LogSettings,
    /// What is recorded of traces.
    pub traces: TracesSettings,
}

impl Settings {
    /// The files that the settings name, each once: secrets, certificates and their authorities.
    #[must_use]
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let store = match &self.store {
            StoreSettings::Memory => None,
            StoreSettings::File(folder) | StoreSettings::Keyring(folder) => folder.encryption_key.as_ref(),
        };
        let store = store.and_then(SecretSource::file);
        let tokens = self.tokens.values().flat_map(TokenSettings::files);
        let mut files: Vec<PathBuf> = tokens.chain(store).map(Path::to_owned).collect();
        files.extend(self.certificate_files());
        files.extend(self.guard_secret_file.clone());
        files.sort();
        files.dedup();
        files
    }

    /// Who may use the proxy: whatever restricts that restricts the control surface too. A key counts where it keeps users
    /// from a listener, and none does while another listener lets every user in.
    #[must_use]
    pub(crate) fn access(&self) -> Access {
        let Guard { shared_secrets, allowed_uids, allowed_subjects, .. } = &self.guard;
        let secret_key =
            if self.guard_secret_file.is_some() { "guard.shared_secret_file" } else { "guard.shared_secret" };
        let secret = !shared_secrets.is_empty();
        let addresses = &self.server.listen;
        let has_tcp = addresses.iter().any(|address| address.tcp().is_some());
        let modes = addresses.iter().filter_map(ListenAddress::unix_mode);
        let has_socket = modes.clone().next().is_some();
        let others_connect = modes.clone().any(|mode| mode & listen::OTHERS_WRITE != 0);
        // TLS is of the TCP listeners, and users are those of Unix sockets.
        let mutual_tls = has_tcp && self.server.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
        let uids = has_socket && !allowed_uids.is_empty();
        let restricted_by = [
            (secret, secret_key),
            (uids, "guard.allowed_uids"),
            (mutual_tls && !allowed_subjects.is_empty(), "guard.allowed_subjects"),
            (mutual_tls, "server.tls.client_ca_file"),
            (has_socket && !has_tcp && !others_connect, "server.listen, on Unix sockets alone,"),
        ];
        let open = !secret && (has_tcp && !mutual_tls || has_socket && others_connect && !uids);
        let restricted_by = restricted_by.into_iter().filter(|(is, _)| *is && !open);
        Access {
            restricted_by: restricted_by.map(|(_, key)| key).collect(),
            allowed_uids: allowed_uids.clone(),
            serves_group: !secret && modes.clone().any(|mode| mode & listen::GROUP_WRITE != 0),
        }
    }

    /// Those that connections are made of, as they were when they were made: certificates, their keys, authorities.
    #[must_use]
    pub(crate) fn certificate_files(&self) -> Vec<PathBuf> {
        let upstreams = self.upstreams.values().flat_map(UpstreamSettings::files);
        let servers = self.tokens.values().filter_map(TokenSettings::server);
        let transports = servers.flat_map(|origin| origin.server.transport.files());
        let listeners = self.server.tls.iter().flat_map(ServerTls::files);
        upstreams.chain(transports).chain(listeners).map(Path::to_owned).collect()
    }
}

/// Resolves `file`; what is wrong goes to `review`. `None` only where something was.
pub(super) fn resolve(
    file: File,
    review: &mut Review<'_>,
    options: Options,
    variables: &Variables<'_>,
) -> Option<Settings> {
    let File { server, health, control, guard, upstreams, tokens, store, routes, log, telemetry } = file;
    let listeners = listen::resolve(&server, &health, &control, &guard, review);
    let limits = server::limits(&server, review);
    server::fits_grace_period(&limits, variables, review);
    let tls = server::tls(&server, review);
    let guard = guard::resolve(guard, &server, &control, variables, review);
    let log = server::log(log, review);
    let traces = telemetry::resolve(&telemetry, options, variables, review);
    let names = route::Names::new(&upstreams, &tokens);
    let logins =
        tokens.values().any(|token| matches!(token.grant, Grant::AuthorizationCode | Grant::DeviceCode));
    let store = store::resolve(&store, logins, variables, review);
    token::exchange::check_all(&tokens, &routes, review);
    let upstreams = named("upstreams", upstreams, review, |path, upstream, review| {
        upstream::resolve(path, &upstream, &listeners.proxy, options, review)
    });
    let tokens = named("tokens", tokens, review, |path, token, review| {
        token::resolve(path, &token, options, variables, review)
    });
    if let (Some(tokens), Some(StoreSettings::Memory)) = (&tokens, &store) {
        logins_have_a_beginning(tokens, review);
    }
    let routes = route::resolve(routes, &names, review);
    let guard = guard?;
    let settings = Settings {
        server: ServerSettings { listen: listeners.proxy, tls: tls.ok()?, ..limits },
        health: listeners.health?,
        control: listeners.control?,
        guard: guard.guard,
        guard_secret_file: guard.secret_file,
        upstreams: upstreams?,
        tokens: tokens?,
        store: store?,
        routes: routes?,
        log: log?,
        traces: traces?,
    };
    control::as_restricted_as_the_proxy(&settings, review);
    control::serves_logins(&settings, review);
    route::suit_their_upstreams(&settings, review);
    Some(settings)
}

/// The listeners of `file` alone.
pub(super) fn listeners(file: &File, review: &mut Review<'_>) -> Listeners {
    listen::resolve(&file.server, &file.health, &file.control, &file.guard, review)
}

/// A refresh token comes from the configuration, or out of a store that another process has put it into.
fn logins_have_a_beginning(tokens: &BTreeMap<String, TokenSettings>, review: &mut Review<'_>) {
    for (name, token) in tokens {
        let seedless = token
            .server()
            .is_some_and(|origin| matches!(origin.grant, GrantSettings::RefreshToken { seed: None }));
        let path = KeyPath::from("tokens").key(name).key("refresh_token_file");
        if seedless && !review.is_spoken_for(&path) {
            let help =
                format!("{}, or `kind` in [store] to \"file\" and put a login into it", review.set(&path));
            review.missing(
                &path,
                "there is no refresh token to begin with, and the store outlives no restart",
                help,
            );
        }
    }
}

/// Resolves every entry of a table of named things, the ones after a broken one too.
fn named<F, T>(
    section: &str,
    entries: BTreeMap<String, F>,
    review: &mut Review<'_>,
    mut resolve: impl FnMut(&KeyPath, F, &mut Review<'_>) -> Option<T>,
) -> Option<BTreeMap<String, T>> {
    let section = KeyPath::from(section);
    let mut all = Some(BTreeMap::new());
    for (name, entry) in entries {
        let path = section.key(&name);
        if !is_name(&name) {
            review.error(
                &path,
                format!("a name has 1 to {MAX_NAME_CHARS} letters, digits, - and _, and \"none\" is none"),
                "give it another name, here and in the routes",
            );
        }
        match (resolve(&path, entry, review), &mut all) {
            (Some(resolved), Some(entries)) => {
                entries.insert(name, resolved);
            }
            _ => all = None,
        }
    }
    all
}

/// Names stand in metrics' labels, in URLs of the control listener and in variables' names.
fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (1..=MAX_NAME_CHARS).contains(&name.len()) && name.chars().all(fits) && name != route::NO_TOKEN
}

/// Whether a duration may be zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Zero {
    Allowed,
    Refused,
}

/// A duration within what makes sense.
fn duration(path: &KeyPath, Period(value): Period, zero: Zero, review: &mut Review<'_>) -> Duration {
    if value.is_zero() && zero == Zero::Refused {
        review.error(path, "must be above 0s", format!("{} to a duration such as \"5s\"", review.set(path)));
    } else if value > MAX_DURATION {
        let what = format!("must be at most {}, not {}", Period(MAX_DURATION), Period(value));
        review.error(path, what, "set it to something shorter");
    }
    value
}

/// A number within what makes sense.
fn number(
    path: &KeyPath,
    value: usize,
    range: std::ops::RangeInclusive<usize>,
    review: &mut Review<'_>,
) -> usize {
    if !range.contains(&value) {
        let what = format!("must be from {} to {}, not {value}", range.start(), range.end());
        review.error(path, what, format!("{} to a number in that range", review.set(path)));
    }
    value
}

const MAX_NAME_CHARS: usize = 63;
/// Far above any use, and far below where adding one to an instant could overflow.
const MAX_DURATION: Duration = Duration::from_hours(30 * 24);
