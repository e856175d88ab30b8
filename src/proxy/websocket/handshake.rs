//! A WebSocket's handshake, in the two forms that there are: HTTP/1.1's upgrade (RFC 6455 section 4) and HTTP/2's extended
//! CONNECT (RFC 8441). Each side may speak either. An upgrade to another protocol has the first form alone, and no key.
//!
//! A handshake is judged, routed and given its token like any GET. Where both sides speak HTTP/1.1, the key, the
//! accepted key and all other fields pass as they are; where one does not, this hop makes or checks what HTTP/2 leaves
//! out. What follows a handshake that was granted is `tunnel`'s; one that was refused is an answer like any other.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cupbearer_h1::Malformed::UnexpectedSwitch;
use http::header::{
    CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::tunnel::{Speaks, Tunnel};
use crate::proxy::error::{BadRequest, Malformed, ProxyError, UpstreamFault, WebSocketFault};
use crate::proxy::message::upgrade::{self, Upgrade, WEBSOCKET, has_token};
use crate::proxy::settings::Http2;
use crate::proxy::upstream::api::Upstream;
use crate::proxy::upstream::download::Download;

/// A handshake on its way upstream.
#[derive(Debug)]
pub(crate) struct Handshake {
    /// The form that the application has asked in.
    asked: HandshakeForm,
    /// What a key of this hop's own is to be answered with.
    expected: Option<HeaderValue>,
    /// What the application's own key is to be answered with.
    accept: Option<HeaderValue>,
    /// The protocols that were asked for; `None`: a WebSocket.
    other: Option<HeaderValue>,
}

/// What came of a handshake.
#[derive(Debug)]
pub(crate) enum HandshakeOutcome {
    /// It was granted: the head for the application, and the tunnel behind it.
    Tunnel(Response<Box<Tunnel>>),
    /// A response as to any request.
    Response(Response<Download>),
}

/// How a WebSocket is asked for and granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandshakeForm {
    /// GET with Upgrade, granted by 101.
    Upgrade,
    /// Extended CONNECT, granted by 200.
    Connect,
}

/// The application's stream behind an extended CONNECT, once it is answered.
#[derive(Debug)]
pub(crate) struct ConnectStream(pub(crate) OnUpgrade);

/// Takes an extended CONNECT for a WebSocket for the GET that it stands for; `None`: it is none, and stays a CONNECT.
#[cold]
pub(crate) fn from_connect(parts: &mut Parts) -> Option<ConnectStream> {
    let protocol = parts.extensions.get::<Protocol>()?;
    if parts.version != Version::HTTP_2 || protocol.as_ref() != WEBSOCKET.as_bytes() {
        return None;
    }
    let stream = parts.extensions.remove::<OnUpgrade>()?;
    parts.method = Method::GET;
    Some(ConnectStream(stream))
}

