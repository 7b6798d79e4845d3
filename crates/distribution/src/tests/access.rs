//! Who may: tokens, passwords, redirects, mirrors, logins; and the words for who may not.

use std::sync::atomic::{AtomicUsize, Ordering};

use conex_spec::reference::Reference;

use crate::fixture::{Reply, Request, Server, ann, hasty, repository, repository_as};
use crate::{Credentials, Error, Registries, SearchQuery, Settings};

const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0},"layers":[]}"#;

fn manifest() -> Reply {
    Reply::new(200, MANIFEST)
        .with("content-type", "application/vnd.oci.image.manifest.v1+json")
        .with(
            "docker-content-digest",
            conex_spec::digest::Digest::of(MANIFEST.as_bytes()),
        )
}

fn challenge(realm: &str) -> Reply {
    Reply::new(401, "").with(
        "www-authenticate",
        format!("Bearer realm=\"{realm}\",service=\"reg\",scope=\"x\""),
    )
}

async fn token_server() -> Server {
    let count = AtomicUsize::new(0);
    Server::start(move |_| {
        let count = count.fetch_add(1, Ordering::Relaxed);
        Reply::new(200, format!(r#"{{"token":"t{count}","expires_in":300}}"#))
    })
    .await
}

#[tokio::test]
async fn a_token_is_fetched_with_the_password_once_for_all_requests_of_a_scope() {
    let tokens = token_server().await;
    let realm = format!("http://{}/token", tokens.address);
    let registry = Server::start(move |request| match request.header("authorization") {
        "Bearer t0" => manifest(),
        _ => challenge(&realm),
    })
    .await;
    let repository = repository_as(&registry, "a/b:1", &ann()).await;
    let resolved = repository.resolve().await.unwrap();
    repository.manifest(&resolved.digest).await.unwrap();
    repository.manifest(&resolved.digest).await.unwrap();
    let asked = tokens.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked[0].target,
        "/token?service=reg&scope=repository%3Aa%2Fb%3Apull&account=ann"
    );
    assert_eq!(asked[0].header("authorization"), "Basic YW5uOnNlY3JldA==");
    assert_eq!(registry.lines().len(), 4, "one refusal, three answers");
}

#[tokio::test]
async fn a_token_that_is_refused_in_the_middle_is_renewed() {
    let tokens = token_server().await;
    let realm = format!("http://{}/token", tokens.address);
    let registry =
        Server::start(
            move |request| match (&*request.method, request.header("authorization")) {
                ("HEAD", "Bearer t0") | ("GET", "Bearer t1") => manifest(),
                _ => challenge(&realm),
            },
        )
        .await;
    let repository = repository(&registry, "a:1").await;
    let resolved = repository.resolve().await.unwrap();
    repository.manifest(&resolved.digest).await.unwrap();
    assert_eq!(tokens.lines().len(), 2);
}

#[tokio::test]
async fn an_identity_token_is_exchanged_by_post() {
    let tokens = Server::start(|_| Reply::new(200, r#"{"access_token":"x"}"#)).await;
    let realm = format!("http://{}/token", tokens.address);
    let registry = Server::start(move |request| match request.header("authorization") {
        "Bearer x" => manifest(),
        _ => challenge(&realm),
    })
    .await;
    let credentials = Credentials {
        identity_token: "id&1".into(),
        ..Credentials::default()
    };
    let repository = repository_as(&registry, "a:1", &credentials).await;
    repository.resolve().await.unwrap();
    let asked = &tokens.requests()[0];
    assert_eq!(asked.line(), "POST /token");
    assert_eq!(
        String::from_utf8_lossy(&asked.body),
        "grant_type=refresh_token&refresh_token=id%261&service=reg&client_id=conex&scope=repository%3Aa%3Apull"
    );
}

#[tokio::test]
async fn a_registry_token_is_sent_as_it_is() {
    let registry = Server::start(|request| match request.header("authorization") {
        "Bearer mine" => manifest(),
        _ => challenge("http://127.0.0.1:1/never"),
    })
    .await;
    let credentials = Credentials {
        registry_token: "mine".into(),
        ..Credentials::default()
    };
    let repository = repository_as(&registry, "a:1", &credentials).await;
    repository.resolve().await.unwrap();
}

fn basic(request: &Request) -> Reply {
    match request.header("authorization") {
        "Basic YW5uOnNlY3JldA==" => manifest(),
        _ => Reply::new(401, "").with("www-authenticate", "Basic realm=\"R\""),
    }
}

#[tokio::test]
async fn basic_credentials_are_shown_and_their_lack_is_told() {
    let registry = Server::start(basic).await;
    repository_as(&registry, "a:1", &ann())
        .await
        .resolve()
        .await
        .unwrap();
    let error = repository(&registry, "a:1")
        .await
        .resolve()
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "Head \"http://{}/v2/a/manifests/1\": no basic auth credentials",
            registry.address
        )
    );
    let wrong = Credentials {
        password: "no".into(),
        ..ann()
    };
    let error = repository_as(&registry, "a:1", &wrong)
        .await
        .resolve()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unauthorized(_)));
    assert!(
        error
            .to_string()
            .ends_with("unauthorized: authentication required"),
        "{error}"
    );
}

