//! `SubmitBatch`: many intents, each answered by itself.

use std::sync::Arc;

use baton_protocol::limits::SUBMIT_ITEMS_MAX;
use baton_protocol::proto::v1::{IntentSpec, SubmitBatchResponse, SubmitResult, submit_result};
use baton_protocol::{ErrorCode, ServiceError};
use tonic::{Response, Status};

use crate::app::App;
use crate::grpc::auth::Admitted;
use crate::grpc::method::SUBMIT;
use crate::grpc::status::{failure, status};
use crate::grpc::{convert, decode};
use crate::limits::RateStatus;
use crate::service::Failure;

pub(super) async fn submit(
    app: &Arc<App>,
    call: &Admitted,
    intents: Vec<IntentSpec>,
) -> Result<Response<SubmitBatchResponse>, Status> {
    if intents.len() > SUBMIT_ITEMS_MAX {
        let message = format!("intents has more than {SUBMIT_ITEMS_MAX} entries; send several calls");
        let error = ServiceError::new(ErrorCode::InvalidArgument, message).in_field("intents");
        return Err(status(error));
    }
    let count = u32::try_from(intents.len()).unwrap_or(u32::MAX);
    let rate = app.count(&call.caller, SUBMIT, count);
    let items = intents.into_iter().enumerate().map(|(index, spec)| {
        let over = rate.filter(|rate| index >= rate.admitted as usize);
        one(app, call, spec, over)
    });
    // All at once: they share log entries, and the number is bounded.
    let results = futures::future::join_all(items).await;
    Ok(Response::new(SubmitBatchResponse { results }))
}

async fn one(app: &App, call: &Admitted, spec: IntentSpec, over: Option<RateStatus>) -> SubmitResult {
    let committed = async {
        if let Some(rate) = over {
            return Err(Failure::from(rate.refusal()));
        }
        let submit = decode::submit(Some(spec), &call.trace_parent)?;
        app.service.submit(&call.caller, submit).await
    };
    let result = match committed.await {
        Ok(reply) => submit_result::Result::Receipt(convert::receipt(reply)),
        Err(error) => submit_result::Result::Failure(failure(error)),
    };
    SubmitResult { result: Some(result) }
}
