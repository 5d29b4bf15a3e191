//! AXP over HTTP: decode, authorise, call the service, encode.

mod accounts;
mod agent_path;
mod agents;
mod audit;
mod call;
mod canonical;
mod capabilities;
mod deliveries;
mod envelope;
mod error;
mod health;
mod human_task;
mod inbox;
mod intent_list;
mod intents;
mod json;
mod letters;
mod limits;
mod render;
pub(crate) mod scenarios;
mod schemas;
mod sse;
mod stream;
pub(crate) mod task_page;
mod tasks;
mod time;
mod workspaces;

pub use agents::push_body;
pub(crate) use canonical::canonical;
pub(crate) use json::parse_value;
pub use letters::{NoticeText, notice_text};

use std::sync::Arc;

use axum::Router;
use axum::extract::{OriginalUri, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Method};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post};
use baton_protocol::{ErrorCode, ServiceError};

use crate::app::App;
use call::Call;
use error::{ApiError, not_found};

/// Path families of the surface that this version knows of but does not serve.
const LATER_FAMILIES: [&str; 28] = [
    "/mcp",
    "/v1/access-requests",
    "/v1/aliases",
    "/v1/approvals",
    "/v1/audit",
    "/v1/billing",
    "/v1/deliveries",
    "/v1/deliveries-operations",
    "/v1/inbox",
    "/v1/intents",
    "/v1/invites",
    "/v1/matrix",
    "/v1/me",
    "/v1/media",
    "/v1/mesh",
    "/v1/organizations",
    "/v1/portal",
    "/v1/principals",
    "/v1/quotas",
    "/v1/routing",
    "/v1/scenarios",
    "/v1/sessions",
    "/v1/tool-registry",
    "/v1/transports",
    "/v1/usage",
    "/v1/users",
    "/v1/webhooks",
    "/v1/workspaces",
];

/// The whole surface as one router.
pub(crate) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for (path, handlers) in routes() {
        router = router.route(path, handlers);
    }
    router
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(&app), envelope::envelope))
        .with_state(app)
}

/// Patterns of every route, as the router is built from them.
pub(crate) fn route_patterns() -> Vec<&'static str> {
    routes().into_iter().map(|(pattern, _)| pattern).collect()
}

fn routes() -> Vec<(&'static str, MethodRouter<Arc<App>>)> {
    vec![
        ("/health", get(health::health)),
        ("/v1/health", get(health::health)),
        ("/livez", get(health::live)),
        ("/readyz", get(health::ready)),
        ("/startupz", get(health::started)),
        ("/v1/intents", post(intents::submit).get(intent_list::list)),
        ("/v1/intents/bulk-cancel", post(intent_list::bulk_cancel)),
        ("/v1/intents/{id}", get(intents::get)),
        ("/v1/intents/{id}/events", get(intents::events)),
        ("/v1/intents/{id}/events/stream", get(stream::intent_stream)),
        ("/v1/intents/{id}/resolve", post(intents::resolve)),
        ("/v1/intents/{id}/resume", post(intents::resume)),
        ("/v1/intents/{id}/controls", post(intents::controls)),
        ("/v1/intents/{id}/policy", post(intents::policy)),
        ("/v1/agents", get(agents::list)),
        ("/v1/agents/{*rest}", get(agents::by_path)),
        ("/v1/me", get(agents::me)),
        ("/v1/me/tasks", get(tasks::list)),
        ("/v1/approvals/{id}/decision", post(tasks::decide)),
        ("/v1/capabilities", get(capabilities::list)),
        ("/v1/schemas", post(schemas::put)),
        ("/v1/schemas/{type}", get(schemas::get)),
        ("/v1/audit/events", get(audit::events)),
        ("/v1/audit/heads", get(audit::heads)),
        (
            "/v1/workspaces/{id}/retention",
            get(workspaces::retention)
                .put(workspaces::set_retention)
                .delete(workspaces::clear_retention),
        ),
        ("/v1/scenarios/apply", post(scenarios::apply)),
        ("/v1/scenarios/validate", post(scenarios::validate)),
        ("/v1/tool-registry/macros", get(scenarios::macros)),
        ("/v1/tool-registry/macros/{id}", get(scenarios::unknown_macro)),
        ("/v1/service-accounts", post(accounts::create).get(accounts::list)),
        (
            "/v1/service-accounts/{id}",
            get(accounts::get)
                .patch(accounts::update)
                .delete(accounts::remove),
        ),
        ("/v1/service-accounts/{id}/keys", post(accounts::create_key)),
        (
            "/v1/service-accounts/{id}/keys/{key_id}/revoke",
            post(accounts::revoke_key),
        ),
        (
            "/v1/service-accounts/{id}/keys/{key_id}",
            delete(accounts::revoke_key),
        ),
        ("/v1/deliveries", get(deliveries::list).post(later)),
        ("/v1/deliveries/replay", post(deliveries::replay_many)),
        ("/v1/deliveries/reconcile", post(later)),
        ("/v1/deliveries/{id}", get(deliveries::get)),
        ("/v1/deliveries/{id}/replay", post(deliveries::replay)),
        ("/v1/inbox", get(inbox::list)),
        ("/v1/inbox/changes", get(inbox::changes)),
        ("/v1/inbox/{id}/read", post(inbox::read)),
        ("/v1/inbox/{id}/reply", post(inbox::reply)),
        ("/v1/inbox/{id}/delegate", post(inbox::delegate)),
        ("/v1/inbox/{id}/approve", post(inbox::approve)),
        ("/v1/inbox/{id}/reject", post(inbox::reject)),
        ("/v1/inbox/{id}/messages/delete", post(inbox::delete_messages)),
        ("/v1/inbox/{id}", get(inbox::get)),
        (
            task_page::ROUTE,
            get(task_page::show)
                .post(task_page::answer)
                .fallback(task_page::other_method),
        ),
    ]
}

