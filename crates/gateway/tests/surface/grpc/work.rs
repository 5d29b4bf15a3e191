//! `AgentService.Work`: what a worker may say, and what it hears.

use baton_protocol::limits::{WORK_CREDITS_MAX, WORK_LEASE_MIN_MS, WORK_MESSAGE_REPORTS_MAX};
use baton_protocol::proto::v1;
use baton_protocol::proto::v1::work_report::Report;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::{Client, SOON, json, refused};
use crate::support::{OTHER_TOKEN, Server};

const AGENT: &str = "agent://acme/prod/worker";

/// One worker from the client's side.
struct Worker {
    to: Option<mpsc::Sender<v1::WorkRequest>>,
    from: Streaming<v1::WorkResponse>,
}

impl Worker {
    async fn open(client: &Client, first: v1::WorkRequest) -> Self {
        let (to, requests) = mpsc::channel(64);
        to.send(first).await.unwrap();
        let from = client.agents().work(ReceiverStream::new(requests)).await.unwrap();
        Self {
            to: Some(to),
            from: from.into_inner(),
        }
    }

    async fn say(&self, message: v1::WorkRequest) {
        self.to.as_ref().unwrap().send(message).await.unwrap();
    }

    async fn hear(&mut self) -> Result<Option<v1::WorkResponse>, Status> {
        timeout(SOON, self.from.message()).await.unwrap()
    }

    /// The next items.
    async fn items(&mut self) -> Vec<v1::WorkItem> {
        loop {
            let items = self.hear().await.unwrap().unwrap().items;
            if !items.is_empty() {
                return items;
            }
        }
    }

    async fn receipt(&mut self) -> v1::WorkReceipt {
        loop {
            let mut receipts = self.hear().await.unwrap().unwrap().receipts;
            if let Some(receipt) = receipts.pop() {
                return receipt;
            }
        }
    }
}

fn open(agent: &str, credits: u32) -> v1::WorkRequest {
    v1::WorkRequest {
        open: Some(v1::WorkOpen {
            agent: agent.into(),
            worker: "w1".into(),
            lease_ms: 1,
        }),
        credits,
        ..v1::WorkRequest::default()
    }
}

fn report(item: &v1::WorkItem, report: Report) -> v1::WorkRequest {
    let report = v1::WorkReport {
        intent_id: item.intent.as_ref().unwrap().intent_id.clone(),
        fence: item.fence,
        report: Some(report),
    };
    v1::WorkRequest {
        reports: vec![report],
        ..v1::WorkRequest::default()
    }
}

#[tokio::test]
async fn a_worker_gets_as_much_as_it_asked_for_and_hears_of_each_report() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    let ids = [client.create(AGENT).await, client.create(AGENT).await];
    let mut worker = Worker::open(&client, open(AGENT, 1)).await;
    let opened = worker.hear().await.unwrap().unwrap().opened.unwrap();
    assert_eq!(
        (opened.credits_max, opened.lease_ms),
        (WORK_CREDITS_MAX, WORK_LEASE_MIN_MS)
    );
    let first = worker.items().await;
    assert_eq!(first.len(), 1, "one credit, one item");
    let intent = first[0].intent.as_ref().unwrap();
    assert_eq!((&intent.intent_id, first[0].attempt), (&ids[0], 1));
    assert_eq!(
        first[0].payload.as_ref().unwrap().data.as_ref(),
        br#"{"n": 1.50}"#,
        "payloads are handed on as they came"
    );
    let complete = v1::Complete {
        result: Some(json("{}")),
    };
    let mut done = report(&first[0], Report::Complete(complete));
    done.credits = 5;
    worker.say(done).await;
    let (mut receipts, mut items) = (Vec::new(), Vec::new());
    while receipts.is_empty() || items.is_empty() {
        let message = worker.hear().await.unwrap().unwrap();
        receipts.extend(message.receipts);
        items.extend(message.items);
    }
    assert_eq!(
        (&receipts[0].intent_id, receipts[0].fence),
        (&ids[0], first[0].fence)
    );
    assert_eq!(receipts[0].failure, None);
    assert_eq!(items[0].intent.as_ref().unwrap().intent_id, ids[1]);

    let mut stranger = items[0].clone();
    stranger.intent.as_mut().unwrap().intent_id = client.create("agent://acme/prod/other").await;
    worker.say(report(&stranger, Report::Ack(v1::Ack {}))).await;
    let refused = worker.receipt().await.failure.unwrap();
    assert_eq!((refused.code.as_str(), refused.retryable), ("not_found", false));

    // Half-closed: everything is answered, then the stream ends.
    worker.to = None;
    assert_eq!(worker.hear().await.unwrap(), None);
}

#[tokio::test]
async fn what_no_worker_may_say_ends_the_stream() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    client.create(AGENT).await;
    let invalid = |status: Result<Option<v1::WorkResponse>, Status>| {
        refused(status, Code::InvalidArgument, "invalid_argument")
    };

    let nameless = v1::WorkRequest {
        credits: 1,
        ..v1::WorkRequest::default()
    };
    invalid(Worker::open(&client, nameless).await.hear().await);
    invalid(Worker::open(&client, open("", 1)).await.hear().await);

    let mut twice = Worker::open(&client, open(AGENT, 0)).await;
    twice.hear().await.unwrap();
    twice.say(open(AGENT, 0)).await;
    invalid(twice.hear().await);

    let mut greedy = Worker::open(&client, open(AGENT, WORK_CREDITS_MAX + 1)).await;
    greedy.hear().await.unwrap();
    invalid(greedy.hear().await);

    for broken in [
        v1::WorkReport::default(),
        v1::WorkReport {
            fence: Some(v1::Fence::default()),
            report: Some(Report::Ack(v1::Ack {})),
            ..v1::WorkReport::default()
        },
    ] {
        let mut worker = Worker::open(&client, open(AGENT, 0)).await;
        worker.hear().await.unwrap();
        let said = v1::WorkRequest {
            reports: vec![broken],
            ..v1::WorkRequest::default()
        };
        worker.say(said).await;
        invalid(worker.hear().await);
    }
    let mut worker = Worker::open(&client, open(AGENT, 0)).await;
    worker.hear().await.unwrap();
    let flood = v1::WorkRequest {
        reports: vec![v1::WorkReport::default(); WORK_MESSAGE_REPORTS_MAX + 1],
        ..v1::WorkRequest::default()
    };
    worker.say(flood).await;
    invalid(worker.hear().await);
}

#[tokio::test]
async fn nobody_works_for_another_workspace_or_without_a_key() {
    let server = Server::start().await;
    let agent = v1::RegisterAgentRequest {
        name: "worker".into(),
        ..v1::RegisterAgentRequest::default()
    };
    let home = Client::operator(&server).await;
    home.agents().register_agent(agent).await.unwrap();
    let stranger = Client::new(&server, OTHER_TOKEN).await;
    let mut worker = Worker::open(&stranger, open(AGENT, 1)).await;
    let status = worker.hear().await.unwrap_err();
    assert!(
        matches!(status.code(), Code::PermissionDenied | Code::NotFound),
        "{status:?}"
    );
    let nobody = Client::new(&server, "").await;
    let (_to, requests) = mpsc::channel(1);
    let answer = nobody.agents().work(ReceiverStream::new(requests)).await;
    refused(
        answer.map(|_| ()),
        Code::Unauthenticated,
        "missing_platform_api_key",
    );
}
