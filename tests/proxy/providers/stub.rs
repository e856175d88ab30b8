//! A provider, played: it refuses what the provider would refuse, and keeps what was wrong with a request.
//!
//! Each scene has a path of its own on one listener: `/scene/0/token` is `/token` at the first of the provider's origins.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use super::data::{Body, Provider, Response, Role};
use super::judge::{Judge, Sent, local};
use super::signature::PublicKeys;
use cupbearer_testing::{Message, Origin, Reply};

/// The client's secret in every configuration.
pub(super) const SECRET: &str = "s3cret";
/// The refresh token of a login that was elsewhere.
pub(super) const FIRST: &str = "refresh-first";

/// The stub, until it is dropped.
#[derive(Debug)]
pub(super) struct Stub {
    origin: Origin,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    provider: Arc<Provider>,
    keys: Arc<PublicKeys>,
    scenes: HashMap<String, Scene>,
    /// What was sent and refused at least once, so that no line of a file is dead.
    seen: BTreeSet<(Role, Option<usize>)>,
}

/// What one token's servers know, and how they are to fail.
#[derive(Debug, Default)]
pub(super) struct Scene {
    pub(super) client_id: String,
    /// How the requests of a role fail.
    pub(super) failure: Option<(Role, Response)>,
    /// How the API refuses the first token, from now on.
    pub(super) api: Option<Response>,
    pub(super) nonce: Option<String>,
    /// Where the browser is to come back to: as it is configured, and as it was sent.
    pub(super) redirect: (String, String),
    pub(super) counts: BTreeMap<Role, usize>,
    pub(super) issued: usize,
    pub(super) complaints: Vec<String>,
    pub(super) refresh: Option<String>,
    /// The newest access token, where it is a JWT.
    pub(super) jwt: Option<String>,
    /// The credentials that the API no longer takes.
    pub(super) refused: Option<String>,
}

impl Stub {
    pub(super) async fn start(provider: Arc<Provider>, keys: Arc<PublicKeys>) -> Self {
        let (scenes, seen) = (HashMap::new(), BTreeSet::new());
        let state = Arc::new(Mutex::new(State { provider, keys, scenes, seen }));
        let shared = Arc::clone(&state);
        let origin = Origin::start(move |request, _| shared.lock().unwrap().respond(request)).await;
        Self { origin, state }
    }

    /// A text of the provider's file, with its origins at this stub.
    pub(super) fn local(&self, scene: &str, text: &str) -> String {
        local(&self.state().provider, &self.base(scene), text)
    }

    fn base(&self, scene: &str) -> String {
        format!("{}/{scene}", self.origin.url())
    }

    pub(super) fn add(&self, scene: &str, client_id: &str) {
        let scene_state = Scene { client_id: client_id.to_owned(), ..Scene::default() };
        self.state().scenes.insert(scene.to_owned(), scene_state);
    }

    /// Looks at a scene, or changes it.
    pub(super) fn scene<T>(&self, scene: &str, look: impl FnOnce(&mut Scene) -> T) -> T {
        look(self.state().scenes.get_mut(scene).unwrap())
    }

    /// What is wrong with the address that a browser is sent to.
    pub(super) fn authorize(&self, scene: &str, url: &str) -> BTreeMap<String, String> {
        let mut state = self.state();
        let base = self.base(scene);
        let (provider, keys) = (Arc::clone(&state.provider), Arc::clone(&state.keys));
        state.seen.insert((Role::Authorize, None));
        let rule =
            provider.requests.get(&Role::Authorize).unwrap_or_else(|| panic!("no `requests.authorize`"));
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let sent = Sent {
            method: "GET".to_owned(),
            kind: Some(Body::Query),
            parameters: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            message: Message::default(),
        };
        let scene = state.scenes.get_mut(scene).unwrap();
        let judge = Judge { provider: &provider, keys: &keys, base: &base, scene };
        let mut complaints = judge.complaints(rule, &sent);
        let expected = local(&provider, &base, &rule.url);
        if path != expected {
            complaints.push(format!("the browser goes to {path} in place of {expected}"));
        }
        scene.complaints.extend(complaints);
        scene.nonce = sent.parameters.get("nonce").cloned();
        scene.redirect.1 = sent.parameters.get("redirect_uri").cloned().unwrap_or_default();
        sent.parameters
    }

    /// Lines of the file that no request met.
    pub(super) fn unmet(&self) -> Vec<String> {
        let state = self.state();
        let mut unmet = Vec::new();
        for (role, request) in &state.provider.requests {
            if !state.seen.contains(&(*role, None)) {
                unmet.push(format!("no request met `requests` {role:?}"));
            }
            for at in 0..request.refusals.len() {
                if !state.seen.contains(&(*role, Some(at))) {
                    unmet.push(format!("no request met refusal {at} of {role:?}"));
                }
            }
        }
        unmet
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn respond(&mut self, request: &Message) -> Reply {
        let host = request.field("host").unwrap_or_default();
        let target = request.target();
        let path = target.split('?').next().unwrap_or_default();
        let mut parts = path.splitn(4, '/').skip(1);
        let (name, origin, rest) = (parts.next(), parts.next(), parts.next().unwrap_or_default());
        let (provider, keys) = (Arc::clone(&self.provider), Arc::clone(&self.keys));
        let Some((name, scene)) = name.and_then(|name| Some((name, self.scenes.get_mut(name)?))) else {
            return Reply::new(404, &[], "");
        };
        let Some(origin) = origin.and_then(|at| provider.origins.get(at.parse::<usize>().ok()?)) else {
            return Reply::new(404, &[], "");
        };
        let base = format!("http://{host}/{name}");
        let url = format!("{origin}/{rest}");
        let sent = Sent::of(request);
        let mut judge = Judge { provider: &provider, keys: &keys, base: &base, scene };
        if let Some(role) = judge.role(&url, &sent) {
            self.seen.insert((role, None));
            let (response, refusal) = judge.respond(role, &sent);
            if let Some(refusal) = refusal {
                self.seen.insert((role, Some(refusal)));
            }
            return judge.reply(&response);
        }
        if url.starts_with(&provider.api.url) {
            return judge.api(&sent);
        }
        if !path.contains("/.well-known/") {
            judge
                .scene
                .complaints
                .push(format!("a request came that the file does not know: {}", request.start()));
        }
        Reply::new(404, &[], "")
    }
}
