//! An authorization server and the API behind it in one: each refresh token is good once, and a second use ends the login
//! (RFC 9700 section 4.14.2). It counts what it sees, and misbehaves where a test says.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::clock;
use super::origin::{Origin, Reply};
use super::wire::Message;

/// The server, until it is dropped.
#[derive(Debug)]
pub struct Rotating {
    origin: Origin,
    state: Arc<Mutex<State>>,
}

/// How it behaves.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// Seconds that an access token lives.
    pub lifetime: u64,
    /// Whether a refresh ends the access token of before (as Ory Hydra has it).
    pub revokes: bool,
    /// How long a token response takes; what is spent is spent at its beginning.
    pub takes: Duration,
    /// Whether token requests are refused with a 503.
    pub down: bool,
    /// Bodies of the next token responses; `{access}` and `{refresh}` stand for the tokens.
    pub bodies: VecDeque<&'static str>,
    /// The next token responses of any other kind, by access token and refresh token.
    pub replies: VecDeque<fn(&str, &str) -> Reply>,
    /// The member that goes beside the others into each usual body.
    pub members: String,
    /// The body of a refusal.
    pub refusal: &'static str,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            lifetime: 600,
            revokes: false,
            takes: Duration::ZERO,
            down: false,
            bodies: VecDeque::new(),
            replies: VecDeque::new(),
            members: String::new(),
            refusal: r#"{"error":"invalid_grant"}"#,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    behaviour: Behaviour,
    issued: u64,
    logins: u64,
    /// The good refresh token of each login.
    good: HashMap<String, u64>,
    spent: HashMap<String, u64>,
    ended: HashSet<u64>,
    access: HashMap<String, (u64, Instant)>,
    grants: BTreeMap<String, u64>,
    revoked: Vec<String>,
    sent: Vec<String>,
    statuses: BTreeMap<u16, u64>,
}

/// The first refresh token, of a login elsewhere.
pub const FIRST: &str = "refresh-0";

impl Rotating {
    pub async fn start(behaviour: Behaviour) -> Self {
        let mut first = State { behaviour, logins: 1, ..State::default() };
        first.good.insert(FIRST.to_owned(), 1);
        let state = Arc::new(Mutex::new(first));
        let shared = Arc::clone(&state);
        let origin = Origin::start(move |request, _| shared.lock().unwrap().answer(request)).await;
        Self { origin, state }
    }

    pub fn url(&self) -> String {
        self.origin.url()
    }

    /// A configuration of the API and its token; `lines` say what the grant spends.
    pub fn config(&self, lines: &str) -> super::proxy::Config {
        let url = self.url();
        let token = format!(
            "[tokens.api]\ntoken_endpoint = \"{url}/token\"\nrevocation_endpoint = \"{url}/revoke\"\n\
             client_id = \"orders\"\nclient_auth = \"none\"\n{lines}\n"
        );
        super::proxy::Config::one_route(&super::proxy::upstream_at(&url), &token)
    }

    /// Changes how it behaves.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.state().behaviour);
    }

    /// How many token requests came with this grant.
    pub fn grants(&self, grant: &str) -> u64 {
        self.state().grants.get(grant).copied().unwrap_or(0)
    }

    /// How many logins there were, and how many have ended.
    pub fn logins(&self) -> (u64, usize) {
        let state = self.state();
        (state.logins, state.ended.len())
    }

    /// The tokens that were given back, each with what it was said to be.
    pub fn revoked(&self) -> Vec<String> {
        self.state().revoked.clone()
    }

    /// Ends every login, as an administrator does.
    pub fn end_logins(&self) {
        let mut state = self.state();
        let all: Vec<u64> = state.good.drain().map(|(_, login)| login).collect();
        state.ended.extend(all);
    }

    /// The refresh tokens of all requests, in their order.
    pub fn spent(&self) -> Vec<String> {
        self.state().sent.clone()
    }

    /// How many responses of the API had each status.
    pub fn statuses(&self) -> BTreeMap<u16, u64> {
        self.state().statuses.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn answer(&mut self, request: &Message) -> Reply {
        let form: HashMap<String, String> = request.form().into_iter().collect();
        let text = |name: &str| form.get(name).cloned().unwrap_or_default();
        match request.target().as_str() {
            "/token" if self.behaviour.down => Reply::new(503, &[], ""),
            "/token" => {
                let takes = self.behaviour.takes;
                self.token(&text("grant_type"), &text("refresh_token")).after(takes)
            }
            "/revoke" => {
                let token = text("token");
                if let Some(login) = self.good.remove(&token) {
                    self.end(login);
                }
                self.access.remove(&token);
                self.revoked.push(format!("{} {token}", text("token_type_hint")));
                Reply::new(200, &[], "")
            }
            "/device" => Reply::json(
                200,
                r#"{"device_code":"d","user_code":"ABCD","verification_uri":"http://127.0.0.1/","expires_in":600,"interval":1}"#,
            ),
            _ => self.api(request),
        }
    }

    fn api(&mut self, request: &Message) -> Reply {
        let credentials = request.field("authorization").unwrap_or_default();
        let token = credentials.strip_prefix("Bearer ").unwrap_or_default();
        let good = self.access.get(token).is_some_and(|(_, end)| clock::now() < *end);
        let status = if good { 200 } else { 401 };
        *self.statuses.entry(status).or_default() += 1;
        if good {
            Reply::new(200, &[], token)
        } else {
            Reply::new(401, &[("www-authenticate", "Bearer error=\"invalid_token\"")], "")
        }
    }

    fn token(&mut self, grant: &str, refresh_token: &str) -> Reply {
        *self.grants.entry(grant.to_owned()).or_default() += 1;
        let login = if grant == "refresh_token" {
            self.sent.push(refresh_token.to_owned());
            if let Some(login) = self.spent.get(refresh_token).copied() {
                self.end(login);
            }
            let Some(login) = self.good.remove(refresh_token) else {
                return Reply::json(400, self.behaviour.refusal);
            };
            self.spent.insert(refresh_token.to_owned(), login);
            if self.behaviour.revokes {
                self.access.retain(|_, (of, _)| *of != login);
            }
            login
        } else {
            self.logins += 1;
            self.logins
        };
        self.issued += 1;
        let (access, refresh) = (format!("access-{}", self.issued), format!("refresh-{}", self.issued));
        let lifetime = self.behaviour.lifetime;
        self.good.insert(refresh.clone(), login);
        self.access.insert(access.clone(), (login, clock::now() + Duration::from_secs(lifetime)));
        if let Some(reply) = self.behaviour.replies.pop_front() {
            return reply(&access, &refresh);
        }
        let usual = format!(
            r#"{{"access_token":"{{access}}","token_type":"Bearer","expires_in":{lifetime},"refresh_token":"{{refresh}}"{}}}"#,
            self.behaviour.members
        );
        let body = self.behaviour.bodies.pop_front().unwrap_or(&usual);
        Reply::json(200, &body.replace("{access}", &access).replace("{refresh}", &refresh))
    }

    fn end(&mut self, login: u64) {
        self.ended.insert(login);
        self.good.retain(|_, of| *of != login);
        self.access.retain(|_, (of, _)| *of != login);
    }
}
