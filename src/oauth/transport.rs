//! The way to an authorization server: one exchange at a time, bounded in time and size, that follows no redirect.
//!
//! It sends what it is given and hands back status, `Retry-After` and body. What they mean is for `response` and
//! `metadata`.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{DATE, HeaderMap, RETRY_AFTER};
use http::{Request, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use crate::clock;

use super::error::Error;
use super::kind::{Flaw, Kind, Phase, Place, TlsFault};
use super::server::Transport;

/// What keeps an authorization server from being set up at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// `ca_file` cannot be read.
    #[error("the file of certificate authorities {} cannot be read: {kind}", .path.display())]
    CaUnreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// `ca_file` holds no certificate, or a broken one.
    #[error("the file of certificate authorities {} holds no usable PEM certificate", .0.display())]
    CaMalformed(PathBuf),
    /// Neither an issuer nor a token endpoint is named.
    #[error("nothing says where the authorization server is")]
    Nowhere,
    /// The proxy's URL is not one.
    #[error("the proxy on the way to the authorization server is not an http URL")]
    Proxy,
    /// The TLS library refused the settings.
    #[error("the TLS settings for the authorization server were refused")]
    Tls,
}

/// A reqwest client that is set up for secrets.
#[derive(Clone, Debug)]
pub(super) struct Http {
    client: reqwest::Client,
    proxied: bool,
}

/// An answer, whatever its status.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// Capped at [`MAX_RETRY_AFTER`].
    pub(super) retry_after: Option<Duration>,
    /// What the server's clock showed (RFC 9110 section 6.6.1).
    pub(super) date: Option<SystemTime>,
    /// At most [`MAX_BODY_BYTES`].
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl Http {
    /// Blocks while it reads the certificate authorities.
    pub(super) fn new(transport: &Transport) -> Result<Self, ServerError> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(transport)?)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .user_agent(concat!("cupbearer/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(transport.connect_timeout)
            .timeout(transport.timeout)
            .pool_max_idle_per_host(POOL_CONNECTIONS)
            .pool_idle_timeout(POOL_IDLE);
        if let Some(proxy) = &transport.proxy {
            builder = builder.proxy(reqwest::Proxy::all(proxy.clone()).map_err(|_| ServerError::Proxy)?);
        }
        let client = builder.build().map_err(|_| ServerError::Tls)?;
        Ok(Self { client, proxied: transport.proxy.is_some() })
    }

    /// One exchange. The answer is read whole, within the transport's `timeout`.
    pub(super) async fn send(&self, request: Request<Vec<u8>>, place: &Place) -> Result<Answer, Error> {
        let failed = |e: reqwest::Error| Error::at(place.clone(), self.classify(&e));
        let request = reqwest::Request::try_from(request).map_err(failed)?;
        let mut response = self.client.execute(request).await.map_err(failed)?;
        let status = response.status();
        let retry_after = retry_after(response.headers());
        let date = date(response.headers());
        let too_large = || Error::at(place.clone(), Kind::TooLarge).after(retry_after);
        if response.content_length().is_some_and(|length| length > MAX_BODY_BYTES as u64) {
            return Err(too_large());
        }
        let mut body = Zeroizing::new(Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, retry_after, date, body })
    }

    /// What went wrong, of all that a transport's error says. The error itself holds the URL and is dropped.
    fn classify(&self, error: &reqwest::Error) -> Kind {
        if let Some(fault) = find::<rustls::Error>(error) {
            return Kind::Tls(tls_fault(fault));
        }
        if error.is_timeout() {
            return Kind::Timeout(if error.is_connect() { Phase::Connect } else { Phase::Answer });
        }
        if error.is_dns() && !self.proxied {
            return Kind::Dns;
        }
        let io = find::<io::Error>(error).map_or(io::ErrorKind::Other, io::Error::kind);
        if error.is_connect() {
            return if self.proxied { Kind::Proxy } else { Kind::Connect(io) };
        }
        match find::<hyper::Error>(error) {
            Some(e) if e.is_parse() => Kind::Malformed(Flaw::NotHttp),
            _ => Kind::Reset,
        }
    }
}

