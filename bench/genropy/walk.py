"""What two users do with a site, step by step, in both stacks.

Owns: the steps, and the comparison of what they show. Never: how a page is driven (`browser`).
"""

import time

from browser import Browser
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from stacks import until

FETCH = """
const [path, body, done] = arguments;
const form = body instanceof Object ? Object.entries(body).reduce((f, [k, v]) => (f.append(k, v), f), new FormData()) : body;
fetch(path, { method: 'POST', body: form }).then(async (r) => done([r.status, (await r.text()).slice(0, 60)]));
"""

UPLOAD = """
const done = arguments[0], form = new FormData();
form.append('file_handle', new File([new Uint8Array(30e6)], 'walk.bin'));
const fields = { rpc: 'rpc.upload_file', page_id: genro.page_id, filename: 'walk.bin', uploadPath: 'site:walk' };
Object.entries(fields).forEach(([name, value]) => form.append(name, value));
fetch(location.pathname, { method: 'POST', body: form }).then((r) => done(r.status));
"""

LISTEN = """
window.changes = [];
dojo.subscribe('dbevent_invc_customer', (event) => window.changes.push(event));
genro.rpc.remoteCall('subscribeTable', { table: 'invc.customer', subscribe: true });
"""


def change_email(browser):
    """Changes a customer of the list in the form of the record. Returns the new address."""
    browser.double_click(browser.rows()[2])

    def email():
        return next(field for field in browser.shown("input") if "@" in (field.get_attribute("value") or ""))

    until("the record", email)
    until("the lock", lambda: browser.shown(".iconbox.lock"))[0].click()
    until("an open record", lambda: email().is_enabled())
    value, field = f"w{time.time_ns()}@x.test", email()
    field.clear()
    field.send_keys(value + Keys.TAB)
    browser.shown(".iconbox.save")[0].click()
    return value


def save_a_record(one, other):
    """One user changes a record; the other one is told by the poll and sees it in the list."""
    for browser in (one, other):
        browser.customers()
    other.run(LISTEN)
    value = change_email(one)
    until("the event", lambda: (other.ping(), other.run("return window.changes.length"))[1])
    other.query()
    other.shows(value)


def export(browser):
    """Runs a batch, which the page follows by its poll, and downloads the result."""
    browser.shown(".iconbox.export")[0].click()
    confirm = "//*[normalize-space(text())='Confirm']"
    until("the dialog", lambda: [e for e in browser.driver.find_elements(By.XPATH, confirm) if e.is_displayed()])[-1].click()

    def downloads():
        browser.ping()
        return [e for e in browser.driver.get_log("performance") if "invc_customer.xls" in e["message"]]

    until("the download", downloads)


def chat(one, other, name):
    for browser in (one, other):
        browser.open("/")
        until("the chat", lambda b=browser: b.shown(".chat_plugin_icon"))[0].click()
    until("the users", lambda: one.shown(".iconbox.man"))[0].click()
    until("the user", lambda: one.double_click([row for row in one.shown(".ct_chatgrid .dojoxGrid-row") if name in row.text][0]))
    word = f"hello {time.time_ns()}"
    room = "genro.getData('gnr.chat.rooms').getNodes()[0].label"
    until("the room", lambda: one.run(f"return {room}"))
    one.run(f"genro.publish('ct_send_message', {{ roomId: {room}, msg: arguments[0] }})", word)
    other.shows(word)


def close_a_page(browser):
    """Leaves a page, whose beacon makes the site forget it; returns the answer to a ping of that page."""
    page = browser.run("return genro.page_id")
    browser.open("/sys/thpage/invc/product?th_public=True")

    def ping():
        return browser.driver.execute_async_script(FETCH, "/_ping", {"page_id": page, "reason": "auto"})[0]

    return until("the page is forgotten", lambda: ping() == 412)


def walk(urls, pictures):
    """Takes all steps, with a user at the first URL and one at the last. Returns their names with what they have shown."""
    seen = []
    with Browser(urls[0]) as one, Browser(urls[-1]) as other:

        def step(name, *act):
            value = act[0](*act[1:])
            print(f"  {name}", flush=True)
            seen.append((name, value))
            if pictures:
                pictures.mkdir(parents=True, exist_ok=True)
                one.driver.save_screenshot(str(pictures / f"{len(seen)}-{name.replace(' ', '-')}.png"))

        step("login", one.login, "emma")
        step("login of another user", other.login, "liam")
        step("a record saved by one and seen by the other", save_a_record, one, other)
        step("export", export, other)
        step("chat", chat, one, other, "liam")
        step("the steps before had no failure", lambda: [one.failures(), other.failures()])
        step("a page that is closed", close_a_page, other)
        step("an upload", other.driver.execute_async_script, UPLOAD)
        step("logout", one.run, "genro.logout()")
        until("the login", lambda: one.shown("input[type=password]"))
        step("login after the logout", one.login, "james.wilson")
    return seen


def compare(urls, pictures):
    """Walks through both stacks; returns 1 if they differ."""
    results = []
    for name, url in zip(("plain", "pagewire"), urls):
        print(name)
        results.append(walk([url], pictures and pictures / name))
    differences = [(a, b) for a, b in zip(*results) if a != b]
    for one, other in differences:
        print(f"differs: {one[0]}: {one[1]} and {other[1]}")
    return 1 if differences else 0
