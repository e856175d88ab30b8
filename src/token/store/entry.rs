//! What is stored of a token, and how it is written: JSON that carries a version.
//!
//! Times are absolute: `expires_in` means nothing after a restart. Nothing that was never checked gets out of
//! [`decode`]: a file may come from anywhere.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::oauth::{Identity, Lifetime, TokenResponse, TokenType};
use crate::secret::Secret;

use super::withheld::WithheldMark;

/// All that is known of a token which is worth keeping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Of which client at which authorization server it is.
    pub client: Fingerprint,
    /// 1 for the first that was written; each that follows has the next.
    pub generation: u64,
    /// The newest refresh token; `None`: there is none, or the last one was refused.
    pub refresh_token: Option<Secret<String>>,
    /// The configured refresh token that was spent for this; `None`: a login brought it, or no refresh token did.
    pub seed: Option<Fingerprint>,
    /// By what the refresh token was earned, where a grant that can be repeated brought it; `None`: a login did.
    pub earned: Option<Earned>,
    /// The scope that came with the login; a refresh may ask for no more (RFC 6749 section 6). `None`: it is not known.
    pub granted: Option<Vec<String>>,
    /// The newest access token.
    pub access: Option<StoredAccess>,
    /// The key in PKCS #8 that the tokens are bound to (RFC 9449), where it was made and not configured.
    pub dpop_key: Option<Secret<Vec<u8>>>,
    /// Who logged in, where the server said so.
    pub user: Option<Identity>,
    /// The ID token of the login: what a logout shows the server to end that very session.
    pub id_token: Option<Secret<String>>,
    /// The password that was refused too often to be sent again.
    pub withheld: Option<WithheldMark>,
    /// A password was refused, and may be sent once more.
    pub refused_once: bool,
    /// When it was written.
    pub written: SystemTime,
}

/// What a grant that can be repeated (a password, an assertion, an exchange) was asked for when it brought a refresh
/// token. Another request, or another person's, is not answered by that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Earned {
    /// All that was asked for.
    pub request: Fingerprint,
    /// On whose behalf, where the request alone does not say it.
    pub subject: Option<Fingerprint>,
}

impl Earned {
    /// Whether it was the same as `now`, whose subject may be unknown.
    #[must_use]
    pub(crate) fn is(self, now: Self) -> bool {
        self.request == now.request && (now.subject.is_none() || self.subject == now.subject)
    }
}

/// An access token, and how long it is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredAccess {
    /// What was asked for, to the last parameter: another request is not answered by this token.
    pub request: Fingerprint,
    /// The token.
    pub token: Secret<String>,
    /// What the server said of its type.
    pub token_type: TokenType,
    /// When it was asked for.
    pub asked: SystemTime,
    /// When it expires; `None`: nothing says so, and the configured default counts from `asked`.
    pub expires: Option<SystemTime>,
    /// The key's thumbprint that it is bound to (RFC 9449); `None`: to none.
    pub bound_to: Option<Fingerprint>,
    /// The scope granted, where the server said so.
    pub scope: Option<Vec<String>>,
    /// When the refresh token that came with it ends, where the server said so.
    pub login_ends: Option<SystemTime>,
}

/// A SHA-256 hash: tells two things apart without keeping them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of parts in their order; each counts with its length, so that no two lists are alike.
    pub(crate) fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        Self(bytes)
    }

    /// Of a secret.
    #[must_use]
    pub(crate) fn of_secret(secret: &Secret<String>) -> Self {
        Self::of([secret.expose().as_bytes()])
    }

    pub(super) const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn encode(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    pub(super) fn decode(text: &str) -> Option<Self> {
        Some(Self(URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?))
    }
}

/// A hash of something short can be searched for: it is not shown whole.
impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({}..)", &self.encode()[..6])
    }
}

/// Why what was found is not an entry of ours. It was set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flaw {
    /// It is not what this program writes, or only a part of it.
    #[error("it is damaged or was written by something else")]
    Corrupt,
    /// A later release wrote it.
    #[error("a later release of this program wrote it")]
    Newer,
    /// It is of another client or another authorization server.
    #[error("it is of another client or another authorization server")]
    Foreign,
    /// A symbolic link or another thing that is no file stands in its place.
    #[error("it is no regular file")]
    NotAFile,
    /// It is for a token of another name, or was changed after it was encrypted.
    #[error("it was changed, or it is of a token with another name")]
    Tampered,
}

