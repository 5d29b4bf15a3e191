//! `ListIntents` and `BulkCancel`.

use std::sync::Arc;

use baton_protocol::limits::{
    BULK_CANCEL_DEFAULT, BULK_CANCEL_MAX, LIST_PAGE_DEFAULT, LIST_PAGE_MAX, REASON_CHARS_MAX,
};
use baton_protocol::proto::v1;
use tonic::{Response, Status};

use crate::app::App;
use crate::grpc::auth::Admitted;
use crate::grpc::status::{failure, status};
use crate::grpc::{convert, decode};
use crate::service::{BulkCancel, Change};

pub(super) async fn list(
    app: &Arc<App>,
    call: &Admitted,
    request: v1::ListIntentsRequest,
) -> Result<Response<v1::ListIntentsResponse>, Status> {
    let filter = decode::filter(request.filter.unwrap_or_default()).map_err(status)?;
    let before = decode::page_token(&request.page_token).map_err(status)?;
    let size = match request.page_size {
        0 => LIST_PAGE_DEFAULT,
        size => size.min(LIST_PAGE_MAX),
    };
    let found = app
        .service
        .list_intents(&call.caller, &filter, before, size)
        .await;
    let found = found.map_err(status)?;
    Ok(Response::new(v1::ListIntentsResponse {
        next_page_token: found.next.map(|id| id.to_string()).unwrap_or_default(),
        intents: found.intents.into_iter().map(convert::intent).collect(),
    }))
}

pub(super) async fn bulk_cancel(
    app: &Arc<App>,
    call: &Admitted,
    request: v1::BulkCancelRequest,
) -> Result<Response<v1::BulkCancelResponse>, Status> {
    let filter = decode::filter(request.filter.unwrap_or_default()).map_err(status)?;
    let reason = decode::text(request.reason, "reason", REASON_CHARS_MAX).map_err(status)?;
    let limit = match request.limit {
        0 => BULK_CANCEL_DEFAULT,
        limit => limit.min(BULK_CANCEL_MAX),
    };
    let bulk = BulkCancel {
        filter,
        limit,
        dry_run: request.dry_run,
        change: Change {
            reason: reason.unwrap_or_default(),
            ..Change::default()
        },
    };
    let done = app
        .service
        .bulk_cancel(&call.caller, bulk)
        .await
        .map_err(status)?;
    let result = |outcome: crate::service::BulkOutcome| v1::BulkCancelResult {
        intent_id: convert::id(&outcome.intent_id),
        failure: outcome.failure.map(failure),
    };
    Ok(Response::new(v1::BulkCancelResponse {
        results: done.outcomes.into_iter().map(result).collect(),
        more: done.more,
    }))
}
