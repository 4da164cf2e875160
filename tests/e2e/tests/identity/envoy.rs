//! A real Envoy asks the decision service about each request before it lets it through.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
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

fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

fn cluster(name: &str, port: u16) -> Value {
    let endpoint = json!([{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]);
    json!({"name": name, "type": "STATIC", "connect_timeout": "2s",
        "load_assignment": {"cluster_name": name, "endpoints": endpoint}})
}

/// What Envoy is told: one listener, its questions by `filter` to `asked`, all that pass to `upstream`.
fn config(listen: u16, filter: &Value, asked: &Value, upstream: u16) -> Value {
    let route = json!({"name": "envoy.filters.http.router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}});
    let manager = json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in", "http_filters": [filter, route],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}]}]}}});
    json!({"static_resources": {
        "listeners": [{"address": address(listen), "filter_chains": [{"filters": [manager]}]}],
        "clusters": [asked, cluster("upstream", upstream)]}})
}

/// The decision service is asked about each request.
fn ext_authz(decision: u16, token: &str) -> (Value, Value) {
    let h2 = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}}}});
    let ask = json!({"name": "envoy.filters.http.ext_authz", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3", "failure_mode_allow": false,
        "grpc_service": {
            "envoy_grpc": {"cluster_name": "countersign"}, "timeout": "5s",
            "initial_metadata": [{"key": "authorization", "value": format!("Bearer {token}")}]}}});
    let mut asked = cluster("countersign", decision);
    asked["typed_extension_protocol_options"] = h2;
    (ask, asked)
}

/// Envoy checks each request's token by itself, with the keys that the gateway publishes.
fn jwt_authn(issuer: &str, audience: &str) -> (Value, Value) {
    let check = json!({"name": "envoy.filters.http.jwt_authn", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        "providers": {"countersign": {
            "issuer": issuer, "audiences": [audience], "require_expiration": true, "forward": false,
            "forward_payload_header": "x-token-payload",
            "remote_jwks": {"cache_duration": "300s", "http_uri": {
                "uri": format!("{issuer}/.well-known/jwks.json"), "cluster": "countersign", "timeout": "5s"}}}},
        "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "countersign"}}]}});
    (check, cluster("countersign", port_of(issuer)))
}

fn port_of(origin: &str) -> u16 {
    let (_, port) = origin.rsplit_once(':').expect("it has a port");
    port.parse().expect("a port is a number")
}

struct Envoy {
    _process: Running,
    _folder: TempDir,
    port: u16,
}

impl Envoy {
    fn start((filter, asked): (Value, Value)) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let (port, file) = (free_port(), folder.path().join("envoy.json"));
        fs::write(&file, config(port, &filter, &asked, upstream()).to_string())
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

    let decision = port_of(system.endpoint("decision"));
    let envoy = Envoy::start(ext_authz(decision, &system.admin_token()));
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

/// An independent verifier: Envoy's own JWT filter takes our tokens by our JWKS, for its audience, and nothing that was altered.
#[tokio::test(flavor = "multi_thread")]
async fn envoys_jwt_filter_takes_our_tokens_by_our_keys() {
    let (system, foreign) = (Countersign::up(&[]), Countersign::up(&[]));
    let issuer = system.issuer().to_owned();
    let token = async |system: &Countersign, audience: &str| {
        let mut operator = Operator::of(system).await;
        let name = format!("for-{audience}");
        let key = credentials(&operator.user(&name).await);
        let role = operator.role(&name, &user_arn(&name)).await;
        let sts_url = format!("{}/", system.issuer());
        let place = Place { sts_url: &sts_url, region: "us-east-1", audience: system.issuer() };
        let asked = proven(place, &key, "post", &unproven(&role, audience));
        operator.exchange(asked).await.expect("the role trusts the user").access_token
    };
    let good = token(&system, "orders").await;
    let elsewhere = token(&system, "billing").await;
    let strange = token(&foreign, "orders").await;
    let parts: Vec<&str> = good.split('.').collect();
    let turned = |part: &str| {
        let other = if part.starts_with('A') { 'B' } else { 'A' };
        format!("{other}{}", &part[1..])
    };
    let signature = format!("{}.{}.{}", parts[0], parts[1], turned(parts[2]));
    let payload = URL_SAFE_NO_PAD.decode(parts[1]).expect("it is base64url");
    let payload = String::from_utf8(payload).expect("it is JSON").replace("journey", "Journey");
    let claims = format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(payload), parts[2]);
    let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", parts[1]);

    let envoy = Envoy::start(jwt_authn(&issuer, "orders"));
    let (status, heard) = envoy.send("GET", "/", &format!("authorization: Bearer {good}\r\n"));
    assert_eq!(status, 200, "{heard}");
    assert!(heard.contains(&format!("x-token-payload: {}", parts[1])), "{heard}");
    for (what, token, expected) in [
        ("another signature", &signature, 401),
        ("other claims", &claims, 401),
        ("no algorithm", &unsigned, 401),
        ("another issuer's", &strange, 401),
        ("for another service", &elsewhere, 403),
    ] {
        let (status, answer) =
            envoy.send("GET", "/", &format!("authorization: Bearer {token}\r\n"));
        assert_eq!(status, expected, "{what}: {answer}");
    }
    assert_eq!(envoy.send("GET", "/", "").0, 401);
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