impl Flaw {
    /// One word, for a file's name.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Corrupt => "corrupt",
            Self::Newer => "newer",
            Self::Foreign => "foreign",
            Self::NotAFile => "no-file",
            Self::Tampered => "tampered",
        }
    }
}

impl Entry {
    /// What a login puts into the store, `seed` being the hash of the configured refresh token where there is one: so
    /// that one does not win over the login.
    #[must_use]
    pub(crate) fn empty(client: Fingerprint) -> Self {
        Self {
            client,
            generation: 0,
            refresh_token: None,
            seed: None,
            earned: None,
            granted: None,
            access: None,
            dpop_key: None,
            user: None,
            id_token: None,
            withheld: None,
            refused_once: false,
            written: crate::clock::wall(),
        }
    }

    /// As it is written.
    pub(in crate::token) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let access = self.access.as_ref();
        let dpop_key = self.dpop_key.as_ref().map(|key| Zeroizing::new(URL_SAFE_NO_PAD.encode(key.expose())));
        let written = Outgoing {
            version: VERSION,
            client: self.client.encode(),
            generation: self.generation,
            refresh_token: self.refresh_token.as_ref().map(|token| token.expose().as_str()),
            seed: self.seed.map(Fingerprint::encode),
            earned_by: self.earned.map(|earned| earned.request.encode()),
            earned_for: self.earned.and_then(|earned| earned.subject).map(Fingerprint::encode),
            granted: self.granted.as_deref(),
            access_token: access.map(|access| access.token.expose().as_str()),
            token_type: access.and_then(|access| type_name(access.token_type)),
            request: access.map(|access| access.request.encode()),
            asked_at: access.map(|access| seconds(access.asked)),
            asked_at_ms: access.map(|access| milliseconds(access.asked)),
            expires_at: access.and_then(|access| access.expires).map(seconds),
            expires_at_ms: access.and_then(|access| access.expires).map(milliseconds),
            bound_to: access.and_then(|access| access.bound_to).map(Fingerprint::encode),
            scope: access.and_then(|access| access.scope.as_deref()),
            login_ends_at: access.and_then(|access| access.login_ends).map(seconds),
            dpop_key: dpop_key.as_deref().map(String::as_str),
            user: self.user.as_ref().map(Identity::as_str),
            subject: self.user.as_ref().map(Identity::subject),
            id_token: self.id_token.as_ref().map(|token| token.expose().as_str()),
            withheld: self.withheld.map(WithheldMark::encode),
            password_refused: self.refused_once,
            written_at: seconds(self.written),
        };
        // Room for all of it: a buffer that grows leaves copies behind that are not zeroed.
        let long = |text: Option<&str>| text.map_or(0, |text| 6 * text.len());
        let scopes = [written.scope, written.granted].into_iter().flatten().flatten();
        let scope: usize = scopes.map(|scope| 6 * scope.len() + 3).sum();
        let room = long(written.refresh_token)
            + long(written.access_token)
            + long(written.dpop_key)
            + scope
            + long(written.user)
            + long(written.subject)
            + long(written.id_token);
        let mut bytes = Zeroizing::new(Vec::with_capacity(room + FRAME_BYTES));
        serde_json::to_writer(&mut *bytes, &written).expect("strings and numbers are JSON");
        bytes.push(b'\n');
        bytes
    }
}

impl StoredAccess {
    /// A token that has just been had.
    pub(crate) fn of(
        response: &TokenResponse,
        request: Fingerprint,
        asked: SystemTime,
        bound_to: Option<Fingerprint>,
    ) -> Self {
        let expires = match response.lifetime {
            Lifetime::ExpiresIn(lifetime) => asked.checked_add(lifetime),
            Lifetime::ExpiresAt(at) => Some(at),
            Lifetime::NoTime(_) => Some(asked),
            Lifetime::Unknown | Lifetime::Unbounded => None,
        };
        Self {
            request,
            token: response.access_token.clone(),
            token_type: response.token_type,
            asked,
            expires,
            bound_to,
            scope: response.scope.clone(),
            login_ends: response.refresh_expires_in.and_then(|life| asked.checked_add(life)),
        }
    }

