//! What an upstream learns of the way that a request has come.

use cupbearer_testing::{Message, Origin, Stage, curl};

/// What an API behind `keys` sees of a request that claims to come from elsewhere.
async fn seen_behind(keys: &str) -> (Stage, Message) {
    let stage = Stage::with(Origin::ok().await, keys, "").await;
    let claims = [
        "Forwarded: for=192.0.2.1",
        "X-Forwarded-For: 192.0.2.1",
        "X-Forwarded-Host: api.example.com",
        "X-Real-IP: 192.0.2.1",
        "X_Forwarded_For: 192.0.2.1",
        "True-Client-IP: 192.0.2.1",
        "CF-Connecting-IP: 192.0.2.1",
        "X-Original-URL: /admin",
        "X-Rewrite-URL: /admin",
        "X-Cupbearer-Secret: not-asked-for",
        "Via: 1.1 theirs",
        "X-Kept: 1",
    ];
    let url = stage.proxy.url("/x");
    let mut arguments: Vec<&str> = claims.iter().flat_map(|claim| ["--header", claim]).collect();
    arguments.push(&url);
    assert_eq!(curl(&arguments).await.status, 200);
    let seen = stage.api.only();
    for never in ["x-original-url", "x-rewrite-url", "x-cupbearer-secret"] {
        assert_eq!(seen.field(never), None, "{never}");
    }
    assert_eq!(seen.field("x-kept").as_deref(), Some("1"));
    (stage, seen)
}

const CLAIMS: [&str; 7] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-real-ip",
    "x_forwarded_for",
    "true-client-ip",
    "cf-connecting-ip",
];

#[tokio::test]
async fn an_upstream_is_told_nothing_of_the_application_unless_it_is_to_be() {
    let (_stage, seen) = seen_behind("").await;
    for claim in CLAIMS {
        assert_eq!(seen.field(claim), None, "{claim}");
    }
    let via = seen.all("via");
    assert_eq!(via[0], "1.1 theirs");
    assert!(via[1].starts_with("1.1 cupbearer-") && via.len() == 2, "{via:?}");
}

#[tokio::test]
async fn what_an_application_says_of_itself_can_be_passed_on() {
    let (_stage, seen) = seen_behind("forwarded = \"pass\"\n").await;
    for claim in CLAIMS {
        assert!(seen.field(claim).is_some(), "{claim}");
    }
}

#[tokio::test]
async fn forwarded_fields_are_made_anew_and_added_to_no_claim() {
    let (stage, seen) = seen_behind("forwarded = \"x_forwarded\"\n").await;
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-host"), [stage.proxy.listen().to_string()]);
    assert_eq!(seen.all("x-forwarded-proto"), ["http"]);
    assert_eq!((seen.field("forwarded"), seen.field("x-real-ip")), (None, None));

    let (stage, seen) = seen_behind("forwarded = \"forwarded\"\n").await;
    let told = format!("for=127.0.0.1;host=\"{}\";proto=http", stage.proxy.listen());
    assert_eq!(seen.all("forwarded"), [told]);
    assert_eq!((seen.field("x-forwarded-for"), seen.field("x_forwarded_for")), (None, None));
}

#[tokio::test]
async fn an_upstream_need_not_know_of_proxies() {
    let (_stage, seen) = seen_behind("via = false\n").await;
    assert_eq!(seen.field("via"), None);
}
