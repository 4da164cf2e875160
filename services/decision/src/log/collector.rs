//! Decisions as log records at an OpenTelemetry collector: sent in batches by a thread of its own, once each. It knows whether the collector
//! said that it took them, and nothing of what becomes of them there.

use std::{
    io,
    sync::{Arc, atomic::Ordering, mpsc::Receiver},
};

use countersign_serve::telemetry::{Collector, Event, NotTaken, Records};
use serde_json::json;
use tokio::runtime::Runtime;

use super::{Counts, Line, Message, Sink, batch, rendered};
use crate::convert::decision_name;

const NAME: &str = "countersign.decision";

/// Where decisions that are sent go.
///
/// # Errors
/// When there is no thread, no runtime, or no address of the collector.
pub fn sink(collector: &Collector) -> io::Result<Sink> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let records = {
        let _entered = runtime.enter();
        collector.records().map_err(io::Error::other)?
    };
    Sink::new("decision-log-otlp", move |messages, counts| {
        let sender = Sender { records, counts, told_lost: 0, is_failing: false };
        sender.work(&runtime, &messages);
    })
}

struct Sender {
    records: Records,
    counts: Arc<Counts>,
    /// What the last record about losses said.
    told_lost: u64,
    is_failing: bool,
}

impl Sender {
    /// Until nobody can log any more.
    fn work(mut self, runtime: &Runtime, messages: &Receiver<Message>) {
        while let Some((lines, ended)) = batch(messages) {
            runtime.block_on(self.send(&lines));
            for answer in ended {
                let _ = answer.try_send(());
            }
        }
    }

    async fn send(&mut self, lines: &[Arc<Line>]) {
        if lines.is_empty() {
            return;
        }
        let mut events: Vec<Event> = lines.iter().map(|line| event(line)).collect();
        let lost = self.counts.lost.load(Ordering::Relaxed);
        let tells = lost != self.told_lost;
        if let (true, Some(line)) = (tells, lines.first()) {
            let body = json!({ "lost_count": lost }).to_string();
            events.push(Event { name: NAME, at: line.at, body, attributes: Vec::new() });
        }
        let count = events.len();
        let sent = self.records.send(events).await;
        let taken = *sent.as_ref().unwrap_or(&0);
        if taken == count {
            self.told_lost = lost;
        }
        // Of a batch that was taken in part nobody knows which records: the one about losses may be among them.
        let taken = taken.saturating_sub(count - lines.len());
        self.counts.add(taken, lines.len() - taken);
        self.tell(sent.err());
    }

    /// Once when it begins, and once when it ends.
    fn tell(&mut self, error: Option<NotTaken>) {
        match (&error, self.is_failing) {
            (Some(error), false) => {
                tracing::warn!(%error, "decisions cannot be sent to the collector; what is lost is counted");
            }
            (None, true) => tracing::info!("decisions can be sent to the collector again"),
            (Some(_), true) | (None, false) => {}
        }
        self.is_failing = error.is_some();
    }
}

fn event(line: &Line) -> Event {
    let attributes = vec![
        ("countersign.decision_id", line.decision_id.clone()),
        ("countersign.decision", decision_name(line.judgement.decision).to_owned()),
        ("countersign.principal", line.principal.clone()),
        ("countersign.action", line.action.clone()),
    ];
    Event { name: NAME, at: line.at, body: rendered(line), attributes }
}

#[cfg(test)]
mod tests {
    use std::{
        num::NonZeroU32,
        sync::{Mutex, atomic::AtomicU64},
        time::Duration,
    };

    use countersign_serve::dial::{Trust, channel};
    use opentelemetry_proto::tonic::{
        collector::logs::v1::{
            ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
            logs_service_server::{LogsService, LogsServiceServer},
        },
        common::v1::any_value::Value,
    };
    use tokio::net::TcpListener;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::{Request, Response, Status, transport::Server};

    use super::*;
    use crate::log::{DecisionLog, LogConfig, tests::one};

    /// What a collector does with a batch.
    #[derive(Clone, Copy, Debug)]
    enum Does {
        Takes,
        Refuses,
        Rejects(u64),
    }

