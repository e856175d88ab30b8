//! A provider as data: what its file under `tests/providers` says. `tests/providers/README.md` explains each key.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::Deserialize;

use cupbearer_testing::repository;

/// One file of the table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Provider {
    pub(super) name: String,
    /// The documentation that the shapes come from.
    pub(super) sources: Vec<String>,
    pub(super) status: Standing,
    /// What commit b3881ef did with it, where that was tried.
    pub(super) before: Option<Before>,
    /// The token's section, as a user writes it.
    pub(super) keys: String,
    /// More keys of the route.
    #[serde(default)]
    pub(super) route: String,
    /// What surprises people.
    #[serde(default)]
    pub(super) traps: Vec<String>,
    /// What cannot be done.
    #[serde(default)]
    pub(super) limits: Vec<String>,
    /// Steps at the provider's console.
    #[serde(default)]
    pub(super) console: Vec<String>,
    /// Scheme and host of each server that the stub stands in for.
    pub(super) origins: Vec<String>,
    /// Files that the keys name.
    #[serde(default)]
    pub(super) files: BTreeMap<String, String>,
    /// For how many seconds a token is to be taken for good.
    pub(super) lifetime: Option<u64>,
    pub(super) requests: BTreeMap<Role, Request>,
    pub(super) api: Api,
    #[serde(default)]
    pub(super) cases: Vec<Case>,
    /// The file's name without its ending.
    #[serde(skip)]
    pub(super) id: String,
}

/// What it takes to use a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Standing {
    /// Endpoints, the client, its secret or key, a scope: what every provider takes.
    AsItIs,
    /// Keys for what it does in its own way.
    WithKeys,
    /// A helper program that gets the token.
    Command,
    /// Not at all.
    Cannot,
}

/// What an earlier version did with a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Before {
    AsItIs,
    WithKeys,
    /// With keys, and something went wrong.
    Fault,
    Wrong,
    Cannot,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    Metadata,
    /// The first token, by a grant that needs no person.
    Token,
    Authorize,
    /// A code is redeemed.
    Code,
    Device,
    /// A device code is polled with.
    Poll,
    Refresh,
    Introspect,
    Revoke,
}

/// A request as the provider demands it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    pub(super) url: String,
    #[serde(default = "post")]
    pub(super) method: String,
    #[serde(default)]
    pub(super) body: Body,
    /// How the client authenticates.
    pub(super) client: Option<Client>,
    #[serde(default)]
    pub(super) parameters: BTreeMap<String, String>,
    /// Parameters that it must not have.
    #[serde(default)]
    pub(super) absent: Vec<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    /// What must be in the JWT of a parameter or of a header field.
    #[serde(default)]
    pub(super) jwt: BTreeMap<String, Jwt>,
    /// What it refuses although a client may well send it so.
    #[serde(default)]
    pub(super) refusals: Vec<Refusal>,
    /// Responses to the first ones.
    #[serde(default)]
    pub(super) first: Vec<Response>,
    #[serde(default)]
    pub(super) response: Response,
}

/// Where the parameters of a request are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Body {
    #[default]
    Form,
    Json,
    Query,
}

/// How a client authenticates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Client {
    Basic,
    Post,
    None,
}

/// What a JWT must say; `{any}` is any value.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Jwt {
    #[serde(default)]
    pub(super) header: BTreeMap<String, toml::Value>,
    #[serde(default)]
    pub(super) claims: BTreeMap<String, toml::Value>,
    /// Claims that it must not have.
    #[serde(default)]
    pub(super) absent: Vec<String>,
    /// At most so many seconds lie between now and `exp`.
    pub(super) longest: Option<i64>,
}

/// A request that the provider refuses, and how.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Refusal {
    /// With this parameter.
    pub(super) with: Option<String>,
    /// Without this header field.
    pub(super) without_header: Option<String>,
    /// With a DPoP proof that lacks the server's nonce.
    #[serde(default)]
    pub(super) without_nonce: bool,
    pub(super) response: Response,
}

/// A response.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Response {
    #[serde(default = "ok")]
    pub(super) status: u16,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) body: String,
}

impl Default for Response {
    fn default() -> Self {
        Self { status: ok(), headers: BTreeMap::new(), body: String::new() }
    }
}

/// The API that the tokens are for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Api {
    pub(super) url: String,
    /// What it demands; without any, `Authorization: Bearer` and the token.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) jwt: BTreeMap<String, Jwt>,
    /// The application's own `Authorization`, where a token is traded for it.
    pub(super) caller: Option<String>,
    /// How it refuses.
    #[serde(default)]
    pub(super) refusals: Vec<ApiRefusal>,
}

/// A response of the API to a token that it does not take, or to something else.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ApiRefusal {
    pub(super) name: String,
    pub(super) response: Response,
    pub(super) then: Then,
}

/// What follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Then {
    /// A new token, and the request once more.
    Renewed,
    /// The response goes to the application, and no token is renewed.
    Passed,
    /// Nothing renews the token: the response goes to the application, and a login is needed.
    Ended,
}

/// A failure at an authorization server.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) on: Role,
    /// Keys in place of those of the provider, or beside them.
    #[serde(default)]
    pub(super) keys: String,
    /// Keys of the provider that are left out.
    #[serde(default)]
    pub(super) without: Vec<String>,
    /// What it responds with; left out where the request itself is what is refused.
    pub(super) response: Option<Response>,
    pub(super) expect: Expect,
}

/// What the program makes of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    /// `transient`, `misconfigured`, `doubtful` or `refused`; a login that fails has none.
    pub(super) class: Option<String>,
    pub(super) state: String,
    pub(super) cause: String,
    /// Pieces of the sentence.
    pub(super) says: Vec<String>,
    /// For how many seconds it is left alone at least.
    pub(super) hold: Option<u64>,
}

impl Provider {
    /// Reads a file's text; `id` is its name without the ending.
    pub(super) fn parse(id: &str, text: &str) -> Self {
        let provider: Self = toml::from_str(text).unwrap_or_else(|error| panic!("{id}.toml: {error}"));
        Self { id: id.to_owned(), ..provider }
    }

    /// The token's section, with the keys of a case.
    pub(super) fn table(&self, more: &str, without: &[String]) -> toml::Table {
        let parse = |text: &str| -> toml::Table {
            toml::from_str(text).unwrap_or_else(|error| panic!("{}: {error}\n{text}", self.id))
        };
        let mut table = parse(&self.keys);
        for name in without {
            assert!(table.remove(name).is_some(), "{}: `without` names {name}, which is not set", self.id);
        }
        table.extend(parse(more));
        table
    }
}

/// The whole table, in the order of its files' names.
pub(super) fn providers() -> Vec<Provider> {
    let folder = repository().join("tests/providers");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    let read = |path: &PathBuf| {
        let id = path.file_stem().unwrap().to_string_lossy().into_owned();
        Provider::parse(&id, &fs::read_to_string(path).unwrap())
    };
    paths.iter().map(read).collect()
}

fn post() -> String {
    "POST".to_owned()
}

const fn ok() -> u16 {
    200
}
