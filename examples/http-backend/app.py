"""Handlers of Pagewire behind HTTP: one route, which checks the signature and runs a function."""

import hashlib
import hmac
import os
import time
import urllib.request

from flask import Flask, json, jsonify, request

app = Flask(__name__)
SECRET = os.environ.get("BACKEND_SECRET", "a secret for this example only").encode()
PRICES = {"tea": 3, "cake": 4}


def total(work):
    unknown = [name for name in work["params"] if name not in PRICES]
    if unknown:
        return {"error": {"code": "unknown_article", "message": f"there is no {unknown[0]}", "retryable": False}}, 422
    return {"total": sum(PRICES[name] for name in work["params"]), "for": work.get("user")}


def report(work):
    for step in (1, 2, 3):
        time.sleep(0.1)
        tell(work, progress=step / 3, message=f"page {step} of 3")
    return {"pages": 3, "attempt": work["attempt"]}


def tell(work, **progress):
    """Reports progress, which fails with 404 when the job was cancelled."""
    if address := work.get("callback"):
        urllib.request.urlopen(urllib.request.Request(address, json.dumps(progress).encode()), timeout=5).close()


def is_signed():
    timestamp = request.headers.get("Pagewire-Timestamp", "")
    fresh = timestamp.isdigit() and abs(time.time() - int(timestamp)) < 300
    expected = "v1=" + hmac.new(SECRET, timestamp.encode() + b"." + request.get_data(), hashlib.sha256).hexdigest()
    return fresh and hmac.compare_digest(expected, request.headers.get("Pagewire-Signature", ""))


@app.post("/pagewire")
def pagewire():
    if not is_signed():
        return {"error": {"code": "forbidden", "message": "the signature is wrong", "retryable": False}}, 403
    work = request.get_json()
    handler = {"total": total, "report": report}.get(work["method"])
    return handler(work) if handler else (jsonify(None), 404)
