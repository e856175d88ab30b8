//! The members of a token response that count (RFC 6749 section 5.1): each as it comes, under its own name or where the
//! endpoint's dialect has it, and the expiry under whatever name it has.
//!
//! `response` judges them; `failure` takes the refresh token out of a response that is of no use otherwise.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Map, Number, Value};

use crate::clock;
use crate::oauth::endpoint::body::without_mark;
use crate::oauth::endpoint::dialect::{MemberPath, ResponsePaths};
use crate::oauth::endpoint::json_body::members;
use crate::oauth::endpoint::number::number;
use crate::oauth::endpoint::salvage::{self, Extent};
use crate::oauth::endpoint::timestamp::instant_of;
use crate::oauth::error::kind::ErrorKind;

/// How a response is read.
#[derive(Clone, Copy, Debug)]
pub(in crate::oauth) struct Reading<'a> {
    pub(in crate::oauth) paths: &'a ResponsePaths,
    /// The response is to a refresh, which some servers write in the protocol's own form although the first one was
    /// not (Slack).
    pub(in crate::oauth) is_refresh: bool,
}

impl Reading<'_> {
    /// As RFC 6749 has it.
    pub(in crate::oauth) const PLAIN: Reading<'static> = Reading { paths: &NO_PATHS, is_refresh: false };
}

/// The members that count; all others are ignored. Each is taken as it comes, so that a strange one is judged by its own
/// rule.
#[derive(Default, Deserialize)]
pub(in crate::oauth) struct Members {
    pub(in crate::oauth) access_token: Option<Value>,
    pub(in crate::oauth) token_type: Option<Value>,
    pub(in crate::oauth) expires_in: Option<Value>,
    pub(in crate::oauth) scope: Option<Value>,
    pub(in crate::oauth) refresh_token: Option<Value>,
    pub(in crate::oauth) refresh_expires_in: Option<Value>,
    pub(in crate::oauth) refresh_token_expires_in: Option<Value>,
    pub(in crate::oauth) issued_token_type: Option<Value>,
    pub(in crate::oauth) id_token: Option<Value>,
    /// Which of its hosts the token is for, at Salesforce.
    pub(in crate::oauth) instance_url: Option<Value>,
    /// The same at Zoho and Pipedrive.
    pub(in crate::oauth) api_domain: Option<Value>,
    /// What says the expiry where there is no `expires_in`.
    #[serde(skip)]
    pub(in crate::oauth) expiry: Option<Expiry>,
}

/// When a token ends, by another name than `expires_in`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::oauth) enum Expiry {
    /// In so many seconds.
    In(f64),
    /// At this point in time, since 1970.
    At(Duration),
}

impl Members {
    /// Reads a response that is to hold a token.
    pub(in crate::oauth) fn read(body: &[u8], reading: Reading<'_>) -> Result<Self, ErrorKind> {
        if let Some(whole) = form(body) {
            return Ok(Self::of(&whole, reading));
        }
        let own: Self = members(body)?;
        let own = own.exact(body, reading);
        if *reading.paths == NO_PATHS && own.expires_in.as_ref().is_some_and(|value| !value.is_null()) {
            return Ok(own);
        }
        // It was read as an object just now.
        let whole = serde_json::from_slice(without_mark(body)).unwrap_or_default();
        Ok(Self::of(&whole, reading).exact(body, reading))
    }

    /// The same, with tokens that are numbers as they are written: they may be too long for a number here.
    fn exact(self, body: &[u8], reading: Reading<'_>) -> Self {
        let is_long =
            |token: &Option<Value>| token.as_ref().and_then(Value::as_number).is_some_and(Number::is_f64);
        if !is_long(&self.access_token) && !is_long(&self.refresh_token) {
            return self;
        }
        let whole = salvage::objects(&salvage::text(body)).next().unwrap_or_default();
        let Self { access_token, refresh_token, .. } = Self::of(&whole, reading);
        Self { access_token, refresh_token, ..self }
    }