fn tls(transport: &Transport) -> Result<ClientConfig, ServerError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &transport.ca_file {
        let pem = std::fs::read(path)
            .map_err(|e| ServerError::CaUnreadable { path: path.clone(), kind: e.kind() })?;
        let malformed = || ServerError::CaMalformed(path.clone());
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            roots.add(certificate.map_err(|_| malformed())?).map_err(|_| malformed())?;
        }
        if roots.is_empty() {
            return Err(malformed());
        }
    } else {
        // No roots at all is no error here: a server on loopback needs none, and one that does fails by its name.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    // The provider is named here, so that no default of the process is needed.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| ServerError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

const fn tls_fault(error: &rustls::Error) -> TlsFault {
    use CertificateError as C;
    match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            // A signature is bad where an authority was made anew under its old name.
            C::UnknownIssuer | C::BadSignature => TlsFault::UnknownIssuer,
            C::NotValidForName | C::NotValidForNameContext { .. } => TlsFault::WrongName,
            C::Expired | C::ExpiredContext { .. } => TlsFault::Expired,
            C::NotValidYet | C::NotValidYetContext { .. } => TlsFault::NotYetValid,
            C::Revoked => TlsFault::Revoked,
            _ => TlsFault::Certificate,
        },
        rustls::Error::AlertReceived(_) => TlsFault::Alert,
        rustls::Error::InvalidMessage(_) => TlsFault::NotTls,
        _ => TlsFault::Handshake,
    }
}

/// The first error of type `T` in the chain of causes; an `io::Error` hides what it wraps from `source`.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// `Retry-After` (RFC 9110 section 10.2.3) in seconds or as a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let hold = if value.bytes().all(|b| b.is_ascii_digit()) && !value.is_empty() {
        // More digits than fit are as good as for ever: the cap below answers both.
        value.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        clock::until(httpdate::parse_http_date(value).ok()?)
    };
    (!hold.is_zero()).then(|| hold.min(MAX_RETRY_AFTER))
}

fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()
}

/// Far more than any answer of a token or metadata endpoint; a wrong address may send gigabytes.
pub(super) const MAX_BODY_BYTES: usize = 256 * 1024;

/// No server may keep a token away for longer with one answer.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// As many as the renewer has under way at once: where a thousand tokens are due, connections are used again.
const POOL_CONNECTIONS: usize = 32;

/// Long enough for a token request after discovery; a connection that idles until the next renewal is dead by then.
const POOL_IDLE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.parse().unwrap());
        retry_after(&headers)
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_as_a_date_and_is_capped() {
        assert_eq!(hold("60"), Some(Duration::from_mins(1)));
        assert_eq!(hold("999999999999999999999999"), Some(MAX_RETRY_AFTER));
        assert_eq!(hold("86400"), Some(MAX_RETRY_AFTER));
        let date = httpdate::fmt_http_date(clock::wall() + Duration::from_secs(90));
        let held = hold(&date).unwrap();
        assert!(held > Duration::from_secs(80) && held <= Duration::from_secs(90), "{held:?}");
        for nothing in ["0", "-5", "soon", "", "Sun, 06 Nov 1994 08:49:37 GMT"] {
            assert_eq!(hold(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn a_file_of_authorities_without_one_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let transport = |path: PathBuf| Transport {
            ca_file: Some(path),
            certificate: None,
            proxy: None,
            connect_timeout: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
        };
        let error = |path: &PathBuf| Http::new(&transport(path.clone())).unwrap_err();
        assert!(matches!(error(&path), ServerError::CaUnreadable { kind: io::ErrorKind::NotFound, .. }));
        std::fs::write(&path, "not a certificate").unwrap();
        assert_eq!(error(&path), ServerError::CaMalformed(path));
    }
}
