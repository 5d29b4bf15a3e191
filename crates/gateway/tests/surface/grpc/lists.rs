//! Lists and what is done to many at once.

use baton_protocol::proto::v1;
use tonic::Code;

use super::{Client, refused};
use crate::support::{OTHER_TOKEN, Server};

#[tokio::test]
async fn lists_and_bulk_cancels_follow_the_filter() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    let mut ids = Vec::new();
    for n in 0..25 {
        ids.push(client.create(&format!("agent://w{}", n % 5)).await);
    }
    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListIntentsRequest {
            page_size: 4,
            page_token,
            ..v1::ListIntentsRequest::default()
        };
        let page = client.intents().list_intents(request).await.unwrap().into_inner();
        listed.extend(page.intents.into_iter().map(|i| i.intent_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let mut newest_first = ids.clone();
    newest_first.sort();
    newest_first.reverse();
    assert_eq!(listed, newest_first);

    let filter = Some(v1::IntentFilter {
        to_agent: "agent://w2".into(),
        ..v1::IntentFilter::default()
    });
    let bulk = |dry_run, limit| v1::BulkCancelRequest {
        filter: filter.clone(),
        reason: "enough".into(),
        dry_run,
        limit,
    };
    let dry = client
        .intents()
        .bulk_cancel(bulk(true, 0))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((dry.results.len(), dry.more), (5, false));
    let some = client
        .intents()
        .bulk_cancel(bulk(false, 2))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((some.results.len(), some.more), (2, true));
    assert!(some.results.iter().all(|r| r.failure.is_none()));
    let rest = client
        .intents()
        .bulk_cancel(bulk(false, 0))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((rest.results.len(), rest.more), (3, false));
    let canceled = v1::ListIntentsRequest {
        filter: Some(v1::IntentFilter {
            statuses: vec![v1::Status::Canceled.into()],
            ..v1::IntentFilter::default()
        }),
        ..v1::ListIntentsRequest::default()
    };
    let canceled = client
        .intents()
        .list_intents(canceled)
        .await
        .unwrap()
        .into_inner()
        .intents;
    assert_eq!(canceled.len(), 5);
    assert!(canceled.iter().all(|i| i.to_agent == "agent://acme/prod/w2"));
    let stranger = Client::new(&server, OTHER_TOKEN).await;
    let theirs = stranger
        .intents()
        .list_intents(v1::ListIntentsRequest::default())
        .await
        .unwrap();
    assert!(theirs.into_inner().intents.is_empty());
    let bad = v1::ListIntentsRequest {
        page_token: "x".into(),
        ..v1::ListIntentsRequest::default()
    };
    refused(
        client.intents().list_intents(bad).await,
        Code::InvalidArgument,
        "invalid_argument",
    );
}
