//! An agent on a work stream: items in, results out, as many credits back as items came.

use super::grpc::{Grpc, numbered, problem};
use super::submit_stream::failed;
use super::{Numbered, REOPEN_PAUSE, Refused};
use anyhow::Context as _;
use baton_protocol::proto::v1::work_report::Report;
use baton_protocol::proto::v1::{Complete, WorkItem, WorkOpen, WorkReport, WorkRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Items an agent may hold.
const CREDITS: u32 = 256;
/// Messages between the agent and the connection.
const MESSAGES_MAX: usize = 16;

/// Why a stream was left.
enum Left {
    /// Another node decides about the agent: there the way is shorter.
    ForLeader,
    Closed,
}

impl Grpc {
    /// Works for `name` until it is aborted; a broken stream is opened again, at the next connection.
    pub(super) async fn work(self, name: String, refused: Refused) {
        let mut failures = 0;
        loop {
            match self.shift(failures, &name, &refused).await {
                Ok(Left::ForLeader) => {}
                Ok(Left::Closed) => failures += 1,
                Err(error) => {
                    failures += 1;
                    tracing::debug!(%error, agent = name, "a work stream is opened again");
                }
            }
            tokio::time::sleep(REOPEN_PAUSE).await;
        }
    }

    async fn shift(&self, failures: usize, name: &str, refused: &Refused) -> anyhow::Result<Left> {
        let node = self.work_node(name, failures);
        let (messages, outgoing) = mpsc::channel(MESSAGES_MAX);
        messages
            .send(WorkRequest {
                open: Some(WorkOpen {
                    agent: name.to_owned(),
                    worker: "bench".to_owned(),
                    lease_ms: 0,
                }),
                credits: CREDITS,
                ..WorkRequest::default()
            })
            .await?;
        let mut client = node.agents();
        let mut responses = client
            .work(node.request(ReceiverStream::new(outgoing)))
            .await
            .map_err(problem)?
            .into_inner();
        while let Some(response) = responses.message().await.map_err(problem)? {
            let leader = response.opened.as_ref().map(|opened| opened.leader.as_str());
            if leader.is_some_and(|leader| !leader.is_empty() && self.learn_leader(name, leader)) {
                return Ok(Left::ForLeader);
            }
            for failure in response
                .receipts
                .iter()
                .filter_map(|receipt| receipt.failure.as_ref())
            {
                refused.count(1);
                tracing::debug!(error = %failed(failure), "a completion did not take effect");
            }
            if response.items.is_empty() {
                continue;
            }
            let credits = u32::try_from(response.items.len())?;
            let reports = response
                .items
                .into_iter()
                .map(complete)
                .collect::<Result<_, _>>()?;
            messages
                .send(WorkRequest {
                    credits,
                    reports,
                    ..WorkRequest::default()
                })
                .await
                .context("the work stream closed")?;
        }
        Ok(Left::Closed)
    }
}

fn complete(item: WorkItem) -> anyhow::Result<WorkReport> {
    let number = Numbered::read(&item.payload.unwrap_or_default().data)?;
    Ok(WorkReport {
        intent_id: item.intent.unwrap_or_default().intent_id,
        fence: item.fence,
        report: Some(Report::Complete(Complete {
            result: Some(numbered(number)),
        })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_protocol::proto::v1::{Fence, Intent, Payload};

    #[test]
    fn an_item_is_completed_with_its_own_number_and_fence() {
        let fence = Fence { term: 3, counter: 4 };
        let item = WorkItem {
            fence: Some(fence),
            intent: Some(Intent {
                intent_id: "i".to_owned(),
                ..Intent::default()
            }),
            payload: Some(Payload {
                data: "{\"filler\":\"xx\",\"number\":9}".into(),
                content_type: String::new(),
            }),
            attempt: 1,
        };
        let report = complete(item).unwrap();
        assert_eq!((report.intent_id.as_str(), report.fence), ("i", Some(fence)));
        let Some(Report::Complete(done)) = report.report else {
            panic!("not completed")
        };
        assert_eq!(Numbered::read(&done.result.unwrap().data).unwrap(), 9);
        assert!(complete(WorkItem::default()).is_err());
    }
}
