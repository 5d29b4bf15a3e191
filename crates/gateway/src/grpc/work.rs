//! `AgentService.Work`: competing consumers. One task per stream passes on, in batches, what worker and delivery say.

use std::sync::Arc;

use baton_protocol::address::slot_of;
use baton_protocol::limits::{REASON_CHARS_MAX, WORK_CREDITS_MAX, WORK_MESSAGE_REPORTS_MAX};
use baton_protocol::proto::internal::{AttemptFence, AttemptReport, AttemptVerdict, Intent, Payload};
use baton_protocol::proto::v1::{self, WorkRequest, WorkResponse, work_report::Report};
use baton_protocol::{ErrorCode, ServiceError, WorkBatch, WorkInput, WorkItem, WorkOpen, WorkReceipt};
use prost::Message as _;
use tonic::{Response, Status, Streaming};

use super::auth::Admitted;
use super::leader::group_of;
use super::outbound::{Messages, Outbound, Wake};
use super::status::{failure, status, unreadable};
use super::{convert, decode};
use crate::app::App;
use crate::ports::WorkPort;

/// Bytes of items in one message, from which on the rest goes into the next: clients bound what they accept.
const MESSAGE_BYTES: usize = 512 * 1024;
const WORKER_CHARS_MAX: usize = 255;

/// Serves one worker's stream.
///
/// # Errors
/// `Unavailable` when all streams of this node are taken. Everything else ends the stream.
pub(super) async fn serve(
    app: &Arc<App>,
    admitted: Admitted,
    requests: Streaming<WorkRequest>,
) -> Result<Response<Messages<WorkResponse>>, Status> {
    let (out, response) = Outbound::open(Arc::clone(app), &admitted, "work")?;
    tokio::spawn(run(out, requests));
    Ok(response)
}

enum Step {
    Batch(Option<Result<WorkBatch, ServiceError>>),
    /// The worker has said all, or something that ends the stream; `None` when it is gone.
    Read(Result<(), Option<Status>>),
}

async fn run(mut out: Outbound<WorkResponse>, mut requests: Streaming<WorkRequest>) {
    let first = match out.next(requests.message()).await {
        Wake::Source(first) => first,
        // No worker needs a second for its first message.
        Wake::Tick => Ok(None),
        Wake::Stop | Wake::Over => return,
    };
    let (port, input, leader) = match enter(&out, first).await {
        Ok(entered) => entered,
        Err(Some(found)) => return out.end_with(found).await,
        Err(None) => return,
    };
    let opened = WorkResponse {
        opened: Some(v1::WorkOpened {
            credits_max: WORK_CREDITS_MAX,
            lease_ms: port.lease_ms(),
            leader: leader.unwrap_or_default(),
        }),
        ..WorkResponse::default()
    };
    if !out.send(opened).await {
        return;
    }
    let reader = read(requests, Arc::clone(&port), input);
    tokio::pin!(reader);
    let mut reading = true;
    loop {
        let step = out.next(async {
            tokio::select! {
                batch = port.next() => Step::Batch(batch),
                read = &mut reader, if reading => Step::Read(read),
            }
        });
        match step.await {
            Wake::Tick => {}
            Wake::Stop | Wake::Over => return,
            Wake::Source(Step::Read(Ok(()))) => reading = false,
            Wake::Source(Step::Read(Err(Some(found)))) => return out.end_with(found).await,
            Wake::Source(Step::Read(Err(None)) | Step::Batch(None)) => return,
            Wake::Source(Step::Batch(Some(Err(error)))) => return out.end(error).await,
            Wake::Source(Step::Batch(Some(Ok(batch)))) => {
                for message in messages(batch) {
                    if !out.send(message).await {
                        return;
                    }
                }
            }
        }
    }
}

/// Lets the worker in: the first message says who it is.
async fn enter(
    out: &Outbound<WorkResponse>,
    first: Result<Option<WorkRequest>, Status>,
) -> Result<(Arc<dyn WorkPort>, WorkInput, Option<String>), Option<Status>> {
    let mut first = first.map_err(|found| unreadable(&found))?.unwrap_or_default();
    let open = first.open.take();
    let entered = async {
        let open = open.ok_or_else(|| decode::missing("open"))?;
        let named =
            decode::address(open.agent, "open.agent")?.ok_or_else(|| decode::missing("open.agent"))?;
        let worker = decode::text(open.worker, "open.worker", WORKER_CHARS_MAX)?;
        let input = input(first)?;
        let app = &out.app;
        let agent = app
            .patiently(|| app.service.owner(&out.caller, Some(named.as_str())))
            .await?;
        tracing::debug!(agent = agent.address, worker, "worker enters");
        let group = group_of(app, slot_of(&agent));
        let open = WorkOpen {
            agent,
            actor: out.caller.actor(None, None),
            lease_ms: open.lease_ms,
        };
        let port = app.service.ports.work.open(open).await?;
        let leader = app.service.ports.cluster.leader_elsewhere(group);
        Ok::<_, ServiceError>((port, input, leader))
    };
    entered.await.map_err(|error| Some(status(error)))
}

