"""A Flask application with a session, a redirect and a form."""

from flask import Flask, redirect, request, session, url_for

app = Flask(__name__)
app.secret_key = "of this test"


@app.get("/")
def home():
    return f"hello {session.get('user', 'stranger')} at {request.remote_addr}, {url_for('home', _external=True)}"


@app.post("/login")
def login():
    session["user"] = request.form["user"]
    return redirect(url_for("home"))