#[tokio::test]
async fn refusals_are_worded_as_docker_words_them() {
    let registry = Server::start(|request| {
        let name = request.target.split('/').nth(2).unwrap().to_owned();
        match &*name {
            "secret" => Reply::new(403, ""),
            "scoped" => Reply::new(401, "").with(
                "www-authenticate",
                "Bearer realm=\"http://127.0.0.1:1/\",error=\"insufficient_scope\"",
            ),
            "teapot" => Reply::new(418, ""),
            _ => Reply::new(404, ""),
        }
    })
    .await;
    let host = &registry.address;
    for (name, text) in [
        (
            "gone:2",
            format!("manifest for {host}/gone:2 not found: manifest unknown: manifest unknown"),
        ),
        (
            "secret:1",
            format!(
                "pull access denied for {host}/secret, repository does not exist or may require \
                 'docker login': denied: requested access to the resource is denied"
            ),
        ),
        (
            "teapot:1",
            format!(
                "unexpected status from HEAD request to http://{host}/v2/teapot/manifests/1: 418 I'm a teapot"
            ),
        ),
    ] {
        let repository = repository(&registry, name).await;
        let error = repository.resolve().await.unwrap_err();
        let error = repository.pull_error(error);
        assert_eq!(error.to_string(), text);
    }
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_told_at_once() {
    let reference = Reference::parse("127.0.0.1:1/x").unwrap();
    let registries = Registries::new(Settings {
        first_delay: std::time::Duration::from_secs(600),
        ..hasty()
    });
    let nobody = Credentials::default();
    let repository = registries.pull(&reference, &nobody).await.unwrap();
    assert_eq!(
        repository.resolve().await.unwrap_err().to_string(),
        "failed to resolve reference \"127.0.0.1:1/x:latest\": failed to do request: Head \
         \"https://127.0.0.1:1/v2/x/manifests/latest\": dial tcp 127.0.0.1:1: connect: connection refused"
    );
    let login = Credentials {
        server_address: "127.0.0.1:1".into(),
        ..ann()
    };
    assert_eq!(
        registries.login(&login).await.unwrap_err().to_string(),
        "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused"
    );
}

#[tokio::test]
async fn another_host_gets_the_request_without_the_credentials() {
    let other = Server::start(|_| manifest()).await;
    let to = format!("http://{}/moved", other.address);
    let registry = Server::start(move |request| match request.header("authorization") {
        "Basic YW5uOnNlY3JldA==" => Reply::new(307, "").with("location", &to),
        _ => Reply::new(401, "").with("www-authenticate", "Basic realm=\"R\""),
    })
    .await;
    let repository = repository_as(&registry, "a:1", &ann()).await;
    repository.resolve().await.unwrap();
    assert_eq!(other.requests()[0].header("authorization"), "");
}

#[tokio::test]
async fn a_loop_of_redirects_ends() {
    let registry =
        Server::start(|request| Reply::new(302, "").with("location", &request.target)).await;
    let error = repository(&registry, "a:1")
        .await
        .resolve()
        .await
        .unwrap_err();
    assert!(
        error.to_string().ends_with("stopped after 10 redirects"),
        "{error}"
    );
    assert_eq!(registry.lines().len(), 11);
}

#[tokio::test]
async fn a_mirror_is_asked_first_without_credentials_and_passed_over_when_it_fails() {
    let mirror = Server::start(|_| Reply::new(500, "")).await;
    let registry = Server::start(basic).await;
    let mut settings = hasty();
    settings.rules = vec![
        format!(
            "{}={}",
            registry.address,
            format_args!("http://{}/m", mirror.address)
        )
        .parse()
        .unwrap(),
    ];
    let reference = Reference::parse(&format!("{}/a:1", registry.address)).unwrap();
    let registries = Registries::new(settings);
    let repository = registries.pull(&reference, &ann()).await.unwrap();
    let resolved = repository.resolve().await.unwrap();
    assert_eq!(mirror.lines(), ["HEAD /v2/m/a/manifests/1"]);
    assert_eq!(mirror.requests()[0].header("authorization"), "");
    // Who answered last is asked first.
    repository.manifest(&resolved.digest).await.unwrap();
    assert_eq!(mirror.lines().len(), 1);
}

#[tokio::test]
async fn a_login_is_believed_or_not() {
    let registry = Server::start(basic).await;
    let registries = Registries::new(hasty());
    let good = Credentials {
        server_address: format!("http://{}/v2/", registry.address),
        ..ann()
    };
    assert_eq!(registries.login(&good).await.unwrap().identity_token, None);
    let wrong = Credentials {
        password: "no".into(),
        ..good
    };
    let error = registries.login(&wrong).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized(_)));
    assert_eq!(
        error.to_string(),
        format!(
            "login attempt to http://{}/v2/ failed with status: 401 Unauthorized",
            registry.address
        )
    );
}

