"""Chromium with a page of a Genropy site.

Owns: one browser and the vocabulary in which the other modules describe the page. Never: servers.
"""

import json
import shutil

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from stacks import until

FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--window-size=1280,1000",
    # the site asks for fonts of another host
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]

CUSTOMERS = "/sys/thpage/invc/customer?th_public=True"


class Browser:
    def __init__(self, url, notes_requests=True):
        """Starts a browser. Noting the requests, for `failures`, takes time."""
        options = Options()
        for flag in FLAGS:
            options.add_argument(flag)
        if notes_requests:
            options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
        # both are named, because Selenium downloads what it does not find
        options.binary_location = shutil.which("chromium")
        self.url = url
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.driver.quit()

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def open(self, path):
        """Opens a page and waits until the framework has built it."""
        self.driver.get(self.url + path)
        until(path, lambda: self.run("return window.genro && genro._pageStarted"))

    def shown(self, selector):
        return [found for found in self.driver.find_elements(By.CSS_SELECTOR, selector) if found.is_displayed()]

    def text(self):
        return self.run("return document.body.innerText")

    def shows(self, text):
        until(f"the page shows {text}", lambda: text in self.text())

    def login(self, user):
        self.open("/")
        until("the login", lambda: self.shown("input[type=password]"))
        # the form takes the focus a moment after it is shown
        until("the focus", lambda: self.run("return document.activeElement.tagName") == "INPUT")
        name, password = self.shown("input")[:2]
        name.send_keys(user + Keys.TAB)
        password.send_keys("a" + Keys.ENTER)
        until("the user", lambda: self.run("return genro.getData('gnr.avatar.user')") == user)
        until("the menu", lambda: self.shown(".iframetab"))

    def customers(self):
        """Opens the list of customers and asks for all of them."""
        self.open(CUSTOMERS)
        until("the query", lambda: self.query())

    def query(self):
        self.shown(".iconbox.run")[0].click()
        return until("rows", lambda: self.rows(), 10)

    def rows(self):
        return self.shown(".dojoxGrid-row")

    def double_click(self, row):
        cell = row.find_elements(By.TAG_NAME, "td")[0]
        ActionChains(self.driver).double_click(cell).perform()
        return True

    def ping(self):
        """Polls as the page does when its user is active."""
        self.run("genro.rpc.ping({reason: 'user'})")

    def failures(self):
        """Returns requests since the last call that failed or had a status from 400 on, without those for fonts."""
        urls, failed = {}, []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            key, given = message["params"].get("requestId"), message["params"]
            match message["method"]:
                case "Network.requestWillBeSent":
                    urls[key] = given["request"]["url"].removeprefix(self.url).partition("?")[0]
                case "Network.responseReceived" if given["response"]["status"] >= 400:
                    failed.append((urls.get(key), given["response"]["status"]))
                case "Network.loadingFailed" if not given.get("canceled"):
                    failed.append((urls.get(key), given["errorText"]))
        return [(url, reason) for url, reason in failed if url and url.startswith("/")]