/// Hands over everything that the worker says, beginning with what came along with its first message.
async fn read(
    mut requests: Streaming<WorkRequest>,
    port: Arc<dyn WorkPort>,
    first: WorkInput,
) -> Result<(), Option<Status>> {
    let refused = |error: ServiceError| Some(status(error));
    port.send(first).await.map_err(refused)?;
    while let Some(request) = requests.message().await.map_err(|found| unreadable(&found))? {
        if request.open.is_some() {
            let message = "open belongs into the first message only";
            let again = ServiceError::new(ErrorCode::InvalidArgument, message).in_field("open");
            return Err(refused(again));
        }
        port.send(input(request).map_err(refused)?)
            .await
            .map_err(refused)?;
    }
    let last = WorkInput {
        last: true,
        ..WorkInput::default()
    };
    port.send(last).await.map_err(refused)
}

fn input(request: WorkRequest) -> Result<WorkInput, ServiceError> {
    if request.reports.len() > WORK_MESSAGE_REPORTS_MAX {
        let message =
            format!("reports has more than {WORK_MESSAGE_REPORTS_MAX} entries; send several messages");
        return Err(ServiceError::new(ErrorCode::InvalidArgument, message).in_field("reports"));
    }
    Ok(WorkInput {
        credits: request.credits,
        reports: request
            .reports
            .into_iter()
            .map(report)
            .collect::<Result<_, _>>()?,
        drain: request.drain,
        last: false,
    })
}

fn report(said: v1::WorkReport) -> Result<AttemptReport, ServiceError> {
    let fence = said.fence.ok_or_else(|| decode::missing("reports.fence"))?;
    let mut report = AttemptReport {
        intent_id: decode::intent_id(&said.intent_id)?.to_bytes(),
        fence: Some(AttemptFence {
            term: fence.term,
            counter: fence.counter,
        }),
        ..AttemptReport::default()
    };
    let verdict = match said.report.ok_or_else(|| decode::missing("reports.report"))? {
        Report::Ack(v1::Ack {}) | Report::Progress(v1::Progress {}) => AttemptVerdict::Progress,
        Report::Nak(nak) => {
            report.delay_ms = nak.delay_ms;
            report.reason = reason(nak.reason)?;
            AttemptVerdict::Nak
        }
        Report::Complete(complete) => {
            let result = complete.result.unwrap_or_default();
            report.body = Some(decode::payload(result, "reports.complete.result")?);
            AttemptVerdict::Complete
        }
        Report::Fail(fail) => {
            let error = fail.error.map(|e| decode::payload(e, "reports.fail.error"));
            report.body = error.transpose()?;
            report.reason = reason(fail.reason)?;
            AttemptVerdict::Fail
        }
        Report::Terminate(terminate) => {
            report.reason = reason(terminate.reason)?;
            AttemptVerdict::Terminate
        }
    };
    report.verdict = verdict.into();
    Ok(report)
}

fn reason(text: String) -> Result<String, ServiceError> {
    Ok(decode::text(text, "reports.reason", REASON_CHARS_MAX)?.unwrap_or_default())
}

/// What waits for the worker, in messages of a size that clients accept.
fn messages(batch: WorkBatch) -> Vec<WorkResponse> {
    let mut messages = Vec::with_capacity(1);
    let mut message = WorkResponse {
        receipts: batch.receipts.into_iter().map(receipt).collect(),
        ..WorkResponse::default()
    };
    let mut bytes = 0;
    for work in batch.items {
        bytes += work.intent.len() + work.payload.len();
        if bytes > MESSAGE_BYTES && !message.items.is_empty() {
            messages.push(std::mem::take(&mut message));
            bytes = work.intent.len() + work.payload.len();
        }
        message.items.push(item(work));
    }
    messages.push(message);
    messages
}

fn item(work: WorkItem) -> v1::WorkItem {
    // Rows that this cluster wrote decode; an empty one would say so.
    let intent = Intent::decode(work.intent).unwrap_or_default();
    let payload = if work.payload.is_empty() {
        None
    } else {
        Payload::decode(work.payload).ok()
    };
    v1::WorkItem {
        fence: Some(fence(work.fence)),
        attempt: intent.failed_attempts.saturating_add(1),
        intent: Some(convert::intent(intent)),
        payload: payload.map(convert::payload),
    }
}

fn receipt(receipt: WorkReceipt) -> v1::WorkReceipt {
    v1::WorkReceipt {
        intent_id: convert::id(&receipt.intent_id),
        fence: Some(fence(receipt.fence)),
        failure: receipt.error.map(failure),
    }
}

fn fence(fence: AttemptFence) -> v1::Fence {
    v1::Fence {
        term: fence.term,
        counter: fence.counter,
    }
}
