//! What the requests to one authorization server share: its settings, its levers, and what it has seen.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use http::{Response, StatusCode};
use serde_json::json;

use super::answer::{self, Body};
use super::authorization_server::{Metadata, Options};
use super::behaviour::Script;
use super::token_endpoint::SeenRequest;
use super::tokens::Tokens;

/// All that its requests share.
#[derive(Debug)]
pub(super) struct State {
    pub(super) options: Options,
    pub(super) issuer: String,
    pub(super) token_script: Script,
    pub(super) metadata_script: Script,
    address: SocketAddr,
    token_requests: AtomicU64,
    metadata_requests: AtomicU64,
    requests: Mutex<VecDeque<SeenRequest>>,
}

impl State {
    pub(super) fn new(address: SocketAddr, options: Options) -> Self {
        let issuer = options.issuer.clone().unwrap_or_else(|| format!("http://{address}{}", options.path));
        Self {
            options,
            issuer,
            token_script: Script::default(),
            metadata_script: Script::default(),
            address,
            token_requests: AtomicU64::new(0),
            metadata_requests: AtomicU64::new(0),
            requests: Mutex::default(),
        }
    }

    pub(super) fn tokens(&self) -> &Tokens {
        &self.options.tokens
    }

    pub(super) fn token_endpoint(&self) -> String {
        format!("http://{}{}/token", self.address, self.options.path)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn request_count(&self) -> u64 {
        self.token_requests.load(Ordering::Relaxed)
    }

    pub(super) fn metadata_requests(&self) -> u64 {
        self.metadata_requests.load(Ordering::Relaxed)
    }

    pub(super) fn metadata_asked(&self) {
        self.metadata_requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn requests(&self) -> Vec<SeenRequest> {
        self.recorded(|requests| requests.iter().cloned().collect())
    }

    pub(super) fn record(&self, request: SeenRequest) {
        self.token_requests.fetch_add(1, Ordering::Relaxed);
        self.recorded(|requests| {
            if requests.len() == MAX_RECORDED {
                requests.pop_front();
            }
            requests.push_back(request);
        });
    }

    pub(super) fn heal(&self) {
        self.token_script.heal();
        self.metadata_script.heal();
    }

    fn recorded<T>(&self, look: impl FnOnce(&mut VecDeque<SeenRequest>) -> T) -> T {
        look(&mut self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn metadata(&self) -> Response<Body> {
        answer::json(
            StatusCode::OK,
            &json!({
                "issuer": self.issuer,
                "token_endpoint": self.token_endpoint(),
                "grant_types_supported": ["client_credentials"],
                "response_types_supported": [],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            }),
        )
    }

    /// Which metadata `path` stands for, where it does.
    pub(super) fn publishes(&self, path: &str) -> bool {
        let ours = &self.options.path;
        let is = |prefix: &str, suffix: &str| {
            path.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix)) == Some("")
        };
        // RFC 8414 section 3 puts the issuer's path behind the well-known one, OpenID Connect before it.
        let oauth = is("/.well-known/oauth-authorization-server", ours);
        let openid =
            is(ours, "/.well-known/openid-configuration") || is("/.well-known/openid-configuration", ours);
        match self.options.metadata {
            Metadata::Both => oauth || openid,
            Metadata::OAuth => oauth,
            Metadata::OpenId => openid,
            Metadata::Absent => false,
        }
    }
}

/// Requests that are kept for tests.
const MAX_RECORDED: usize = 10_000;