    /// The same as an answer of the server.
    pub(crate) fn response(&self) -> TokenResponse {
        TokenResponse {
            token_type: self.token_type,
            scope: self.scope.clone(),
            refresh_expires_in: self.login_ends.and_then(|at| at.duration_since(self.asked).ok()),
            ..TokenResponse::bearer(
                self.token.clone(),
                self.expires.map_or(Lifetime::Unknown, Lifetime::ExpiresAt),
            )
        }
    }
}

/// Reads an entry.
///
/// # Errors
/// [`Flaw`], which says nothing of what is in it.
pub(crate) fn decode(bytes: &[u8]) -> Result<Entry, Flaw> {
    let Tagged { version } = serde_json::from_slice(bytes).map_err(|_| Flaw::Corrupt)?;
    match version {
        VERSION => {}
        0 => return Err(Flaw::Corrupt),
        _ => return Err(Flaw::Newer),
    }
    // The strings of `Read` go into `Secret`s as they are: no copy of them stays behind.
    let read: Read = serde_json::from_slice(bytes).map_err(|_| Flaw::Corrupt)?;
    entry(read).ok_or(Flaw::Corrupt)
}

fn entry(read: Read) -> Option<Entry> {
    let refresh_token = read.refresh_token.map(Secret::new);
    let token = read.access_token.map(Secret::new);
    let dpop_key = read.dpop_key.map(Zeroizing::new);
    let access = match token {
        None => None,
        Some(token) => {
            // What a server may not send, a file may not bring either: it would write headers of its own.
            if token.expose().is_empty() || !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
                return None;
            }
            Some(StoredAccess {
                request: Fingerprint::decode(&read.request?)?,
                token,
                token_type: type_of(read.token_type.as_deref())?,
                asked: precise(read.asked_at?, read.asked_at_ms)?,
                expires: match read.expires_at {
                    Some(at) => Some(precise(at, read.expires_at_ms)?),
                    None => None,
                },
                bound_to: match read.bound_to {
                    Some(thumbprint) => Some(Fingerprint::decode(&thumbprint)?),
                    None => None,
                },
                scope: read.scope,
                login_ends: match read.login_ends_at {
                    Some(at) => Some(time(at)?),
                    None => None,
                },
            })
        }
    };
    if refresh_token.as_ref().is_some_and(|token| token.expose().is_empty()) {
        return None;
    }
    Some(Entry {
        client: Fingerprint::decode(&read.client)?,
        generation: read.generation,
        refresh_token,
        seed: match read.seed {
            Some(seed) => Some(Fingerprint::decode(&seed)?),
            None => None,
        },
        earned: match read.earned_by {
            Some(request) => Some(Earned {
                request: Fingerprint::decode(&request)?,
                subject: match read.earned_for {
                    Some(subject) => Some(Fingerprint::decode(&subject)?),
                    None => None,
                },
            }),
            None => None,
        },
        granted: read.granted,
        access,
        dpop_key: match dpop_key {
            Some(key) => Some(Secret::new(URL_SAFE_NO_PAD.decode(key.as_bytes()).ok()?)),
            None => None,
        },
        id_token: read.id_token.map(Secret::new),
        withheld: match read.withheld {
            Some(mark) => Some(WithheldMark::decode(&mark)?),
            None => None,
        },
        refused_once: read.password_refused,
        user: read.user.map(|words| Identity::stored(&words, read.subject.unwrap_or_default())),
        written: time(read.written_at)?,
    })
}

#[derive(Deserialize)]
struct Tagged {
    version: u64,
}

#[derive(Serialize)]
struct Outgoing<'a> {
    version: u64,
    client: String,
    generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    earned_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    earned_for: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    granted: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<String>,
    /// In whole seconds, for releases that know no others.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asked_at_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bound_to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    login_ends_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dpop_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    withheld: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    password_refused: bool,
    written_at: u64,
}

