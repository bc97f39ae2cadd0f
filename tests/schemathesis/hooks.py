"""What the description of the API cannot say, checked on every answer that schemathesis gets: who may do what."""

import json
import os

import jsonschema_rs
import schemathesis

WHO = os.environ["WHO"]
# Logging in and out takes no key.
OPEN = {"/api/v1/session"}
# Changes nothing, though it is asked by POST.
READS = {"/api/v1/routing/explain"}
# What an event carries is what the matching list shows.
EVENTS = {"call": "Call", "metrics": "Metrics", "dialer": "Dialer", "alert": "Incident", "settings": "InForce"}


@schemathesis.serializer("application/toml")
def toml(ctx, value):
    """A text goes out as it is: what it must be beyond a text no schema can say."""
    return str(value).encode(errors="replace")


@schemathesis.check
def access_is_by_role(ctx, response, case):
    """Without a key nothing is answered; a viewer changes nothing."""
    if case.path in OPEN or not 200 <= response.status_code < 300:
        return
    sent = response.request.headers.get("X-API-Key")
    assert sent, f"{case.method} {case.path} is answered without a key"
    if WHO == "viewer" and response.request.method not in {"GET", "HEAD"}:
        assert case.path in READS, f"{case.method} {case.path} is open to a viewer"


@schemathesis.check
def every_answer_is_marked(ctx, response, case):
    """What browsers and the log need, on every answer, also of a failure."""
    for name, value in {"x-content-type-options": "nosniff", "cache-control": "no-store"}.items():
        assert response.headers.get(name) == [value], f"{name}: {response.headers.get(name)}"
    assert response.headers.get("x-request-id"), "the answer has no X-Request-ID"


@schemathesis.check
def events_carry_what_is_shown(ctx, response, case):
    """Every event of the stream carries the object that the matching GET would return."""
    if response.headers.get("content-type") != ["text/event-stream"]:
        return
    components = case.operation.schema.raw_schema["components"]
    for event in response.content.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in event.splitlines() if ": " in line[1:])
        name = EVENTS.get(fields.get("event"))
        if name and "data" in fields:
            schema = {"$ref": f"#/components/schemas/{name}", "components": components}
            problems = jsonschema_rs.validator_for(schema).iter_errors(json.loads(fields["data"]))
            assert not (found := [problem.message for problem in problems]), f"{name}: {found[:3]}"
