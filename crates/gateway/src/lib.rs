//! The client surfaces, AXP over HTTP/SSE and gRPC on one port: authenticate, validate, mint ids, route, render.
//!
//! # Invariants
//! - Stateless: everything a restart may not lose is in a group's log.
//! - JSON stops at `http`; `service` speaks typed requests and is what `grpc` calls too.
//! - What a client's form schema may cost is bounded when it is accepted (`forms`); it is never run anywhere else.
//! - No handler reads a row before the caller's tenant is known.
//! - Over HTTP every success is HTTP 200 with a JSON object; every error has the same body.
//!
//! Must not depend on consensus, storage or the state machine.

mod app;
mod auth;
mod config;
mod forms;
mod grpc;
mod http;
mod limits;
mod links;
pub mod metrics;
pub mod ports;
mod server;
mod service;
mod trace;

/// Patterns of every route of the surface, in the router's notation.
#[must_use]
pub fn route_patterns() -> Vec<&'static str> {
    http::route_patterns()
}

pub use config::{GatewayConfig, TlsFiles};
pub use http::{NoticeText, notice_text, push_body};
pub use links::TaskLink;
pub use ports::Ports;
pub use server::{serve, serve_probes};
