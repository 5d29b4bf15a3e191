"""The native API through stock gRPC: generated stubs, every node of a cluster of processes."""

from __future__ import annotations

import queue
import threading
from uuid import uuid4

import grpc
import pytest

import native
import payment
from cluster import Cluster, until
from native import Native

common = native.messages("intent")
m = native.messages("intent_service")
agents = native.messages("agent_service")
inbox = native.messages("inbox_service")
scenarios = native.messages("scenario_service")
schemas = native.messages("schema_service")
tasks = native.messages("task_service")
admin = native.messages("admin_service")

SECONDS = 30


@pytest.fixture(params=[0, 1, 2], ids=["node-1", "node-2", "node-3"])
def api(cluster: Cluster, request: pytest.FixtureRequest):
    connected = Native(cluster.urls[request.param], cluster.key)
    yield connected
    connected.close()


@pytest.fixture
def one(cluster: Cluster):
    connected = Native(cluster.urls[0], cluster.key)
    yield connected
    connected.close()


def spec(to: str, **fields):
    payload = common.Payload(data=b'{"order": 1}')
    return m.IntentSpec(intent_type=payment.INTENT_TYPE, to_agent=to, payload=payload, **fields)


def submit(api: Native, to: str, **fields) -> str:
    return api.intents.Submit(m.SubmitRequest(intent=spec(to, **fields)), timeout=SECONDS).receipt.intent_id


def result(text: bytes = b'{"paid": true}'):
    return common.Payload(data=text)


def refusal(call, code: grpc.StatusCode, reason: str) -> dict:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() == code, caught.value
    found = native.details(caught.value)
    assert (found["ErrorInfo"].reason, found["ErrorInfo"].domain) == (reason, "baton")
    return found


def test_submit_get_resume_and_watch_on_every_node(api: Native):
    intent_id = submit(api, payment.fresh("worker"), max_delivery_attempts=5)
    intent = api.intents.GetIntent(m.GetIntentRequest(intent_id=intent_id), timeout=SECONDS).intent
    assert intent.status == common.STATUS_DELIVERED
    assert (intent.payload.data, intent.max_delivery_attempts, intent.last_seq) == (b'{"order": 1}', 5, 3)
    watch = api.intents.Watch(m.WatchRequest(intent_id=intent_id), timeout=SECONDS)
    seen = [next(watch).event.event_type for _ in range(3)]
    done = api.intents.Resume(m.ResumeRequest(intent_id=intent_id, result=result()), timeout=SECONDS)
    assert done.intent.status == common.STATUS_COMPLETED
    events = [message.event for message in watch]
    assert [*seen, *(e.event_type for e in events)] == [
        "intent.created", "intent.submitted", "intent.delivered", "intent.in_progress", "intent.completed",
    ]
    assert events[-1].outcome.result.data == b'{"paid": true}'
    resumed = api.intents.Watch(m.WatchRequest(intent_id=intent_id, since_seq=4), timeout=SECONDS)
    assert [message.event.seq for message in resumed] == [5]


def test_resolve_cancel_and_wait(api: Native):
    failed = submit(api, payment.fresh("worker"))
    request = m.ResolveRequest(intent_id=failed, status=common.STATUS_FAILED, reason="no money", error=result(b"{}"))
    assert api.intents.Resolve(request, timeout=SECONDS).event.event_type == "intent.failed"
    waited = api.intents.WaitFor(m.WaitForRequest(intent_id=failed), timeout=SECONDS)
    assert waited.terminal and waited.intent.outcome.reason == "no money"
    canceled = submit(api, payment.fresh("worker"))
    early = api.intents.WaitFor(m.WaitForRequest(intent_id=canceled, wait_ms=50), timeout=SECONDS)
    assert not early.terminal
    request = m.CancelRequest(intent_id=canceled, reason="changed my mind")
    assert api.intents.Cancel(request, timeout=SECONDS).intent.status == common.STATUS_CANCELED


