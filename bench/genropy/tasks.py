"""Programs beside a site whose register is in Pagewire: its task scheduler, a task worker, and a console.

Owns: the task that is scheduled, and what the pages of the site are told of it. Never: what a page asks (`client`).
"""

import contextlib
import os
import pathlib
import subprocess
import time

from client import CUSTOMERS, Client
from installation import environment
from register import USERS, expect, record, start_nodes
from stacks import accepts, free_address, process, until

ROOT = pathlib.Path(__file__).parents[2]

ACTION = '''\
"""An action on customers, which tells the pages of a user that it has run."""

from gnr.web.batch.btcaction import BaseResourceAction


class Main(BaseResourceAction):
    batch_prefix = "mark"
    batch_title = "Mark a customer"
    batch_hidden_transaction = False  # pages are told of the change of the record

    def do(self):
        told = self.batch_parameters
        with self.tblobj.recordToUpdate(told["customer"]) as record:
            record["email"] = told["email"]
        self.db.commit()
        self.page.setInClientData("marked.by_task", told["email"], filters="user:%s" % told["user"], public=True)
'''

SCHEDULE = """\
import sys
from gnr.app.gnrapp import GnrApp
from gnr.core.gnrbag import Bag
db = GnrApp('test_invoice').db
tasks = db.table('sys.task')
parameters = Bag(dict(zip(('customer', 'email', 'user'), sys.argv[1:]))).toXml()
tasks.insert(tasks.newrecord(task_name='mark', table_name='invc.customer', command='action/mark', frequency=600,
                             parameters=parameters))
db.commit()
"""

ENDED = """\
from gnr.app.gnrapp import GnrApp
db = GnrApp('test_invoice').db
done = db.table('sys.task_execution').query('$id', where='$end_ts IS NOT NULL').count()
left = db.table('sys.task_execution').query('$id', where='$end_ts IS NULL').count()
print(done, left)
"""

CONSOLE = """\
import sys
from gnr.web.gnrwsgisite import GnrWsgiSite
site = GnrWsgiSite('test_invoice')
customers = site.db.table('invc.customer')
with customers.recordToUpdate(sys.argv[1]) as record:
    record['email'] = sys.argv[2]
site.db.commit()
with site.register.userStore(sys.argv[3]) as store:
    store.setItem('noted', sys.argv[2])
print(sorted(site.register.users()))
"""

FORGET = """\
from gnr.app.gnrapp import GnrApp
db = GnrApp('test_invoice').db
for name in ('sys.task_execution', 'sys.task'):
    db.table(name).deleteSelection(where='$id IS NOT NULL')
db.commit()
"""


def settings(site, scratch):
    """Makes a copy of the settings of Genropy with its task scheduler, and returns the folder."""
    folder = scratch / "gnr"
    subprocess.run(["cp", "-a", site / "v/etc/gnr", folder], check=True)
    file = folder / "environment.xml"
    file.write_text(file.read_text().replace("</GenRoBag>", '\t<tasks async_impl="true"></tasks>\n</GenRoBag>'))
    return folder


def variables(site, scratch, url):
    """Returns the environment of the programs: the provider in front, and the address of a node."""
    host, _, port = free_address().rpartition(":")
    folders = [ROOT / "integrations/genropy/src", ROOT / "clients/python/src"]
    return {
        **environment(site),
        "GENRO_GNRFOLDER": str(settings(site, scratch)),
        "GNR_SCHEDULER_HOST": host,
        "GNR_SCHEDULER_PORT": port,
        "PAGEWIRE_URL": url,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
    }


def forget(site):
    """Deletes the tasks of the site, without a scheduler that would be told."""
    subprocess.run([site / "v/bin/python", "-c", FORGET], env=environment(site), check=True)


@contextlib.contextmanager
def action(site):
    """Gives the site the action of the task for a while."""
    folder = site / "projects/test_invoice/packages/invc/resources/tables/customer/action"
    folder.mkdir(exist_ok=True)
    (folder / "mark.py").write_text(ACTION)
    try:
        yield
    finally:
        (folder / "mark.py").unlink()


def run(site, given, scratch):
    """Runs a task by the scheduler and a worker, and a console, and waits for what the pages of two users are told."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(action(site))
        nodes = start_nodes(stack, site, given, scratch)
        own = {"env": variables(site, scratch, nodes[-1]), "cwd": scratch}

        def python(text, *arguments):
            command = [site / "v/bin/python", "-c", text, *arguments]
            done = subprocess.run(command, **own, capture_output=True, text=True)
            expect(done.returncode == 0, f"{text}: {done.stderr}")
            return done.stdout

        forget(site)
        stack.callback(forget, site)
        one, other = Client(nodes[0]), Client(nodes[-1])
        first, second = one.log_in(USERS[0]), other.log_in(USERS[1])
        table = one.open(CUSTOMERS)
        table.build()
        key, word = record(table), f"task{time.time_ns()}@x.test"
        def program(name):
            command = [site / "v/bin/gnr", "web", name, "test_invoice"]
            stack.enter_context(process(command, scratch / f"{name}.log", **own))

        program("taskscheduler")
        until("the scheduler", lambda: accepts(int(own["env"]["GNR_SCHEDULER_PORT"])))
        expect(key not in table.ping().text, "an event without a task")
        # a task that is inserted is told to the scheduler, which loses one if a worker has waited for 30 s before it
        python(SCHEDULE, key, word, USERS[1])
        start = time.monotonic()
        program("taskworker")
        until("the event of the record", lambda: key in table.ping().text)
        print(f"  the event of the task is in the page {time.monotonic() - start:.1f} s after the worker began", flush=True)
        until("the change of the data of the page", lambda: word in second.ping().text)
        until("the end of the task", lambda: python(ENDED).split() == ["1", "0"])
        print("  the task has told the other page, and has ended", flush=True)
        note = f"console{time.time_ns()}@x.test"
        listed = python(CONSOLE, key, note, USERS[0])
        expect(all(user in listed for user in USERS), f"the console sees the users: {listed}")
        until("the event of the console", lambda: key in table.ping().text)
        print("  the event of the console is in the page", flush=True)
        expect(first.ping().status == 200, "the page of the first user goes on")
    return 0
