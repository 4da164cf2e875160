//! A real Envoy asks the decision service about each request before it lets it through.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use countersign_e2e::{
    operator::{Operator, unproven, user_arn},
    program::{Running, free_port, venv},
    system::{ACCOUNT, Countersign},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Place, credentials, proven};

const PATIENCE: Duration = Duration::from_secs(60);

/// A service that knows nothing of Countersign: it answers what it was sent.
fn upstream() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a port");
    let port = listener.local_addr().expect("it has an address").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let heard = read_head(&mut stream);
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{heard}",
                heard.len()
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    port
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        head.extend(byte);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// What Envoy is told: one listener, its questions to `decision`, all that pass to `upstream`.
fn config(listen: u16, decision: u16, upstream: u16, token: &str) -> Value {
    let address =
        |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let endpoint =
        |port: u16| json!([{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]);
    let h2 = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}}}});
    let ask = json!({"name": "envoy.filters.http.ext_authz", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3", "failure_mode_allow": false,
        "grpc_service": {
            "envoy_grpc": {"cluster_name": "countersign"}, "timeout": "5s",
            "initial_metadata": [{"key": "authorization", "value": format!("Bearer {token}")}]}}});
    let route = json!({"name": "envoy.filters.http.router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}});
    let manager = json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in", "http_filters": [ask, route],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}]}]}}});
    json!({"static_resources": {
        "listeners": [{"address": address(listen), "filter_chains": [{"filters": [manager]}]}],
        "clusters": [
            {"name": "countersign", "type": "STATIC", "connect_timeout": "2s", "typed_extension_protocol_options": h2,
                "load_assignment": {"cluster_name": "countersign", "endpoints": endpoint(decision)}},
            {"name": "upstream", "type": "STATIC", "connect_timeout": "2s",
                "load_assignment": {"cluster_name": "upstream", "endpoints": endpoint(upstream)}}]}})
}

struct Envoy {
    _process: Running,
    _folder: TempDir,
    port: u16,
}

impl Envoy {
    fn start(decision: u16, token: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let (port, file) = (free_port(), folder.path().join("envoy.json"));
        fs::write(&file, config(port, decision, upstream(), token).to_string())
            .expect("the file can be written");
        let log = folder.path().join("log");
        let output = File::create(&log).expect("a file can be made");
        let mut command = Command::new(venv("envoy"));
        command.arg("-c").arg(&file).args([
            "--use-dynamic-base-id",
            "--concurrency",
            "1",
            "-l",
            "warn",
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let mut process = Running(command.spawn().expect("Envoy starts"));
        let started = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let ended = process.0.try_wait().expect("it can be waited for");
            if ended.is_some() || started.elapsed() > PATIENCE {
                let log = fs::read_to_string(&log).unwrap_or_default();
                panic!("Envoy does not serve ({ended:?}):\n{log}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Self { _process: process, _folder: folder, port }
    }

    /// Status and all that came back.
    fn send(&self, method: &str, path: &str, headers: &str) -> (u16, String) {
        let mut stream =
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("Envoy listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: shop.example.com\r\nconnection: close\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).expect("it is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers text");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("no status: {answer}")), answer)
    }
}

const MAPPING: &str = r#"audience = "orders"
[[rule]]
method = "GET"
path = "/orders/{id}"
action = "orders:GetOrder"
resource = "arn:aws:orders:us-east-1:000000000000:order/{id}"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn envoy_lets_through_what_policy_allows() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("mapping.toml");
    fs::write(&file, MAPPING).expect("the file can be written");
    let system = Countersign::up(&["--envoy-mapping", file.to_str().expect("it is UTF-8")]);
    let mut operator = Operator::of(&system).await;
    let key = credentials(&operator.user("worker").await);
    let role = operator.role("OrdersReader", &user_arn("worker")).await;
    let statement = json!({"Effect": "Allow", "Action": "orders:GetOrder",
        "Resource": "arn:aws:orders:*:*:order/4*"});
    operator.allow("OrdersReader", &statement).await;
    let sts_url = format!("{}/", system.issuer());
    let place = Place { sts_url: &sts_url, region: "us-east-1", audience: system.issuer() };
    let granted = operator.exchange(proven(place, &key, "post", &unproven(&role, "orders"))).await;
    let token = granted.expect("the role trusts the worker").access_token;

    let (_, port) = system.endpoint("decision").rsplit_once(':').expect("it has a port");
    let envoy = Envoy::start(port.parse().expect("a port is a number"), &system.admin_token());
    let bearer = format!("authorization: Bearer {token}\r\n");
    let forged = format!("{bearer}x-countersign-principal: arn:aws:iam::{ACCOUNT}:user/root\r\n");
    let (status, heard) = envoy.send("GET", "/orders/42", &forged);
    assert_eq!(status, 200, "{heard}");
    let session = format!("arn:aws:sts::{ACCOUNT}:assumed-role/OrdersReader/journey");
    assert!(heard.contains(&format!("x-countersign-principal: {session}\r\n")), "{heard}");
    assert!(!heard.contains("user/root"), "{heard}");

    for (method, path, headers, expected, said) in [
        ("GET", "/orders/7", bearer.as_str(), 403, "\"decision_id\":\"d-"),
        ("DELETE", "/orders/42", &bearer, 403, "no rule"),
        ("GET", "/orders/%2e%2e/42", &bearer, 400, ".."),
        ("GET", "/orders/42", "", 401, "a bearer token is needed"),
        ("GET", "/orders/42", "authorization: Bearer x\r\n", 401, "the token is refused"),
    ] {
        let (status, answer) = envoy.send(method, path, headers);
        assert_eq!(status, expected, "{method} {path} {headers}: {answer}");
        assert!(answer.contains(said), "{method} {path}: {answer}");
    }
    drop(system);
    // With the decision service away, nothing passes.
    let (status, answer) = envoy.send("GET", "/orders/42", &bearer);
    assert_eq!(status, 403, "{answer}");
}

#[test]
fn a_mapping_file_with_a_mistake_names_its_line() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("mapping.toml");
    fs::write(&file, MAPPING.replace("order/{id}", "order/{number}")).expect("it can be written");
    let mut command = Command::new(countersign_e2e::system::binary());
    command.arg("up").arg("--data-dir").arg(folder.path().join("data"));
    for port in ["--policy-store-port", "--decision-port", "--gateway-port", "--http-port"] {
        command.args([port, "0"]);
    }
    let finished = countersign_e2e::program::run(command.arg("--envoy-mapping").arg(&file), "");
    assert!(!finished.status.success());
    assert!(
        finished.stderr.contains("mapping.toml:6: resource: `{number}` is not in the path"),
        "{}",
        finished.stderr
    );
}