/// What the client port answers while the node is starting.
pub(crate) fn starting(health: Arc<dyn crate::ports::Health>) -> Router {
    let [live, ready, started] = [0_u8; 3].map(|_| Arc::clone(&health));
    let page = |what: &'static str, checks: Vec<crate::ports::Check>, params: health::Params| {
        health::answer(what, &checks, &params).unwrap_or_else(ApiError::alone)
    };
    Router::new()
        .route(
            "/livez",
            get(move |p| async move { page("live", live.live(), p) }),
        )
        .route(
            "/readyz",
            get(move |p| async move { page("ready", ready.ready(), p) }),
        )
        .route(
            "/startupz",
            get(move |p| async move { page("started", started.started(), p) }),
        )
        .fallback(|| async {
            let mut error =
                ServiceError::new(ErrorCode::Unavailable, "this node is starting; try another one");
            error.retry_after_seconds = Some(1);
            ApiError::from(error).alone()
        })
}

/// The members of a JSON object that came by another way than a request body.
///
/// # Errors
/// As for a body.
pub(crate) fn parse_members(
    bytes: &[u8],
) -> Result<Vec<(String, Box<serde_json::value::RawValue>)>, ServiceError> {
    Ok(json::JsonObject::parse(bytes)?.into_members())
}

/// A success.
fn json(body: Vec<u8>) -> Response {
    let mut response = Response::new(body.into());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A part of the surface that this version does not serve; only for callers who are let in at all.
async fn later(State(_): State<Arc<App>>, call: Call) -> ApiError {
    let message = format!("{} is not supported by this version", call.path());
    ServiceError::new(ErrorCode::NotImplemented, message).into()
}

async fn unknown(
    State(app): State<Arc<App>>,
    OriginalUri(uri): OriginalUri,
    request: axum::extract::Request,
) -> ApiError {
    let path = uri.path();
    if path.ends_with('/') {
        return not_found("no such path on this server; try it without the slash at the end");
    }
    let known = LATER_FAMILIES.iter().any(|family| {
        path.strip_prefix(family)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    if !known {
        return not_found("no such path on this server");
    }
    match <Call as axum::extract::FromRequest<_>>::from_request(request, &app).await {
        Ok(call) => later(State(app), call).await,
        Err(error) => error,
    }
}

/// Without the path: messages are logged, and some paths are secrets.
async fn wrong_method(method: Method) -> ApiError {
    let message = format!("{method} is not allowed on this path");
    ServiceError::new(ErrorCode::MethodNotAllowed, message).into()
}
