//! Paths and methods, as the wire spells them.

use hapax_proto::dialect::native::Service;
use hapax_proto::problem::Problem;
use http::StatusCode;

use crate::server::Running;

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_breaks_a_rule_is_a_bad_path() {
    let server = Running::start().await;
    let mut wire = server.connect().await;
    for path in ["a%2fb", "..", "%2e%2e", "a/../b", "a//b", "%00", "%zz", "%ff", "a%0Ab", "@"] {
        let answer = wire.ask("GET", &format!("/files/{path}")).await;
        assert_eq!(
            (answer.status, answer.field("hapax-problem")),
            (StatusCode::BAD_REQUEST, "bad-path"),
            "{path}"
        );
        let problem = Problem::decode(answer.status, &answer.body).unwrap();
        assert!(problem.detail.is_some(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_and_what_may_not_be_asked() {
    let server = Running::start().await;
    let mut wire = server.connect().await;
    for (method, path, status, problem) in [
        ("GET", "/", 404, "not-found"),
        ("GET", "/api/v2", 404, "not-found"),
        ("PATCH", "/files/a", 401, "unauthenticated"),
        ("BREW", "/files/a", 405, "method-not-allowed"),
        ("GET", "/files/a", 401, "unauthenticated"),
        ("HEAD", "/files/a", 401, "unauthenticated"),
        ("GET", "/uploads/00000000000000000000000000000000", 401, "unauthenticated"),
        ("GET", "/metrics", 401, "unauthenticated"),
        ("GET", "/api/v1/admin/users", 401, "unauthenticated"),
    ] {
        let answer = wire.ask(method, path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.field("hapax-problem")),
            (status, problem),
            "{method} {path}"
        );
        assert_eq!(answer.fields.contains_key("allow"), status == 405);
        assert_eq!(
            answer.fields.get_all("www-authenticate").iter().count(),
            if status == 401 { 2 } else { 0 }
        );
        assert_eq!(answer.field("cache-control"), "no-store");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn options_needs_no_credentials_and_tells_no_existence() {
    let server = Running::start().await;
    let mut wire = server.connect().await;
    let answer = wire.ask("OPTIONS", "/files/a").await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert_eq!(answer.field("allow"), "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT");
    assert_eq!(answer.field("upload-limit"), "min-size=0");
    assert_eq!(
        wire.ask("OPTIONS", "/uploads/00000000000000000000000000000000").await.status,
        StatusCode::NO_CONTENT
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_describes_itself_to_everybody() {
    let server = Running::start().await;
    let answer = server.connect().await.ask("GET", "/api/v1").await;
    assert_eq!(answer.status, StatusCode::OK);
    let service: Service = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((service.name.as_str(), service.api, service.part_size), ("hapax", 1, 16 << 20));
    assert!(service.digests.contains(&"blake3".to_owned()));
}
