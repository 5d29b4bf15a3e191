//! The methods of the API: labels of bounded variety, and how each is bounded.

/// How a method is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One request, one answer: counted against the rate limit.
    Unary,
    /// One request whose items are counted by its handler.
    Batch,
    /// One request, many answers.
    ServerStream,
    /// Many requests, many answers.
    BothStream,
    /// For anyone: health and reflection.
    Open,
}

/// One method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Method {
    /// Path without the leading slash.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

/// What every item of a submit is counted as, however it came.
pub(super) const SUBMIT: &str = "baton.v1.IntentService/Submit";

const OTHER: Method = Method {
    name: "other",
    kind: Kind::Open,
};

const METHODS: [Method; 42] = [
    method(SUBMIT, Kind::Unary),
    method("baton.v1.IntentService/SubmitBatch", Kind::Batch),
    method("baton.v1.IntentService/SubmitStream", Kind::BothStream),
    method("baton.v1.IntentService/GetIntent", Kind::Unary),
    method("baton.v1.IntentService/ListIntents", Kind::Unary),
    method("baton.v1.IntentService/Watch", Kind::ServerStream),
    method("baton.v1.IntentService/WaitFor", Kind::Unary),
    method("baton.v1.IntentService/Resolve", Kind::Unary),
    method("baton.v1.IntentService/Resume", Kind::Unary),
    method("baton.v1.IntentService/Cancel", Kind::Unary),
    method("baton.v1.IntentService/BulkCancel", Kind::Unary),
    method("baton.v1.AgentService/Work", Kind::BothStream),
    method("baton.v1.AgentService/Subscribe", Kind::ServerStream),
    method("baton.v1.AgentService/RegisterAgent", Kind::Unary),
    method("baton.v1.AgentService/GetAgent", Kind::Unary),
    method("baton.v1.AgentService/ListAgents", Kind::Unary),
    method("baton.v1.AgentService/GetBacklog", Kind::Unary),
    method("baton.v1.InboxService/ListThreads", Kind::Unary),
    method("baton.v1.InboxService/GetThread", Kind::Unary),
    method("baton.v1.ScenarioService/ApplyScenario", Kind::Unary),
    method("baton.v1.ScenarioService/ValidateScenario", Kind::Unary),
    method("baton.v1.AgentService/SetCallback", Kind::Unary),
    method("baton.v1.AgentService/RotateCallbackSecret", Kind::Unary),
    method("baton.v1.TaskService/ListTasks", Kind::Unary),
    method("baton.v1.TaskService/GetTask", Kind::Unary),
    method("baton.v1.TaskService/AnswerTask", Kind::Unary),
    method("baton.v1.DeliveryService/ListDeliveries", Kind::Unary),
    method("baton.v1.DeliveryService/GetDelivery", Kind::Unary),
    method("baton.v1.DeliveryService/ReplayDelivery", Kind::Unary),
    method("baton.v1.DeliveryService/ReplayDeliveries", Kind::Unary),
    method("baton.v1.SchemaService/PutSchema", Kind::Unary),
    method("baton.v1.SchemaService/GetSchema", Kind::Unary),
    method("baton.v1.AdminService/GetStatus", Kind::Unary),
    method("baton.v1.AdminService/ListGroups", Kind::Unary),
    method("baton.v1.AdminService/TransferLeader", Kind::Unary),
    method("baton.v1.AuditService/ListAuditEvents", Kind::Unary),
    method("baton.v1.AuditService/ListAuditHeads", Kind::Unary),
    method("baton.v1.WorkspaceService/GetRetention", Kind::Unary),
    method("baton.v1.WorkspaceService/SetRetention", Kind::Unary),
    method("grpc.health.v1.Health/Check", Kind::Open),
    method("grpc.health.v1.Health/Watch", Kind::Open),
    method(
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        Kind::Open,
    ),
];

const fn method(name: &'static str, kind: Kind) -> Method {
    Method { name, kind }
}

/// The method behind a path; unknown ones share a label and are refused by the router.
pub(super) fn method_of(path: &str) -> Method {
    let name = path.strip_prefix('/').unwrap_or(path);
    METHODS.into_iter().find(|m| m.name == name).unwrap_or(OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_protocol::proto::v1::FILE_DESCRIPTOR_SET;
    use prost::Message as _;

    #[test]
    fn every_method_of_the_api_is_named_with_its_shape() {
        let files = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let mut found = 0;
        for file in &files.file {
            for service in &file.service {
                for rpc in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), rpc.name());
                    let known = method_of(&path);
                    assert_eq!(format!("/{}", known.name), path);
                    let streams = (rpc.client_streaming(), rpc.server_streaming());
                    let expected = match known.kind {
                        Kind::Unary | Kind::Batch => (false, false),
                        Kind::ServerStream => (false, true),
                        Kind::BothStream => (true, true),
                        Kind::Open => panic!("{path} must ask for a key"),
                    };
                    assert_eq!(streams, expected, "{path}");
                    found += 1;
                }
            }
        }
        let ours = METHODS.iter().filter(|m| m.name.starts_with("baton.v1."));
        assert_eq!(found, ours.count());
    }
}