    /// Chooses among the members of a response.
    pub(in crate::oauth) fn of(
        whole: &Map<String, Value>,
        Reading { paths, is_refresh }: Reading<'_>,
    ) -> Self {
        let token_path = paths.access_token.as_ref();
        let placed = token_path.and_then(|path| found(whole, path.names()));
        // A refresh may come in the protocol's own form.
        let by_rfc = is_refresh && placed.is_none();
        let paths = if by_rfc { &NO_PATHS } else { paths };
        let around = match paths.access_token.as_ref().map(MemberPath::names) {
            Some([way @ .., _]) if !way.is_empty() => found(whole, way).and_then(Value::as_object),
            _ => Some(whole),
        };
        let none = Map::new();
        let around = around.unwrap_or(&none);
        let at = |path: &Option<MemberPath>, name: &str| match path {
            Some(path) => found(whole, path.names()).cloned(),
            None => around.get(name).cloned(),
        };
        let expires_in = at(&paths.expires_in, "expires_in").filter(|value| !value.is_null());
        let expiry = if expires_in.is_none() { expiry(around, clock::wall()) } else { None };
        Self {
            access_token: at(&paths.access_token, "access_token"),
            token_type: at(&paths.token_type, "token_type"),
            expires_in,
            scope: at(&paths.scope, "scope"),
            refresh_token: at(&paths.refresh_token, "refresh_token"),
            refresh_expires_in: at(&None, "refresh_expires_in"),
            refresh_token_expires_in: at(&None, "refresh_token_expires_in"),
            issued_token_type: at(&None, "issued_token_type"),
            id_token: at(&paths.id_token, "id_token"),
            instance_url: whole.get("instance_url").cloned(),
            api_domain: whole.get("api_domain").cloned(),
            expiry,
        }
    }
}

/// A form with a token in it, in the place of JSON: some servers respond as the first drafts of OAuth 2.0 had it.
fn form(body: &[u8]) -> Option<Map<String, Value>> {
    let body = without_mark(body).trim_ascii();
    if body.first().is_none_or(|first| b"{[".contains(first)) {
        return None;
    }
    salvage::form(&salvage::text(body), Extent::Whole).filter(|whole| whole.contains_key("access_token"))
}

