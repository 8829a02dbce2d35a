//! What LXD and Incus refuse, and what the provider makes of it: projects that limit and restrict,
//! images that their server lacks, sockets of users.

use runner_fleet::provider::Grade;
use runner_fleet_actors::port::{
    ErrorClass, ImageProtocol, ImageServer, LaunchOrder, LxdShape, Provider, Shape,
};
use serde_json::{Value, json};

use crate::support::{
    lxd::{self, RealLxd},
    lxd_script::{ScriptedLxd, error, sync},
    provider::world::order,
};

const CREATE: &str = "POST /1.0/instances";

fn provider(server: &ScriptedLxd) -> runner_fleet::provider::lxd::Lxd {
    RealLxd { socket: server.socket(), project: "default".into() }.provider(&lxd::fleet())
}

fn wanted(image: &str, image_server: Option<ImageServer>) -> Shape {
    let lxd = Some(LxdShape { image_server, ..LxdShape::default() });
    Shape { image: image.into(), lxd, ..Shape::default() }
}

fn ordered(shape: Shape) -> LaunchOrder {
    LaunchOrder { shape, ..order(1) }
}

#[tokio::test]
async fn a_project_that_demands_a_limit_is_the_pools_fault_and_named() {
    let told = "Failed checking if instance creation allowed: Instance \"x\" in project \"ci\" has \
                no \"limits.memory\" config, either directly or via a profile";
    let alias = json!([{ "name": "ubuntu", "target": "0123456789abcdef", "type": "container" }]);
    let server =
        ScriptedLxd::start([(CREATE, error(500, told)), ("GET /1.0/images/aliases", sync(&alias))]);
    let error = provider(&server).launch(ordered(wanted("ubuntu", None))).await.unwrap_err();
    assert_eq!((error.class, error.certain), (ErrorClass::Invalid, true), "{error}");
    assert!(error.what.contains("limits.memory"), "{error}");
    assert_eq!(server.asked(CREATE), 1);
}

#[tokio::test]
async fn a_users_socket_that_refuses_the_project_says_to_name_another() {
    let told = "User does not have permission for project \"default\"";
    let server = ScriptedLxd::start([("GET /1.0/projects/default", error(403, told))]);
    let refused = provider(&server).list().await.unwrap_err();
    assert_eq!(refused.class, ErrorClass::Auth, "{refused}");
    assert!(refused.what.contains("write one that it may into `project`"), "{refused}");
    assert!(!refused.what.contains("certificate"), "{refused}");
    let findings = provider(&server).check_online(&[]).await;
    assert!(findings[0].what.contains("`project`"), "{findings:?}");
}

/// A web server with so many lists of images, all of them the same.
async fn image_server(aliases: &str, lists: u32) -> (ImageServer, tokio::task::JoinHandle<()>) {
    let entry = json!({ "datatype": "image-downloads", "path": "streams/v1/images.json" });
    let entries: serde_json::Map<String, Value> =
        (0..lists).map(|number| (format!("images-{number}"), entry.clone())).collect();
    let index = json!({ "index": entries });
    let items = json!({ "root": { "ftype": "squashfs" } });
    let list = json!({ "products": { "p": {
        "aliases": aliases, "arch": "amd64", "versions": { "1": { "items": items } } } } });
    let page = |body: Value| axum::routing::get(move || async move { axum::Json(body) });
    let router = axum::Router::new()
        .route("/streams/v1/index.json", page(index))
        .route("/streams/v1/images.json", page(list));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (ImageServer { url, protocol: ImageProtocol::Simplestreams }, serving)
}

#[tokio::test]
async fn an_alias_that_the_image_server_lacks_is_found_by_the_check_and_refused_with_its_name() {
    let (images, serving) = image_server("ubuntu/22.04,ubuntu/jammy", 1).await;
    let failed = json!({ "status_code": 400, "err": "Failed getting remote image info: Failed \
        getting image: The requested image couldn't be found for fingerprint \"ubuntu/24.04\"" });
    let begun = (202, json!({ "type": "async", "operation": "/1.0/operations/1" }));
    let server =
        ScriptedLxd::start([(CREATE, begun), ("GET /1.0/operations/1/wait", sync(&failed))]);
    let lxd = provider(&server);
    let shape = wanted("ubuntu/24.04", Some(images.clone()));
    let findings = lxd.check_online(std::slice::from_ref(&shape)).await;
    let about = findings.iter().find(|f| f.about == "image ubuntu/24.04").unwrap();
    assert_eq!(about.grade, Grade::Fault, "{about:?}");
    assert!(about.what.contains(&images.url) && about.what.contains("ubuntu/jammy"), "{about:?}");

    let error = lxd.launch(ordered(shape)).await.unwrap_err();
    assert_eq!((error.class, error.certain), (ErrorClass::Invalid, true), "{error}");
    assert!(error.what.contains(&images.url), "the server is named: {error}");

    let there = wanted("ubuntu/jammy", Some(images.clone()));
    let findings = lxd.check_online(&[there]).await;
    let about = findings.iter().find(|f| f.about == "image ubuntu/jammy").unwrap();
    assert_eq!(about.grade, Grade::Fine, "{about:?}");
    serving.abort();
    let _ended = serving.await;
    let findings = lxd.check_online(&[wanted("ubuntu/jammy", Some(images))]).await;
    let about = findings.iter().find(|f| f.about == "image ubuntu/jammy").unwrap();
    assert_eq!(about.grade, Grade::Warning, "away proves nothing: {about:?}");
}

#[tokio::test]
async fn an_image_server_with_too_many_lists_is_not_read_to_the_last_and_proves_nothing() {
    let (images, serving) = image_server("ubuntu/22.04", 1000).await;
    let server = ScriptedLxd::start([(CREATE, error(500, "nothing is made here"))]);
    let lxd = provider(&server);
    for (image, grade) in [("ubuntu/24.04", Grade::Warning), ("ubuntu/22.04", Grade::Fine)] {
        let findings = lxd.check_online(&[wanted(image, Some(images.clone()))]).await;
        let about = findings.iter().find(|f| f.about == format!("image {image}")).unwrap();
        assert_eq!(about.grade, grade, "{about:?}");
    }
    serving.abort();
}
