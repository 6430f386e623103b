//! TLS, with a certificate made for these tests: both protocols by ALPN, and files that are none.
//!
//! `tls/certificate.pem` is for 127.0.0.1 and signs itself; its key beside it protects nothing.

use std::path::PathBuf;
use std::sync::Arc;

use hapax_server::app::App;
use hapax_server::config::TlsFiles;
use hapax_server::serve::{ServeError, Server};

use crate::files::noise;
use crate::server::{PASSWORD, Running};
use crate::wire::curl;

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/tls").join(name)
}

fn files() -> TlsFiles {
    TlsFiles { certificates: file("certificate.pem"), key: file("key.pem") }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_protocols_are_chosen_by_alpn() {
    let server = Running::start_with(|config| config.tls = Some(files())).await;
    let url = format!("https://{}/files/a", server.address);
    let (authority, user) = (file("certificate.pem"), format!("alice:{PASSWORD}"));
    let common = ["-f", "--cacert", authority.to_str().unwrap(), "-u", &user];
    let source = tempfile::NamedTempFile::new().unwrap();
    let bytes = noise(2 << 20);
    std::fs::write(source.path(), &bytes).unwrap();
    for (argument, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let path = source.path().to_str().unwrap();
        let told = ["-o", "/dev/null", "-w", "%{http_version}", "-T", path, argument, &url];
        let put = curl(&[&common[..], &told].concat()).await;
        assert_eq!(String::from_utf8_lossy(&put.stdout), version, "{put:?}");
        let got = curl(&[&common[..], &[argument, &url]].concat()).await;
        assert!(got.stdout == bytes, "{argument}: {:?}", String::from_utf8_lossy(&got.stderr));
    }
    // An answer before the body was read reaches the client through TLS as well.
    let path = source.path().to_str().unwrap();
    for argument in ["--http1.1", "--http2"] {
        let told = ["-o", "/dev/null", "-w", "%{http_code}", "-H", "Expect:", "-T", path, argument, &url];
        let refused = curl(&[&["--cacert", authority.to_str().unwrap()][..], &told].concat()).await;
        assert_eq!(String::from_utf8_lossy(&refused.stdout), "401", "{argument}: {refused:?}");
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_without_tls_changes_nothing_on_a_server_with_it() {
    let server = Running::start_with(|config| config.tls = Some(files())).await;
    let (authority, user) = (file("certificate.pem"), format!("alice:{PASSWORD}"));
    let url = format!("https://{}/files/a", server.address);
    for (scheme, status) in [("http", "403"), ("https", "201")] {
        let origin = format!("Origin: {scheme}://{}", server.address);
        let put = ["-X", "PUT", "-d", "x", "-u", &user, "-H", &origin, &url];
        let told = ["--cacert", authority.to_str().unwrap(), "-o", "/dev/null", "-w", "%{http_code}"];
        let put = curl(&[&told[..], &put[..]].concat()).await;
        assert_eq!(String::from_utf8_lossy(&put.stdout), status, "{origin}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_does_not_start_with_files_that_are_no_certificate() {
    let server = Running::start().await;
    let bind = async |tls: TlsFiles| {
        let mut config = hapax_server::config::Config::default();
        config.listen.set_port(0);
        config.tls = Some(tls);
        Server::bind(App::new(config, Arc::clone(&server.store)).unwrap()).await.err()
    };
    let swapped = TlsFiles { certificates: file("key.pem"), key: file("certificate.pem") };
    assert!(matches!(bind(swapped).await, Some(ServeError::Pem { .. } | ServeError::Tls(_))));
    let missing = TlsFiles { certificates: file("nothing.pem"), ..files() };
    assert!(matches!(bind(missing).await, Some(ServeError::Pem { what: "certificates", .. })));
    assert!(bind(files()).await.is_none());
}
