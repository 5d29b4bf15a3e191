"""The payment example: one order, one agent, and its scenario bundle."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

PAYLOAD = {"order_id": "ORD-8842", "amount": 199.99, "currency": "USD"}
INTENT_TYPE = "intent.payment.process.v1"
AGENT = "payment-service-demo"


def intent(to_agent: str, **more: Any) -> dict[str, Any]:
    return {"intent_type": INTENT_TYPE, "to_agent": to_agent, "payload": dict(PAYLOAD), **more}


def bundle(address: str = AGENT, **step: Any) -> dict[str, Any]:
    return {
        "scenario_id": "replacing-webhooks.demo.v1",
        "title": "Replacing webhooks",
        "agents": [
            {
                "role": "payment",
                "address": address,
                "create_if_missing": True,
                "display_name": "Payment Service",
                "delivery_mode": "stream",
            }
        ],
        "humans": [],
        "workflow": {
            "entry_step": "process_payment",
            "steps": [
                {
                    "step_id": "process_payment",
                    "tool_id": "tool.agent.task.v1",
                    "assigned_to": "payment",
                    "step_deadline_seconds": 120,
                    **step,
                }
            ],
        },
        "intent": {"type": INTENT_TYPE, "payload": dict(PAYLOAD), "max_delivery_attempts": 3},
    }


def fresh(name: str) -> str:
    """An address that no other test uses."""
    return f"{name}-{uuid4().hex[:10]}"
