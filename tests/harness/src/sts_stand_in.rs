//! A stand-in for somebody else's STS: it answers GetCallerIdentity as AWS does, by GET and by POST, as XML and as JSON, or with
//! something hostile. It checks no signature (a real moto and Countersign's own STS do that in other tests): what the gateway does
//! with an answer is what it is for.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use tokio::{net::TcpListener, task::JoinHandle};

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As AWS does.
    Good,
    /// 403 with `SignatureDoesNotMatch`, in STS's shape.
    Refuse,
    /// 302 to another path of its own.
    Redirect,
    /// 500.
    Broken,
    /// 200 and a megabyte.
    Huge,
    /// Nothing for half a minute.
    Slow,
    /// Two results in one answer.
    TwoResults,
    /// A good answer as `text/html`.
    WrongContentType,
    /// An account that is not the ARN's.
    WrongAccount,
}

impl Mode {
    /// All that a gateway must not take for an identity.
    pub const HOSTILE: [Self; 8] = [
        Self::Refuse,
        Self::Redirect,
        Self::Broken,
        Self::Huge,
        Self::Slow,
        Self::TwoResults,
        Self::WrongContentType,
        Self::WrongAccount,
    ];
}

/// Who it says the caller is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Twelve digits.
    pub account: String,
    /// The caller's ARN.
    pub arn: String,
    /// `AIDA…`, or `AROA…:<session>`.
    pub user_id: String,
}

/// One that runs until it is dropped.
#[derive(Debug)]
pub struct StsStandIn {
    address: SocketAddr,
    answers: Arc<Answers>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Answers {
    identity: Mutex<Identity>,
    mode: Mutex<Mode>,
    requests: AtomicUsize,
}

impl StsStandIn {
    /// On a free port, saying that every caller is `identity`.
    pub async fn start(identity: Identity) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let answers = Arc::new(Answers {
            identity: Mutex::new(identity),
            mode: Mutex::new(Mode::Good),
            requests: AtomicUsize::new(0),
        });
        let router = Router::new().fallback(answer).with_state(answers.clone());
        let task = tokio::spawn(async move {
            // Ends with the task.
            let _ = axum::serve(listener, router).await;
        });
        Self { address, answers, task }
    }

    /// Without a slash at the end.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// As `--sts-endpoint` takes it, speaking for its identity's account, in `format` (`xml` or `json`).
    #[must_use]
    pub fn endpoint(&self, format: &str) -> String {
        let account = lock(&self.answers.identity).account.clone();
        format!("us-east-1={}/;accounts={account};format={format}", self.origin())
    }

    /// How it answers from now on.
    pub fn answer_with(&self, mode: Mode) {
        *lock(&self.answers.mode) = mode;
    }

    /// Who its callers are from now on.
    pub fn say(&self, identity: Identity) {
        *lock(&self.answers.identity) = identity;
    }

    /// How often it was asked.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.answers.requests.load(Ordering::SeqCst)
    }
}

impl Drop for StsStandIn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(State(answers): State<Arc<Answers>>, headers: HeaderMap) -> Response {
    answers.requests.fetch_add(1, Ordering::SeqCst);
    let (mode, identity) = (*lock(&answers.mode), lock(&answers.identity).clone());
    let json = headers.get(header::ACCEPT).is_some_and(|accept| accept == "application/json");
    let content_type = if json { "application/json" } else { "text/xml" };
    let one = result(&identity, json);
    match mode {
        Mode::Good => reply(StatusCode::OK, content_type, whole(&one, json)),
        Mode::Refuse => reply(StatusCode::FORBIDDEN, content_type, refusal(json)),
        Mode::Redirect => (StatusCode::FOUND, [(header::LOCATION, "/elsewhere")]).into_response(),
        Mode::Broken => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Mode::Huge => reply(StatusCode::OK, content_type, "x".repeat(1 << 20)),
        Mode::Slow => {
            tokio::time::sleep(Duration::from_secs(30)).await;
            reply(StatusCode::OK, content_type, whole(&one, json))
        }
        Mode::TwoResults => {
            let separator = if json { "," } else { "" };
            reply(StatusCode::OK, content_type, whole(&format!("{one}{separator}{one}"), json))
        }
        Mode::WrongContentType => reply(StatusCode::OK, "text/html", whole(&one, json)),
        Mode::WrongAccount => {
            let other = Identity { account: "999999999999".to_owned(), ..identity };
            reply(StatusCode::OK, content_type, whole(&result(&other, json), json))
        }
    }
}

fn reply(status: StatusCode, content_type: &'static str, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, content_type)], Body::from(body)).into_response()
}

fn result(identity: &Identity, json: bool) -> String {
    let Identity { account, arn, user_id } = identity;
    if json {
        let result = serde_json::json!({"Account": account, "Arn": arn, "UserId": user_id});
        format!("\"GetCallerIdentityResult\":{result}")
    } else {
        format!(
            "<GetCallerIdentityResult><Arn>{arn}</Arn><UserId>{user_id}</UserId><Account>{account}</Account></GetCallerIdentityResult>"
        )
    }
}

fn whole(results: &str, json: bool) -> String {
    const REQUEST: &str = "01234567-89ab-cdef-0123-456789abcdef";
    if json {
        format!(
            "{{\"GetCallerIdentityResponse\":{{{results},\"ResponseMetadata\":{{\"RequestId\":\"{REQUEST}\"}}}}}}"
        )
    } else {
        format!(
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">{results}<ResponseMetadata><RequestId>{REQUEST}</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
        )
    }
}

fn refusal(json: bool) -> String {
    let (code, message) =
        ("SignatureDoesNotMatch", "The request signature we calculated does not match.");
    if json {
        serde_json::json!({"Error": {"Code": code, "Message": message, "Type": "Sender"}, "RequestId": "r"}).to_string()
    } else {
        format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error><RequestId>r</RequestId></ErrorResponse>"
        )
    }
}