#[tokio::test]
async fn a_login_at_a_token_server_brings_an_identity_token() {
    let tokens = Server::start(|request| {
        match request.header("authorization") == "Basic YW5uOnNlY3JldA==" {
            true => Reply::new(200, r#"{"token":"t","refresh_token":"id"}"#),
            false => Reply::new(401, r#"{"details":"incorrect username or password"}"#),
        }
    })
    .await;
    let realm = format!("http://{}/token", tokens.address);
    let registry = Server::start(move |request| match request.header("authorization") {
        "Bearer t" => Reply::new(200, "{}"),
        _ => challenge(&realm),
    })
    .await;
    let registries = Registries::new(hasty());
    let good = Credentials {
        server_address: registry.address.clone(),
        ..ann()
    };
    let login = registries.login(&good).await.unwrap();
    assert_eq!(login.identity_token.as_deref(), Some("id"));
    assert!(tokens.requests()[0].target.contains("offline_token=true"));
    let wrong = Credentials {
        password: "no".into(),
        ..good
    };
    let error = registries.login(&wrong).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "Get \"http://{}/v2/\": unauthorized: incorrect username or password",
            registry.address
        )
    );
}

#[tokio::test]
async fn a_search_asks_the_index_before_the_term() {
    let index = Server::start(|_| {
        let body = r#"{"num_results":1,"results":[{"name":"n","description":"d","star_count":3,"is_official":true}]}"#;
        Reply::new(200, body)
    })
    .await;
    let query = SearchQuery {
        term: format!("{}/big fish", index.address),
        limit: 7,
    };
    let found = Registries::new(hasty())
        .search(&query, &Credentials::default())
        .await
        .unwrap();
    assert_eq!(index.lines(), ["GET /v1/search?q=big+fish&n=7"]);
    assert_eq!((&*found[0].name, found[0].star_count), ("n", 3));
    assert!(found[0].is_official && !found[0].is_automated);
}
