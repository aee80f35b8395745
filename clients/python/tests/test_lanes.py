"""The lane of a user, computed in Python by the rules of docs/rollouts.md."""

import hashlib
import json
from pathlib import Path

GOLDEN = Path(__file__).parents[3] / "tests/golden/lanes.json"


def bucket_of(salt: str, unit: str) -> int:
    digest = hashlib.sha256(salt.encode() + b"\0" + unit.encode()).digest()
    return (int.from_bytes(digest[:8], "big") * 10_000) >> 64


def lane_of(document: dict, bucket: int) -> str:
    weights = [(lane["name"], round(lane["weight"] * 100)) for lane in document["lanes"]]
    if weights and bucket < weights[0][1]:
        return weights[0][0]
    if len(weights) > 1 and bucket >= 10_000 - weights[1][1]:
        return weights[1][0]
    return document["base"]


def key_of(rule: dict) -> str | None:
    for kind in ("claim", "header"):
        if kind in rule:
            name, value = rule[kind]["name"], rule[kind]["value"]
            return f"{kind} {name.lower() if kind == 'header' else name}={value}"
    return f"address {rule['address']}" if "address" in rule else None


def rule_lane(document: dict, user: str | None, matches: list[str]) -> str | None:
    for rule in document.get("targeting", []):
        if user in rule.get("users", []) or key_of(rule) in matches:
            return str(rule["lane"])
    return None


def enrolled_lane(document: dict, vector: dict) -> str | None:
    rules = document.get("enrolment", {})
    weights = {lane["name"]: lane["weight"] for lane in document["lanes"]}

    def is_present(row: dict) -> bool:
        started = rules["started"].get(row["lane"], {})
        return row["lane"] == document["base"] or started.get("rev") == row["since"]

    choice, latched = vector.get("choice"), vector.get("latched") or vector.get("admitted")
    if rules.get("self_service") and choice and is_present(choice):
        return str(choice["lane"])
    if rules.get("mode") == "latched" and latched and is_present(latched) and weights.get(latched["lane"], 0) > 0:
        return str(latched["lane"])
    return None


def bounded(document: dict, vector: dict, lane: str) -> str:
    if "max_users" not in document.get("limits", {}).get(lane, {}):
        return lane
    since = document["enrolment"]["started"][lane]["rev"]
    is_in = {"lane": lane, "since": since} in (vector.get("latched"), vector.get("admitted"))
    return lane if is_in else str(document["base"])


def test_the_lane_function_is_the_same_in_every_language() -> None:
    golden = json.loads(GOLDEN.read_text())
    assert len(golden["vectors"]) >= 200
    for vector in golden["vectors"]:
        document = golden["documents"][vector["document"]]
        bucket = bucket_of(document["salt"], vector.get("user", vector.get("connection")))
        user = vector.get("user")
        lane = (
            document.get("overrides", {}).get(user)
            or rule_lane(document, user, vector.get("matches", []))
            or enrolled_lane(document, vector)
            or bounded(document, vector, lane_of(document, bucket))
        )
        assert (bucket, lane) == (vector["bucket"], vector["lane"]), vector
