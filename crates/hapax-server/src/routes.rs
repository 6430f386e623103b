//! The one table of routes: which method and path means what, and what one must be allowed to do for it. The
//! router, the field `Allow`, the matrix test of access and the names in metrics all come from it. It looks at no
//! request but its method and raw path, and knows nothing of what exists.
//!
//! A path is split raw and each segment is decoded once, by whoever owns its meaning.

use hapax_proto::access::Verb;
use hapax_proto::name::{UrlPath, UserName, parse_url_path};
use hapax_proto::problem::{Kind, Problem};
use hapax_proto::tree::PartNumber;
use hapax_store::catalog::{TokenId, UploadId};
use http::header::ALLOW;
use http::{HeaderValue, Method};

use crate::respond::Refusal;

/// One line of the table.
#[derive(Debug)]
pub struct Row {
    /// The route's name, for logs and metrics.
    pub name: &'static str,
    /// The methods that take it. GET serves HEAD too, unless a row of its own does.
    pub methods: &'static [Method],
    /// The path below the base path: `{name}` stands for one segment, a last `{path}` for all that follows.
    pub pattern: &'static str,
    /// What one must be allowed to do.
    pub verb: Verb,
    make: fn(&Captures<'_>) -> Result<Route, Refusal>,
}

/// Writes the table as an enum with one variant a row, and as rows that make the variants.
macro_rules! routes {
    ($($(#[doc = $about:literal])+ $name:ident $({ $($field:ident: $type:ty),+ })? = $($method:ident)|+ $pattern:literal by $verb:ident;)+) => {
        /// What a request asks for, with the parameters of its path.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Route {
            $($(#[doc = $about])+ $name $({ $(#[doc = concat!("`{", stringify!($field), "}` of the path.")] $field: $type),+ })?,)+
        }

        /// Every route.
        pub const TABLE: &[Row] = &[$(Row {
            name: stringify!($name),
            methods: &[$(Method::$method),+],
            pattern: $pattern,
            verb: Verb::$verb,
            make: |_captures| Ok(Route::$name $({ $($field: _captures.parameter(stringify!($field))?),+ })?),
        }),+];
    };
}

routes! {
    /// What this service is.
    DescribeService = GET "/api/v1" by ReadService;
    /// Begins an upload.
    CreateUpload = POST "/api/v1/uploads" by CreateUpload;
    /// Lists the caller's uploads.
    ListUploads = GET "/api/v1/uploads" by ListUploads;
    /// Tells what an upload holds.
    ReadUpload { upload: UploadId } = GET "/api/v1/uploads/{upload}" by ReadUpload;
    /// Ends an upload.
    CancelUpload { upload: UploadId } = DELETE "/api/v1/uploads/{upload}" by CancelUpload;
    /// Stores a run of a part.
    StorePart { upload: UploadId, part: PartNumber } = PUT "/api/v1/uploads/{upload}/parts/{part}" by WriteUpload;
    /// States another size.
    ResizeUpload { upload: UploadId } = POST "/api/v1/uploads/{upload}/resize" by WriteUpload;
    /// Makes the content visible under its name.
    CompleteUpload { upload: UploadId } = POST "/api/v1/uploads/{upload}/complete" by WriteUpload;
    /// The digest of a durable span.
    DigestSpan { upload: UploadId } = GET "/api/v1/uploads/{upload}/digest" by ReadUpload;
    /// Claims content without sending it.
    Claim = POST "/api/v1/claims" by Claim;
    /// Proves to have what was claimed.
    ProveClaims = POST "/api/v1/claims/proofs" by Claim;
    /// Stores many small files.
    StoreBatch = POST "/api/v1/batch" by WriteEntry;
    /// Reads many small files.
    FetchBatch = POST "/api/v1/batch/get" by ReadEntry;
    /// The hash tree of a file.
    ReadTree { path: UrlPath } = GET "/api/v1/tree/{path}" by ReadEntry;
    /// Describes an entry, or lists a folder.
    ReadEntry { path: UrlPath } = GET "/api/v1/entries/{path}" by ReadEntry;
    /// Makes a folder, moves or copies an entry.
    OperateOnEntry { path: UrlPath } = POST "/api/v1/entries/{path}" by WriteEntry;
    /// Changes what is said about an entry.
    PatchEntry { path: UrlPath } = PATCH "/api/v1/entries/{path}" by WriteEntry;
    /// Deletes an entry.
    DeleteEntry { path: UrlPath } = DELETE "/api/v1/entries/{path}" by DeleteEntry;
    /// Begins a session of a page.
    CreateSession = POST "/api/v1/session" by ReadService;
    /// Tells who asks.
    ReadSession = GET "/api/v1/session" by ReadService;
    /// Ends the session.
    EndSession = DELETE "/api/v1/session" by ManageOwnTokens;
    /// Makes a token.
    CreateToken = POST "/api/v1/tokens" by ManageOwnTokens;
    /// Lists the caller's tokens.
    ListTokens = GET "/api/v1/tokens" by ManageOwnTokens;
    /// Revokes a token.
    RevokeToken { token: TokenId } = DELETE "/api/v1/tokens/{token}" by ManageOwnTokens;
    /// Lists the accounts.
    ListUsers = GET "/api/v1/admin/users" by ManageUsers;
    /// Makes an account.
    CreateUser = POST "/api/v1/admin/users" by ManageUsers;
    /// Changes the password, quota or group of an account.
    ChangeUser { user: UserName } = PATCH "/api/v1/admin/users/{user}" by ManageUsers;
    /// Removes an account.
    RemoveUser { user: UserName } = DELETE "/api/v1/admin/users/{user}" by ManageUsers;
    /// Verifies the store.
    CheckStore = POST "/api/v1/admin/check" by Housekeep;
    /// Removes what nothing refers to.
    SweepStore = POST "/api/v1/admin/sweep" by Housekeep;
    /// Puts pieces together.
    CompactStore = POST "/api/v1/admin/compact" by Housekeep;
    /// Has everything read and authenticated now.
    ScrubStore = POST "/api/v1/admin/scrub" by Housekeep;
    /// Tells how far that has come, and what is damaged.
    ReadScrub = GET "/api/v1/admin/scrub" by Housekeep;
    /// Measures the store.
    MeasureStore = GET "/api/v1/admin/stats" by Housekeep;
    /// The content of a file.
    ReadFile { path: UrlPath } = GET | HEAD "/files/{path}" by ReadEntry;
    /// Replaces a file.
    PutFile { path: UrlPath } = PUT "/files/{path}" by WriteEntry;
    /// Creates a file in a folder.
    PostFile { path: UrlPath } = POST "/files/{path}" by WriteEntry;
    /// Begins an upload of the IETF draft.
    PatchFile { path: UrlPath } = PATCH "/files/{path}" by WriteEntry;
    /// Deletes a file or an empty folder.
    DeleteFile { path: UrlPath } = DELETE "/files/{path}" by DeleteEntry;
    /// Where an upload stands; ends a running append.
    ProbeUpload { upload: UploadId } = HEAD "/uploads/{upload}" by ReadUpload;
    /// Bytes behind what an upload holds.
    AppendUpload { upload: UploadId } = PATCH "/uploads/{upload}" by WriteUpload;
    /// The content of a finished upload.
    ReadUploadContent { upload: UploadId } = GET "/uploads/{upload}" by ReadUpload;
    /// Ends an upload.
    DeleteUpload { upload: UploadId } = DELETE "/uploads/{upload}" by CancelUpload;
    /// Begins an upload of tus.
    CreateTus = POST "/tus/" by CreateUpload;
    /// Where an upload stands; ends a running append.
    ProbeTus { upload: UploadId } = HEAD "/tus/{upload}" by ReadUpload;
    /// Bytes behind what an upload holds.
    AppendTus { upload: UploadId } = PATCH "/tus/{upload}" by WriteUpload;
    /// Ends an upload.
    TerminateTus { upload: UploadId } = DELETE "/tus/{upload}" by CancelUpload;
    /// Whether the process runs.
    Health = GET "/healthz" by ReadService;
    /// Whether it can do its work.
    Ready = GET "/readyz" by ReadService;
    /// The numbers of the process.
    Metrics = GET "/metrics" by ReadMetrics;
}

/// What a method and a path came to.
#[derive(Debug)]
pub enum Found {
    /// A row of the table.
    Route(&'static Row, Route),
    /// OPTIONS of a path that some row has; the methods there.
    Options(HeaderValue),
}

/// Finds the route of a request.
///
/// # Errors
/// 404 if no row has the path, 405 with `Allow` if none has the method, 400 if the path names an entry and breaks a
/// rule of paths.
pub fn route(method: &Method, raw_path: &str, base_path: &str) -> Result<Found, Refusal> {
    let path = raw_path.strip_prefix(base_path).ok_or(Kind::NotFound)?;
    let matching: Vec<_> = TABLE
        .iter()
        .filter_map(|row| Captures::of(row.pattern, path).map(|captures| (row, captures)))
        .collect();
    if matching.is_empty() {
        return Err(Kind::NotFound.into());
    }
    if *method == Method::OPTIONS {
        // A path that breaks a rule is refused whatever the method is.
        let (row, captures) = &matching[0];
        (row.make)(captures)?;
        return Ok(Found::Options(allow(matching.iter().map(|(row, _)| *row))));
    }
    let by_method = |method: &Method| matching.iter().find(|(row, _)| row.methods.contains(method));
    let head_by_get = || (*method == Method::HEAD).then(|| by_method(&Method::GET)).flatten();
    let Some((row, captures)) = by_method(method).or_else(head_by_get) else {
        let methods = allow(matching.iter().map(|(row, _)| *row));
        return Err(Refusal::from(Kind::MethodNotAllowed).field(ALLOW, methods));
    };
    Ok(Found::Route(row, (row.make)(captures)?))
}

/// Lists the methods of rows as `Allow` does, each once.
fn allow<'a>(rows: impl Iterator<Item = &'a Row>) -> HeaderValue {
    let mut methods: Vec<&str> = rows.flat_map(|row| row.methods.iter().map(Method::as_str)).collect();
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
    methods.push("OPTIONS");
    methods.sort_unstable();
    methods.dedup();
    HeaderValue::from_str(&methods.join(", ")).expect("methods are tokens")
}

/// The raw segments that stand where a pattern has names.
struct Captures<'a>(Vec<(&'static str, &'a str)>);

impl<'a> Captures<'a> {
    /// Lays a pattern over a raw path; `None` if they do not match.
    fn of(pattern: &'static str, path: &'a str) -> Option<Self> {
        // The slash at the end of a collection may be left out.
        if pattern.strip_suffix('/') == Some(path) {
            return Some(Self(Vec::new()));
        }
        let mut captures = Vec::new();
        let mut rest = path;
        for segment in pattern.split('/').skip(1) {
            if segment == "{path}" {
                captures.push(("path", rest));
                return Some(Self(captures));
            }
            let below = rest.strip_prefix('/')?;
            let (here, behind) = below.split_at(below.find('/').unwrap_or(below.len()));
            match segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                Some(name) => captures.push((name, here)),
                None if segment == here => {}
                None => return None,
            }
            rest = behind;
        }
        rest.is_empty().then_some(Self(captures))
    }

    fn parameter<P: Parameter>(&self, name: &str) -> Result<P, Refusal> {
        let (_, raw) =
            self.0.iter().find(|(captured, _)| *captured == name).expect("a field is named in its pattern");
        P::parse(raw)
    }
}

/// What can stand in a path.
trait Parameter: Sized {
    /// Reads it raw. What cannot be the name of anything is 404, as is a name of nothing; only the names of
    /// entries have rules that a client can break by mistake.
    fn parse(raw: &str) -> Result<Self, Refusal>;
}

impl Parameter for UrlPath {
    fn parse(raw: &str) -> Result<Self, Refusal> {
        parse_url_path(raw).map_err(|bad| Problem::new(Kind::BadPath).detail(bad.to_string()).into())
    }
}

impl Parameter for UploadId {
    fn parse(raw: &str) -> Result<Self, Refusal> {
        Self::parse(raw).ok_or_else(|| Kind::NotFound.into())
    }
}

impl Parameter for TokenId {
    fn parse(raw: &str) -> Result<Self, Refusal> {
        plain_number(raw).map(Self)
    }
}

impl Parameter for UserName {
    fn parse(raw: &str) -> Result<Self, Refusal> {
        Self::parse(raw).ok_or_else(|| Kind::NotFound.into())
    }
}

impl Parameter for PartNumber {
    fn parse(raw: &str) -> Result<Self, Refusal> {
        plain_number(raw).map(Self::new)
    }
}

/// Reads a number that is spelled in the one way: digits, no sign, no leading zero.
fn plain_number<N: std::str::FromStr + ToString>(raw: &str) -> Result<N, Refusal> {
    let number = raw.parse::<N>().map_err(|_| Refusal::from(Kind::NotFound))?;
    if number.to_string() == raw { Ok(number) } else { Err(Kind::NotFound.into()) }
}

#[cfg(test)]
mod tests {
    use hapax_proto::name::EntryPath;

    use super::*;

    const U: &str = "000102030405060708090a0b0c0d0e0f";

    fn upload() -> UploadId {
        UploadId::parse(U).unwrap()
    }

    fn own(path: &str) -> UrlPath {
        UrlPath { space: None, path: EntryPath::parse(path).unwrap(), folder: false }
    }

    #[track_caller]
    fn check(method: &Method, path: &str, expected: &Route) {
        match route(method, path, "") {
            Ok(Found::Route(_, found)) => assert_eq!(&found, expected),
            other => panic!("{method} {path}: {other:?}"),
        }
    }

    #[test]
    fn a_path_and_a_method_name_a_route() {
        check(&Method::GET, "/api/v1", &Route::DescribeService);
        check(&Method::POST, "/api/v1/uploads", &Route::CreateUpload);
        check(&Method::GET, "/api/v1/uploads", &Route::ListUploads);
        check(&Method::GET, &format!("/api/v1/uploads/{U}"), &Route::ReadUpload { upload: upload() });
        check(
            &Method::PUT,
            &format!("/api/v1/uploads/{U}/parts/12"),
            &Route::StorePart { upload: upload(), part: PartNumber::new(12) },
        );
        check(&Method::HEAD, &format!("/uploads/{U}"), &Route::ProbeUpload { upload: upload() });
        check(&Method::GET, &format!("/uploads/{U}"), &Route::ReadUploadContent { upload: upload() });
        check(&Method::HEAD, "/healthz", &Route::Health);
        check(&Method::HEAD, "/files/a", &Route::ReadFile { path: own("/a") });
        check(&Method::PUT, "/files/a%20b/c", &Route::PutFile { path: own("/a b/c") });
        check(
            &Method::DELETE,
            "/api/v1/admin/users/alice",
            &Route::RemoveUser { user: UserName::parse("alice").unwrap() },
        );
    }

    #[test]
    fn a_folder_is_named_with_a_slash_and_the_root_without() {
        let root = UrlPath { space: None, path: EntryPath::root(), folder: true };
        check(&Method::GET, "/files", &Route::ReadFile { path: root.clone() });
        check(&Method::GET, "/files/", &Route::ReadFile { path: root.clone() });
        check(&Method::GET, "/api/v1/entries", &Route::ReadEntry { path: root });
        let folder = UrlPath { folder: true, ..own("/a") };
        check(&Method::POST, "/files/a/", &Route::PostFile { path: folder });
    }

    #[track_caller]
    fn check_refused(method: &Method, path: &str, kind: Kind, allow: Option<&str>) {
        let refused = route(method, path, "").expect_err("no route");
        assert_eq!(refused.problem().kind, kind);
        let response = crate::respond::refusal(refused);
        assert_eq!(response.headers().get(ALLOW).map(|allow| allow.to_str().unwrap()), allow);
    }

    #[test]
    fn what_no_row_has_is_not_found() {
        for path in [
            "/",
            "",
            "*",
            "/api",
            "/api/v2",
            "/api/v1/",
            "/api/v1/uploads/",
            "/filesx",
            "/api/v1/uploads/a/b",
        ] {
            check_refused(&Method::GET, path, Kind::NotFound, None);
        }
        for number in ["-1", "+1", "01", "4294967296", ""] {
            check_refused(&Method::PUT, &format!("/api/v1/uploads/{U}/parts/{number}"), Kind::NotFound, None);
        }
        check_refused(&Method::GET, "/api/v1/uploads/a%20b", Kind::NotFound, None);
    }

    #[test]
    fn a_method_that_no_row_has_is_told_which_there_are() {
        let not_allowed = Kind::MethodNotAllowed;
        check_refused(&Method::PATCH, "/api/v1/claims", not_allowed, Some("OPTIONS, POST"));
        check_refused(
            &Method::PUT,
            &format!("/api/v1/uploads/{U}"),
            not_allowed,
            Some("DELETE, GET, HEAD, OPTIONS"),
        );
        check_refused(&Method::DELETE, "/api/v1", not_allowed, Some("GET, HEAD, OPTIONS"));
        check_refused(&Method::GET, "/api/v1/claims", not_allowed, Some("OPTIONS, POST"));
        check_refused(&Method::HEAD, "/api/v1/claims", not_allowed, Some("OPTIONS, POST"));
        let methods = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT";
        check_refused(&Method::TRACE, "/files/a", not_allowed, Some(methods));
    }

    #[test]
    fn a_path_that_breaks_a_rule_is_refused_for_every_method() {
        for method in [Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS] {
            for path in [
                "/files/a%2Fb",
                "/files/..",
                "/files/%2e%2E/x",
                "/files//a",
                "/files/%00",
                "/files/%zz",
                "/files/@/a",
            ] {
                check_refused(&method, path, Kind::BadPath, None);
            }
        }
    }

    #[test]
    fn options_tells_the_methods_of_a_path() {
        #[track_caller]
        fn check(path: &str, methods: &str) {
            match route(&Method::OPTIONS, path, "") {
                Ok(Found::Options(allow)) => assert_eq!(allow, methods),
                other => panic!("{other:?}"),
            }
        }
        check("/files/a", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT");
        check(&format!("/uploads/{U}"), "DELETE, GET, HEAD, OPTIONS, PATCH");
        check("/tus", "OPTIONS, POST");
        check_refused(&Method::OPTIONS, "/nowhere", Kind::NotFound, None);
    }

    #[test]
    fn a_base_path_stands_before_every_path() {
        let found = |path| route(&Method::GET, path, "/disk");
        assert!(matches!(found("/disk/healthz"), Ok(Found::Route(_, Route::Health))));
        assert!(matches!(found("/disk/files"), Ok(Found::Route(_, Route::ReadFile { .. }))));
        for path in ["/healthz", "/diskhealthz", "/disk"] {
            assert!(found(path).is_err(), "{path}");
        }
    }

    #[test]
    fn no_two_rows_take_the_same_request() {
        for (index, row) in TABLE.iter().enumerate() {
            for other in &TABLE[..index] {
                let shared = row.methods.iter().any(|method| other.methods.contains(method));
                assert!(row.pattern != other.pattern || !shared, "{} and {}", row.name, other.name);
            }
        }
    }

    #[test]
    fn every_row_is_reached_by_each_of_its_methods() {
        for row in TABLE {
            let path = row
                .pattern
                .replace("{upload}", U)
                .replace("{part}", "0")
                .replace("{token}", "1")
                .replace("{user}", "alice")
                .replace("{path}", "a");
            for method in row.methods {
                match route(method, &path, "") {
                    Ok(Found::Route(found, _)) => assert_eq!(found.name, row.name),
                    other => panic!("{method} {path}: {other:?}"),
                }
            }
        }
    }
}