def test_a_resume_can_fail_and_hand_over(one: Native):
    intent_id = submit(one, payment.fresh("worker"))
    request = m.ResumeRequest(intent_id=intent_id, error=result(b'{"why": 1}'), reason="broken")
    done = one.intents.Resume(request, timeout=SECONDS)
    assert done.intent.status == common.STATUS_FAILED
    assert done.event.outcome.error.data == b'{"why": 1}'


@pytest.mark.parametrize("scope", ["IDEMPOTENCY_SCOPE_CALLER", "IDEMPOTENCY_SCOPE_RECIPIENT"])
def test_a_key_counts_once_on_whichever_node(cluster: Cluster, scope: str):
    nodes = [Native(url, cluster.key) for url in cluster.urls]
    to, key = payment.fresh("worker"), str(uuid4())
    fields = {"idempotency_key": key, "idempotency_scope": getattr(m, scope)}
    receipts = [n.intents.Submit(m.SubmitRequest(intent=spec(to, **fields)), timeout=SECONDS).receipt for n in nodes]
    assert len({r.intent_id for r in receipts}) == 1
    assert [r.replayed for r in receipts] == [False, True, True]
    changed = m.SubmitRequest(intent=spec(to, max_delivery_attempts=9, **fields))
    refusal(lambda: nodes[0].intents.Submit(changed), grpc.StatusCode.ALREADY_EXISTS, "idempotency_conflict")
    other = m.SubmitRequest(intent=spec(payment.fresh("other"), **fields))
    if scope.endswith("RECIPIENT"):
        assert not nodes[1].intents.Submit(other, timeout=SECONDS).receipt.replayed
    else:
        refusal(lambda: nodes[1].intents.Submit(other), grpc.StatusCode.ALREADY_EXISTS, "idempotency_conflict")
    for node in nodes:
        node.close()


def test_a_batch_answers_item_by_item(api: Native):
    specs = [spec(payment.fresh("worker")) for _ in range(50)]
    specs[7].intent_type = "Bad"
    results = api.intents.SubmitBatch(m.SubmitBatchRequest(intents=specs), timeout=SECONDS).results
    assert len(results) == 50
    assert [i for i, r in enumerate(results) if r.WhichOneof("result") == "failure"] == [7]
    assert results[7].failure.code == "schema_invalid"


def test_a_stream_answers_and_tells_of_ends(api: Native):
    outgoing: queue.Queue = queue.Queue()
    answers = api.intents.SubmitStream(iter(outgoing.get, None), timeout=60)
    for start in range(0, 200, 20):
        items = [m.SubmitStreamItem(request_id=n, intent=spec(payment.fresh("w")), notify_end=True) for n in range(start, start + 20)]
        outgoing.put(m.SubmitStreamRequest(items=items))
    receipts: dict[int, str] = {}
    ended: dict[int, object] = {}

    def read() -> None:
        for answer in answers:
            receipts.update({r.request_id: r.receipt.intent_id for r in answer.results})
            ended.update({e.request_id: e for e in answer.ended})

    reader = threading.Thread(target=read)
    reader.start()
    until("all receipts", lambda: len(receipts) == 200)
    assert not ended
    for intent_id in receipts.values():
        api.intents.Resume(m.ResumeRequest(intent_id=intent_id, result=result()), timeout=SECONDS)
    outgoing.put(None)
    reader.join(SECONDS)
    assert not reader.is_alive(), "half-closed, and everything was answered"
    assert {n: e.intent_id for n, e in ended.items()} == receipts
    assert all(e.outcome.result.data == b'{"paid": true}' for e in ended.values())