impl Handshake {
    /// A handshake in the form `asked` for an upstream that is asked in the form `ask`. What the upstream needs is put into
    /// `headers`.
    ///
    /// # Errors
    /// Where this hop has to answer a key that is none (RFC 6455 section 4.2.1).
    fn new(asked: HandshakeForm, ask: HandshakeForm, headers: &mut HeaderMap) -> Result<Self, BadRequest> {
        let (mut expected, mut accept) = (None, None);
        match (asked, ask) {
            (HandshakeForm::Connect, HandshakeForm::Upgrade) => {
                let mut nonce = [0; 16];
                aws_lc_rs::rand::fill(&mut nonce).map_err(|_| BadRequest::Handshake)?;
                let key = STANDARD.encode(nonce);
                expected = Some(accept_of(key.as_bytes()));
                headers.insert(
                    SEC_WEBSOCKET_KEY,
                    HeaderValue::try_from(key).map_err(|_| BadRequest::Handshake)?,
                );
            }
            (HandshakeForm::Upgrade, HandshakeForm::Connect) => {
                let key = headers.remove(SEC_WEBSOCKET_KEY).filter(is_key).ok_or(BadRequest::Handshake)?;
                if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
                    return Err(BadRequest::Handshake);
                }
                accept = Some(accept_of(key.as_bytes()));
            }
            (HandshakeForm::Connect, HandshakeForm::Connect)
            | (HandshakeForm::Upgrade, HandshakeForm::Upgrade) => {}
        }
        if ask == HandshakeForm::Upgrade {
            headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
        }
        Ok(Self { asked, expected, accept, other: None })
    }

    /// The handshake for a request that came in the form `asked`, or with this `upgrade`; `None`: it asks for a response alone.
    /// `is_bare` says that it is a GET without a body, as a WebSocket's handshake is (RFC 6455 section 4.1).
    ///
    /// # Errors
    /// Those of [`Self::new`], or where `upstream` has no such thing.
    pub(crate) fn wanted(
        asked: HandshakeForm,
        upgrade: Option<Upgrade>,
        is_bare: bool,
        upstream: &Upstream,
        headers: &mut HeaderMap,
    ) -> Result<Option<Box<Self>>, ProxyError> {
        let ask = match upstream.settings.http2 {
            Http2::PriorKnowledge => HandshakeForm::Connect,
            Http2::Auto | Http2::Never => HandshakeForm::Upgrade,
        };
        let handshake = match upgrade {
            _ if asked == HandshakeForm::Connect => Self::new(asked, ask, headers)?,
            Some(Upgrade::WebSocket) if is_bare => Self::new(asked, ask, headers)?,
            Some(Upgrade::Other(_)) if ask == HandshakeForm::Connect => {
                return Err(ProxyError::Upstream(UpstreamFault::WebSocket(WebSocketFault::NoUpgrade)));
            }
            Some(Upgrade::Other(protocols)) => Self::to_other(protocols, headers),
            Some(Upgrade::WebSocket) | None => return Ok(None),
        };
        Ok(Some(Box::new(handshake)))
    }

    /// An upgrade to one of these `protocols`.
    fn to_other(protocols: HeaderValue, headers: &mut HeaderMap) -> Self {
        headers.insert(UPGRADE, protocols.clone());
        Self { asked: HandshakeForm::Upgrade, expected: None, accept: None, other: Some(protocols) }
    }

    /// What comes of the upstream's answer: a tunnel, or an answer as to any request.
    ///
    /// # Errors
    /// An answer that grants what was not asked for, or that would be taken for a grant and is none.
    pub(crate) async fn answered(
        self,
        mut response: Response<Download>,
    ) -> Result<HandshakeOutcome, ProxyError> {
        let granted = match response.version() {
            Version::HTTP_2 => response.status() == StatusCode::OK,
            _ => response.status() == StatusCode::SWITCHING_PROTOCOLS,
        };
        if !granted {
            let status = response.status();
            return match self.asked {
                _ if status == StatusCode::SWITCHING_PROTOCOLS => {
                    Err(ProxyError::Upstream(UpstreamFault::Malformed(UnexpectedSwitch.into())))
                }
                // To a client that uses CONNECT it would mean that the stream is open.
                HandshakeForm::Connect if status.is_success() => {
                    Err(ProxyError::Upstream(UpstreamFault::WebSocket(WebSocketFault::NotGranted)))
                }
                _ => Ok(HandshakeOutcome::Response(response)),
            };
        }
        if response.version() != Version::HTTP_2 {
            self.check(response.headers())?;
        }
        // HTTP/2's stream comes from hyper, HTTP/1.1's is the connection itself.
        let upgraded = match response.version() {
            Version::HTTP_2 => Some(
                hyper::upgrade::on(&mut response)
                    .await
                    .map_err(|_| ProxyError::Upstream(UpstreamFault::Broken))?,
            ),
            _ => None,
        };
        let (mut parts, download) = response.into_parts();
        let (protocol, speaks) = match &self.other {
            None => (HeaderValue::from_static(WEBSOCKET), Speaks::WebSocket),
            Some(asked) => (upgrade::passing(&parts.headers).unwrap_or(asked.clone()), Speaks::Other),
        };
        self.grant(&mut parts);
        let idle_timeout = download.idle_timeout();
        let tunnel = if let Some(upgraded) = upgraded {
            Tunnel {
                upstream: Box::new(TokioIo::new(upgraded)),
                early: Bytes::new(),
                protocol,
                speaks,
                idle_timeout,
                place: download.into_place(),
                open: None,
            }
        } else {
            let (stream, early, open) =
                download.into_tunnel().ok_or(ProxyError::Upstream(UpstreamFault::Broken))?;
            let open = Some(open);
            Tunnel { upstream: Box::new(stream), early, protocol, speaks, idle_timeout, place: None, open }
        };
        Ok(HandshakeOutcome::Tunnel(Response::from_parts(parts, Box::new(tunnel))))
    }

    /// Whether a 101 grants what was asked for (RFC 6455 section 4.1). An application's own key is for itself to check.
    fn check(&self, headers: &HeaderMap) -> Result<(), ProxyError> {
        if let Some(asked) = &self.other {
            let granted = upgrade::grants(headers, asked);
            return granted
                .then_some(())
                .ok_or(ProxyError::Upstream(UpstreamFault::Malformed(Malformed::Handshake)));
        }
        let accepted = self.expected.as_ref().is_none_or(|expected| {
            let mut values = headers.get_all(SEC_WEBSOCKET_ACCEPT).iter();
            values.next() == Some(expected) && values.next().is_none()
        });
        if has_token(headers, &UPGRADE, WEBSOCKET.as_bytes()) && accepted {
            Ok(())
        } else {
            Err(ProxyError::Upstream(UpstreamFault::Malformed(Malformed::Handshake)))
        }
    }

    /// Makes the answer the one that the application's form has.
    fn grant(self, parts: &mut http::response::Parts) {
        // Neither form has a body.
        parts.headers.remove(CONTENT_LENGTH);
        match self.asked {
            HandshakeForm::Upgrade => {
                parts.status = StatusCode::SWITCHING_PROTOCOLS;
                if let Some(accept) = self.accept {
                    parts.headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
                }
            }
            HandshakeForm::Connect => {
                parts.status = StatusCode::OK;
                parts.headers.remove(SEC_WEBSOCKET_ACCEPT);
            }
        }
    }
}

