//! Tests of handshakes over real sockets, with certificates made here.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// A directory with `ca.pem`, `cert.pem` and `key.pem` of `127.0.0.1`.
fn files() -> (tempfile::TempDir, TlsFiles) {
    let dir = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
    let cert = params.signed_by(&key, &ca).unwrap();
    let files = TlsFiles {
        cert: dir.path().join("cert.pem"),
        key: dir.path().join("key.pem"),
        client_ca: Some(dir.path().join("ca.pem")),
    };
    fs::write(&files.cert, cert.pem()).unwrap();
    fs::write(&files.key, key.serialize_pem()).unwrap();
    fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
    (dir, files)
}

/// Both ends of a TCP connection.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.unwrap(), server.unwrap().0)
}

#[tokio::test]
async fn a_request_in_clear_text_is_told_so() {
    let (_dir, files) = files();
    let tls = Tls::load(&files).unwrap();
    let (mut client, server) = pair().await;
    client
        .write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let (greeted, answer) = tokio::join!(tls.greet(server), async {
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        drop(client);
        answer
    });
    assert!(greeted.is_none());
    assert_eq!(
        answer,
        "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
    );
}

fn bounded(files: &TlsFiles, patience: Duration, most: usize) -> Tls {
    Tls {
        handshakes: Arc::new(Handshakes::bounded(patience, most)),
        ..Tls::load(files).unwrap()
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_is_closed_in_time() {
    let (_dir, files) = files();
    let tls = bounded(&files, Duration::from_millis(20), 4);
    let (mut client, server) = pair().await;
    assert!(tls.greet(server).await.is_none());
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(tls.handshakes.count(), 0);
}

#[tokio::test]
async fn the_oldest_that_stalls_gives_way_to_the_newest() {
    let (_dir, files) = files();
    let tls = bounded(&files, Duration::from_secs(600), 4);
    let mut clients = Vec::new();
    let mut greeted = tokio::task::JoinSet::new();
    for number in 0..5 {
        let (client, server) = pair().await;
        clients.push(client);
        let tls = tls.clone();
        greeted.spawn(async move { (number, tls.greet(server).await.is_some()) });
        tokio::task::yield_now().await;
    }
    assert_eq!(greeted.join_next().await.unwrap().unwrap(), (0, false));
    assert_eq!(clients[0].read(&mut [0]).await.unwrap(), 0);
    assert_eq!(tls.handshakes.count(), 4);
}

#[test]
fn what_is_wrong_with_the_files_is_said_as_dockerd_says_it() {
    let (dir, files) = files();
    let text = |files: &TlsFiles| Tls::load(files).unwrap_err().to_string();
    let absent = TlsFiles {
        key: dir.path().join("nosuch"),
        ..files.clone()
    };
    assert!(text(&absent).starts_with("could not load X509 key pair (cert: \""));
    let swapped = TlsFiles {
        cert: files.key.clone(),
        key: files.cert.clone(),
        ..files.clone()
    };
    assert!(text(&swapped).starts_with("error reading X509 key pair - make sure the key is not"));
    fs::write(
        dir.path().join("other.pem"),
        KeyPair::generate().unwrap().serialize_pem(),
    )
    .unwrap();
    let strangers = TlsFiles {
        key: dir.path().join("other.pem"),
        ..files.clone()
    };
    assert!(text(&strangers).starts_with("error reading X509 key pair"));
    let no_authority = TlsFiles {
        client_ca: Some(dir.path().join("nosuch")),
        ..files.clone()
    };
    assert!(text(&no_authority).starts_with("could not read CA certificate \""));
    let not_an_authority = TlsFiles {
        client_ca: Some(files.key.clone()),
        ..files.clone()
    };
    assert!(text(&not_an_authority).starts_with("failed to append certificates from PEM file: \""));
}
