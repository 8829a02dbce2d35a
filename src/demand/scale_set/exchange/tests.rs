use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{StatusCode as Code, Uri},
    response::{IntoResponse, Response},
};
use runner_fleet_actors::port::TokioClock;

use super::*;
use crate::github::{Auth, GithubConfig, TokenSource};

/// Answers each path by what stands in it, and notes who asked what.
#[derive(Clone, Default)]
struct Service {
    elsewhere: String,
    seen: Arc<Mutex<Vec<String>>>,
}

async fn answer(
    State(service): State<Service>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let token = headers.get(header::AUTHORIZATION).is_some();
    let line = format!("{method} {} {token} {}", uri.path(), String::from_utf8_lossy(&body));
    service.seen.lock().unwrap().push(line);
    let moved = |to: String| (Code::TEMPORARY_REDIRECT, [(header::LOCATION, to)]).into_response();
    match uri.path() {
        "/away" => moved(format!("{}/there", service.elsewhere)),
        "/near" => moved("/there".to_owned()),
        _ => Code::OK.into_response(),
    }
}

async fn serve(service: &Service) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(answer).with_state(service.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

fn github() -> Github {
    let auth = Auth::Token(TokenSource::fixed(Secret::new("t")));
    let config = GithubConfig {
        url: "http://127.0.0.1:1".to_owned(),
        ..GithubConfig::new(auth, "ci".parse().unwrap())
    };
    Github::new(config, Arc::new(TokioClock::starting_at(chrono::Utc::now()))).unwrap()
}

fn request<'a>(url: &str, token: &'a Secret) -> Request<'a> {
    Request {
        what: "register".to_owned(),
        method: Method::POST,
        url: Url::parse(url).unwrap(),
        scheme: "Bearer",
        token,
        body: Some(serde_json::json!({"secret": 1})),
        capacity: None,
        within: Duration::from_secs(20),
    }
}

#[tokio::test]
async fn the_services_tokens_go_to_no_other_place_and_a_post_stays_one() {
    let stranger = Service::default();
    let elsewhere = serve(&stranger).await;
    let service = Service { elsewhere: elsewhere.clone(), ..Service::default() };
    let base = serve(&service).await;
    let (github, token, now) = (github(), Secret::new("hunter2"), Time::default());

    let sent = request(&format!("{base}/away"), &token).send(&github, now).await;
    let error = sent.unwrap_err().error;
    assert_eq!((error.class, error.certain), (ErrorClass::Invalid, true));
    assert!(error.what.contains(&elsewhere), "{error}");
    assert_eq!(*stranger.seen.lock().unwrap(), Vec::<String>::new());

    request(&format!("{base}/near"), &token).send(&github, now).await.unwrap();
    let body = "true {\"secret\":1}";
    let seen =
        [format!("POST /away {body}"), format!("POST /near {body}"), format!("POST /there {body}")];
    assert_eq!(*service.seen.lock().unwrap(), seen);
}

#[test]
fn what_the_service_refuses_is_told_by_its_cause_and_held_within_bounds() {
    let now: Time = "2026-11-20T10:00:00Z".parse().unwrap();
    let token = Secret::new("t");
    let refused = |status: u16, header: Option<(&'static str, &str)>, message: &str| {
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = header {
            headers.insert(name, value.parse().unwrap());
        }
        let body = serde_json::json!({ "message": message }).to_string();
        let status = StatusCode::from_u16(status).unwrap();
        request("http://h/", &token).refused(status, &headers, body.as_bytes(), now).error
    };
    let seconds = |error: &PortError| match error.class {
        ErrorClass::RateLimited { until } => (until - now).num_seconds(),
        other => panic!("{other:?}: {error}"),
    };
    let after = |text: &'static str| Some(("retry-after", text));
    let secondary = "You have exceeded a secondary rate limit.";
    for (status, header, message, wanted) in [
        (429, None, "", 60),
        (429, after("7"), "", 7),
        (429, after("3600000"), "", 3600),
        (429, after("18446744073709551615"), "", 3600),
        (429, after("-1"), "", 60),
        (503, after("18446744073709551615"), "", 3600),
        (403, after("0"), secondary, 60),
        (403, after("1"), secondary, 60),
        (403, after("600"), secondary, 600),
        (403, None, "You have triggered an abuse detection mechanism.", 60),
    ] {
        let error = refused(status, header, message);
        assert_eq!(seconds(&error), wanted, "{status} {header:?} {message}");
    }
    let address = "https://github.com/orgs/acme/sso?authorization_request=AAAA";
    let required = format!("required; url={address}");
    let error = refused(
        403,
        Some(("x-github-sso", required.as_str())),
        "Resource protected by organization SAML enforcement.",
    );
    assert_eq!(error.class, ErrorClass::Auth);
    assert!(error.what.contains(address), "{error}");
}