#[derive(Deserialize)]
struct Read {
    client: String,
    generation: u64,
    refresh_token: Option<String>,
    seed: Option<String>,
    earned_by: Option<String>,
    earned_for: Option<String>,
    granted: Option<Vec<String>>,
    access_token: Option<String>,
    token_type: Option<String>,
    request: Option<String>,
    asked_at: Option<u64>,
    asked_at_ms: Option<u64>,
    expires_at: Option<u64>,
    expires_at_ms: Option<u64>,
    bound_to: Option<String>,
    scope: Option<Vec<String>>,
    login_ends_at: Option<u64>,
    dpop_key: Option<String>,
    user: Option<String>,
    subject: Option<String>,
    id_token: Option<String>,
    withheld: Option<String>,
    #[serde(default)]
    password_refused: bool,
    written_at: u64,
}

const fn type_name(token_type: TokenType) -> Option<&'static str> {
    match token_type {
        TokenType::Bearer => Some("Bearer"),
        TokenType::Dpop => Some("DPoP"),
        TokenType::Assumed => None,
    }
}

fn type_of(name: Option<&str>) -> Option<TokenType> {
    match name {
        Some("Bearer") => Some(TokenType::Bearer),
        Some("DPoP") => Some(TokenType::Dpop),
        None => Some(TokenType::Assumed),
        Some(_) => None,
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn milliseconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A time to the millisecond, where the entry has it: a token of two seconds that counts whole seconds is renewed by
/// each of the processes that share it.
fn precise(seconds: u64, milliseconds: Option<u64>) -> Option<SystemTime> {
    let whole = time(seconds)?;
    let fraction =
        milliseconds.filter(|precise| precise / 1000 == seconds).map_or(0, |precise| precise % 1000);
    whole.checked_add(Duration::from_millis(fraction))
}

fn time(seconds: u64) -> Option<SystemTime> {
    if seconds > MAX_UNIX_SECONDS {
        return None;
    }
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// What this release writes and reads.
const VERSION: u64 = 1;

/// The end of the year 9999: no sum of clocks overflows.
const MAX_UNIX_SECONDS: u64 = 253_402_300_799;

/// More than names, hashes and numbers of an entry take.
const FRAME_BYTES: usize = 1024;

#[cfg(test)]
pub(in crate::token) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::token) fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    pub(in crate::token) fn print(text: &str) -> Fingerprint {
        Fingerprint::of([text.as_bytes()])
    }

    pub(in crate::token) fn full() -> Entry {
        Entry {
            client: print("client"),
            generation: 7,
            refresh_token: Some(secret("sentinel-refresh")),
            seed: Some(print("seed")),
            earned: Some(Earned { request: print("request"), subject: Some(print("subject")) }),
            granted: Some(vec!["orders:read".to_owned()]),
            access: Some(StoredAccess {
                request: print("request"),
                token: secret("sentinel-access"),
                token_type: TokenType::Bearer,
                asked: time(1_800_000_000).unwrap(),
                expires: time(1_800_003_600),
                bound_to: Some(print("thumbprint")),
                scope: Some(vec!["orders:read".to_owned()]),
                login_ends: time(1_800_001_800),
            }),
            dpop_key: Some(Secret::new(b"sentinel-key".to_vec())),
            user: Some(Identity::stored("Alice <alice@example.com>", "u1".to_owned())),
            id_token: Some(secret("sentinel-id-token")),
            withheld: WithheldMark::decode(&"A".repeat(64)),
            refused_once: true,
            written: time(1_800_000_001).unwrap(),
        }
    }

    #[test]
    fn an_entry_never_prints_what_it_keeps() {
        let shown = format!("{:?} {:#?}", full(), full());
        assert!(!shown.contains("sentinel"), "{shown}");
        assert!(!shown.contains(&format!("{:?}", b"sentinel-key")), "{shown}");
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let entry = full();
        assert_eq!(decode(&entry.encode()), Ok(entry.clone()));
        let bare = Entry { written: time(3).unwrap(), ..Entry::empty(print("c")) };
        assert_eq!(decode(&bare.encode()), Ok(bare));
        let text = String::from_utf8(entry.encode().to_vec()).unwrap();
        assert!(text.contains(r#""expires_at":1800003600"#) && !text.contains("expires_in"), "{text}");
    }

    fn at(milliseconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(milliseconds)
    }

    #[test]
    fn times_are_kept_to_the_millisecond_and_older_entries_are_read() {
        let mut entry = full();
        let access = entry.access.as_mut().unwrap();
        (access.asked, access.expires) = (at(1_800_000_000_250), Some(at(1_800_000_002_125)));
        let text = String::from_utf8(entry.encode().to_vec()).unwrap();
        assert_eq!(decode(text.as_bytes()), Ok(entry.clone()));
        // As a release wrote it that knew seconds alone, and as one left it that changed those alone.
        let older = text
            .replace(r#","asked_at_ms":1800000000250"#, "")
            .replace(r#","expires_at_ms":1800000002125"#, "");
        let foreign =
            text.replace("1800000000250", "1700000000250").replace("1800000002125", "18446744073709551615");
        for text in [older, foreign] {
            let access = decode(text.as_bytes()).unwrap().access.unwrap();
            assert_eq!((access.asked, access.expires), (at(1_800_000_000_000), Some(at(1_800_000_002_000))));
        }
    }

    #[test]
    fn a_refresh_token_is_used_for_the_request_and_the_subject_that_earned_it() {
        let earned =
            |request, subject: Option<&str>| Earned { request: print(request), subject: subject.map(print) };
        for (was, now, want) in [
            (earned("r", None), earned("r", None), true),
            (earned("r", Some("alice")), earned("r", Some("alice")), true),
            // Who it is cannot be read now.
            (earned("r", Some("alice")), earned("r", None), true),
            (earned("r", Some("alice")), earned("r", Some("bob")), false),
            (earned("r", None), earned("r", Some("bob")), false),
            (earned("other", Some("alice")), earned("r", Some("alice")), false),
        ] {
            assert_eq!(was.is(now), want, "{was:?} {now:?}");
        }
    }

    #[test]
    fn what_is_not_ours_is_told_apart() {
        let whole = full().encode();
        for end in 0..whole.len() - 1 {
            assert_eq!(decode(&whole[..end]), Err(Flaw::Corrupt), "{end}");
        }
        assert_eq!(decode(br#"{"version":2,"what":"ever"}"#), Err(Flaw::Newer));
        assert_eq!(decode(br#"{"version":0}"#), Err(Flaw::Corrupt));
        let text = String::from_utf8(whole.to_vec()).unwrap();
        for (from, to) in [
            ("sentinel-access", "a\\r\\nx-evil: 1"),
            ("sentinel-access", ""),
            ("1800003600", "18446744073709551615"),
            ("\"Bearer\"", "\"mac\""),
            ("sentinel-refresh", ""),
        ] {
            assert_eq!(decode(text.replace(from, to).as_bytes()), Err(Flaw::Corrupt), "{from} -> {to}");
        }
    }

    #[test]
    fn lists_that_read_alike_have_other_fingerprints() {
        let of = |parts: &[&str]| Fingerprint::of(parts.iter().map(|part| part.as_bytes()));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["a", ""]), of(&["a"]));
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn reading_something_like_an_entry_never_panics(at in 0usize..500, byte in any::<u8>()) {
            let mut bytes = full().encode().to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = decode(&bytes);
        }

        #[test]
        fn what_is_written_is_read(
            generation in any::<u64>(),
            refresh in proptest::option::of("\\PC{1,80}"),
            token in "[!-~]{1,80}",
            asked in 0..MAX_UNIX_SECONDS * 1000,
            expires in proptest::option::of(0..MAX_UNIX_SECONDS * 1000),
            scope in proptest::option::of(proptest::collection::vec("\\PC{0,20}", 0..4)),
            key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
        ) {
            let entry = Entry {
                generation,
                refresh_token: refresh.map(Secret::new),
                dpop_key: key.map(Secret::new),
                access: Some(StoredAccess {
                    token: Secret::new(token),
                    token_type: TokenType::Assumed,
                    asked: at(asked),
                    expires: expires.map(at),
                    bound_to: None,
                    scope,
                    login_ends: expires.and_then(time),
                    request: print("r"),
                }),
                ..full()
            };
            let bytes = entry.encode();
            prop_assert_eq!(decode(&bytes), Ok(entry));
        }
    }
}
