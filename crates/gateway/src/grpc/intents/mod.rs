//! `IntentService`.

mod batch;
mod list;
mod submit_stream;
mod watch;

use std::sync::Arc;

use baton_protocol::IntentId;
use baton_protocol::proto::v1::intent_service_server::IntentService;
use baton_protocol::proto::v1::{self, SubmitStreamRequest};
use tonic::{Request, Response, Status, Streaming};

use super::auth::Admitted;
use super::decode::Continue;
use super::outbound::Messages;
use super::status::status;
use super::{convert, decode, leader};
use crate::app::App;

pub(super) struct Intents(pub(super) Arc<App>);

#[tonic::async_trait]
impl IntentService for Intents {
    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        let submit = decode::submit(request.intent, &call.trace_parent).map_err(status)?;
        let reply = self
            .0
            .service
            .submit(&call.caller, submit)
            .await
            .map_err(status)?;
        let slot = IntentId::from_slice(&reply.submitted.intent_id).map(IntentId::slot);
        let answer = v1::SubmitResponse {
            receipt: Some(convert::receipt(reply)),
        };
        match slot {
            Some(slot) => leader::tell(&self.0, leader::group_of(&self.0, slot), Ok(answer)),
            None => Ok(Response::new(answer)),
        }
    }

    async fn submit_batch(
        &self,
        request: Request<v1::SubmitBatchRequest>,
    ) -> Result<Response<v1::SubmitBatchResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        batch::submit(&self.0, &call, request.intents).await
    }

    type SubmitStreamStream = Messages<v1::SubmitStreamResponse>;

    async fn submit_stream(
        &self,
        request: Request<Streaming<SubmitStreamRequest>>,
    ) -> Result<Response<Self::SubmitStreamStream>, Status> {
        let (call, inbound) = Admitted::split(request)?;
        submit_stream::serve(&self.0, call, inbound)
    }

    async fn get_intent(
        &self,
        request: Request<v1::GetIntentRequest>,
    ) -> Result<Response<v1::GetIntentResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        let id = decode::intent_id(&request.intent_id).map_err(status)?;
        let with_payload = !request.without_payload;
        let view = self.0.service.get_intent(&call.caller, id, with_payload).await;
        Ok(Response::new(v1::GetIntentResponse {
            intent: convert::view(view.map_err(status)?),
        }))
    }

    async fn list_intents(
        &self,
        request: Request<v1::ListIntentsRequest>,
    ) -> Result<Response<v1::ListIntentsResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        list::list(&self.0, &call, request).await
    }

    type WatchStream = Messages<v1::WatchResponse>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (call, request) = Admitted::split(request)?;
        watch::watch(&self.0, &call, &request).await
    }

    async fn wait_for(
        &self,
        request: Request<v1::WaitForRequest>,
    ) -> Result<Response<v1::WaitForResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        watch::wait_for(&self.0, &call, &request).await
    }

    async fn resolve(
        &self,
        request: Request<v1::ResolveRequest>,
    ) -> Result<Response<v1::ResolveResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        let (id, resolve, change) = decode::resolve(request).map_err(status)?;
        let done = self.0.service.resolve(&call.caller, id, resolve, change).await;
        let answer = done.map_err(status).map(|done| v1::ResolveResponse {
            intent: convert::changed(done.reply.intent, done.reply.event.as_ref()),
            event: done.reply.event.map(convert::event),
            replayed: done.replayed,
        });
        leader::tell(&self.0, leader::group_of(&self.0, id.slot()), answer)
    }

    async fn resume(
        &self,
        request: Request<v1::ResumeRequest>,
    ) -> Result<Response<v1::ResumeResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        let (id, next, change) = decode::resume(request).map_err(status)?;
        let service = &self.0.service;
        let done = match next {
            Continue::Resume(resume) => service.resume(&call.caller, id, resume, change).await,
            Continue::Answer(answer) => service.answer_task(&call.caller, id, None, answer, change).await,
        };
        let answer = done.map_err(status).map(|done| v1::ResumeResponse {
            intent: convert::changed(done.reply.intent, done.reply.event.as_ref()),
            event: done.reply.event.map(convert::event),
            replayed: done.replayed,
        });
        leader::tell(&self.0, leader::group_of(&self.0, id.slot()), answer)
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelRequest>,
    ) -> Result<Response<v1::CancelResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        let (id, cancel, change) = decode::cancel(request).map_err(status)?;
        let done = self.0.service.resolve(&call.caller, id, cancel, change).await;
        let answer = done.map_err(status).map(|done| v1::CancelResponse {
            intent: convert::changed(done.reply.intent, done.reply.event.as_ref()),
            event: done.reply.event.map(convert::event),
            replayed: done.replayed,
        });
        leader::tell(&self.0, leader::group_of(&self.0, id.slot()), answer)
    }

    async fn bulk_cancel(
        &self,
        request: Request<v1::BulkCancelRequest>,
    ) -> Result<Response<v1::BulkCancelResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        list::bulk_cancel(&self.0, &call, request).await
    }
}