    #[derive(Clone)]
    struct Stub {
        does: Arc<Mutex<Does>>,
        bodies: Arc<Mutex<Vec<String>>>,
        taken: Arc<AtomicU64>,
    }

    #[tonic::async_trait]
    impl LogsService for Stub {
        async fn export(
            &self,
            request: Request<ExportLogsServiceRequest>,
        ) -> Result<Response<ExportLogsServiceResponse>, Status> {
            let resources = request.into_inner().resource_logs;
            let scopes = resources.into_iter().flat_map(|own| own.scope_logs);
            let bodies: Vec<String> = scopes
                .flat_map(|scope| scope.log_records)
                .filter_map(|record| match record.body?.value? {
                    Value::StringValue(body) => Some(body),
                    _ => None,
                })
                .collect();
            let rejected = match *self.does.lock().unwrap() {
                Does::Takes => 0,
                Does::Refuses => return Err(Status::unavailable("full")),
                Does::Rejects(count) => count,
            };
            let decisions = bodies.iter().filter(|body| body.contains("decision_id")).count();
            let decisions = u64::try_from(decisions).unwrap();
            self.taken.fetch_add(decisions.saturating_sub(rejected), Ordering::Relaxed);
            self.bodies.lock().unwrap().extend(bodies);
            let partial_success = (rejected > 0).then(|| ExportLogsPartialSuccess {
                rejected_log_records: i64::try_from(rejected).unwrap(),
                ..Default::default()
            });
            Ok(Response::new(ExportLogsServiceResponse { partial_success }))
        }
    }

    async fn stub() -> (Stub, Collector) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let stub = Stub {
            does: Arc::new(Mutex::new(Does::Takes)),
            bodies: Arc::default(),
            taken: Arc::default(),
        };
        let serving = Server::builder()
            .add_service(LogsServiceServer::new(stub.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serving);
        (stub, collector(origin))
    }

    fn collector(origin: String) -> Collector {
        let connect = move || channel(&origin, Trust::Nobody).map_err(|error| error.to_string());
        Collector::new(connect, "countersign-decision", "test")
    }

    async fn log(log: &DecisionLog, count: u64) {
        for number in 0..count {
            log.record(&format!("d-{number:016x}"), || one(number));
        }
        // As long as it takes: this is about counts.
        for _ in 0..500 {
            log.end().await;
            let (sent, lost) = log.sent_counts();
            if (sent + lost) % count == 0 && sent + lost > 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whatever the collector does, what it took and what was lost add up to what was decided.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sent_and_lost_are_what_was_decided() {
        let (stub, collector) = stub().await;
        let config = LogConfig::of(None, Some(collector), NonZeroU32::MIN).unwrap();
        let decisions = DecisionLog::open(&config).unwrap();
        let does = |what| *stub.does.lock().unwrap() = what;
        log(&decisions, 20).await;
        assert_eq!(decisions.sent_counts(), (20, 0));
        does(Does::Refuses);
        log(&decisions, 20).await;
        assert_eq!(decisions.sent_counts(), (20, 20));
        does(Does::Takes);
        log(&decisions, 20).await;
        assert_eq!(decisions.sent_counts(), (40, 20));
        let bodies = stub.bodies.lock().unwrap().clone();
        assert!(bodies.iter().any(|body| body == r#"{"lost_count":20}"#), "{bodies:?}");
        assert_eq!(stub.taken.load(Ordering::Relaxed), 40);
        does(Does::Rejects(1));
        log(&decisions, 20).await;
        let (sent, lost) = decisions.sent_counts();
        assert_eq!((sent + lost, lost > 20), (80, true));
        assert_eq!(stub.taken.load(Ordering::Relaxed), sent);
        // The file has nothing of it, since there is none.
        assert_eq!(decisions.counts(), (0, 0));
    }

    /// Nobody listens: nobody waits, and all of it is lost and counted.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_collector_that_is_away_costs_nothing_but_the_records() {
        let nobody = collector("http://127.0.0.1:1".to_owned());
        let config = LogConfig::of(None, Some(nobody), NonZeroU32::MIN).unwrap();
        let decisions = DecisionLog::open(&config).unwrap();
        log(&decisions, 20_000).await;
        assert_eq!(decisions.sent_counts(), (0, 20_000));
    }
}