def test_lists_and_bulk_cancel(one: Native):
    to, correlation = payment.fresh("worker"), str(uuid4())
    ids = [submit(one, to, correlation_id=correlation) for _ in range(12)]
    for intent_filter in (m.IntentFilter(to_agent=to), m.IntentFilter(correlation_id=correlation)):
        found, token = [], ""
        while True:
            request = m.ListIntentsRequest(filter=intent_filter, page_size=5, page_token=token)
            page = one.intents.ListIntents(request, timeout=SECONDS)
            found += [intent.intent_id for intent in page.intents]
            token = page.next_page_token
            if not token:
                break
        assert found == sorted(ids, reverse=True)
    bulk = m.BulkCancelRequest(filter=m.IntentFilter(to_agent=to), reason="over", dry_run=True)
    assert len(one.intents.BulkCancel(bulk, timeout=SECONDS).results) == 12
    bulk.dry_run = False
    done = one.intents.BulkCancel(bulk, timeout=SECONDS)
    assert len(done.results) == 12 and not done.more
    assert not any(r.HasField("failure") for r in done.results)
    assert not one.intents.BulkCancel(bulk, timeout=SECONDS).results


def test_agents_subscribe_and_have_a_backlog(api: Native, cluster: Cluster):
    name = payment.fresh("native")
    made = api.agents.RegisterAgent(agents.RegisterAgentRequest(name=name, create_key=True), timeout=SECONDS)
    assert made.created
    again = api.agents.RegisterAgent(agents.RegisterAgentRequest(name=name), timeout=SECONDS)
    assert not again.created and again.agent == made.agent
    found = api.agents.GetAgent(agents.GetAgentRequest(address=made.agent.address), timeout=SECONDS)
    assert found.agent == made.agent
    own = Native(cluster.urls[0], made.api_key)
    deliveries = own.agents.Subscribe(agents.SubscribeRequest(), timeout=SECONDS)
    intent_id = submit(api, made.agent.address)
    delivery = next(deliveries)
    assert (delivery.intent.intent_id, delivery.intent.payload.data) == (intent_id, b'{"order": 1}')
    backlog = own.agents.GetBacklog(agents.GetBacklogRequest(), timeout=SECONDS)
    assert backlog.open_deliveries == 1
    own.intents.Resume(m.ResumeRequest(intent_id=intent_id, result=result()), timeout=SECONDS)
    assert own.agents.GetBacklog(agents.GetBacklogRequest(), timeout=SECONDS).open_deliveries == 0
    deliveries.cancel()
    own.close()


def test_threads_and_scenarios(one: Native):
    name = payment.fresh("payer")
    bundle = (
        '{"scenario_id": "native.pay.v1", "agents": [{"role": "payer", "address": "%s", "create_if_missing": true}],'
        ' "workflow": {"steps": [{"step_id": "pay", "tool_id": "t", "assigned_to": "%s"}]},'
        ' "intent": {"type": "payment.process.v1", "payload": {"a": 1}}}' % (name, name)
    ).encode()
    checked = one.scenarios.ValidateScenario(scenarios.ValidateScenarioRequest(bundle_json=bundle), timeout=SECONDS)
    assert checked.valid and not checked.errors
    started = one.scenarios.ApplyScenario(scenarios.ApplyScenarioRequest(bundle_json=bundle), timeout=SECONDS)
    assert started.intent.intent_id and started.compile_id
    owner = submit_and_owner(one)
    threads = one.inbox.ListThreads(inbox.ListThreadsRequest(owner=owner), timeout=SECONDS).threads
    thread = one.inbox.GetThread(inbox.GetThreadRequest(thread_id=threads[0].thread_id, owner=owner), timeout=SECONDS)
    assert thread.thread == threads[0]


