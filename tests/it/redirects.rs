//! Where the other side has moved: secrets go to no other place, and what is asked stays what it was.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes,
    extract::{Request, State},
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use runner_fleet::{
    config::{Env, PlannerAccess, SecretSource},
    demand::planner::{Pace, Planner},
    fake::{
        github::{Once, Operation, Options as GithubOptions},
        openstack::{FakeOpenstack, Options},
    },
    provider::openstack::{
        OpenStack, OpenStackConfig,
        cloud::{CloudConfig, Sources},
    },
};
use runner_fleet_actors::port::{ErrorClass, Forge, Provider, TokioClock};

use crate::support::{github, provider::world};

/// Whom nobody here means; and what it got.
#[derive(Clone, Default)]
struct Stranger(Arc<Mutex<Vec<String>>>);

async fn take(State(stranger): State<Stranger>, request: Request) -> StatusCode {
    let line = format!("{} {} {:?}", request.method(), request.uri(), request.headers());
    stranger.0.lock().unwrap().push(line);
    StatusCode::NO_CONTENT
}

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

impl Stranger {
    async fn start() -> (Self, String) {
        let stranger = Self::default();
        let url = serve(Router::new().fallback(take).with_state(stranger.clone())).await;
        (stranger, url)
    }

    fn got(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// A load balancer before `behind`: whatever is below `/plain` has moved, by `status`, to `to` or else to
/// the same path without it; all else is handed on.
#[derive(Clone)]
struct Balancer {
    status: StatusCode,
    behind: String,
    to: Option<String>,
    client: reqwest::Client,
    seen: Arc<Mutex<Vec<(Method, String)>>>,
}

async fn balance(
    State(balancer): State<Balancer>,
    method: Method,
    uri: axum::http::Uri,
    headers: axum::http::HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    balancer.seen.lock().unwrap().push((method.clone(), path.clone()));
    if let Some(rest) = path.strip_prefix("/plain") {
        let to = format!("{}{rest}", balancer.to.as_deref().unwrap_or_default());
        return (balancer.status, [(header::LOCATION, to)], "<html>moved</html>").into_response();
    }
    let mut request = balancer.client.request(method, format!("{}{path}", balancer.behind));
    for (name, value) in headers.iter().filter(|(name, _)| **name != header::HOST) {
        request = request.header(name, value);
    }
    let answer = request.body(body).send().await.unwrap();
    let (status, headers) = (answer.status(), answer.headers().clone());
    let mut reply = (status, answer.bytes().await.unwrap()).into_response();
    for name in ["x-subject-token", "content-type"] {
        if let Some(value) = headers.get(name) {
            reply.headers_mut().insert(name, value.clone());
        }
    }
    reply
}

impl Balancer {
    async fn start(status: u16, behind: &str, to: Option<String>) -> (Self, String) {
        let balancer = Self {
            status: StatusCode::from_u16(status).unwrap(),
            behind: behind.to_owned(),
            to,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            seen: Arc::default(),
        };
        let url = serve(Router::new().fallback(balance).with_state(balancer.clone())).await;
        (balancer, url)
    }

    fn seen(&self) -> Vec<(Method, String)> {
        self.seen.lock().unwrap().clone()
    }
}

/// A cloud of the fake whose log-in is at `url`.
async fn cloud_at(fake: &FakeOpenstack, url: &str) -> OpenStack {
    let clouds = fake.clouds_yaml().replace(&fake.auth_url(), url);
    let found = Sources { clouds: Some(("clouds.yaml".into(), clouds)), ..Sources::default() };
    let cloud = CloudConfig::parse(&found, None).unwrap();
    let config = OpenStackConfig::new(cloud, "ci".parse().unwrap());
    OpenStack::connect(config, world::Hands::new()).await.unwrap()
}

fn origin(url: &str) -> String {
    url::Url::parse(url).unwrap().origin().ascii_serialization()
}

#[tokio::test]
async fn a_cloud_that_sends_log_ins_elsewhere_gets_an_error_and_the_stranger_nothing() {
    let fake = FakeOpenstack::start(Options::default()).await.unwrap();
    let (stranger, elsewhere) = Stranger::start().await;
    for status in [301, 302, 303, 307, 308] {
        let (_, url) = Balancer::start(status, "http://127.0.0.1:1", Some(elsewhere.clone())).await;
        let cloud = cloud_at(&fake, &format!("{url}/plain/identity")).await;
        let error = cloud.launch(world::order(1)).await.unwrap_err();
        assert_eq!((error.class, error.certain), (ErrorClass::Invalid, true), "{error}");
        assert!(error.what.contains(&url) && error.what.contains(&elsewhere), "{error}");
        assert!(error.what.contains("no credentials are sent there"), "{error}");
    }
    assert_eq!(stranger.got(), Vec::<String>::new());
}

#[tokio::test]
async fn a_cloud_behind_a_balancer_that_moves_paths_is_asked_the_same_there() {
    for status in [301, 302, 307, 308] {
        let fake = FakeOpenstack::start(Options::default()).await.unwrap();
        let (balancer, url) = Balancer::start(status, &origin(&fake.auth_url()), None).await;
        let cloud = cloud_at(&fake, &format!("{url}/plain/identity")).await;
        cloud.launch(world::order(1)).await.unwrap();
        assert_eq!(fake.vms().len(), 1);
        let log_in = |path: &str| (Method::POST, path.to_owned());
        assert_eq!(
            balancer.seen(),
            [log_in("/plain/identity/v3/auth/tokens"), log_in("/identity/v3/auth/tokens")],
            "{status}"
        );
    }
}

#[tokio::test]
async fn github_keeps_tokens_to_itself_wherever_it_says_that_it_has_moved() {
    let (stranger, elsewhere) = Stranger::start().await;
    let fake =
        github::start(GithubOptions { app: Some(github::app()), ..GithubOptions::default() }).await;
    let org = github::scope("octo-org");
    for (config, operation) in [
        (github::with_token(&fake), Operation::JitConfig),
        (github::with_token(&fake), Operation::List),
        (github::with_app(&fake), Operation::InstallationToken),
    ] {
        let client = github::client(config);
        fake.faults().once(operation, Once::Redirect(format!("{elsewhere}/api/v3/x?secret=1")));
        let error = match operation {
            Operation::List => client.list(&org).await.unwrap_err(),
            _ => client.register(&github::order(&org, 1)).await.unwrap_err(),
        };
        assert_eq!((error.class, error.certain), (ErrorClass::Invalid, true), "{error}");
        assert!(error.what.contains(&elsewhere), "{error}");
        assert!(!error.what.contains("secret=1"), "{error}");
    }
    assert_eq!(stranger.got(), Vec::<String>::new());
}

#[tokio::test]
async fn a_place_that_moves_in_a_circle_is_left() {
    let (fake, client) = github::pair().await;
    let org = github::scope("octo-org");
    for hop in 0..10 {
        let to = format!("{}/api/v3/orgs/octo-org/actions/runners?hop={hop}", fake.url());
        fake.faults().once(Operation::List, Once::Redirect(to));
    }
    let error = client.list(&org).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Invalid, "{error}");
    assert!(error.what.contains("5 moves"), "{error}");
    let calls: u64 = fake.stats().calls.values().sum();
    assert_eq!(calls, 6);
}

#[tokio::test]
async fn the_planners_token_is_for_the_planner_alone() {
    let (stranger, elsewhere) = Stranger::start().await;
    let (_, url) = Balancer::start(307, "http://127.0.0.1:1", Some(elsewhere.clone())).await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "very-secret").unwrap();
    let access = PlannerAccess {
        url: format!("{url}/plain").parse().unwrap(),
        token: SecretSource::File(token),
        ca_file: None,
        units: 1,
        unit: 0,
    };
    let clock = Arc::new(TokioClock::starting_at(chrono::Utc::now()));
    let planner = Planner::new(&access, Env::default(), clock, Pace::default()).unwrap();
    let error = planner.ask().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Invalid);
    assert!(error.what.contains(&elsewhere) && error.what.contains("planner.url"), "{error}");
    assert_eq!(stranger.got(), Vec::<String>::new());
}
