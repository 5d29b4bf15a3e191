//! Where heads and events come from: the cluster's HTTP surface.

use super::ScopeArgs;
use super::chain::Head;
use crate::cli::connect::ConnectArgs;
use crate::cli::http::{Http, path};
use crate::exit::Failure;
use serde_json::Value;

/// Events of one call.
const PAGE: &str = "250";
/// How the surface names the chain of the cluster as a whole, whose workspace id is empty.
const CLUSTER: &str = "cluster";

/// A cluster, and which of its chains are asked for.
pub(super) struct Source {
    http: Http,
    workspace_id: String,
}

impl Source {
    pub(super) fn new(connect: &ConnectArgs, scope: &ScopeArgs) -> Result<Self, Failure> {
        Ok(Self {
            http: Http::new(connect)?,
            workspace_id: scope.workspace_id(),
        })
    }

    /// The answer with the heads of the chains.
    pub(super) async fn heads(&self) -> Result<Value, Failure> {
        let query = [("workspace_id", self.workspace_id.clone())];
        let path = path(&["v1", "audit", "heads"], &query)?;
        self.http.call("GET", &path, None).await
    }

    /// Hands every event of a workspace to `take`, newest first.
    pub(super) async fn events(
        &self,
        workspace_id: &str,
        mut take: impl FnMut(&Value) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let named = if workspace_id.is_empty() {
            CLUSTER
        } else {
            workspace_id
        };
        let mut cursor = String::new();
        loop {
            let query = [
                ("workspace_id", named.to_owned()),
                ("limit", PAGE.to_owned()),
                ("cursor", cursor),
            ];
            let path = path(&["v1", "audit", "events"], &query)?;
            let page = self.http.call("GET", &path, None).await?;
            for event in rows(&page, "events") {
                take(event)?;
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = next.to_owned(),
                None => return Ok(()),
            }
        }
    }
}

/// The heads in an answer, or in a file that holds one.
pub(super) fn heads_of(answer: &Value) -> Result<Vec<Head>, Failure> {
    if !answer["heads"].is_array() {
        return Err(Failure::usage(
            "there are no heads in it; make the file with `baton audit heads -o json` or `baton audit export`",
        ));
    }
    let heads = rows(answer, "heads").iter().map(Head::read);
    heads
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::usage(format!("the heads cannot be read: {error}")))
}

/// Workspaces of the heads, each once.
pub(super) fn workspaces(heads: &[Head]) -> Vec<String> {
    let mut all: Vec<_> = heads.iter().map(|head| head.workspace_id.clone()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

pub(super) fn rows<'v>(answer: &'v Value, name: &str) -> &'v [Value] {
    answer[name].as_array().map_or(&[], Vec::as_slice)
}