def test_a_person_is_asked_reminded_found_and_answers(api: Native):
    assignee = payment.fresh("team")
    form = b'{"type": "object", "required": ["days"], "properties": {"days": {"type": "integer", "maximum": 90}}}'
    task = common.HumanTask(
        title="Grant?", task_type=common.TASK_TYPE_FORM, assignees=[assignee], form_schema_json=form
    )
    reminders = common.Reminders(remind_after_seconds=1, max_reminders=1, escalate_to="boss")
    intent_id = submit(api, "", human_task=task, reminders=reminders)
    request = tasks.ListTasksRequest(filter=tasks.TaskFilter(assignee=assignee))
    found, token = [], ""
    while True:
        page = api.tasks.ListTasks(request, timeout=SECONDS)
        found += page.tasks
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert [t.intent_id for t in found] == [intent_id]
    assert (found[0].human_task.title, found[0].open, found[0].generation) == ("Grant?", True, 1)
    watch = api.intents.Watch(m.WatchRequest(intent_id=intent_id), timeout=SECONDS)
    seen = []
    while "intent.escalated" not in seen:
        seen.append(next(watch).event.event_type)
    assert seen.count("intent.reminder") == 1
    watch.cancel()
    answer = tasks.AnswerTaskRequest(intent_id=intent_id, generation=1, outcome="submitted", data_json=b'{"days": 91}')
    refusal(lambda: api.tasks.AnswerTask(answer), grpc.StatusCode.INVALID_ARGUMENT, "task_result_invalid")
    answer.data_json = b'{"days": 7}'
    done = api.tasks.AnswerTask(answer, timeout=SECONDS)
    assert done.intent.status == common.STATUS_COMPLETED
    shown = api.tasks.GetTask(tasks.GetTaskRequest(intent_id=intent_id), timeout=SECONDS).task
    assert (shown.open, shown.answer.outcome) == (False, "submitted")


def test_a_callback_and_its_secret(api: Native):
    name, url = payment.fresh("pushed"), "https://agent.example.com/intents"
    request = agents.RegisterAgentRequest(name=name, delivery_mode="http", callback_url=url)
    made = api.agents.RegisterAgent(request, timeout=SECONDS)
    assert made.callback_secret.startswith("whsec_") and made.agent.callback_url == url
    rotated = api.agents.RotateCallbackSecret(
        agents.RotateCallbackSecretRequest(agent=name, overlap_seconds=60), timeout=SECONDS
    )
    assert rotated.callback_secret not in ("", made.callback_secret)
    off = agents.SetCallbackRequest(agent=name, delivery_mode="stream", callback_url="")
    assert api.agents.SetCallback(off, timeout=SECONDS).agent.callback_url == ""
    shown = api.agents.GetAgent(agents.GetAgentRequest(address=name), timeout=SECONDS).agent
    assert (shown.delivery_mode, shown.callback_secret_set_at_ms > 0) == ("stream", True)


def test_a_schema_is_set_read_and_enforced(api: Native):
    kind = f"native.{payment.fresh('kind').replace('-', '_')}.v1"
    document = b'{"type": "object", "required": ["amount"]}'
    put = schemas.PutSchemaRequest(semantic_type=kind, document_json=document, mode=schemas.SCHEMA_MODE_STRICT)
    set_ = api.schemas.PutSchema(put, timeout=SECONDS).schema
    got = api.schemas.GetSchema(schemas.GetSchemaRequest(semantic_type=kind), timeout=SECONDS).schema
    assert got.schema_hash == set_.schema_hash and b'"amount"' in got.document_json

    def refused() -> bool:  # the node's own replica follows within half a second
        try:
            api.intents.Submit(m.SubmitRequest(intent=m.IntentSpec(intent_type=kind, to_agent="w")), timeout=SECONDS)
        except grpc.RpcError as error:
            return native.details(error)["ErrorInfo"].reason == "schema_invalid"
        return False

    until("the schema to count", refused)


def submit_and_owner(api: Native) -> str:
    made = api.agents.RegisterAgent(agents.RegisterAgentRequest(name=payment.fresh("owner")), timeout=SECONDS)
    submit(api, made.agent.address)
    return made.agent.address


def moved_leader(api: Native, move: admin.TransferLeaderRequest) -> int:
    for _ in range(5):
        try:
            return api.admin.TransferLeader(move, timeout=SECONDS).leader_node_id
        except grpc.RpcError as error:  # the nodes were spreading their leaders at the same moment
            assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    raise AssertionError("the leader does not move")


