//! An issuer of web identities on loopback: its metadata, its keys, and ways to answer badly.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use axum::{
    Router,
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::any,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_gateway::JwtIssuers;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::system::now;

pub struct Idp {
    pub issuer: String,
    pub asked: AtomicUsize,
    keys: Mutex<Vec<(String, EcdsaKeyPair)>>,
    /// What it answers in place of its metadata, and of its keys.
    pub metadata: Mutex<Option<(u16, String)>>,
    pub jwks: Mutex<Option<(u16, String)>>,
}

impl Idp {
    pub async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let idp = Arc::new(Self {
            issuer,
            asked: AtomicUsize::new(0),
            keys: Mutex::default(),
            metadata: Mutex::default(),
            jwks: Mutex::default(),
        });
        idp.add_key("k1");
        let router = Router::new().fallback(any(answer)).with_state(idp.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        idp
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// One more key, in front of the others.
    pub fn add_key(&self, kid: &str) {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        self.keys.lock().unwrap().insert(0, (kid.to_owned(), pair));
    }

    /// A token of its newest key.
    pub fn sign(&self, claims: &Value) -> String {
        let kid = self.keys.lock().unwrap().first().unwrap().0.clone();
        self.sign_as(&json!({"alg": "ES256", "typ": "JWT", "kid": kid}), &claims.to_string())
    }

    /// The same with any header, and claims as a text.
    pub fn sign_as(&self, header: &Value, claims: &str) -> String {
        let keys = self.keys.lock().unwrap();
        let (_, pair) = keys.first().unwrap();
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let input = format!("{}.{}", part(&header.to_string()), part(claims));
        let signature = pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    pub fn claims(&self, audience: &str) -> Value {
        json!({
            "iss": self.issuer, "sub": "system:serviceaccount:shop:orders", "aud": [audience],
            "iat": now() - 10, "nbf": now() - 10, "exp": now() + 600, "jti": "j-1",
        })
    }

    /// Header and claims as AWS STS has them.
    pub fn aws_token(&self, audience: &str) -> (Value, Value) {
        let mut claims = self.claims(audience);
        claims["sub"] = "arn:aws:iam::123456789012:role/App".into();
        claims["https://sts.amazonaws.com/"] =
            json!({"aws_account": "123456789012", "request_tags": {"admin": "true"}});
        (json!({"alg": "ES256", "typ": "JWT", "kid": "k1"}), claims)
    }

    pub fn good(&self, audience: &str) -> String {
        self.sign(&self.claims(audience))
    }

    /// The configuration that believes it.
    pub fn configured(&self, kind: &str, more: &str) -> JwtIssuers {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("countersign-idp-{}-{number}.toml", std::process::id());
        let file: PathBuf = std::env::temp_dir().join(name);
        let text = format!(
            "[[issuer]]\nurl = \"{}\"\nkind = \"{kind}\"\nalgorithms = [\"ES256\"]\nprivate_network = true\n{more}\n",
            self.issuer
        );
        std::fs::write(&file, text).unwrap();
        let issuers = JwtIssuers::read(&file, "aws");
        std::fs::remove_file(&file).unwrap();
        issuers.unwrap()
    }

    fn jwks(&self) -> String {
        let keys = self.keys.lock().unwrap();
        let keys: Vec<_> = keys
            .iter()
            .map(|(kid, pair)| {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid,
                       "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)})
            })
            .collect();
        json!({ "keys": keys }).to_string()
    }
}

async fn answer(State(idp): State<Arc<Idp>>, uri: Uri) -> Response {
    idp.asked.fetch_add(1, Ordering::SeqCst);
    let (instead, usual) = match uri.path() {
        "/.well-known/openid-configuration" => {
            let metadata =
                json!({"issuer": idp.issuer, "jwks_uri": format!("{}/keys", idp.issuer), "x": 1});
            (idp.metadata.lock().unwrap().clone(), metadata.to_string())
        }
        "/keys" => (idp.jwks.lock().unwrap().clone(), idp.jwks()),
        _ => (None, "elsewhere".to_owned()),
    };
    let (status, body) = instead.unwrap_or((200, usual));
    let status = StatusCode::from_u16(status).unwrap();
    if status.is_redirection() {
        return (status, [("location", body)]).into_response();
    }
    (status, body).into_response()
}
