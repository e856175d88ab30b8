//! What a provider makes of a request: what is wrong with it, and the response.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::data::{Body, Client, Jwt, Provider, Refusal, Request, Response, Role};
use super::signature::PublicKeys;
use super::stub::{FIRST, SECRET, Scene};
use cupbearer_testing::{Message, Reply, clock};

/// A request as far as it is judged.
pub(super) struct Sent {
    pub(super) method: String,
    pub(super) kind: Option<Body>,
    pub(super) parameters: BTreeMap<String, String>,
    pub(super) message: Message,
}

impl Sent {
    pub(super) fn of(request: &Message) -> Self {
        let target = request.target();
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let mut parameters: BTreeMap<String, String> =
            url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let content_type = request.field("content-type").unwrap_or_default();
        let kind = match content_type.split(';').next().unwrap_or_default() {
            "application/x-www-form-urlencoded" => {
                parameters.extend(request.form());
                Some(Body::Form)
            }
            "application/json" => {
                let members =
                    serde_json::from_slice::<serde_json::Map<_, _>>(&request.body).unwrap_or_default();
                parameters.extend(members.into_iter().map(|(name, value)| match value {
                    Value::String(text) => (name, text),
                    value => (name, value.to_string()),
                }));
                Some(Body::Json)
            }
            "" if request.body.is_empty() => Some(Body::Query),
            _ => None,
        };
        Self { method: request.method(), kind, parameters, message: request.clone() }
    }

    /// A parameter, or a header field without its scheme.
    fn find(&self, name: &str) -> Option<String> {
        let field = || {
            let field = self.message.field(name)?;
            Some(field.split_once(' ').map_or(field.clone(), |(_, value)| value.to_owned()))
        };
        self.parameters.get(name).cloned().or_else(field)
    }
}

/// One scene, and the rules that its requests are judged by.
pub(super) struct Judge<'a> {
    pub(super) provider: &'a Provider,
    pub(super) keys: &'a PublicKeys,
    pub(super) base: &'a str,
    pub(super) scene: &'a mut Scene,
}