def test_operators_see_the_cluster_and_move_a_leader(cluster: Cluster):
    nodes = [Native(url, cluster.key) for url in cluster.urls]
    status = nodes[0].admin.GetStatus(admin.GetStatusRequest(), timeout=SECONDS)
    assert len(status.nodes) == 3 and all(n.reachable for n in status.nodes)
    assert status.groups_without_leader == 0
    group = nodes[0].admin.ListGroups(admin.ListGroupsRequest(), timeout=SECONDS).groups[3]
    for node in nodes:  # whether it leads or not
        for target in group.voter_node_ids:
            move = admin.TransferLeaderRequest(group_id=group.group_id, to_node_id=target)
            assert moved_leader(node, move) == target
    nowhere = admin.TransferLeaderRequest(group_id=group.group_id, to_node_id=99)
    refusal(lambda: nodes[0].admin.TransferLeader(nowhere), grpc.StatusCode.NOT_FOUND, "not_found")
    for node in nodes:
        node.close()


def leaders_named(nodes: dict[str, Native], agent: str) -> dict[str, str]:
    named = {}
    for address, node in nodes.items():
        _, call = node.intents.Submit.with_call(m.SubmitRequest(intent=spec(agent)), timeout=SECONDS)
        named[address] = dict(call.initial_metadata()).get("baton-leader", "")
    return named


def test_a_forwarded_call_names_the_leader(cluster: Cluster):
    nodes = {url.removeprefix("http://"): Native(url, cluster.key) for url in cluster.urls}
    agent = payment.fresh("led")
    for _ in range(5):  # the leader may move while the nodes are asked in turn
        named = leaders_named(nodes, agent)
        leader = next((address for address, said in named.items() if not said), "")
        if all(said == leader for address, said in named.items() if address != leader):
            break
    assert leader and sorted(named.values()) == ["", leader, leader], named
    for node in nodes.values():
        node.close()


def test_errors_carry_details(one: Native, cluster: Cluster):
    unknown = m.GetIntentRequest(intent_id=str(uuid4()))
    refusal(lambda: one.intents.GetIntent(unknown), grpc.StatusCode.NOT_FOUND, "not_found")
    wrong = m.SubmitRequest(intent=spec("w", correlation_id="x"))
    found = refusal(lambda: one.intents.Submit(wrong), grpc.StatusCode.INVALID_ARGUMENT, "invalid_argument")
    assert found["BadRequest"].field_violations[0].field == "correlation_id"
    intent_id = submit(one, payment.fresh("w"))
    one.intents.Cancel(m.CancelRequest(intent_id=intent_id), timeout=SECONDS)
    again = m.CancelRequest(intent_id=intent_id)
    found = refusal(lambda: one.intents.Cancel(again), grpc.StatusCode.FAILED_PRECONDITION, "intent_terminal")
    assert found["PreconditionFailure"].violations[0].type == "intent_terminal"
    stranger = Native(cluster.url, "axme_sa_nobody_x")
    refusal(lambda: stranger.intents.GetIntent(unknown), grpc.StatusCode.UNAUTHENTICATED, "invalid_platform_api_key")
    stranger.close()
    late = m.WatchRequest(intent_id=submit(one, payment.fresh("w")))
    with pytest.raises(grpc.RpcError) as caught:
        list(one.intents.Watch(late, timeout=0.5))
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_compressed_both_ways(cluster: Cluster):
    compressed = Native(cluster.url, cluster.key)
    payload = common.Payload(data=b'{"x": "' + b"y" * 100_000 + b'"}')
    intent = spec(payment.fresh("w"))
    intent.payload.CopyFrom(payload)
    request = m.SubmitRequest(intent=intent)
    receipt = compressed.intents.Submit(request, timeout=SECONDS, compression=grpc.Compression.Gzip).receipt
    get = m.GetIntentRequest(intent_id=receipt.intent_id)
    got = compressed.intents.GetIntent(get, timeout=SECONDS, compression=grpc.Compression.Gzip)
    assert got.intent.payload.data == payload.data
    compressed.close()
