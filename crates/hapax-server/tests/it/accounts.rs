//! Accounts, tokens, housekeeping.

use hapax_proto::dialect::native::{CreatedToken, SessionInfo, TokenInfo};
use hapax_proto::span::{Length, SIZE_MAX};
use hapax_server::admin::{CheckReport, StoreStats, SweepReport, UserInfo};
use hapax_server::serve::ServeError;
use hapax_store::account::NewToken;
use hapax_store::catalog::{SpaceId, TOKENS_MAX};
use serde_json::json;

use crate::server::{PASSWORD, Running, outside};
use crate::wire::Client;

fn with_password(server: &Running, user: &str, password: &str) -> Client {
    let pair = data_encoding::BASE64.encode(format!("{user}:{password}").as_bytes());
    Client { address: server.address, authorization: Some(format!("Basic {pair}")) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_makes_tokens_and_a_revoked_one_is_worth_nothing() {
    let server = Running::start().await;
    let alice = with_password(&server, "alice", PASSWORD);
    let create = json!({"name": "phone", "scope": ["read"], "expires": null});
    let created: CreatedToken = alice.json("POST", "/api/v1/tokens", &create).await.expect(201).read();
    assert_eq!(created.user, "alice");
    let phone = Client { address: server.address, authorization: Some(format!("Bearer {}", created.token)) };
    phone.get("/api/v1/entries/").await.expect(200);
    phone.send("PUT", "/files/a", &[], "x").await.refused(403, "forbidden");
    phone.get("/api/v1/tokens").await.refused(403, "forbidden");
    let tokens: Vec<TokenInfo> = alice.get("/api/v1/tokens").await.expect(200).read();
    assert_eq!(
        (tokens.len(), tokens[0].name.as_str(), &tokens[0].scope),
        (1, "phone", &vec!["read".to_owned()])
    );
    alice.ask("DELETE", &format!("/api/v1/tokens/{}", created.id), &[]).await.expect(204);
    phone.get("/api/v1/entries/").await.refused(401, "unauthenticated");
    alice.ask("DELETE", &format!("/api/v1/tokens/{}", created.id), &[]).await.refused(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_keeps_a_session_until_it_ends_it() {
    let server = Running::start().await;
    let nobody = server.nobody();
    let nothing: SessionInfo = nobody.get("/api/v1/session").await.expect(200).read();
    assert_eq!(nothing.user, None);
    let wrong = json!({"user": "alice", "password": "wrong"});
    nobody.json("POST", "/api/v1/session", &wrong).await.refused(401, "unauthenticated");

    let password = json!({"user": "alice", "password": PASSWORD});
    let begun = nobody.json("POST", "/api/v1/session", &password).await.expect(201);
    let line = begun.field("set-cookie").to_owned();
    let (cookie, attributes) = line.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; Max-Age=2592000; HttpOnly; SameSite=Strict");
    assert!(begun.read::<SessionInfo>().expires.is_some());

    let ours: [(&str, &str); 2] = [("cookie", cookie), ("sec-fetch-site", "same-origin")];
    let told: SessionInfo = nobody.ask("GET", "/api/v1/session", &ours).await.expect(200).read();
    assert_eq!(told.user.as_deref(), Some("alice"));
    nobody.send("PUT", "/files/a", &ours, "x").await.expect(201);
    let foreign = [("cookie", cookie), ("sec-fetch-site", "cross-site")];
    nobody.send("PUT", "/files/a", &foreign, "y").await.refused(403, "forbidden");
    let tokens: Vec<TokenInfo> = server.alice().get("/api/v1/tokens").await.expect(200).read();
    assert!(tokens.iter().any(|token| token.name == "session"), "{tokens:?}");

    let ended = nobody.ask("DELETE", "/api/v1/session", &ours).await.expect(204);
    assert!(ended.field("set-cookie").starts_with("hapax=; Path=/; Max-Age=0;"));
    // The browser may go on sending it: it is nobody's.
    nobody.ask("GET", "/files/a", &ours).await.refused(401, "unauthenticated");
    let told: SessionInfo = nobody.ask("GET", "/api/v1/session", &ours).await.expect(200).read();
    assert_eq!(told.user, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_makes_the_server_keep_large_bodies() {
    let server = Running::start().await;
    let nobody = server.nobody();
    let body = json!({"user": "alice", "password": "x".repeat(9 << 10)});
    nobody.json("POST", "/api/v1/session", &body).await.refused(413, "too-large");
    // Chunked, so that nothing is known before it comes.
    let mut wire = server.connect().await;
    let json = ("Content-Type", "application/json");
    let chunked = [json, ("Transfer-Encoding", "chunked")];
    wire.send(nobody.head("POST", "/api/v1/session", &chunked) + "\r\n").await;
    wire.send(format!("2401\r\n{:9217}\r\n", "")).await;
    wire.answer().await.refused(413, "too-large");
    // And of those that may be, many at once from one network.
    let fields = [json, ("Content-Length", "2"), ("Expect", "100-continue")];
    let head = nobody.head("POST", "/api/v1/session", &fields) + "\r\n";
    let mut waiting = Vec::new();
    let refused = loop {
        assert!(waiting.len() < 1_000, "nothing bounds how many there are");
        let mut wire = server.connect().await;
        wire.send(&head).await;
        let answer = wire.head().await;
        if answer.status.as_u16() != 100 {
            break answer;
        }
        waiting.push(wire);
    };
    refused.refused(429, "too-many");
    let mut first = waiting.swap_remove(0);
    first.send("{}").await;
    first.answer().await.refused(400, "bad-field");
    nobody.json("POST", "/api/v1/session", &json!({"user": "alice", "password": PASSWORD})).await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_no_account_has_costs_no_attempt() {
    let server = Running::start().await;
    let long = json!({"user": "alice", "password": "x".repeat(1_025)});
    for _ in 0..20 {
        server.nobody().json("POST", "/api/v1/session", &long).await.refused(401, "unauthenticated");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_tls_the_cookie_is_for_tls_alone() {
    let server = Running::start().await;
    let password = json!({"user": "alice", "password": PASSWORD}).to_string();
    let origin = format!("https://{}", server.address);
    let page = [("origin", &*origin), ("content-type", "application/json")];
    let begun = server.nobody().send("POST", "/api/v1/session", &page, &password).await.expect(201);
    let line = begun.field("set-cookie");
    assert!(line.starts_with("__Host-hapax=hapax_") && line.ends_with("; Secure"), "{line}");
    let evil = [("origin", "https://evil.example"), ("content-type", "application/json")];
    server.nobody().send("POST", "/api/v1/session", &evil, &password).await.refused(403, "forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_token_may_not_be() {
    let server = Running::start().await;
    let alice = server.alice();
    for (scope, expires) in
        [(json!([]), json!(null)), (json!(["all"]), json!(null)), (json!(["read"]), json!("soon"))]
    {
        let create = json!({"name": "x", "scope": scope, "expires": expires});
        alice.json("POST", "/api/v1/tokens", &create).await.refused(400, "bad-field");
    }
    let past = json!({"name": "x", "scope": ["read"], "expires": "2001-01-01T00:00:00Z"});
    let expired: CreatedToken = alice.json("POST", "/api/v1/tokens", &past).await.expect(201).read();
    let client = Client { address: server.address, authorization: Some(format!("Bearer {}", expired.token)) };
    client.get("/api/v1/entries/").await.refused(401, "unauthenticated");
    let mightier = json!({"name": "x", "scope": ["write"], "expires": null});
    server.alice_who_may("admin").json("POST", "/api/v1/tokens", &mightier).await.refused(403, "forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_manages_accounts_and_reads_nobodys_files() {
    let server = Running::start().await;
    let root = server.root();
    let create = json!({"name": "carol", "password": "long enough", "quota": 10});
    let carol: UserInfo = root.json("POST", "/api/v1/admin/users", &create).await.expect(201).read();
    assert_eq!((carol.name.as_str(), carol.quota, carol.admin), ("carol", Some(10), false));
    root.json("POST", "/api/v1/admin/users", &create).await.refused(409, "exists");
    let short = json!({"name": "dave", "password": "short"});
    root.json("POST", "/api/v1/admin/users", &short).await.refused(400, "bad-field");

    let client = with_password(&server, "carol", "long enough");
    client.send("PUT", "/files/a", &[], "0123456789").await.expect(201);
    client.send("PUT", "/files/b", &[], "x").await.refused(507, "quota");
    root.get("/files/@carol/a").await.refused(404, "not-found");
    let change = json!({"password": "something else", "quota": null});
    let changed: UserInfo = root.json("PATCH", "/api/v1/admin/users/carol", &change).await.expect(200).read();
    assert_eq!((changed.quota, changed.used), (None, 10));
    client.get("/files/a").await.refused(401, "unauthenticated");
    let client = with_password(&server, "carol", "something else");
    client.send("PUT", "/files/b", &[], "x").await.expect(201);
    let users: Vec<UserInfo> = root.get("/api/v1/admin/users").await.expect(200).read();
    let names: Vec<_> = users.iter().map(|user| user.name.as_str()).collect();
    assert_eq!(names, ["alice", "bob", "carol", "root"]);
    root.ask("DELETE", "/api/v1/admin/users/root", &[]).await.refused(403, "forbidden");
    root.ask("DELETE", "/api/v1/admin/users/carol", &[]).await.expect(204);
    client.get("/files/a").await.refused(401, "unauthenticated");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn housekeeping_is_done_on_request() {
    let server = Running::start().await;
    let (alice, root) = (server.alice(), server.root());
    alice.send("PUT", "/files/a", &[], vec![7; 100_000]).await.expect(201);
    let stats: StoreStats = root.get("/api/v1/admin/stats").await.expect(200).read();
    assert_eq!((stats.users, stats.files, stats.logical, stats.objects), (3, 1, 100_000, 1));
    let check = json!({"data": true});
    let report: CheckReport = root.json("POST", "/api/v1/admin/check", &check).await.expect(200).read();
    assert_eq!((report.findings.len(), report.blobs, report.bytes), (0, 1, 100_000));
    alice.ask("DELETE", "/files/a", &[]).await.expect(204);
    let now = json!({"now": true});
    let swept: SweepReport = root.json("POST", "/api/v1/admin/sweep", &now).await.expect(200).read();
    assert_eq!((swept.blobs_buried, swept.objects_deleted), (1, 1));
    // Counted as the jobs are that the server begins by itself.
    let jobs = root.get("/api/v1/admin/stats").await.expect(200).read::<StoreStats>().jobs;
    let sweep = jobs.iter().find(|job| job.name == "sweep").unwrap();
    assert!(sweep.runs > 0 && sweep.failures == 0, "{sweep:?}");
    root.get("/metrics").await.expect(200);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_beyond_all_sizes_is_refused_and_stops_no_write() {
    let server = Running::start().await;
    let (root, alice) = (server.root(), server.alice());
    for quota in [SIZE_MAX + 1, 1 << 63, u64::MAX] {
        let body = json!({"name": "eve", "password": PASSWORD, "quota": quota});
        root.json("POST", "/api/v1/admin/users", &body).await.refused(400, "bad-field");
        let change = json!({"quota": quota});
        root.json("PATCH", "/api/v1/admin/users/alice", &change).await.refused(400, "bad-field");
        alice.send("PUT", &format!("/files/{quota}"), &[], "x").await.expect(201);
    }
    let users: Vec<UserInfo> = root.get("/api/v1/admin/users").await.expect(200).read();
    assert!(users.iter().all(|user| user.name != "eve" && user.quota.is_none()), "{users:?}");
    let most = json!({"quota": SIZE_MAX});
    root.json("PATCH", "/api/v1/admin/users/alice", &most).await.expect(200);
    alice.send("PUT", "/files/x", &[], "x").await.expect(201);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_commits_panic_ends_instead_of_refusing_every_write() {
    let server = Running::start().await;
    // No request gets so far with such a number.
    let mut failure = server.store.failure();
    let failed = outside(|| server.store.set_quota(SpaceId(1), Some(Length::new(u64::MAX))));
    assert!(failed.is_err());
    failure.wait_for(Option::is_some).await.expect("a panic counts as a failure for good");
    let ended = server.ended().await;
    assert!(matches!(ended, Err(ServeError::Store(_))), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_has_so_many_tokens_and_sessions_and_no_more() {
    let server = Running::start().await;
    let alice = server.alice();
    let hashes = (0..TOKENS_MAX - 1).map(|number| *blake3::hash(&number.to_be_bytes()).as_bytes());
    let user = outside(|| server.store.catalog().user("alice").unwrap().unwrap().id);
    outside(|| {
        for hash in hashes {
            let (name, scope) = ("t".to_owned(), "read".to_owned());
            server.store.add_token(NewToken { user, name, hash, scope, expires: None }).unwrap();
        }
    });
    let create = json!({"name": "phone", "scope": ["read"], "expires": null});
    alice.json("POST", "/api/v1/tokens", &create).await.refused(429, "too-many");
    let password = json!({"user": "alice", "password": PASSWORD});
    server.nobody().json("POST", "/api/v1/session", &password).await.refused(429, "too-many");
    let tokens: Vec<TokenInfo> = alice.get("/api/v1/tokens").await.expect(200).read();
    let last = tokens.last().unwrap().id;
    alice.ask("DELETE", &format!("/api/v1/tokens/{last}"), &[]).await.expect(204);
    server.nobody().json("POST", "/api/v1/session", &password).await.expect(201);
    server.end().await;
}