impl Judge<'_> {
    /// What a request is for: by its address, then by its grant type.
    pub(super) fn role(&self, url: &str, sent: &Sent) -> Option<Role> {
        let fits = |request: &Request| request.url.split('?').next() == Some(url);
        let roles: Vec<Role> = self
            .provider
            .requests
            .iter()
            .filter(|(role, request)| **role != Role::Authorize && fits(request))
            .map(|(role, _)| *role)
            .collect();
        let grant = |role: &&Role| {
            self.provider.requests[role].parameters.get("grant_type") == sent.parameters.get("grant_type")
        };
        roles.iter().find(grant).or(roles.first()).copied()
    }

    /// The response of a role, and the refusal that it is, where it is one.
    pub(super) fn respond(&mut self, role: Role, sent: &Sent) -> (Response, Option<usize>) {
        let demanded = &self.provider.requests[&role];
        let count = self.scene.counts.entry(role).or_default();
        *count += 1;
        let before = *count - 1;
        if let Some(at) = demanded.refusals.iter().position(|refusal| applies(refusal, sent)) {
            return (demanded.refusals[at].response.clone(), Some(at));
        }
        let complaints = self.complaints(demanded, sent);
        if !complaints.is_empty() {
            let all = complaints.join("; ");
            self.scene.complaints.push(format!("{role:?}: {all}"));
            let body = json!({ "error": "invalid_request", "error_description": all }).to_string();
            return (Response { status: 400, body, ..Response::default() }, None);
        }
        if let Some((_, response)) = self.scene.failure.as_ref().filter(|(failing, _)| *failing == role) {
            return (response.clone(), None);
        }
        (demanded.first.get(before).unwrap_or(&demanded.response).clone(), None)
    }

    /// All that is wrong with a request.
    pub(super) fn complaints(&self, rule: &Request, sent: &Sent) -> Vec<String> {
        let mut wrong = Vec::new();
        if sent.method != rule.method {
            wrong.push(format!("it came by {} in place of {}", sent.method, rule.method));
        }
        // An authorization request is a browser's.
        let kind = if rule.method == "GET" { Body::Query } else { rule.body };
        if !rule.parameters.is_empty() && sent.kind != Some(kind) {
            wrong.push(format!("its body is {:?} in place of {kind:?}", sent.kind));
        }
        let query = rule.url.split_once('?').map_or("", |(_, query)| query);
        let in_url: BTreeMap<String, String> =
            url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        for (name, value) in rule.parameters.iter().chain(&in_url) {
            let found = sent.parameters.get(name);
            if !found.is_some_and(|found| self.is(value, found)) {
                wrong.push(format!("`{name}` is {found:?} in place of {value:?}"));
            }
        }
        for name in &rule.absent {
            if sent.parameters.contains_key(name) {
                wrong.push(format!("`{name}` is there"));
            }
        }
        wrong.extend(self.wrong_fields(&rule.headers, &sent.message));
        wrong.extend(self.wrong_client(rule.client, sent));
        wrong.extend(rule.jwt.iter().flat_map(|(name, jwt)| self.wrong_jwt(name, jwt, sent)));
        wrong
    }

    fn wrong_fields(&self, headers: &BTreeMap<String, String>, message: &Message) -> Vec<String> {
        let wrong = |(name, value): (&String, &String)| {
            let found = message.all(name);
            let fits = found.len() == 1 && self.is(value, &found[0]);
            (!fits).then(|| format!("the field {name} is {found:?} in place of {value:?}"))
        };
        headers.iter().filter_map(wrong).collect()
    }

    fn wrong_client(&self, client: Option<Client>, sent: &Sent) -> Vec<String> {
        let Some(client) = client else { return Vec::new() };
        let id = &self.scene.client_id;
        let basic = format!("Basic {}", STANDARD.encode(format!("{id}:{SECRET}")));
        let found = (
            sent.message.field("authorization"),
            sent.parameters.get("client_id").cloned(),
            sent.parameters.get("client_secret").cloned(),
        );
        let expected = match client {
            Client::Basic => (Some(basic), found.1.clone(), None),
            Client::Post => (None, Some(id.clone()), Some(SECRET.to_owned())),
            Client::None => (None, Some(id.clone()), None),
        };
        if found == expected {
            Vec::new()
        } else {
            vec![format!("the client shows {found:?} in place of {expected:?}")]
        }
    }

    fn wrong_jwt(&self, name: &str, rule: &Jwt, sent: &Sent) -> Vec<String> {
        let jwt = sent.find(name).unwrap_or_default();
        let parts = (!jwt.is_empty()).then_some(&jwt).and_then(|jwt| {
            let mut parts = jwt.split('.').map(|part| {
                let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
                serde_json::from_slice::<serde_json::Map<String, Value>>(&bytes).ok()
            });
            Some((parts.next()??, parts.next()??))
        });
        let Some((header, claims)) = parts else { return vec![format!("there is no JWT in {name}")] };
        let mut wrong = Vec::new();
        if let Err(why) = self.keys.verify(&jwt) {
            wrong.push(format!("the JWT in {name} {why}"));
        }
        for (rules, members) in [(&rule.header, &header), (&rule.claims, &claims)] {
            for (member, value) in rules {
                let found = members.get(member);
                let fits = match value {
                    toml::Value::String(text) => match found {
                        Some(Value::String(found)) => self.is(text, found),
                        found => text == "{any}" && found.is_some(),
                    },
                    value => found == serde_json::to_value(value).ok().as_ref(),
                };
                if !fits {
                    wrong.push(format!("`{member}` of the JWT in {name} is {found:?} in place of {value}"));
                }
            }
        }
        wrong.extend(
            rule.absent
                .iter()
                .filter(|claim| claims.contains_key(*claim))
                .map(|claim| format!("`{claim}` is in {name}")),
        );
        let end = claims.get("exp").and_then(Value::as_f64).unwrap_or_default() as i64;
        if let Some(longest) = rule.longest
            && !(1..=longest + 1).contains(&(end - now()))
        {
            wrong.push(format!(
                "the JWT in {name} is good for {} s, not for at most {longest} s",
                end - now()
            ));
        }
        wrong
    }

    /// Whether `found` is what `rule` stands for.
    fn is(&self, rule: &str, found: &str) -> bool {
        match rule {
            "{any}" => !found.is_empty(),
            "{redirect_uri}" => {
                let (configured, sent) = &self.scene.redirect;
                if sent.is_empty() { comes_back_to(found, configured) } else { found == sent }
            }
            "{refresh}" => found == self.scene.refresh.as_deref().unwrap_or(FIRST),
            _ => found == self.fill(rule),
        }
    }

    /// A text of the file with what stands for it here.
    fn fill(&self, text: &str) -> String {
        let id = &self.scene.client_id;
        local(self.provider, self.base, text)
            .replace("{access}", &self.access())
            .replace("{access_jwt}", &self.access())
            .replace("{client_id}", id)
            .replace("{secret}", SECRET)
            .replace("{basic}", &STANDARD.encode(format!("{id}:{SECRET}")))
    }

    /// The newest access token.
    fn access(&self) -> String {
        self.scene.jwt.clone().unwrap_or_else(|| format!("access-{}", self.scene.issued))
    }

    pub(super) fn reply(&mut self, response: &Response) -> Reply {
        if response.body.contains("{access}") || response.body.contains("{access_jwt}") {
            self.scene.issued += 1;
        }
        if response.body.contains("{access_jwt}") {
            self.scene.jwt =
                Some(self.jwt(&json!({ "jti": self.scene.issued, "iat": now(), "exp": now() + 3600 })));
        }
        if response.body.contains("{refresh}") {
            self.scene.refresh = Some(format!("refresh-{}", self.scene.issued));
        }
        let refresh = self.scene.refresh.clone().unwrap_or_default();
        let body =
            self.fill(&response.body).replace("{refresh}", &refresh).replace("{id_token}", &self.id_token());
        let body = with_times(&body);
        let mut fields: Vec<(String, String)> = Vec::new();
        for (name, value) in &response.headers {
            fields.push((name.clone(), with_times(&self.fill(value))));
        }
        if !response.headers.keys().any(|name| name.eq_ignore_ascii_case("content-type")) {
            fields.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        let fields: Vec<(&str, &str)> =
            fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Reply::new(response.status, &fields, body)
    }

    /// An ID token for whom the browser logged in as.
    fn id_token(&self) -> String {
        let issuer = self.provider.requests.get(&Role::Metadata).and_then(|metadata| {
            let metadata: Value = serde_json::from_str(&metadata.response.body).ok()?;
            Some(metadata["issuer"].as_str()?.to_owned())
        });
        let claims = json!({
            "iss": issuer.map(|issuer| self.fill(&issuer)), "aud": self.scene.client_id, "sub": "alice",
            "iat": now(), "exp": now() + 600, "nonce": self.scene.nonce,
        });
        self.jwt(&claims)
    }

    /// A JWT whose signature is none: nobody here verifies it.
    fn jwt(&self, claims: &Value) -> String {
        let header = json!({ "alg": "RS256", "kid": self.scene.client_id });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.{}", part(&header), part(claims), URL_SAFE_NO_PAD.encode("signature"))
    }

    pub(super) fn api(&mut self, sent: &Sent) -> Reply {
        let api = &self.provider.api;
        let names = api.headers.iter().filter(|(_, value)| value.contains("{access}")).map(|(name, _)| name);
        let names = names.chain(api.jwt.keys()).map(String::as_str).chain(["authorization"]);
        let credentials = names.flat_map(|name| sent.message.all(name)).collect::<Vec<_>>().join(" ");
        if let Some(refusal) = self.scene.api.clone()
            && *self.scene.refused.get_or_insert_with(|| credentials.clone()) == credentials
        {
            return self.reply(&refusal);
        }
        let bearer = BTreeMap::from([("authorization".to_owned(), "Bearer {access}".to_owned())]);
        let headers = if api.headers.is_empty() && api.jwt.is_empty() { &bearer } else { &api.headers };
        let mut wrong = self.wrong_fields(headers, &sent.message);
        wrong.extend(api.jwt.iter().flat_map(|(name, jwt)| self.wrong_jwt(name, jwt, sent)));
        if wrong.is_empty() {
            return Reply::new(200, &[], "the API's own");
        }
        self.scene.complaints.push(format!("the API: {}", wrong.join("; ")));
        Reply::new(400, &[], wrong.join("; "))
    }
}