/// The value at the end of the way that `names` lead; a number chooses from an array.
fn found<'a>(whole: &'a Map<String, Value>, names: &[String]) -> Option<&'a Value> {
    let (first, rest) = names.split_first()?;
    let mut value = whole.get(first)?;
    for name in rest {
        value = match value {
            Value::Object(members) => members.get(name)?,
            Value::Array(items) => items.get(name.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(value).filter(|value| !value.is_null())
}

/// What says when the token ends, in a response without `expires_in`: `expires_at`, `expireTime`, `expiration` and their
/// like, seconds or a point in time. Of several the nearest that is still to come; else the last one.
fn expiry(members: &Map<String, Value>, now: SystemTime) -> Option<Expiry> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let left = |expiry: &Expiry| match expiry {
        Expiry::In(seconds) => *seconds,
        Expiry::At(at) => at.as_secs_f64() - now,
    };
    let stated = members.iter().filter_map(|(name, value)| stated(name, value));
    let (mut coming, mut past): (Vec<_>, Vec<_>) = stated.partition(|expiry| left(expiry) > 0.0);
    coming.sort_by(|one, other| left(one).total_cmp(&left(other)));
    past.sort_by(|one, other| left(other).total_cmp(&left(one)));
    coming.first().or(past.first()).copied()
}

fn stated(name: &str, value: &Value) -> Option<Expiry> {
    let mut plain = name.to_ascii_lowercase();
    plain.retain(|letter| letter.is_ascii_alphanumeric());
    let own = ["accesstoken", "token"].into_iter().find_map(|prefix| plain.strip_prefix(prefix));
    let own = own.unwrap_or(&plain);
    if !own.starts_with("expir") || OTHER_UNITS.iter().any(|unit| own.contains(unit)) {
        return None;
    }
    if let Some(at) = instant_of(value) {
        return Some(Expiry::At(at));
    }
    let seconds = number(value).filter(|seconds| *seconds > 0.0)?;
    Some(Expiry::In(seconds))
}

/// Names with these have another unit, or are of another token.
const OTHER_UNITS: [&str; 6] = ["refresh", "minute", "hour", "day", "milli", "ms"];

static NO_PATHS: ResponsePaths = ResponsePaths {
    access_token: None,
    expires_in: None,
    refresh_token: None,
    token_type: None,
    scope: None,
    id_token: None,
};

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn paths(pairs: &[(&str, &str)]) -> ResponsePaths {
        let path = |name: &str| {
            let (_, text) = pairs.iter().find(|(given, _)| *given == name)?;
            Some(MemberPath::parse(text).unwrap())
        };
        ResponsePaths {
            access_token: path("access_token"),
            expires_in: path("expires_in"),
            refresh_token: path("refresh_token"),
            token_type: path("token_type"),
            scope: path("scope"),
            id_token: path("id_token"),
        }
    }

    fn read(body: &Value, pairs: &[(&str, &str)], is_refresh: bool) -> Members {
        let reading = Reading { paths: &paths(pairs), is_refresh };
        Members::read(body.to_string().as_bytes(), reading).unwrap_or_else(|_| panic!("{body}"))
    }

    #[test]
    fn what_is_not_named_stands_beside_the_access_token() {
        let slack = json!({
            "ok": true, "access_token": "xoxb", "token_type": "bot", "refresh_token": "bot-refresh",
            "authed_user": {
                "access_token": "xoxp", "token_type": "user", "refresh_token": "user-refresh", "expires_in": 43200,
            },
        });
        let user = read(&slack, &[("access_token", "authed_user.access_token")], false);
        assert_eq!(user.access_token, Some("xoxp".into()));
        assert_eq!(user.refresh_token, Some("user-refresh".into()));
        assert_eq!((user.token_type, user.expires_in), (Some("user".into()), Some(43200.into())));

        // The user allowed nothing: the bot's token is not taken in its place.
        let bot =
            json!({"access_token": "xoxb", "refresh_token": "bot-refresh", "authed_user": {"id": "U1"}});
        let none = read(&bot, &[("access_token", "authed_user.access_token")], false);
        assert_eq!((none.access_token, none.refresh_token), (None, None));

        // A refresh has the protocol's own form there.
        let refreshed = json!({"access_token": "xoxp-2", "refresh_token": "next", "expires_in": 43200});
        let again = read(&refreshed, &[("access_token", "authed_user.access_token")], true);
        assert_eq!((again.access_token, again.refresh_token), (Some("xoxp-2".into()), Some("next".into())));
    }

    #[test]
    fn a_member_is_found_by_names_and_places() {
        let body =
            json!({"data": {"tokens": [{"value": "a"}, {"value": "b"}]}, "life": "60", "next": {"r": "R"}});
        let got = read(
            &body,
            &[("access_token", "data.tokens.1.value"), ("expires_in", "life"), ("refresh_token", "next.r")],
            false,
        );
        assert_eq!(got.access_token, Some("b".into()));
        assert_eq!((got.expires_in, got.refresh_token), (Some("60".into()), Some("R".into())));
        for missing in ["data.tokens.2.value", "data.tokens.x.value", "data.value", "life.x", "gone"] {
            assert_eq!(read(&body, &[("access_token", missing)], false).access_token, None, "{missing}");
        }
    }

    #[test]
    fn an_expiry_by_another_name_is_read() {
        let now = UNIX_EPOCH + Duration::from_hours(500_000);
        let of = |value: Value| expiry(value.as_object().unwrap(), now);
        let at = |seconds| Some(Expiry::At(Duration::from_secs(seconds)));
        for (body, want) in [
            (json!({"expires_at": 1_800_003_600}), at(1_800_003_600)),
            (json!({"expires_at": "2027-01-15T09:00:00Z"}), at(1_800_003_600)),
            (json!({"expires_on": "1800003600"}), at(1_800_003_600)),
            (json!({"expiration": 1_800_003_600, "refresh_expiration": 1_900_000_000}), at(1_800_003_600)),
            (json!({"expireTime": "2027-01-15T09:00:00.5Z"}), at(1_800_003_600)),
            (json!({"expiry_date": 1_800_003_600_000_u64}), at(1_800_003_600)),
            (json!({"expires": "Fri, 15 Jan 2027 09:00:00 GMT"}), at(1_800_003_600)),
            (json!({"accessTokenExpiresAt": 1_800_003_600}), at(1_800_003_600)),
            (json!({"expire": 7200}), Some(Expiry::In(7200.0))),
            (json!({"expireIn": "7200"}), Some(Expiry::In(7200.0))),
            (json!({"expiresIn": 7200}), Some(Expiry::In(7200.0))),
            (json!({"expires_in_sec": 3600}), Some(Expiry::In(3600.0))),
            // The nearest that is to come; one that is over counts only where it is all there is.
            (json!({"expires_at": 1_800_003_600, "expires_on": 1_800_000_060}), at(1_800_000_060)),
            (json!({"expires_at": 1_799_999_000, "expiration": 1_800_000_060}), at(1_800_000_060)),
            (json!({"expires_at": 1_799_999_000}), at(1_799_999_000)),
            (json!({"expires_at": 0}), None),
            (json!({"expires_at": null, "expired": false, "expires_with": "never"}), None),
            (json!({"refresh_token_expires_in": 60, "ext_expires_in": 60, "expires_in_minutes": 60}), None),
        ] {
            assert_eq!(of(body.clone()), want, "{body}");
        }
    }

    #[test]
    fn expires_in_is_what_counts_where_it_is_there() {
        let both = read(&json!({"access_token": "t", "expires_in": 60, "expires_at": 1}), &[], false);
        assert_eq!((both.expires_in, both.expiry), (Some(60.into()), None));
        let null = read(&json!({"access_token": "t", "expires_in": null, "expire": 90}), &[], false);
        assert_eq!((null.expires_in, null.expiry), (None, Some(Expiry::In(90.0))));
    }
}