/// The fields of this hop on a response that names `protocols`: a 101, or a 426.
pub(crate) fn name_protocols(headers: &mut HeaderMap, protocols: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocols);
}

/// 16 bytes in base64 (RFC 6455 section 4.1).
fn is_key(key: &HeaderValue) -> bool {
    STANDARD.decode(key.as_bytes()).is_ok_and(|nonce| nonce.len() == 16)
}

/// The answer to a key (RFC 6455 section 4.2.2).
fn accept_of(key: &[u8]) -> HeaderValue {
    use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
    let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(key);
    digest.update(GUID);
    HeaderValue::try_from(STANDARD.encode(digest.finish())).expect("base64 is printable")
}

/// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn a_key_is_answered_as_the_rfc_does() {
        assert_eq!(accept_of(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_key_that_this_hop_answers_must_be_one() {
        let version = ("sec-websocket-version", "13");
        for (fields, good) in [
            (&[version, ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")][..], true),
            (&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")], false),
            (&[version, ("sec-websocket-key", "dGhlIHNhbXBsZQ==")], false),
            (&[version, ("sec-websocket-key", "not base64 at all !!!!!!")], false),
            (&[version], false),
        ] {
            let mut map = headers(fields);
            assert_eq!(
                Handshake::new(HandshakeForm::Upgrade, HandshakeForm::Connect, &mut map).is_ok(),
                good,
                "{fields:?}"
            );
            assert!(!map.contains_key(SEC_WEBSOCKET_KEY) && !map.contains_key(UPGRADE));
        }
        let mut odd = headers(&[("sec-websocket-key", "odd")]);
        assert!(
            Handshake::new(HandshakeForm::Upgrade, HandshakeForm::Upgrade, &mut odd).is_ok(),
            "for the upstream to judge"
        );
        assert_eq!(odd, headers(&[("sec-websocket-key", "odd"), ("upgrade", "websocket")]));
    }

    #[test]
    fn a_key_of_our_own_is_new_each_time_and_its_answer_is_checked() {
        let mut first = headers(&[]);
        let handshake = Handshake::new(HandshakeForm::Connect, HandshakeForm::Upgrade, &mut first).unwrap();
        assert!(is_key(&first[SEC_WEBSOCKET_KEY]));
        let mut second = headers(&[]);
        Handshake::new(HandshakeForm::Connect, HandshakeForm::Upgrade, &mut second).unwrap();
        assert_ne!(first[SEC_WEBSOCKET_KEY], second[SEC_WEBSOCKET_KEY]);

        let mut answer = headers(&[("upgrade", "websocket")]);
        assert!(handshake.check(&answer).is_err(), "no accepted key");
        answer.insert(SEC_WEBSOCKET_ACCEPT, accept_of(second[SEC_WEBSOCKET_KEY].as_bytes()));
        assert!(handshake.check(&answer).is_err(), "another's");
        answer.insert(SEC_WEBSOCKET_ACCEPT, accept_of(first[SEC_WEBSOCKET_KEY].as_bytes()));
        assert!(handshake.check(&answer).is_ok());
        answer.remove(UPGRADE);
        assert!(handshake.check(&answer).is_err(), "to what?");
    }
}