/// Whether `sent` is the redirect URI that is configured, to the letter but for a port that is left open there.
fn comes_back_to(sent: &str, configured: &str) -> bool {
    let port = |text: &str| Some(url::Url::parse(text).ok()?.port()?.to_string());
    match (port(configured), port(sent)) {
        (None, Some(port)) => sent.replace(&format!(":{port}"), "") == configured,
        _ => sent == configured,
    }
}

fn applies(refusal: &Refusal, sent: &Sent) -> bool {
    let with = refusal.with.as_ref().is_some_and(|name| sent.parameters.contains_key(name));
    let without = refusal.without_header.as_ref().is_some_and(|name| sent.message.field(name).is_none());
    let nonce = || {
        let proof = sent.find("dpop")?;
        let claims = URL_SAFE_NO_PAD.decode(proof.split('.').nth(1)?).ok()?;
        serde_json::from_slice::<Value>(&claims).ok()?.get("nonce").cloned()
    };
    with || without || refusal.without_nonce && sent.find("dpop").is_some() && nonce().is_none()
}

/// `{epoch+3600}`, `{millis+3600}` and `{rfc3339+3600}` as instants from now on.
fn with_times(text: &str) -> String {
    let mut text = text.to_owned();
    for kind in ["epoch", "millis", "rfc3339"] {
        let mark = format!("{{{kind}+");
        while let Some(at) = text.find(&mark) {
            let end = at + text[at..].find('}').unwrap();
            let ahead: i64 = text[at + mark.len()..end].parse().unwrap();
            let instant = now() + ahead;
            let shown = match kind {
                "epoch" => instant.to_string(),
                "millis" => (instant * 1000).to_string(),
                _ => rfc3339(instant),
            };
            text.replace_range(at..=end, &shown);
        }
    }
    text
}

/// RFC 3339, out of the fixed places of an IMF-fixdate: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn rfc3339(instant: i64) -> String {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(instant.cast_unsigned());
    let date = httpdate::fmt_http_date(at);
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = 1 + months.iter().position(|month| *month == &date[8..11]).unwrap();
    format!("{}-{month:02}-{}T{}Z", &date[12..16], &date[5..7], &date[17..25])
}

fn now() -> i64 {
    clock::unix_seconds().cast_signed()
}

/// `text` with the provider's origins at `base`.
pub(super) fn local(provider: &Provider, base: &str, text: &str) -> String {
    let mut origins: Vec<(usize, &String)> = provider.origins.iter().enumerate().collect();
    // One may begin as another does.
    origins.sort_by_key(|(_, origin)| std::cmp::Reverse(origin.len()));
    origins.iter().fold(text.to_owned(), |text, (at, origin)| text.replace(*origin, &format!("{base}/{at}")))
}
